"""What a temperature is fitted to long after a run: the validation examples that it held
out.

>>> require_figure(None)
Traceback (most recent call last):
tl_jax.config.checks.ConfigError: --reliability: pre-training has no labels to be right of
"""

import pathlib

from tl_jax import tasks
from tl_jax.config import ConfigError
from tl_jax.evals.calibrating import require_probabilities
from tl_jax.train import datasets, drawing
from tl_jax.train.datasets import Labelled
from tl_jax.train.restoring import Opened, read_settings
from tl_jax.train.settings import Settings, Transfer


def require_figure(task: tasks.Task | None) -> None:
  """Raises ConfigError for a task that has no curve of how often a model is right."""
  if task is None:
    raise ConfigError('--reliability: pre-training has no labels to be right of')
  require_probabilities(task, '--reliability')


def require_held_out(
  settings: Settings, task: tasks.Task | None, path: pathlib.Path
) -> None:
  """Raises ConfigError where a temperature is asked for and there is nothing to fit it
  to: the run of the workdir was trained on all that there was.
  """
  # In pre-training no config has the key.
  if task is None or not settings.eval.calibrate:
    return
  require_probabilities(task, 'config.eval.calibrate')
  own = read_settings(path)
  # Few labels leave others, and what the run was trained on is drawn as it was then.
  if own.eval.validates or own.task.labels:
    return
  own_task = datasets.open_task(own.task, own.data.directory)
  if not own_task.validates:
    raise ConfigError(
      f'config.eval.calibrate: {path} was trained on the whole train split of '
      f'{own_task.name}, which has no validation split; a run with '
      '--config.eval.calibrate=True holds examples out (config.task.holdout)'
    )


def held_out(opened: Opened, path: pathlib.Path) -> Labelled:
  """The validation examples of the run of a workdir, not encoded, whatever it is
  evaluated on now.
  """
  own: Transfer = read_settings(path)
  directory = own.data.directory
  task = datasets.open_task(own.task, directory, opened.known)
  if task.validates:
    return datasets.read_split(task, 'validation', directory)
  train = datasets.read_split(task, 'train', directory)
  drawn = drawing.draw(own, task, train.texts, train.targets, holds_out=True)
  texts = [train.texts[number] for number in drawn.held_out]
  return Labelled(texts, train.targets[drawn.held_out])
