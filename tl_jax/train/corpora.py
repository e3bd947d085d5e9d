"""What a run learns from, encoded and laid into rows: the mixture of pre-training, or the
examples of a task. Both answer to the same names.

>>> Mixture.name, Mixture.task
('pretrain', None)
"""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tl_jax import data, objectives, tasks
from tl_jax.config import ConfigError
from tl_jax.data import packing, pipeline, subsets
from tl_jax.train import datasets, notes
from tl_jax.train.assembly import Components
from tl_jax.train.datasets import Labelled
from tl_jax.train.settings import Pretrain, Settings, TaskData, Transfer

CACHE = 'cache'
ENOUGH_TEXTS = 100_000  # of one source, to train a tokenizer on


class Rows(NamedTuple):
  """Rows of text that fill the rows of a model: the longest piece of a document, the
  places of a row, and what it has room for.
  """

  longest: int
  length: int
  room: pipeline.Room | None = None


class Mixture(NamedTuple):
  """The texts of pre-training.

  sources: by name. head: the fields of an architecture that the objective chooses.
  rows, examples, pad: None until the texts are `encoded`.
  """

  sources: dict
  head: dict
  rows: Rows | None = None
  examples: dict | None = None
  pad: int | None = None

  name = 'pretrain'
  task = None

  def training_texts(self) -> list[str]:
    """What a tokenizer is trained on: the texts of every source.

    Of a large source they are as many as suffice, evenly spread.
    """
    found = []
    for source in self.sources.values():
      chosen = subsets.spread(len(source), ENOUGH_TEXTS)
      found += [example['text'] for example in source[chosen]]
    return found

  def encoded(
    self, settings: Pretrain, parts: Components, tokenizer, cache: pathlib.Path
  ) -> 'Mixture':
    """The mixture with its texts as tokens, which are kept below `cache`."""
    rows = text_rows(settings.data.length, parts.objective.inputs)
    examples = encode_mixture(self.sources, rows, tokenizer, cache)
    return self._replace(rows=rows, examples=examples, pad=tokenizer.pad)

  def first_bias(self, settings: Pretrain, vocabulary: int) -> np.ndarray | None:
    """The first bias of the head, (vocabulary,), where the config wants one."""
    if not settings.unigram_bias:
      return None
    return log_frequencies(settings.data.mixture, self.examples, vocabulary)

  def files(self) -> dict[str, str]:
    """The sha256 of every file of the user that the run reads, by path."""
    return notes.files_of(self.sources.values())

  def stream(self, settings: Pretrain) -> tuple[pipeline.Stream, np.ndarray]:
    """The endless rows of the mixture, a function of (seed, step); they come from no
    labelled example.
    """
    group = settings.data
    stream = data.stream(
      self.examples,
      seed=settings.seed,
      length=self.rows.length,
      room=self.rows.room,
      batch=group.batch,
      pack=group.pack,
      pad=self.pad,
      weights={name: group.mixture[name] for name in self.examples},
    )
    return stream, np.zeros(0, int)

  def notes(self, chosen: np.ndarray) -> list[str]:
    """What the run says of its texts."""
    del chosen
    return notes.of_mixture(self.sources, self.examples)


class TaskExamples(NamedTuple):
  """The labelled examples of a task: nothing in them depends on the seed of a run or
  the number of its labels.

  head: the fields of an architecture that the task chooses. pad: the id of padding,
  None until the examples are `encoded`.
  """

  task: tasks.Task
  head: dict
  train: Labelled
  test: Labelled
  group: TaskData
  pad: int | None = None

  @property
  def name(self) -> str:
    return self.task.name

  def training_texts(self) -> list[str]:
    """What a tokenizer is trained on."""
    return self.train.texts

  def encoded(
    self, settings: Transfer, parts: Components, tokenizer, cache: pathlib.Path
  ) -> 'TaskExamples':
    """The examples as tokens, which are kept below `cache`."""
    group, positions = settings.data, parts.method.prompt_positions
    train = encode(self.task, self.train, group, positions, tokenizer, cache)
    test = encode(self.task, self.test, group, positions, tokenizer, cache)
    return self._replace(train=train, test=test, pad=tokenizer.pad)

  def first_bias(self, settings: Transfer, vocabulary: int) -> None:
    """None: the bias of a task's head starts as the model makes it."""

  def files(self) -> dict[str, str]:
    """The sha256 of every file of the user that the task is read from, by path."""
    return notes.files_of(self.task.own_sources)

  def stream(self, settings: Transfer) -> tuple[pipeline.Stream, np.ndarray]:
    """The endless rows that a run of these settings sees, a function of (seed, step),
    and the indices of the labelled examples they come from.
    """
    group, seed = self.group, settings.seed
    chosen = datasets.choose_labels(settings.task, seed, self.task, self.train)
    stream = data.stream(
      self.train.examples,
      seed=seed,
      length=group.length,
      batch=group.batch,
      pack=group.pack,
      examples_per_row=self.train.examples_per_row,
      pad=self.pad,
      subset=chosen,
    )
    return stream, chosen

  def notes(self, chosen: np.ndarray) -> list[str]:
    """What a run that is trained on the examples `chosen` says of them."""
    return notes.of_task(self.task, self.train, self.test, chosen)


