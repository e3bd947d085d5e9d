"""Labelled tasks as data. A task is one entry of a literal dict, or a file with the columns `text` and `label`.

>>> text, target = find('novel').text({'text': 'It is a truth', 'work': 'Emma'})
>>> find('novel').labels[target]
'Emma'
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tl_jax import metrics
from tl_jax.config import ConfigError, lookup
from tl_jax.data import sources


@dataclasses.dataclass(frozen=True)
class Task:
  """A labelled task.

  text(example) gives (input, target), or None to leave the example out. The input is a
  string. The target is a label index (kind `single_label`), a tuple of zeros and ones
  (`multi_label`) or a number (`regression`). Every example carries, as `source`,
  the name of the source it is from: a task may have several. `splits` maps train and test to the source's own splits.
  `headline` is the metric that a table shows, as the first of `metrics`' results is named. `parts` are the tasks that
  share a model in this one; the labels are theirs, one part's after the other's, each part choosing among its own.
  """
  name: str
  source: str | tuple[str, ...]
  text: Callable[[Mapping[str, Any]], tuple[str, Any] | None]
  labels: tuple[str, ...]
  kind: str = 'single_label'
  metrics: tuple[str, ...] = ('accuracy', 'f1')
  headline: str = 'accuracy'
  splits: Mapping[str, str] = dataclasses.field(default_factory=lambda: dict(train='train', test='test'), hash=False)
  parts: tuple['Task', ...] = ()

  @property
  def outputs(self) -> int:
    """How many numbers a classifier gives per example."""
    return 1 if self.kind == 'regression' else len(self.labels)

  @property
  def groups(self) -> tuple[tuple[int, int], ...]:
    """The labels (first, end) of every part; of a task without parts, all labels."""
    ends = np.cumsum([0, *(len(part.labels) for part in self.parts or (self,))]).tolist()
    return tuple(itertools.pairwise(ends))


def _by_index(example, text: str = 'text', label: str = 'label') -> tuple[str, int]:
  return example[text], int(example[label])


def _by_name(example, label: str, labels: tuple[str, ...]) -> tuple[str, int]:
  """The label by its name; a set that numbers its classes has them in this order."""
  value = example[label]
  return example['text'], labels.index(value) if isinstance(value, str) else int(value)


def _rated(example) -> tuple[str, float]:
  return example['text'], float(example['rating'])


POLARITY = ('negative', 'positive')
NOVELS = ('Emma', 'Mansfield Park', 'Northanger Abbey', 'Persuasion', 'Pride and Prejudice', 'Sense and Sensibility')
SECTIONS = ('games', 'science', 'mathematics', 'sound', 'graphics', 'mail', 'web', 'editors', 'databases', 'fonts',
            'video', 'network')
GENRES = ('comedy', 'history', 'tragedy', 'poetry')


REGISTERS = {'vader_movie/rating': 'film review', 'vader_amazon/rating': 'product review',
             'vader_tweets/rating': 'tweet', 'vader_nyt/rating': 'editorial'}
FEWEST_WORDS = 6   # a shorter sentence belongs anywhere


def _register() -> Task:
  """Where a sentence was published: register, not topic, tells a tweet from an editorial."""
  names = list(REGISTERS)
  def read(example):
    long_enough = len(example['text'].split()) >= FEWEST_WORDS
    return (example['text'], names.index(example['source'])) if long_enough else None
  return Task('register', tuple(names), read, tuple(REGISTERS.values()))


def _novel() -> Task:
  return Task('novel', 'austen', functools.partial(_by_name, label='work', labels=NOVELS), NOVELS)


def _genre() -> Task:
  return Task('genre', 'shakespeare', functools.partial(_by_name, label='genre', labels=GENRES), GENRES)


def _topic() -> Task:
  return Task('topic', 'debian', functools.partial(_by_name, label='label', labels=SECTIONS), SECTIONS)


def _intensity() -> Task:
  return Task('intensity', 'vader_movie/rating', _rated, ('rating',), kind='regression',
              metrics=('pearson', 'spearman', 'mean_squared_error'), headline='pearson')


def _polarity(name: str, source: str, *, text: str = 'text', test: str = 'test', labels=POLARITY) -> Task:
  return Task(name, source, functools.partial(_by_index, text=text), labels, splits=dict(train='train', test=test))


NEWS = ('World', 'Sports', 'Business', 'Sci/Tech')
TASKS = {
    'sentiment': _polarity('sentiment', 'vader_movie'),
    'products': _polarity('products', 'vader_amazon'),
    'tweets': _polarity('tweets', 'vader_tweets'),
    'editorials': _polarity('editorials', 'vader_nyt'),
    'topic': _topic(),
    'intensity': _intensity(),
    'register': _register(),
    'novel': _novel(),
    'genre': _genre(),
    'imdb': _polarity('imdb', 'imdb_reviews'),
    'sst2': _polarity('sst2', 'glue/sst2', text='sentence', test='validation'),
    'cola': dataclasses.replace(
        _polarity('cola', 'glue/cola', text='sentence', test='validation', labels=('unacceptable', 'acceptable')),
        metrics=('matthews', 'accuracy'), headline='matthews'),
    'news': _polarity('news', 'ag_news_subset', text='description', labels=NEWS),
}


def together(parts: tuple[Task, ...]) -> Task:
  """Several tasks with one body and a head for each (multi-task learning, Caruana 1997). ConfigError unless each has
  one label per example."""
  for part in parts:
    if part.kind != 'single_label' or part.parts:
      raise ConfigError(f'config.task.name: {part.name} is of kind {part.kind!r}; tasks that share a model have one '
                        'label per example')
  flat = lambda source: (source,) if isinstance(source, str) else source
  return Task('+'.join(part.name for part in parts), tuple(name for part in parts for name in flat(part.source)),
              lambda example: None, tuple(f'{part.name}: {label}' for part in parts for label in part.labels),
              parts=tuple(parts))


def find(name: str, data_dir: str | None = None) -> Task:
  """The task of this name, or of a .csv or .jsonl file; several with + between. ConfigError with the nearest names."""
  if '+' in name:
    return together(tuple(find(part, data_dir) for part in name.split('+')))
  if not name.endswith(('.csv', '.jsonl')):
    return lookup(TASKS, name, 'config.task.name')
  labels = tuple(sorted({str(example['label']) for split in ('train', 'test')
                         for example in sources.load(name, split, data_dir=data_dir)}))
  if len(labels) < 2:
    raise ConfigError(f'{name}: field label: {len(labels)} distinct labels; a task needs at least 2')
  read = lambda example: (example['text'], labels.index(str(example['label'])))
  return Task(name, name, read, labels)


@functools.lru_cache(maxsize=16)
def labelled(task: Task, split: str, data_dir: str | None = None) -> tuple[list[str], np.ndarray]:
  """(texts, targets) of one split, `train` or `test`; targets (n,) int32, or (n, labels) or (n, 1) float32.

  What was read is kept, for sweeps ask for the same split again and again: treat it as read-only.
  """
  if task.parts:
    found = [labelled(part, split, data_dir) for part in task.parts]
    return ([text for texts, _ in found for text in texts],
            np.concatenate([targets + first for (_, targets), (first, _) in zip(found, task.groups, strict=True)]))
  texts, targets = [], []
  for name in (task.source,) if isinstance(task.source, str) else task.source:
    for example in sources.load(name, task.splits[split], data_dir=data_dir):
      found = task.text({**example, 'source': name})
      if found is not None:
        texts.append(found[0])
        targets.append(found[1])
  if task.kind == 'single_label':
    return texts, np.asarray(targets, np.int32)
  return texts, np.asarray(targets, np.float32).reshape(len(texts), -1)


def group_of(task: Task, targets: np.ndarray) -> np.ndarray:
  """Which part every target (n,) belongs to, int (n,)."""
  return np.searchsorted([end for _, end in task.groups], targets, side='right')


def choose(task: Task, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
  """The label with the largest output (n,), among those of the part that the target (n,) belongs to."""
  first, end = np.asarray(task.groups)[group_of(task, targets)].T
  places = np.arange(outputs.shape[-1])
  return np.where((places >= first[:, None]) & (places < end[:, None]), outputs, -np.inf).argmax(-1)


def score(task: Task, outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
  """The task's metrics of a classifier's outputs (n, labels) against the targets; of parts also `part/metric`."""
  if task.kind == 'regression':
    predictions, references = outputs[:, 0].tolist(), targets[:, 0].tolist()
  elif task.kind == 'multi_label':
    predictions, references = (outputs > 0).astype(int).tolist(), targets.astype(int).tolist()
  else:
    predictions, references = choose(task, outputs, targets).tolist(), targets.tolist()
  values = {}
  for name in task.metrics:
    values |= metrics.METRICS[name](predictions, references)
  for place, part in enumerate(task.parts):
    own, (first, end) = group_of(task, targets) == place, task.groups[place]
    found = score(part, outputs[own][:, first:end], targets[own] - first)
    values |= {f'{part.name}/{name}': value for name, value in found.items()}
  return values
