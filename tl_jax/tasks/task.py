"""A task: its examples, how a record reads, its labels, how answers are scored.

>>> import numpy as np
>>> read = lambda record: Example((record['text'],), 0)
>>> task = Task('mood', 'vader_movie', read, ('bad', 'good'))
>>> score(task, np.array([[1.0, 2.0]]), np.array([1]))['accuracy']
1.0
"""

import dataclasses
import functools
import importlib.util
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tl_jax import data, metrics
from tl_jax.config import ConfigError
from tl_jax.data import subsets
from tl_jax.data.pairs import Pair
from tl_jax.data.sources import Source
from tl_jax.tasks import problems
from tl_jax.tasks.problems import PROBLEMS, Example, Facts, Problem

# What a table shows of a metric that has several values.
HEADLINES = {
  'f1': 'f1_macro',
  'rouge': 'rougeL',
  'calibration_error': 'calibration_error_15',
  'squad': 'squad_f1',
  'squad_v2': 'squad_v2_f1',
  'distinct': 'distinct_2',
  'repetition': 'repetition_4',
  'copying': 'copying_8',
  'answer_sets': 'answer_f1',
  'best_answer': 'best_answer_f1',
  'retrieval': 'mrr',
  'minimal_pairs': 'pair_accuracy',
  'last_word': 'last_word_accuracy',
}


@dataclasses.dataclass(frozen=True)
class Task:
  """A task with examples that say what is right.

  `example(record)` gives an Example, None to leave the record out, or an iterator of the
  examples of a record that holds several. Every record has
  the name of its source in the field `source`, since a task may have several. `problem`
  says what a target is, and what becomes of it. `splits` maps train, test and, where
  there is one, validation to the source's own splits. `metrics` are names of
  `tl_jax.metrics`, `headline` is the value that a table shows, of the first metric where
  it is empty; without metrics the problem has its own. `decoding` are fields of
  `tl_jax.decode.Decoding` by which texts are written that are scored; where it is empty,
  they are written greedily.

  `parts` are the tasks that share a model in this one. The labels are theirs, those of
  one part after those of another, and each part chooses among its own.

  A task of the user's own files has them `opened`: the source of each split. `code` has
  the digest of the file of the user that defines the task, by its path. `told` are
  lines that a run prints at its start: decisions that nobody asked for.
  """

  name: str
  source: str | tuple[str, ...]
  example: Callable[[Mapping[str, Any]], Example | None]
  labels: tuple[str, ...] = ()
  problem: Problem = PROBLEMS['single_label']
  metrics: tuple[str, ...] = ()
  headline: str = ''
  splits: Mapping[str, str] = dataclasses.field(
    default_factory=lambda: dict(train='train', test='test'), hash=False
  )
  parts: tuple['Task', ...] = ()
  opened: Mapping[str, Source] = dataclasses.field(
    default_factory=dict, hash=False, compare=False
  )
  code: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)
  told: tuple[str, ...] = ()
  decoding: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)

  def __post_init__(self):
    headline = self.problem.headline
    # What scores an answer may depend on what the labels are.
    if self.problem.metrics_of and not self.metrics:
      object.__setattr__(self, 'metrics', self.problem.metrics_of(self.labels))
    if self.metrics:
      headline = HEADLINES.get(self.metrics[0], self.metrics[0])
    # The dataclass is frozen, so defaults are set past its own guard.
    object.__setattr__(self, 'headline', self.headline or headline)
    object.__setattr__(self, 'metrics', self.metrics or self.problem.metrics)

  def sources(self, split: str, data_dir: str | None = None) -> tuple[Source, ...]:
    """The sources of one split, those of all parts."""
    if self.parts:
      found = []
      for part in self.parts:
        found += part.sources(split, data_dir)
      return tuple(found)
    if self.opened:
      return (self.opened[split],)
    names = (self.source,) if isinstance(self.source, str) else self.source
    return tuple(data.load(name, self.splits[split], data_dir) for name in names)

  @property
  def validates(self) -> bool:
    """Has it examples of its own to look at while a model is trained?"""
    if self.parts:
      return all(part.validates for part in self.parts)
    return 'validation' in self.splits

  @property
  def own_sources(self) -> tuple[Source, ...]:
    """The sources that are files of the user, of every split and part."""
    found = []
    for part in self.parts or (self,):
      found += part.opened.values()
    return tuple(found)

  @property
  def own_code(self) -> dict[str, str]:
    """The digest of every file of the user that defines the task or a part, by path."""
    found = {}
    for part in self.parts or (self,):
      found |= part.code
    return found

  @property
  def outputs(self) -> int:
    """How many numbers a classifier gives per example."""
    return self.problem.outputs(len(self.labels))

  @property
  def arch(self) -> dict[str, Any]:
    """The fields of an architecture that the task chooses."""
    fields = dict(head=self.problem.head)
    if self.outputs:
      fields['labels'] = self.outputs
    return fields

  def facts(self, **of_the_run) -> Facts:
    """What the objective must know: of this task, and other fields of `Facts`."""
    return Facts(self.outputs, self.groups, **of_the_run)

  def named(self, answer):
    """A target or a prediction as a person reads it."""
    return self.problem.read(answer, self.labels)

  @property
  def groups(self) -> tuple[tuple[int, int], ...]:
    """The labels (first, end) of every part; of a task without parts, all labels."""
    sizes = [len(part.labels) for part in self.parts or (self,)]
    ends = np.cumsum([0, *sizes]).tolist()
    return tuple(itertools.pairwise(ends))