Corpus = Mixture | TaskExamples


def open_corpus(settings: Settings, task: tasks.Task | None) -> Corpus:
  """What a run learns from, as texts: of a transfer the `task`, else a mixture."""
  group = settings.data
  if task is None:
    head = objectives.OBJECTIVES[settings.objective['name']].head
    return Mixture(datasets.mixture_texts(group), dict(head=head))
  return TaskExamples(
    task,
    dict(head=task.problem.head, labels=task.outputs),
    datasets.read_split(task, 'train', group.directory),
    datasets.read_split(task, 'test', group.directory, settings.task.test),
    group,
  )


def text_rows(size: int, inputs: Callable | None) -> Rows:
  """The rows of text of which an objective makes the `size` tokens of a model's.

  inputs: that of the objective. Span corruption leaves fewer tokens than it is given:
  T5 fills 512 with 568.
  """
  if inputs is None:
    return Rows(size, size)
  # Double until it is too much: how fast an objective shrinks texts, it alone knows.
  enough = size
  while inputs([enough])[0] <= size:
    enough *= 2
  lengths = np.arange(1, enough)
  taken = inputs(lengths)
  fitting = taken <= size
  lengths, taken = lengths[fitting], taken[fitting]
  if not len(lengths):
    raise ConfigError(f'config.data.length: {size} holds no text under this objective')
  # No row holds more text than one of the pieces that shrink most.
  most = int(size * (lengths / taken).max())
  return Rows(int(lengths.max()), most, pipeline.Room(size, inputs))


def encode_mixture(sources: dict, rows: Rows, tokenizer, folder: pathlib.Path) -> dict:
  """Encoded documents of each of the mixture's sources, long ones split into pieces
  that fit a row.
  """
  cache, longest = folder / CACHE, rows.longest
  return {
    name: pipeline.Examples(
      data.tokenize(source, tokenizer, cache, max_length=longest, split=True)
    )
    for name, source in sources.items()
  }


def log_frequencies(weights: dict, examples: dict, vocabulary: int) -> np.ndarray:
  """Log of each token's frequency in the mixture of these weights, float32
  (vocabulary,), every token counted once more than seen.
  """
  total = np.zeros(vocabulary)
  for name, part in examples.items():
    # One more, because the logarithm of a token that is never seen is no number.
    counts = data.tokens.frequencies(part.tokens, vocabulary) + 1
    total += weights[name] * counts / counts.sum()
  return np.log(total / total.sum()).astype(np.float32)


def encode(
  task: tasks.Task,
  split: Labelled,
  group: TaskData,
  prompt_positions: int,
  tokenizer,
  folder: pathlib.Path,
) -> Labelled:
  """The split with its examples as tokens, each cut to what a row holds.

  prompt_positions: how many the method takes in a row for every example.
  """
  limits = tasks.Limits(group.length, folder / CACHE)
  found = task.problem.encode(split.texts, split.targets, tokenizer, limits)
  count = examples_per_row_of(group, found.examples, prompt_positions)
  return split._replace(examples=found.examples, cut=found.cut, examples_per_row=count)


def examples_per_row_of(
  group: TaskData, examples: pipeline.Examples, prompt_positions: int
) -> int:
  """The most examples in a row of a labelled task.

  A prompt takes its positions for as many examples as a row may have, whether they are
  there or not. So under a prompt the number is the one with which all rows together
  are shortest.
  """
  if not group.pack:
    return 1
  if group.examples_per_row:
    return group.examples_per_row
  most = max(1, group.length // 8)
  if not prompt_positions:
    return most
  lengths = examples.tokens.lengths[: packing.WINDOW]

  def positions_of_all_rows(count: int) -> int:
    rows = packing.plan(lengths, group.length, examples_per_row=count).rows
    return rows * (group.length + count * prompt_positions)

  return min(range(1, most + 1), key=positions_of_all_rows)


def labelled_pass(
  group: TaskData, split: Labelled, pad: int, batch: int, subset=None
) -> pipeline.Evaluation:
  """One pass over a split, or the examples of it with the numbers in `subset`, in rows
  of the training shape, `batch` at a time.
  """
  return data.evaluation(
    split.examples,
    length=group.length,
    batch=batch,
    pack=group.pack,
    examples_per_row=split.examples_per_row,
    pad=pad,
    subset=subset,
  )
