"""How long a run is: epochs in steps, and a run that goes on for longer.

>>> may_change(dict(schedule=dict(steps=50)), dict(schedule=dict(steps=100)))
('schedule\\\\.steps',)
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from tl_jax import config as configs
from tl_jax import optim
from tl_jax.config import ConfigError
from tl_jax.data import mixing, pipeline
from tl_jax.train.settings import Settings

# Either of them is a length; the other one is None.
LENGTHS = ('steps', 'epochs')


def in_steps(settings: Settings, stream: pipeline.Stream) -> Settings:
  """The settings of a run on this stream, with its epochs as steps.

  Raises ConfigError for a warm-up that is longer than these.
  """
  schedule = settings.schedule
  if schedule.epochs is None:
    return settings
  # Of this stream and no other: packed rows are as many as the lengths of the texts let.
  steps = steps_of(stream, schedule.epochs)
  try:
    schedule = schedule.of_steps(steps)
  except ValueError as error:
    raise ConfigError(
      f'config.{error}, which is schedule.epochs={schedule.epochs:g} here'
    ) from error
  return dataclasses.replace(settings, schedule=schedule)


def steps_of(stream: pipeline.Stream, epochs: float) -> int:
  """How many steps, at least one, so many epochs of a stream are.

  Of a mixture they have as many rows as all of its sources, however they share them.
  """
  rows = sum(mixing.rows_of_epochs(source, epochs) for source in stream.parts)
  return max(1, math.ceil(rows / stream.size))


def require_no_shorter(before: Mapping, after: Mapping) -> None:
  """Raises ConfigError where the second of two configs asks for a shorter run."""
  old, new = before.get('schedule', {}), after.get('schedule', {})
  for key in LENGTHS:
    lengths = old.get(key), new.get(key)
    if None not in lengths and lengths[1] < lengths[0]:
      raise ConfigError(
        f'config.schedule.{key}: {lengths[1]}, but the run there is of {lengths[0]}, '
        'and a run becomes only longer; take another workdir, or the old value'
      )


def may_change(before: Mapping, after: Mapping) -> tuple[str, ...]:
  """The keys, as regular expressions, in which a run that goes on may differ."""
  old, new = before.get('schedule', {}), after.get('schedule', {})
  return tuple(
    rf'schedule\.{key}' for key in LENGTHS if None not in (old.get(key), new.get(key))
  )


def said_of_longer(saved: Mapping, settings: Settings, step: int) -> list[str]:
  """A line, or none, on a run that goes on at a step for longer than it was to be.

  saved: what the checkpoint of the step says of itself. settings: with its steps.
  """
  before = (saved.get('config') or {}).get('schedule', {})
  old = saved.get('steps') or before.get('steps')
  new = settings.schedule.steps
  if old is None or old == new:
    return []
  line = f'goes on to step {new}, not {old}'
  # As the run before had it, which may have been in epochs.
  made = configs.struct(optim.ScheduleConfig, before, 'config.schedule').of_steps(old)
  rates = [
    float(np.asarray(optim.make_schedule(each)(step))) * settings.optim.lr
    for each in (made, settings.schedule)
  ]
  # Some schedules have no end: theirs stay as they were.
  if not np.isclose(*rates):
    line += (
      f': schedule {settings.schedule.name} is now over {new} steps, so the learning '
      f'rate at step {step} is {rates[1]:.3g}, where it was {rates[0]:.3g}'
    )
  return [line]
