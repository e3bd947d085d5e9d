"""Tasks by name: a literal dict, and the files of the user.

>>> text, target = find('novel').text({'text': 'It is a truth', 'work': 'Emma'})
>>> find('novel').labels[target]
'Emma'
"""

import dataclasses
import functools
import os
import pathlib
from typing import NamedTuple

from tl_jax import config
from tl_jax.config import ConfigError, lookup
from tl_jax.data import files
from tl_jax.tasks import own
from tl_jax.tasks.task import REGRESSION_METRICS, Task


def _by_index(example, text: str = 'text', label: str = 'label') -> tuple[str, int]:
  return example[text], int(example[label])


def _by_name(example, label: str, labels: tuple[str, ...]) -> tuple[str, int]:
  """The label by its name; a set that numbers its classes has them in this order."""
  value = example[label]
  return example['text'], labels.index(value) if isinstance(value, str) else int(value)


def _rated(example) -> tuple[str, float]:
  return example['text'], float(example['rating'])


POLARITY = ('negative', 'positive')
NOVELS = (
  'Emma',
  'Mansfield Park',
  'Northanger Abbey',
  'Persuasion',
  'Pride and Prejudice',
  'Sense and Sensibility',
)
SECTIONS = (
  'games',
  'science',
  'mathematics',
  'sound',
  'graphics',
  'mail',
  'web',
  'editors',
  'databases',
  'fonts',
  'video',
  'network',
)
GENRES = ('comedy', 'history', 'tragedy', 'poetry')


REGISTERS = {
  'vader_movie/rating': 'film review',
  'vader_amazon/rating': 'product review',
  'vader_tweets/rating': 'tweet',
  'vader_nyt/rating': 'editorial',
}
FEWEST_WORDS = 6  # a shorter sentence belongs anywhere


def _register() -> Task:
  """Where a sentence was published: register, not topic, tells a tweet from a paper."""
  names = list(REGISTERS)

  def read(example):
    long_enough = len(example['text'].split()) >= FEWEST_WORDS
    return (example['text'], names.index(example['source'])) if long_enough else None

  return Task('register', tuple(names), read, tuple(REGISTERS.values()))


def _novel() -> Task:
  return Task(
    'novel', 'austen', functools.partial(_by_name, label='work', labels=NOVELS), NOVELS
  )


def _genre() -> Task:
  return Task(
    'genre',
    'shakespeare',
    functools.partial(_by_name, label='genre', labels=GENRES),
    GENRES,
  )


def _topic() -> Task:
  return Task(
    'topic',
    'debian',
    functools.partial(_by_name, label='label', labels=SECTIONS),
    SECTIONS,
  )


def _intensity() -> Task:
  return Task(
    'intensity',
    'vader_movie/rating',
    _rated,
    ('rating',),
    kind='regression',
    metrics=REGRESSION_METRICS,
    headline='pearson',
  )


def _polarity(
  name: str, source: str, *, text: str = 'text', test: str = 'test', labels=POLARITY
) -> Task:
  return Task(
    name,
    source,
    functools.partial(_by_index, text=text),
    labels,
    splits=dict(train='train', test=test),
  )


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
    _polarity(
      'cola',
      'glue/cola',
      text='sentence',
      test='validation',
      labels=('unacceptable', 'acceptable'),
    ),
    metrics=('matthews', 'accuracy'),
    headline='matthews',
  ),
  'news': _polarity('news', 'ag_news_subset', text='description', labels=NEWS),
}


def together(parts: tuple[Task, ...]) -> Task:
  """Several tasks with one body and a head for each (Caruana 1997).

  Raises ConfigError unless each has one label per example."""
  for part in parts:
    if part.kind != 'single_label' or part.parts:
      raise ConfigError(
        f'config.task.name: {part.name} is of kind {part.kind!r}; tasks that share '
        'a model have one label per example'
      )
  flat = lambda source: (source,) if isinstance(source, str) else source
  return Task(
    '+'.join(part.name for part in parts),
    tuple(name for part in parts for name in flat(part.source)),
    lambda example: None,
    tuple(f'{part.name}: {label}' for part in parts for label in part.labels),
    parts=tuple(parts),
  )


class Known(NamedTuple):
  """What a model answers: the kind of its task, and the labels of its outputs."""

  kind: str
  labels: tuple[str, ...]


def find(
  name: str,
  data_dir: str | None = None,
  how: own.Reading | None = None,
  known: Known | None = None,
) -> Task:
  """The task of a name, or of a file; several tasks with + between are one with parts.

  how: how the columns of a file are read, only for files. known: what the model answers
  that is tried on the task; labels are matched by their names. Raises ConfigError with
  the nearest names, or with what is wrong with a file, and for labels that are not
  known.
  """
  how = own.Reading() if how is None else how
  names = config.names(name)
  if how != own.Reading() and not any(map(files.is_file, names)):
    said = next(key for key, value in dataclasses.asdict(how).items() if value)
    raise ConfigError(f'config.task: {said}= is of files; {name} is none')
  missing = [each for each in names if each not in TASKS and not os.path.exists(each)]
  if len(names) > 1 and missing and files.is_file(name):
    raise ConfigError(
      f'config.task.name: {missing[0]!r} of {name}: no such task or file; a + in the '
      'name of a file is written \\+'
    )
  if len(names) == 1:
    task = _find(names[0], how, known)
  else:
    task = together(tuple(_find(each, how, part_of(known, each)) for each in names))
  return task if known is None else as_known(task, known)


def _find(name: str, how: own.Reading, known: Known | None) -> Task:
  if name in TASKS:
    return TASKS[name]
  if files.is_file(name):
    return own.read_task(name, how, known)
  if os.path.isfile(name):
    ending = pathlib.Path(name).suffix or name
    raise ConfigError(
      f'config.task.name: {name}: the ending {ending!r} is none of '
      f'{", ".join(files.ENDINGS)}, each also with .gz'
    )
  return lookup(TASKS, name, 'config.task.name')


def part_of(known: Known | None, name: str) -> Known | None:
  """What a model of several tasks answers of one of them; None where it is none."""
  if known is None:
    return None
  prefix = f'{name}: '
  own = tuple(
    label.removeprefix(prefix) for label in known.labels if label.startswith(prefix)
  )
  return Known(known.kind, own) if own else None


def as_known(task: Task, known: Known) -> Task:
  """The task with its labels in the place that a model has for them, matched by name.

  Raises ConfigError that names the labels which the model does not know.
  """
  if (task.kind, task.labels) == known:
    return task
  if task.kind != known.kind:
    raise ConfigError(
      f'config.task.name: {task.name} is of kind {task.kind!r}, the model was '
      f'trained on {known.kind!r}'
    )
  if known.kind == 'regression':
    return task
  strange = [label for label in task.labels if label not in known.labels]
  if strange:
    raise ConfigError(
      f'config.task.name: {task.name}: {own.listed(strange)} not among the labels that '
      f'the model was trained on: {own.listed(known.labels)}'
    )
  places = [known.labels.index(label) for label in task.labels]

  def read(example):
    found = task.text(example)
    if found is None:
      return None
    text, target = found
    if task.kind == 'single_label':
      return text, places[target]
    chosen = {place for place, on in zip(places, target, strict=True) if on}
    return text, tuple(int(place in chosen) for place in range(len(known.labels)))

  return dataclasses.replace(task, text=read, labels=known.labels, parts=())
