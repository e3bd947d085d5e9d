"""A labelled task: its examples, how one reads, its labels, how answers are scored.

>>> import numpy as np
>>> read = lambda example: (example['text'], 0)
>>> task = Task('mood', 'vader_movie', read, ('bad', 'good'))
>>> score(task, np.array([[1.0, 2.0]]), np.array([1]))['accuracy']
1.0
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tl_jax import data, metrics
from tl_jax.data.sources import Source

# Correlations first: a table shows one of them.
REGRESSION_METRICS = ('pearson', 'spearman', 'mean_squared_error')


@dataclasses.dataclass(frozen=True)
class Task:
  """A labelled task.

  `text(example)` gives (input, target), or None to leave the example out. The input is
  a string. The target is a label index (kind `single_label`), a tuple of zeros and ones
  (`multi_label`) or a number (`regression`). Every example has the name of its source
  in the field `source`, since a task may have several. `splits` maps train and test to
  the source's own splits. `headline` is the metric that a table shows.

  `parts` are the tasks that share a model in this one. The labels are theirs, those of
  one part after those of another, and each part chooses among its own.

  A task of the user's own files has them `opened`: the source of each split. `told` are
  lines that a run prints at its start: decisions that nobody asked for.
  """

  name: str
  source: str | tuple[str, ...]
  text: Callable[[Mapping[str, Any]], tuple[str, Any] | None]
  labels: tuple[str, ...]
  kind: str = 'single_label'
  metrics: tuple[str, ...] = ('accuracy', 'f1')
  headline: str = 'accuracy'
  splits: Mapping[str, str] = dataclasses.field(
    default_factory=lambda: dict(train='train', test='test'), hash=False
  )
  parts: tuple['Task', ...] = ()
  opened: Mapping[str, Source] = dataclasses.field(
    default_factory=dict, hash=False, compare=False
  )
  told: tuple[str, ...] = ()

  def sources(self, split: str, data_dir: str | None = None) -> tuple[Source, ...]:
    """The sources of one split, `train` or `test`, those of all parts."""
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
  def own_sources(self) -> tuple[Source, ...]:
    """The sources that are files of the user, of every split and part."""
    found = []
    for part in self.parts or (self,):
      found += part.opened.values()
    return tuple(found)

  @property
  def outputs(self) -> int:
    """How many numbers a classifier gives per example."""
    return 1 if self.kind == 'regression' else len(self.labels)

  def named(self, answer):
    """A target or an answer as a person reads it.

    An index becomes the name of its label. Indicators, or outputs of which those above
    0 count, become the names of all labels of the example. A real value becomes a
    number.
    """
    if self.kind == 'single_label':
      return self.labels[int(answer)]
    if self.kind == 'multi_label':
      return [
        label for label, value in zip(self.labels, answer, strict=True) if value > 0
      ]
    return round(float(answer[0]), 6)

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
  """(texts, targets) of one split, `train` or `test`.

  Targets are int32 (n,) for one label per example, float32 (n, labels) for several, and
  float32 (n, 1) for real values. What was read is kept, since sweeps ask for the same
  split again and again: treat it as read-only.
  """
  if task.parts:
    return _labelled_parts(task, split, data_dir)
  texts = []
  targets = []
  for source in task.sources(split, data_dir):
    for example in source:
      # A copy: the example may be a record that the source keeps.
      found = task.text({**example, 'source': source.name})
      if found is None:
        continue
      text, target = found
      texts.append(text)
      targets.append(target)
  if task.kind == 'single_label':
    return texts, np.asarray(targets, np.int32)
  return texts, np.asarray(targets, np.float32).reshape(len(texts), -1)


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


def group_of(task: Task, targets: np.ndarray) -> np.ndarray:
  """Which part every target (n,) belongs to, int (n,)."""
  return np.searchsorted([end for _, end in task.groups], targets, side='right')


def choose(task: Task, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
  """The label with the largest output (n,), among those of the target's own part."""
  # Part by part: another part's labels are answers to another question.
  first, end = np.asarray(task.groups)[group_of(task, targets)].T
  places = np.arange(outputs.shape[-1])
  # (n, labels): is this label among those of the example's part?
  own = (places >= first[:, None]) & (places < end[:, None])
  return np.where(own, outputs, -np.inf).argmax(-1)


def score(task: Task, outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
  """The metrics of outputs (n, labels) against targets; of parts also `part/metric`.

  `f1` is that of the second of two labels. Of more labels it is left out, and
  `f1_macro` is the mean over the classes.
  """
  predictions, references = _answers(task, outputs, targets)
  values = {}
  for name in task.metrics:
    values |= metrics.METRICS[name](predictions, references)
  # A test may hold two of many classes; its scores are those of the task all the same.
  if len(task.labels) > 2:
    values.pop('f1', None)
  for place, part in enumerate(task.parts):
    own = group_of(task, targets) == place
    # No example, no score: a 0 would be one.
    if not own.any():
      continue
    first, end = task.groups[place]
    found = score(part, outputs[own][:, first:end], targets[own] - first)
    for name, value in found.items():
      values[f'{part.name}/{name}'] = value
  return values


def _answers(task: Task, outputs: np.ndarray, targets: np.ndarray) -> tuple[list, list]:
  """(predictions, references) as the metrics take them."""
  if task.kind == 'regression':
    return outputs[:, 0].tolist(), targets[:, 0].tolist()
  if task.kind == 'multi_label':
    # Above 0 the sigmoid is above one half.
    chosen = (outputs > 0).astype(int)
    return chosen.tolist(), targets.astype(int).tolist()
  return choose(task, outputs, targets).tolist(), targets.tolist()
