"""What an example of every class weighs in the loss of a transfer.

>>> balanced(np.array([0, 0, 0, 1]), groups=((0, 2),)).round(2).tolist()
[0.67, 2.0]
"""

import numpy as np

from tl_jax import config as configs
from tl_jax import tasks
from tl_jax.config import ConfigError
from tl_jax.train.settings import TaskChoice

BALANCED = 'balanced'


def require_classes(choice: TaskChoice, task: tasks.Task) -> None:
  """Raises ConfigError for weights of a task without classes, or of none of its own."""
  if choice.weights is None:
    return
  if not task.problem.exclusive:
    raise ConfigError(
      f'config.task.weights: {task.name} is of kind {task.problem.name!r}; classes are '
      'weighed where an example has one'
    )
  if choice.weights == BALANCED:
    return
  for name in choice.weights:
    if name not in task.labels:
      raise ConfigError(
        f'config.task.weights.{name}: no class of {task.name}; nearest: '
        f'{configs.nearest(name, task.labels)}'
      )


def class_weights(
  choice: TaskChoice, task: tasks.Task, targets: np.ndarray
) -> tuple[float, ...]:
  """The weight of every class of a task, () where all weigh 1.

  targets: the classes (n,) of the examples that are trained on.
  """
  if choice.weights is None:
    return ()
  if choice.weights == BALANCED:
    return tuple(balanced(targets, task.groups).tolist())
  return tuple(choice.weights.get(name, 1.0) for name in task.labels)


def balanced(targets: np.ndarray, groups: tuple) -> np.ndarray:
  """Weights by which the classes of a task count as if all had as many examples.

  The examples of every task, whose labels are one of the `groups` (first, end), weigh
  as much together as without. A class without an example weighs 1.
  """
  counts = np.bincount(targets, minlength=groups[-1][1])
  found = np.ones(len(counts))
  for first, end in groups:
    # Each task for itself: a large one is not to outweigh a small one, nor the reverse.
    own = counts[first:end]
    seen = own > 0
    found[first:end][seen] = own.sum() / (seen.sum() * own[seen])
  return found
