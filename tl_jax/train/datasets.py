"""The labelled examples of a task: read, encoded and laid into rows; a run may see some
of them.

>>> Labelled(['good', 'bad'], np.array([1, 0])).texts
['good', 'bad']
"""

import dataclasses
import pathlib
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tl_jax import data, models, tasks
from tl_jax.config import ConfigError
from tl_jax.data import packing, pairs, pipeline, subsets
from tl_jax.data.candidates import Candidates
from tl_jax.data.extracts import Extracts
from tl_jax.train import drawing, keeping, weighting, writing
from tl_jax.train.assembly import Components
from tl_jax.train.settings import TaskChoice, TaskData, Transfer
from tl_jax.train.tokenizing import token_cache


def open_task(
  choice: TaskChoice, directory: str, known: tasks.Known | None = None
) -> tasks.Task:
  """The task of a run; with `known`, its labels in the places that a trained model has
  for them.
  """
  how = tasks.Reading(
    text=choice.text,
    label=choice.label,
    kind=choice.kind,
    target=choice.target,
    delimiter=choice.delimiter,
    **dataclasses.asdict(choice.files),
  )
  task = tasks.find(choice.name, directory or None, how, known)
  if choice.template and task.problem.name != 'text':
    raise ConfigError(
      f'config.task.template: {choice.template!r}, but {task.name} is of kind '
      f'{task.problem.name!r}; it is of tasks with texts to write (config.task.target)'
    )
  if choice.metrics:
    task = tasks.scored_by(task, choice.metrics)
  if choice.decoding:
    task = dataclasses.replace(task, decoding=choice.decoding)
  tasks.require_metrics(task)
  writing.require_decoding(task)
  return task


class Labelled(NamedTuple):
  """A split of a task: its texts, and targets as the problem has them.

  Encoded, it also has its examples as tokens, the limits that they keep, what was cut
  of its texts, the most examples that a row of them holds, and the frame in which two
  texts of an example stand, '' where none has two or they are joined. `length` is the
  number of tokens of a row.
  """

  texts: list
  targets: np.ndarray
  examples: pipeline.Examples | None = None
  limits: tasks.Limits | None = None
  cut: tuple[tasks.Cut, ...] = ()
  examples_per_row: int = 1
  frame: str = ''
  length: int = 0


class Portion(NamedTuple):
  """What a run is watched on: a split, or the examples of it with these `numbers`."""

  split: Labelled
  numbers: np.ndarray

  @classmethod
  def of(cls, split: Labelled) -> 'Portion':
    """All examples of a split."""
    return cls(split, np.arange(len(split.texts)))

  @property
  def targets(self) -> np.ndarray:
    return self.split.targets[self.numbers]

  @property
  def sizes(self) -> np.ndarray:
    """How many parts each example of the split has that are answered one by one, such as
    words, int64 (n,); 1 where it is answered as a whole.
    """
    tokens = self.split.examples.tokens
    return getattr(tokens, 'units', np.ones(len(self.split.texts), np.int64))

  def collected(self, task: tasks.Task, outputs: Callable[[int], np.ndarray]):
    """What a model answers of the chosen examples.

    outputs(count) gives the numbers of its head for all parts of these.
    """
    count = int(self.sizes[self.numbers].sum())
    tokens = self.split.examples.tokens
    return tasks.collected(task, outputs(count), tokens, self.numbers, self.targets)


