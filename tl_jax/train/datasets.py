"""From names in a config to texts: the mixture of pre-training, and the labelled examples
of a task, of which a run may see some.

>>> tempered([np.arange(4), np.arange(4, 6)], temperature=1.0).tolist()
[0, 1, 2, 3, 4, 5]
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from tl_jax import config as configs
from tl_jax import data, tasks
from tl_jax.config import ConfigError
from tl_jax.data import pipeline, subsets
from tl_jax.train.settings import MixtureData, TaskChoice


def require_mixture(group: MixtureData, where_made: bool) -> None:
  """Raises ConfigError for a mixture without texts, and `where_made` for a source that is
  not there.
  """
  if not sum(group.mixture.values()):
    raise ConfigError(
      'config.data.mixture: names no text; give {source: weight} with a weight above 0'
    )
  if where_made:
    for name, weight in group.mixture.items():
      if weight:
        data.sources.require(name, group.directory or None)


def mixture_texts(group: MixtureData, split: str = 'train') -> dict:
  """The sources of the pre-training mixture by name; a source of weight 0 is not
  opened.
  """
  directory = group.directory or None
  columns = data.files.Columns(configs.names(group.column) or ('text',), label=())
  return {
    name: data.load(name, split, directory, columns)
    for name, weight in group.mixture.items()
    if weight
  }


def open_task(
  choice: TaskChoice, directory: str, known: tasks.Known | None = None
) -> tasks.Task:
  """The task of a run; with `known`, its labels in the places that a trained model has
  for them.
  """
  how = tasks.Reading(
    choice.text, choice.label, choice.kind, **dataclasses.asdict(choice.files)
  )
  return tasks.find(choice.name, directory or None, how, known)


class Labelled(NamedTuple):
  """A split of a task: its texts, and targets as the problem has them.

  Encoded, it also has its examples as tokens, what was cut of its texts, and the most
  examples that a row of them holds.
  """

  texts: list
  targets: np.ndarray
  examples: pipeline.Examples | None = None
  cut: tuple[tasks.Cut, ...] = ()
  examples_per_row: int = 1


def read_split(task: tasks.Task, split: str, directory: str, most: int = 0) -> Labelled:
  """The texts and targets of a task's split, not encoded: `most` of them, 0 for all.

  Whatever is evaluated on the task is evaluated on these. Raises ConfigError for a
  split without examples.
  """
  texts, targets = tasks.labelled(task, split, directory or None)
  if 0 < most < len(texts):
    # Of seed 0 whatever the run's: all runs of a task are compared on the same ones.
    kept = subset_of(task, texts, targets, most, seed=0)
    texts, targets = [texts[index] for index in kept], targets[kept]
  if not texts:
    raise ConfigError(
      f'config.task.name: {task.name} has no labelled example in its {split} split'
    )
  return Labelled(texts, targets)


def choose_labels(
  choice: TaskChoice, seed: int, task: tasks.Task, train: Labelled
) -> np.ndarray:
  """The indices of the labelled examples that a run may see, a function of (seed,
  count) nested in the count.

  Of several tasks as many of each; where the temperature asks for more of one, its
  examples come again.
  """
  count, groups = choice.labels, [np.arange(len(train.texts))]
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
    kept = subset_of(task, texts, train.targets[own], count or len(own), seed)
    chosen.append(own[kept])
  return chosen[0] if len(chosen) == 1 else tempered(chosen, choice.temperature)


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
