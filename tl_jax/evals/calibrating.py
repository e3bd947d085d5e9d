"""Temperature scaling: one number by which all outputs are divided, so that a model is as
often right as it says (Guo et al. 2017, section 4.2).

>>> import numpy as np
>>> from tl_jax import tasks
>>> task = tasks.find('sentiment')
>>> sure = np.array([[8.0, 0.0]] * 4)
>>> round(temperature(task, Answers(sure, np.array([0, 0, 0, 1]))), 2)
7.28

Three of four are right, and exp(8 / 7.28) is 3 to 1.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from tl_jax import metrics, tasks
from tl_jax.config import ConfigError
from tl_jax.metrics.calibration import Bin, log_loss, reliability

# Where a temperature is looked for: by a larger one every answer is a guess.
LEAST, MOST = 0.02, 50.0


class Answers(NamedTuple):
  """What a model says of examples, raw (n, ...), and what is right of each, as the
  problem has targets.
  """

  raw: Any
  targets: np.ndarray


def require_probabilities(task: tasks.Task, key: str) -> None:
  """Raises ConfigError that names the key for a task without probabilities."""
  if task.problem.probabilities is None:
    raise ConfigError(
      f'{key}: {task.name} is of kind {task.problem.name!r}, whose answers have no '
      'probabilities; it is of single_label, multi_label and choice'
    )


def temperature(task: tasks.Task, answers: Answers) -> float:
  """The temperature with the least negative log-likelihood of these examples.

  1.0 where each of them is answered right: the colder, the likelier, without an end.
  """
  # Inside, as scipy is slow to import.
  from scipy.optimize import minimize_scalar

  def loss(logarithm: float) -> float:
    found = scaled(task, answers, float(np.exp(logarithm)))
    return log_loss(found, _plain(task, answers))

  _, is_right = metrics.calibration.confidences_of(
    scaled(task, answers, 1.0), _plain(task, answers)
  )
  if is_right.all():
    return 1.0
  # The loss is convex in 1 / T, so that it has one valley in log T.
  bounds = float(np.log(LEAST)), float(np.log(MOST))
  found = minimize_scalar(loss, bounds=bounds, method='bounded')
  return float(np.exp(found.x))


def scaled(task: tasks.Task, answers: Answers, divisor: float) -> np.ndarray:
  """The probabilities of outputs that are divided by a temperature.

  Raises ValueError where the outputs are no numbers.
  """
  raw = np.asarray(answers.raw, np.float64) / divisor
  found = tasks.probabilities(task, raw, answers.targets)
  if found is None:
    raise ValueError(f'{task.name}: the model says no numbers, so nothing to calibrate')
  return found


def calibration(
  task: tasks.Task, validation: Answers, test: Answers
) -> dict[str, dict[str, Any]]:
  """Of every part of a task, by its name: the temperature that is fitted to the
  validation examples, and what the test examples say `before` and `after` it.

  No prediction is another one, and none changes its place among those of its example.
  """
  fitted = dict(parts_of(task, validation))
  found = {}
  for name, (part, own) in parts_of(task, test):
    if name not in fitted:
      continue
    held_out = fitted[name][1]
    value = temperature(part, held_out)
    found[name] = dict(
      temperature=value,
      validation=len(held_out.targets),
      before=_measured(part, own, 1.0),
      after=_measured(part, own, value),
    )
  return found


def curves(
  task: tasks.Task, test: Answers, fitted: dict[str, dict[str, Any]]
) -> dict[str, list[Bin]]:
  """How often the test examples are right, by how sure the model is of them.

  As it is, and where something is `fitted`, at that temperature: the curve's name -> its
  bins.
  """
  found = {}
  for name, (part, own) in parts_of(task, test):
    label = name if task.parts else 'as it is'
    found[label] = reliability(scaled(part, own, 1.0), _plain(part, own))
    if name in fitted:
      value = fitted[name]['temperature']
      label = f'{name}, temperature' if task.parts else 'temperature'
      bins = reliability(scaled(part, own, value), _plain(part, own))
      found[f'{label} {value:.2f}'] = bins
  return found


def told(found: dict[str, dict[str, Any]]) -> Iterator[str]:
  """A line for every part: what its temperature has changed."""
  for name, one in found.items():
    changes = []
    for metric, before in one['before'].items():
      changes.append(f'{metric} {before:.4f} -> {one["after"][metric]:.4f}')
    value = one['temperature']
    is_inside = 1.01 * LEAST < value < 0.99 * MOST
    edge = '' if is_inside else f', the end of {LEAST:g} to {MOST:g}'
    yield (
      f'{name}: temperature {value:.3f}{edge}, fitted to {one["validation"]} '
      f'validation examples: {", ".join(changes)}'
    )


def parts_of(
  task: tasks.Task, answers: Answers
) -> Iterator[tuple[str, tuple[tasks.Task, Answers]]]:
  """Each part of a task that has examples, with its own answers; else the task itself."""
  if not task.parts:
    yield task.name, (task, answers)
  for part, raw, targets in tasks.parts_with_examples(task, *answers):
    yield part.name, (part, Answers(raw, targets))


def _measured(task: tasks.Task, answers: Answers, divisor: float) -> dict[str, float]:
  """How good the probabilities are, of outputs that are divided by a temperature."""
  found = scaled(task, answers, divisor)
  right = _plain(task, answers)
  values = dict(loss=log_loss(found, right))
  return values | metrics.brier(found, right) | metrics.calibration_error(found, right)


def _plain(task: tasks.Task, answers: Answers):
  """What is right, as metrics take it."""
  return task.problem.plain(answers.targets)
