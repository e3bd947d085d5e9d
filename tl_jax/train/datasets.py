"""From names in a config to examples: tokenizers, token caches, the pre-training
mixture, labelled subsets.

>>> tempered([np.arange(4), np.arange(4, 6)], temperature=1.0).tolist()
[0, 1, 2, 3, 4, 5]
"""

import dataclasses
import pathlib
from typing import NamedTuple

import numpy as np

from tl_jax import config as configs
from tl_jax import data, tasks
from tl_jax.config import ConfigError
from tl_jax.data import packing, pipeline, subsets
from tl_jax.train import assembly
from tl_jax.train.settings import Settings

TOKENIZER = 'tokenizer.json'
CACHE = 'cache'


def make_tokenizer(settings: Settings, texts, folder: pathlib.Path, is_primary: bool):
  """The tokenizer of a run: the one kept in its workdir, else the one at
  config.tokenizer.path, else a trained one.

  `texts` is called for the training texts only if they are needed. Only the primary
  process writes.
  """
  kept = folder / TOKENIZER
  if kept.is_file():
    return data.tokenizers.load(kept)
  choice = settings.tokenizer
  if choice.path:
    tokenizer = data.tokenizers.load(choice.path)
  else:
    tokenizer = data.tokenizers.train(
      texts(), kind=choice.kind, size=choice.size, lowercase=choice.lowercase
    )
  if is_primary:
    tokenizer.save(kept)
  return tokenizer


def task_of(settings: Settings, known: tasks.Known | None = None) -> tasks.Task:
  """The task of a run; with `known`, its labels in the places that a trained model has
  for them.
  """
  choice = settings.task
  how = tasks.Reading(
    choice.text, choice.label, choice.kind, **dataclasses.asdict(choice.files)
  )
  return tasks.find(choice.name, settings.data.directory or None, how, known)


def parsing(settings: Settings, tokenizer, init: str = ''):
  """The tokenizer that reads texts as the config says: special pieces in them found or
  not.

  Raises ConfigError where the model of `init` found them and this run would not.
  """
  parsed = settings.tokenizer.parse_special
  if tokenizer.parse_special and not parsed:
    raise ConfigError(
      f'config.tokenizer.parse_special: {init} finds special pieces in its texts, so this '
      'run must, too: true'
    )
  return dataclasses.replace(tokenizer, parse_special=parsed)


def mixture_texts(settings: Settings, split: str = 'train') -> dict:
  """The sources of the pre-training mixture by name; a source of weight 0 is not
  opened.
  """
  directory = settings.data.directory or None
  columns = data.files.Columns(
    configs.names(settings.data.column) or ('text',), label=()
  )
  return {
    name: data.load(name, split, directory, columns)
    for name, weight in settings.data.mixture.items()
    if weight
  }


class Rows(NamedTuple):
  """Rows of text that fill the rows of a model: the longest piece of a document, the
  places of a row, and what it has room for.
  """

  longest: int
  length: int
  room: pipeline.Room | None = None


def text_rows(settings: Settings, tokenizer) -> Rows:
  """The rows of text of which the objective makes the `data.length` tokens of a
  model's.

  Span corruption leaves fewer tokens than it is given: T5 fills 512 with 568.
  """
  size = settings.data.length
  inputs = assembly.make_objective(settings, tokenizer).inputs
  if inputs is None:
    return Rows(size, size)
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


def mixture_examples(
  settings: Settings, tokenizer, folder: pathlib.Path, sources: dict
) -> dict:
  """Encoded documents of each of the mixture's sources, long ones split into pieces
  that fit a row.
  """
  cache, longest = folder / CACHE, text_rows(settings, tokenizer).longest
  return {
    name: pipeline.Examples(
      data.tokenize(source, tokenizer, cache, max_length=longest, split=True)
    )
    for name, source in sources.items()
  }


def pretraining_stream(
  settings: Settings, examples: dict, tokenizer
) -> pipeline.Stream:
  """The endless rows of the mixture, a function of (seed, step)."""
  weights = {name: settings.data.mixture[name] for name in examples}
  rows = text_rows(settings, tokenizer)
  return data.stream(
    examples,
    seed=settings.seed,
    length=rows.length,
    room=rows.room,
    batch=settings.data.batch,
    pack=settings.data.pack,
    pad=tokenizer.pad,
    weights=weights,
  )


def log_frequencies(settings: Settings, examples: dict, vocabulary: int) -> np.ndarray:
  """Log of each token's frequency in the mixture, float32 (vocabulary,), every token
  counted once more than seen.
  """
  total = np.zeros(vocabulary)
  for name, part in examples.items():
    counts = np.zeros(vocabulary)
    for tokens in (part.tokens[index] for index in range(len(part))):
      counts += np.bincount(tokens, minlength=vocabulary)
    total += settings.data.mixture[name] * (counts + 1) / (counts + 1).sum()
  return np.log(total / total.sum()).astype(np.float32)


class Labelled(NamedTuple):
  """A split of a task: its texts, encoded examples (None before), and targets as the
  problem has them; what was cut of its texts.
  """

  texts: list
  examples: pipeline.Examples | None
  targets: np.ndarray
  cut: tuple[tasks.Cut, ...] = ()