# Both splits of some tasks: a sweep goes through one task after the other.
@functools.lru_cache(maxsize=16)
def labelled(
  task: Task, split: str, data_dir: str | None = None
) -> tuple[list[str], np.ndarray]:
  """(texts, targets) of one split: `train`, `test`, or `validation` if it has one.

  A text is a `data.pairs.Pair` where the example has two.
  The problem says what the targets are: int32 (n,) for one label per example, float32
  (n, labels) for several, and float32 (n, 1) for real values. What was read is kept,
  since sweeps ask for the same split again and again: treat it as read-only.
  """
  if task.parts:
    return _labelled_parts(task, split, data_dir)
  found = []
  for source in task.sources(split, data_dir):
    for record in source:
      # A copy: the record may be one that the source keeps.
      found += _examples_of(task, {**record, 'source': source.name})
  texts = [_text_of(example) for example in found]
  return texts, task.problem.gather(found)


def _examples_of(task: Task, record: dict) -> list[Example]:
  """The examples of a record: one, none, or those of all questions on a passage."""
  example = task.example(record)
  if example is None:
    return []
  return [example] if isinstance(example, Example) else list(example)


def _text_of(example: Example) -> str:
  """The text of an example; a `Pair` where it has two."""
  if len(example.inputs) == 1:
    return example.inputs[0]
  first, second = example.inputs
  return Pair(first, second)


def _labelled_parts(
  task: Task, split: str, data_dir: str | None
) -> tuple[list[str], np.ndarray]:
  """(texts, targets) of all parts, one part after the other, int32 (n,).

  A target counts from the first label of its part among the labels of the task.
  """
  texts = []
  targets = []
  for part, (first, _) in zip(task.parts, task.groups, strict=True):
    own_texts, own_targets = labelled(part, split, data_dir)
    texts += own_texts
    targets.append(own_targets + first)
  return texts, np.concatenate(targets)


def scored_by(task: Task, names: tuple[str, ...]) -> Task:
  """The task with other metrics, of which the first is the headline.

  Raises ConfigError for a metric that its answers do not have.
  """
  for name in names:
    if name not in task.problem.scores:
      raise ConfigError(
        f'config.task.metrics: {name!r} does not score {task.name}, which is of kind '
        f'{task.problem.name!r}; it has {", ".join(task.problem.scores)}'
      )
  return dataclasses.replace(task, metrics=names, headline='')


def require_metrics(task: Task) -> None:
  """Raises ConfigError for a metric whose library is not installed, before a run."""
  for name in task.metrics:
    library = metrics.LIBRARIES.get(name)
    if library and not importlib.util.find_spec(library):
      raise ConfigError(
        f"config.task.metrics: {name} needs {library}: pip install 'tl-jax[text]', or "
        f'name others of {", ".join(task.problem.scores)}'
      )


def group_of(task: Task, targets: np.ndarray) -> np.ndarray:
  """Which part every target (n,) belongs to, int (n,)."""
  return problems.group_of(task.groups, targets)


def decide(task: Task, raw, targets: np.ndarray):
  """The predictions of a model's answers, one for each target."""
  return task.problem.decide(raw, targets, task.groups)


def signatures(task: Task, targets: np.ndarray) -> dict[str, str]:
  """What the task's scores of texts may be compared with, by metric: the versions and
  options of the libraries that give them.
  """
  if task.problem.answer != 'generate':
    return {}
  return metrics.signatures(task.metrics, task.problem.plain(targets))


