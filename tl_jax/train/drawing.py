"""Which labelled examples a run is trained on, and which it is watched on meanwhile.

>>> tempered([np.arange(4), np.arange(4, 6)], temperature=1.0).tolist()
[0, 1, 2, 3, 4, 5]
>>> held_out_count(0.1, 250), held_out_count(30.0, 250)
(25, 30)
"""

from typing import NamedTuple

import numpy as np

from tl_jax import tasks
from tl_jax.config import ConfigError
from tl_jax.data import subsets
from tl_jax.train.settings import Transfer


class Drawn(NamedTuple):
  """The numbers of the train examples that a run is trained on, and of those that are
  held out for validation.

  Several tasks at a temperature may be trained on an example more than once.
  """

  trained: np.ndarray
  held_out: np.ndarray


def draw(
  settings: Transfer, task: tasks.Task, texts, targets, holds_out: bool
) -> Drawn:
  """Draws what a run is trained on from the train split of its task.

  It is a function of the seed and of the texts, whatever their order in a file. The
  examples of fewer labels are among those of more. Of several tasks as many are drawn
  of each; where the temperature asks for more of one, its examples come again.

  holds_out: are examples held out? They are drawn from those that a run of so few
  labels does not see, so that it is trained on the same examples as without. A run that
  sees all is trained on the others.

  Raises ConfigError for more examples than there are.
  """
  groups = [np.arange(len(texts))]
  if task.parts:
    place = tasks.group_of(task, targets)
    groups = [np.flatnonzero(place == number) for number in range(len(task.parts))]
  trained = []
  held_out = []
  for part, own in zip(task.parts or (task,), groups, strict=True):
    own_texts = [texts[index] for index in own]
    # Task by task, so that a small one is validated, too.
    found = _draw_of_one(settings, part, own_texts, targets[own], holds_out)
    trained.append(own[found.trained])
    held_out.append(own[found.held_out])
  if task.parts:
    chosen = tempered(trained, settings.task.temperature)
  else:
    chosen = trained[0]
  return Drawn(chosen, np.concatenate(held_out))


def _draw_of_one(
  settings: Transfer, task: tasks.Task, texts, targets, holds_out: bool
) -> Drawn:
  """Draws from the train examples of one task."""
  labels, seed = settings.task.labels, settings.seed
  if labels > len(texts):
    raise ConfigError(
      f'config.task.labels: {labels} labelled examples asked for; {task.name} has '
      f'{len(texts)}'
    )
  everything = np.arange(len(texts))
  # As many as there are stay as they stand.
  are_some = 0 < labels < len(texts)
  if not (are_some or holds_out):
    return Drawn(everything, np.zeros(0, int))
  keys = subsets.fingerprints(texts)
  trained = everything
  if are_some:
    # Classes in equal parts, where an example has one class.
    classes = targets if task.problem.exclusive else None
    trained = subsets.subset(classes, labels, seed, keys)
  if not holds_out:
    return Drawn(trained, np.zeros(0, int))
  free = everything
  if labels:
    # A text that is trained on is no test of the training, wherever else it stands.
    free = np.flatnonzero(~np.isin(keys, keys[trained]))
  count = held_out_count(settings.task.holdout, len(texts))
  _require_enough(settings, task, count, len(texts), len(free))
  kind = 'stratified' if task.problem.exclusive else 'uniform'
  # Another stream than that of the labels, whose order it would follow.
  own_seed = subsets.seed_of(seed, 'validation')
  chosen = subsets.subset(targets[free], count, own_seed, keys[free], by=kind)
  held_out = np.sort(free[chosen])
  if not labels:
    # The same text twice in a file is on one side of the division.
    trained = np.flatnonzero(~np.isin(keys, keys[held_out]))
  return Drawn(trained, held_out)


def held_out_count(holdout: float, count: int) -> int:
  """How many of `count` examples are held out: a share of them, or so many."""
  return max(1, round(holdout * count if holdout < 1 else holdout))


def _require_enough(
  settings: Transfer, task: tasks.Task, count: int, total: int, free: int
) -> None:
  """Raises ConfigError where nothing is left to train on, or too little to hold out."""
  labels = settings.task.labels
  # Without a number of labels, one example at least is trained on.
  most = free if labels else free - 1
  if count <= most:
    return
  trained = f' beside the {labels} of config.task.labels' if labels else ''
  raise ConfigError(
    f'config.task.holdout: {count} examples to hold out for validation{trained}; '
    f'{task.name} has {total}; nearest: {max(0, most)}'
  )


def tempered(chosen: list[np.ndarray], temperature: float) -> np.ndarray:
  """The examples of several tasks, each in proportion to its size ** (1 / temperature)
  (Raffel et al. 2020, 3.5.2).

  As many in all as there are; none is left out that its share has room for, and a
  smaller task's come again.
  """
  shares = np.array([len(part) for part in chosen]) ** (1 / temperature)
  exact = shares / shares.sum() * sum(map(len, chosen))
  sizes = np.maximum(1, np.round(exact)).astype(int)
  pairs = zip(chosen, sizes, strict=True)
  return np.concatenate([np.resize(part, size) for part, size in pairs])