class TaskExamples(NamedTuple):
  """The labelled examples of a task: nothing in them depends on the seed of a run or
  the number of its labels.

  validation: None where the task has no such split, or no run asks for it. writer: how
  the model writes texts, where they are asked for. pad: the id of padding, None until
  the examples are `encoded`.
  """

  task: tasks.Task
  train: Labelled
  test: Labelled
  validation: Labelled | None
  group: TaskData
  writer: tasks.Writer = tasks.Writer()
  pad: int | None = None

  @classmethod
  def open(cls, settings: Transfer, task: tasks.Task) -> 'TaskExamples':
    """The texts of the splits, not encoded. Raises ConfigError for an empty one."""
    directory = settings.data.directory
    validation = None
    if settings.eval.validates and task.validates:
      validation = read_split(task, 'validation', directory)
    train = read_split(task, 'train', directory)
    test = read_test(task, directory, settings.task.test)
    return cls(task, train, test, validation, settings.data)

  @property
  def name(self) -> str:
    return self.task.name

  def training_texts(self) -> list[str]:
    """What a tokenizer is trained on, and what is copied by whoever writes."""
    return texts_of(self.task, self.train)

  def encoded(
    self, settings: Transfer, parts: Components, tokenizer, cache: pathlib.Path
  ) -> 'TaskExamples':
    """The examples as tokens, which are kept below `cache`."""
    group, positions = settings.data, parts.method.prompt_positions
    arch = parts.model.arch
    limits = limits_of(settings.task, group, arch, self.writer, cache)

    def encoded(split: Labelled) -> Labelled:
      return encode(self.task, split, group, positions, tokenizer, limits)

    has_validation = self.validation is not None
    return self._replace(
      train=encoded(self.train),
      test=encoded(self.test),
      validation=encoded(self.validation) if has_validation else None,
      pad=tokenizer.pad,
    )

  def first_bias(self, settings: Transfer, vocabulary: int) -> None:
    """None: the bias of a task's head starts as the model makes it."""

  @property
  def own_sources(self) -> tuple[data.Source, ...]:
    """The sources that are files of the user."""
    return self.task.own_sources

  def stream(self, settings: Transfer) -> tuple[pipeline.Stream, np.ndarray]:
    """The endless rows that a run of these settings sees, a function of (seed, step),
    and the indices of the labelled examples they come from.
    """
    group = self.group
    chosen = self.draw(settings).trained
    stream = data.stream(
      self.train.examples,
      seed=settings.seed,
      length=self.train.length,
      batch=group.batch,
      pack=group.pack,
      examples_per_row=self.train.examples_per_row,
      target_length=self.train.limits.target_length,
      pad=self.pad,
      subset=pieces_of(self.train, chosen),
    )
    return stream, chosen

  def draw(self, settings: Transfer) -> drawing.Drawn:
    """The examples of the train split that a run of these settings is trained on, and
    those that are held out for validation.
    """
    holds_out = settings.eval.validates and self.validation is None
    texts, targets = self.train.texts, self.train.targets
    return drawing.draw(settings, self.task, texts, targets, holds_out)

  def class_weights(self, settings: Transfer) -> tuple[float, ...]:
    """What an example of every class weighs for a run of these settings; () for 1."""
    if settings.task.weights is None:
      return ()
    targets = self.train.targets[self.draw(settings).trained]
    return weighting.class_weights(settings.task, self.task, targets)

  def watched(self, settings: Transfer) -> Portion | None:
    """What a run of these settings is watched on; None where nobody asks."""
    return self.held_out(settings) if settings.eval.every else None

  def held_out(self, settings: Transfer) -> Portion | None:
    """The validation examples of a run of these settings; None where it needs none."""
    if not settings.eval.validates:
      return None
    if self.validation is not None:
      return Portion.of(self.validation)
    return Portion(self.train, self.draw(settings).held_out)


def texts_of(task: tasks.Task, split: Labelled) -> list[str]:
  """The texts of a split, and those among its targets."""
  return [*split.texts, *task.problem.written(split.targets)]


def read_split(task: tasks.Task, split: str, directory: str) -> Labelled:
  """The texts and targets of a task's split, not encoded.

  Raises ConfigError for a split without examples.
  """
  texts, targets = tasks.labelled(task, split, directory or None)
  if not texts:
    raise ConfigError(
      f'config.task.name: {task.name} has no labelled example in its {split} split'
    )
  return Labelled(texts, targets)


def read_test(task: tasks.Task, directory: str, most: int) -> Labelled:
  """The test split of a task, not encoded: `most` of its examples, 0 for all.

  Whatever is evaluated on the task is evaluated on these.
  """
  test = read_split(task, 'test', directory)
  if not 0 < most < len(test.texts):
    return test
  classes = test.targets if task.problem.exclusive else None
  # Of seed 0 whatever the run's: all runs of a task are compared on the same ones.
  kept = subsets.subset(classes, most, 0, subsets.fingerprints(test.texts))
  return Labelled([test.texts[index] for index in kept], test.targets[kept])


