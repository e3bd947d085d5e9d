"""What each layer of a model knows of a task: cheap classifiers of frozen vectors.

>>> names_of(2)
['embedding', 'layer 1', 'layer 2']
"""

import dataclasses
import pathlib
import time
from typing import NamedTuple

import numpy as np

from tl_jax import config as configs
from tl_jax import files, metrics, models, tasks
from tl_jax.config import ConfigError
from tl_jax.data import subsets
from tl_jax.data.pairs import Pair
from tl_jax.evals import frozen
from tl_jax.evals.statistics import Interval, wilson_interval
from tl_jax.train import datasets, encoding
from tl_jax.train.reporter import NULL_REPORTER, Reporter
from tl_jax.train.results import digest_split
from tl_jax.train.settings import TaskChoice


@dataclasses.dataclass(frozen=True)
class Asked:
  """What is to be probed.

  task: as a config names it, with its columns. init: a folder or workdir of a model.
  pooling: how hidden states become a vector, one of `models.POOLS`; '' as the model
  says. labels: how many of the train examples are used, drawn by class; 0 for all.
  """

  task: TaskChoice
  init: str
  pooling: str = ''
  labels: int = 0
  seed: int = 0
  dtype: str = ''
  directory: str = ''

  def __post_init__(self):
    if self.pooling and self.pooling not in models.POOLS:
      raise ConfigError(
        f'--pooling: {self.pooling!r} is not a choice; nearest: '
        f'{configs.nearest(self.pooling, models.POOLS)}'
      )


class Cell(NamedTuple):
  """A method on the vectors of a layer.

  probe: the classifier, with its accuracy on the train examples, each left out.
  accuracy: on the test split, with its 95 % interval of Wilson.
  """

  layer: int
  method: str
  probe: frozen.Probe
  accuracy: Interval


class Probed(NamedTuple):
  """What was found.

  layers: how many there are, with the embedding. cells: in the order of layers, then of
  methods. best: the cell with the highest accuracy on the train examples, each left
  out; the test split chooses nothing. seconds_of_encoding: 0 where vectors were kept.
  """

  task: tasks.Task
  test: datasets.Labelled
  init: str
  layers: int
  train: int
  cells: list[Cell]
  best: Cell
  predictions: np.ndarray
  seconds_of_encoding: float
  seconds: float

  def cell(self, layer: int, method: str) -> Cell:
    return self.cells[layer * len(frozen.METHODS) + list(frozen.METHODS).index(method)]

  def as_dict(self) -> dict:
    """As result.json has it: the metrics are those of the best cell."""
    targets = self.test.targets.tolist()
    said = self.predictions.tolist()
    found = metrics.accuracy(said, targets) | metrics.f1(said, targets)
    table = []
    for cell in self.cells:
      table.append(
        dict(
          layer=cell.layer,
          method=cell.method,
          left_out=cell.probe.accuracy,
          setting=cell.probe.setting,
          path={str(key): value for key, value in cell.probe.path.items()},
          test=cell.accuracy.as_dict(),
        )
      )
    return dict(
      task=self.task.name,
      method='probe',
      init=self.init,
      labels=self.train,
      layer=self.best.layer,
      classifier=self.best.method,
      metrics=found,
      n=len(targets),
      examples=digest_split(self.task, self.test),
      layers=table,
      seconds_of_encoding=self.seconds_of_encoding,
      seconds=self.seconds,
    )


def names_of(layers: int) -> list[str]:
  """What the vectors of a model with so many layers are called."""
  return ['embedding', *(f'layer {number}' for number in range(1, layers + 1))]


def probe(
  asked: Asked, folder: pathlib.Path, reporter: Reporter = NULL_REPORTER
) -> Probed:
  """Tries every method on the vectors of every layer.

  folder: where vectors are kept; a second start, with other labels or methods, takes
  those that are there. Raises ConfigError for a task whose examples have not one label.
  """
  began = time.monotonic()
  task = datasets.open_task(asked.task, asked.directory)
  if not task.problem.exclusive or task.parts:
    raise ConfigError(
      f'--task: {task.name} has the kind {task.problem.name!r}; a probe is of tasks '
      'with one label for each text'
    )
  for line in task.told:
    reporter.info(line)
  train = datasets.read_split(task, 'train', asked.directory)
  test = datasets.read_test(task, asked.directory, asked.task.test)
  # All texts in one pass; labels are drawn from what it gives.
  how = dict(pooling=asked.pooling, layers=True, dtype=asked.dtype, reporter=reporter)
  texts = [*train.texts, *test.texts]
  encoded = encoding.encode(asked.init, texts, folder, **how)
  of_train = encoded.vectors[: len(train.texts)]
  of_test = encoded.vectors[len(train.texts) :]
  chosen = drawn(asked, train)
  cells = []
  predictions = {}
  layers = encoded.vectors.shape[1]
  total = layers * len(frozen.METHODS)
  for layer in range(layers):
    for name, method in frozen.METHODS.items():
      found = method(of_train[chosen, layer], train.targets[chosen], len(task.labels))
      said = found.decide(of_test[:, layer])
      right = int((said == test.targets).sum())
      predictions[layer, name] = said
      cells.append(Cell(layer, name, found, wilson_interval(right, len(said))))
      reporter.progress('probes', len(cells), total)
  # Of equals the later layer: it is what a transfer would start from.
  best = max(cells, key=lambda cell: (cell.probe.accuracy, cell.layer))
  return Probed(
    task,
    test,
    asked.init,
    layers,
    len(chosen),
    cells,
    best,
    predictions[best.layer, best.method],
    encoded.seconds,
    time.monotonic() - began,
  )


def drawn(asked: Asked, train: datasets.Labelled) -> np.ndarray:
  """The numbers of the train examples that are learned from: those of a transfer with
  as many labels and this seed. Raises ConfigError for more than there are.
  """
  count = len(train.texts)
  if asked.labels > count:
    raise ConfigError(f'--labels: {asked.labels} asked for; there are {count}')
  if not 0 < asked.labels < count:
    return np.arange(count)
  keys = subsets.fingerprints(train.texts)
  return subsets.subset(train.targets, asked.labels, asked.seed, keys)


def predictions_of(found: Probed) -> bytes:
  """A line of JSON for each test example, as a transfer leaves them."""
  labels = found.task.labels
  lines = []
  rows = zip(found.test.texts, found.test.targets, found.predictions, strict=True)
  for index, (text, target, said) in enumerate(rows):
    shown = dict(text=text)
    if isinstance(text, Pair):
      shown = dict(text=text.first, text_pair=text.second)
    line = dict(index=index, **shown, target=labels[target], prediction=labels[said])
    lines.append(files.encode(line) + '\n')
  return ''.join(lines).encode()