def labelled(
  settings: Settings, task: tasks.Task, tokenizer, split: str, folder: pathlib.Path
) -> Labelled:
  """The encoded examples of a task's split, each cut to what a row holds; of the test
  split, `task.test` of them.
  """
  texts, _, targets, _ = labelled_texts(settings, task, split)
  limits = tasks.Limits(settings.data.length, folder / CACHE)
  found = task.problem.encode(texts, targets, tokenizer, limits)
  return Labelled(texts, found.examples, targets, found.cut)


def labelled_texts(settings: Settings, task: tasks.Task, split: str) -> Labelled:
  """The texts and targets of a task's split, not encoded; of the test split,
  `task.test` of them.

  Whatever is judged on the task is judged on these. Raises ConfigError for a split
  without examples.
  """
  texts, targets = tasks.labelled(task, split, settings.data.directory or None)
  if split == 'test' and 0 < settings.task.test < len(texts):
    kept = subset_of(task, texts, targets, settings.task.test, seed=0)
    texts, targets = [texts[index] for index in kept], targets[kept]
  if not texts:
    raise ConfigError(
      f'config.task.name: {task.name} has no labelled example in its {split} split'
    )
  return Labelled(texts, None, targets)


def choose_labels(settings: Settings, task: tasks.Task, train: Labelled) -> np.ndarray:
  """The indices of the labelled examples that a run may see, a function of (seed,
  count) nested in the count.

  Of several tasks as many of each; where the temperature asks for more of one, its
  examples come again.
  """
  count, groups = settings.task.labels, [np.arange(len(train.texts))]
  if task.parts:
    place = tasks.group_of(task, train.targets)
    groups = [np.flatnonzero(place == number) for number in range(len(task.parts))]
  chosen = []
  for part, own in zip(task.parts or (task,), groups, strict=True):
    if count > len(own):
      raise ConfigError(
        f'config.task.labels: {count} labelled examples asked for; {part.name} has {len(own)}'
      )
    texts = [train.texts[index] for index in own]
    chosen.append(
      own[subset_of(task, texts, train.targets[own], count or len(own), settings.seed)]
    )
  return chosen[0] if len(chosen) == 1 else tempered(chosen, settings.task.temperature)


def tempered(chosen: list[np.ndarray], temperature: float) -> np.ndarray:
  """The examples of several tasks, each in proportion to its size ** (1 / temperature)
  (Raffel et al. 2020, 3.5.2).

  As many in all as there are; none is left out that its share has room for, and a
  smaller task's come again.
  """
  shares = np.array([len(part) for part in chosen]) ** (1 / temperature)
  sizes = np.maximum(1, np.round(shares / shares.sum() * sum(map(len, chosen)))).astype(
    int
  )
  return np.concatenate(
    [np.resize(part, size) for part, size in zip(chosen, sizes, strict=True)]
  )


def subset_of(task: tasks.Task, texts, targets, count: int, seed: int) -> np.ndarray:
  """Indices of `count` texts, classes in equal parts where an example has one class;
  all of them as they stand.
  """
  if count == len(texts):
    return np.arange(count)
  has_classes = task.problem.exclusive
  return data.subset(
    targets if has_classes else None,
    count,
    seed,
    subsets.fingerprints(texts),
    by='balanced' if has_classes else 'uniform',
  )


def examples_per_row_of(settings: Settings, split: Labelled) -> int:
  """The most examples in a row of a labelled task.

  A prompt takes its positions for as many examples as a row may have, whether they are
  there or not. So under a prompt the number is the one with which all rows together
  are shortest.
  """
  group = settings.data
  if not group.pack:
    return 1
  if group.examples_per_row:
    return group.examples_per_row
  most = max(1, group.length // 8)
  prompt_positions = assembly.make_method(settings).prompt_positions
  if not prompt_positions:
    return most
  lengths = split.examples.tokens.lengths[: packing.WINDOW]

  def positions_of_all_rows(count: int) -> int:
    rows = packing.plan(lengths, group.length, examples_per_row=count).rows
    return rows * (group.length + count * prompt_positions)

  return min(range(1, most + 1), key=positions_of_all_rows)


def labelled_stream(
  settings: Settings, train: Labelled, chosen: np.ndarray, tokenizer
) -> pipeline.Stream:
  """The endless rows of the chosen examples, a function of (seed, step)."""
  group = settings.data
  return data.stream(
    train.examples,
    seed=settings.seed,
    length=group.length,
    batch=group.batch,
    pack=group.pack,
    examples_per_row=examples_per_row_of(settings, train),
    pad=tokenizer.pad,
    subset=chosen,
  )


def labelled_pass(
  settings: Settings, split: Labelled, tokenizer, batch: int, subset=None
) -> pipeline.Evaluation:
  """One pass over a split, or the examples of it with the numbers in `subset`, in rows
  of the training shape.
  """
  group = settings.data
  return data.evaluation(
    split.examples,
    length=group.length,
    batch=batch,
    pack=group.pack,
    examples_per_row=examples_per_row_of(settings, split),
    pad=tokenizer.pad,
    subset=subset,
  )