def encode(
  task: tasks.Task,
  split: Labelled,
  group: TaskData,
  prompt_positions: int,
  tokenizer,
  limits: tasks.Limits,
) -> Labelled:
  """The split with its examples as tokens, each cut to its limits.

  prompt_positions: how many the method takes in a row for every example.
  """
  problem = task.problem
  if problem.answer == 'generate':
    found = keeping.encoded(problem, split.texts, split.targets, tokenizer, limits)
  else:
    found = problem.encode(split.texts, split.targets, tokenizer, limits)
  tokens = found.examples.tokens
  count = examples_per_row_of(group, found.examples, prompt_positions)
  framed = tokens.flat if isinstance(tokens, Candidates) else tokens
  is_framed = isinstance(framed, (pairs.Framed, Extracts))
  return split._replace(
    examples=found.examples,
    limits=limits,
    cut=found.cut,
    examples_per_row=count,
    frame=pairs.spelled(tokenizer) if is_framed else '',
    length=row_length(group, tokens),
  )


def row_length(group: TaskData, tokens) -> int:
  """The tokens of a row of a labelled task.

  A question is in one row with all its candidates, each of which may be as long as
  another task's example. So a row has as many times `data.length` tokens as the longest
  question needs.
  """
  if not isinstance(tokens, Candidates):
    return group.length
  return group.length * -(-int(tokens.lengths.max()) // group.length)


def limits_of(
  choice: TaskChoice,
  group: TaskData,
  arch: models.Arch,
  writer: tasks.Writer,
  folder: pathlib.Path,
  reads_pairs: bool = True,
) -> tasks.Limits:
  """What the examples of a task are cut to, and how they are put to the model.

  folder: below it encoded texts are kept. reads_pairs: does the model read two texts in
  a frame? A decoder reads them joined, whatever is said here.
  """
  longest = target_length(group, arch)
  return tasks.Limits(
    group.length,
    token_cache(folder),
    longest,
    choice.template,
    writer,
    reads_pairs and arch.kind != 'decoder',
    arch.types,
    group.target_length,
  )


def target_length(group: TaskData, arch: models.Arch) -> int:
  """The most tokens of a text to write, its end among them.

  Raises ConfigError for more than a decoder's row or the model's positions hold.
  """
  if arch.kind == 'encoder-decoder':
    # Its decoder has positions of its own, and the first of them is for its start.
    most = sys.maxsize if arch.room is None else arch.room - 1
    usual = min(group.length, most)
  else:
    most = group.length - 1
    usual = group.length // 2
  length = group.target_length or usual
  if length > most:
    raise ConfigError(
      f'config.data.target_length: {length} tokens, but there is room for {most}'
    )
  return length


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
  # Eight tokens are few for an example; shorter ones wait for the next row.
  length = row_length(group, examples.tokens)
  # Every candidate is a text of its own.
  candidates = 1
  if isinstance(examples.tokens, Candidates):
    candidates = examples.tokens.most
  most = max(1, length // (8 * candidates))
  if not prompt_positions:
    return most
  # Those that are packed together: the later ones are like them.
  lengths = examples.tokens.lengths[: packing.WINDOW]

  def positions_of_all_rows(count: int) -> int:
    rows = packing.plan(lengths, length, examples_per_row=count).rows
    return rows * (length + count * candidates * prompt_positions)

  return min(range(1, most + 1), key=positions_of_all_rows)


def labelled_pass(
  group: TaskData, split: Labelled, pad: int, batch: int, subset=None
) -> pipeline.Evaluation:
  """One pass over a split, or the examples of it with the numbers in `subset`, in rows
  of the training shape, `batch` at a time.
  """
  return data.evaluation(
    split.examples,
    length=split.length,
    batch=batch,
    pack=group.pack,
    examples_per_row=split.examples_per_row,
    target_length=split.limits.target_length,
    pad=pad,
    subset=None if subset is None else pieces_of(split, subset),
  )


def pieces_of(split: Labelled, numbers: np.ndarray) -> np.ndarray:
  """The numbers of what the examples with these `numbers` became as tokens.

  That are the same ones, unless long examples became several pieces.
  """
  index = np.asarray(split.examples.tokens.index)
  if len(index) == len(split.texts):
    return numbers
  # The pieces of an example stand side by side.
  sizes = np.bincount(index, minlength=len(split.texts))
  return subsets.spans(sizes, numbers)