def score(
  task: Task, raw, targets: np.ndarray, trained: Sequence[str] | None = None
) -> dict[str, float]:
  """The metrics of a model's answers against targets; of parts also `part/metric`.

  raw: outputs (n, labels) of a classifier, or n texts. `f1` is that of the second of
  two labels. Of more labels it is left out, and `f1_macro` is the mean over the
  classes. Metrics of free texts are also given of what the authors wrote, as
  `reference/metric`. trained: the texts that the model learned from. Raises ValueError
  where `copying` is asked for without them.
  """
  if trained is None and 'copying' in task.metrics:
    raise ValueError(
      f'copying: {task.name}: needs the texts that the model was trained on'
    )
  predictions, references = as_scored(task, raw, targets)
  values = {}
  for name in task.metrics:
    metric = metrics.METRICS[name]
    if name in metrics.FREE:
      values |= _beside_authors(metric, predictions, references, trained or ())
    elif name in _OF_OUTPUTS:
      values |= _OF_OUTPUTS[name](metric, task, raw, targets)
    else:
      values |= metric(predictions, references)
  # A test may hold two of many classes; its scores are those of the task all the same.
  if len(task.labels) > 2:
    values.pop('f1', None)
  for part, own_raw, own_targets in parts_with_examples(task, raw, targets):
    for name, value in score(part, own_raw, own_targets).items():
      values[f'{part.name}/{name}'] = value
  return values


def collected(task: Task, outputs: np.ndarray, tokens, numbers, targets: np.ndarray):
  """What a model answered of the examples with these numbers, which have these targets,
  from its outputs for them or their parts.
  """
  if task.problem.collect is None:
    return outputs
  return task.problem.collect(outputs, tokens, numbers, targets)


def places(sizes: np.ndarray, numbers: np.ndarray) -> np.ndarray:
  """The place of every example, or part of one, among those of the chosen examples.

  sizes (n,): how many parts each of all examples has, 1 where it has none. numbers: of
  those that are chosen. The place of others is -1; so is the last place, which is
  nobody's.

  >>> places(np.array([1, 2]), np.array([1])).tolist()
  [-1, 0, 1, -1]
  """
  chosen = subsets.spans(sizes, numbers)
  total = int(sizes.sum())
  found = np.full(total + 1, -1)
  found[chosen] = np.arange(len(chosen))
  return found


def as_scored(task: Task, raw, targets: np.ndarray) -> tuple[list, list]:
  """(predictions, references) as the metrics take them."""
  predictions = decide(task, raw, targets)
  if task.problem.form == 'tags':
    # Where entities begin and end, only the names of tags say.
    return list(map(task.named, predictions)), list(map(task.named, targets))
  return task.problem.plain(predictions), task.problem.plain(targets)


def probabilities(task: Task, raw, targets: np.ndarray) -> np.ndarray | None:
  """Those of the labels (n, labels), where the problem has them and the model says
  numbers; else None.

  Of tasks that share a model, the labels of the other ones have none.
  """
  if task.problem.probabilities is None:
    return None
  # Else the probabilities would be shared with answers to other questions.
  if task.parts:
    raw = problems.within(raw, targets, task.groups)
  # Infinite outputs give NaN, which the last line answers for.
  with np.errstate(invalid='ignore'):
    found = task.problem.probabilities(raw)
  return found if np.isfinite(found).all() else None


def parts_with_examples(
  task: Task, raw, targets: np.ndarray
) -> Iterator[tuple[Task, np.ndarray, np.ndarray]]:
  """Each part with its own outputs and targets.

  A part without examples is left out: a score of 0 would be one.
  """
  for place, part in enumerate(task.parts):
    own = group_of(task, targets) == place
    if not own.any():
      continue
    first, end = task.groups[place]
    yield part, raw[own][:, first:end], targets[own] - first


def _of_probabilities(
  metric: Callable, task: Task, raw, targets: np.ndarray
) -> dict[str, float]:
  """A metric of the probabilities that a model gives.

  A model that says no numbers has no score; what is wrong is told of its outputs.
  """
  chances = probabilities(task, raw, targets)
  if chances is None:
    return {}
  return metric(chances, task.problem.plain(targets))


def _of_doubt(
  metric: Callable, task: Task, raw, targets: np.ndarray
) -> dict[str, float]:
  """A metric of answers and of how much more a model says that there is none."""
  answers, doubts = task.problem.in_doubt(raw, targets)
  references = task.problem.plain(targets)
  return metric(answers, references, no_answer=doubts, threshold=0.0)


# The metrics that look at what a model says, not at its decisions alone.
_OF_OUTPUTS = {
  **dict.fromkeys(metrics.OF_PROBABILITIES, _of_probabilities),
  **dict.fromkeys(metrics.OF_DOUBT, _of_doubt),
}


def _beside_authors(
  metric: Callable, predictions, references, trained: Sequence[str]
) -> dict[str, float]:
  """A metric of free texts: of the predictions, and of the authors' own texts."""
  # Of several right answers the first is the one that is learned.
  authors = [each if isinstance(each, str) else each[0] for each in references]
  values = metric(predictions, trained)
  for name, value in metric(authors, trained).items():
    values[f'reference/{name}'] = value
  return values
