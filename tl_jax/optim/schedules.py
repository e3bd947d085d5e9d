"""Learning-rate schedules: the fraction of the peak rate, in [0, 1], as a function of
the updates made so far.

>>> factor = linear(steps=100, warmup=10)
>>> [round(float(factor(step)), 3) for step in (0, 5, 10, 55, 100, 200)]
[0.0, 0.5, 1.0, 0.5, 0.0, 0.0]
"""

import dataclasses
import inspect
from collections.abc import Callable

import jax.numpy as jnp

from tl_jax.config import (
  ConfigError,
  Count,
  Fraction,
  Natural,
  Positive,
  Probability,
  lookup,
)

Schedule = Callable


def linear(*, steps: Count, warmup: Natural = 0, final: Probability = 0.0) -> Schedule:
  """Rises from 0 over `warmup` updates, then falls in a line to `final` at `steps` and
  stays there.
  """

  def factor(step):
    return _rising(
      step, warmup, final + (1 - final) * (1 - _progress(step, steps, warmup))
    )

  return factor


def bert(*, steps: Count, warmup: Natural = 0) -> Schedule:
  """BERT's own: the line to 0 at `steps` starts at step 0, and the warm-up overrides
  it.

  The factor therefore jumps from almost 1 to 1 - warmup / steps when the warm-up ends
  (their optimization.py).
  """

  def factor(step):
    return _rising(step, warmup, 1 - _progress(step, steps, 0))

  return factor


def cosine(*, steps: Count, warmup: Natural = 0, final: Probability = 0.0) -> Schedule:
  """Rises over `warmup` updates, then half a cosine to `final` at `steps` (Loshchilov
  and Hutter 2016, eq. 5).
  """

  def factor(step):
    wave = 0.5 * (1 + jnp.cos(jnp.pi * _progress(step, steps, warmup)))
    return _rising(step, warmup, final + (1 - final) * wave)

  return factor


def inverse_sqrt(*, steps: Count, warmup: Natural = 0, hold: Natural = 0) -> Schedule:
  """Rises over `warmup` updates, stays at the peak until step `hold`, then falls as 1 /
  sqrt(step).

  `warmup` alone is Vaswani et al. 2017, eq. 3; `hold=10_000` alone is T5's 1 /
  sqrt(max(step, 10^4)) with a peak rate of 0.01. `steps` ends the run, it does not
  shape the curve.
  """
  del steps
  knee = max(warmup, hold, 1)

  def factor(step):
    return _rising(step, warmup, jnp.sqrt(knee / jnp.maximum(_number(step), knee)))

  return factor


def constant(*, steps: Count, warmup: Natural = 0) -> Schedule:
  """Rises over `warmup` updates, then stays at the peak."""
  del steps

  def factor(step):
    return _rising(step, warmup, jnp.ones_like(_number(step)))

  return factor


def slanted_triangular(
  *, steps: Count, cut: Fraction = 0.1, ratio: Positive = 32.0
) -> Schedule:
  """ULMFiT's slanted triangle (Howard and Ruder 2018, eq. 3): up until step floor(steps
  * cut), then slowly down.

  `ratio` is the peak over the lowest rate. Its warm-up is the `cut`, of one update or
  more. From `steps` on it stays at the lowest rate (the equation's line ends up to one
  update earlier where steps * cut is not whole). ValueError for a ratio below 1.
  """
  peak = max(1, int(steps * cut + 1e-9))  # 0.29 * 100 is 28.999999999999996 in binary
  if ratio < 1:
    raise ValueError(f'ratio: the peak over the lowest rate is at least 1, got {ratio}')

  def factor(step):
    step = jnp.minimum(_number(step), steps)
    height = jnp.where(
      step < peak, step / peak, 1 - (step - peak) / max(steps - peak, 1)
    )
    return (1 + height * (ratio - 1)) / ratio

  return factor


SCHEDULES = {
  'linear': linear,
  'bert': bert,
  'cosine': cosine,
  'inverse_sqrt': inverse_sqrt,
  'constant': constant,
  'slanted_triangular': slanted_triangular,
}


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
  """Which schedule, and how long: `steps` and `warmup` in optimizer updates. None means
  the schedule's own default.

  ValueError for an unknown name, a warm-up longer than the run, and a value that the
  chosen schedule does not read.
  """

  steps: Count
  name: str = 'linear'
  warmup: Natural = 0
  final: Probability | None = None
  hold: Natural | None = None
  cut: Fraction | None = None
  ratio: Positive | None = None

  def __post_init__(self):
    if self.warmup > self.steps:
      raise ValueError(
        f'schedule.warmup: {self.warmup} updates of warm-up do not fit into schedule.steps={self.steps}'
      )
    make_schedule(self)


def make_schedule(config: ScheduleConfig) -> Schedule:
  """The factor function of a config: step () or any shape -> float32 in [0, 1]."""
  given = {
    field.name: getattr(config, field.name)
    for field in dataclasses.fields(config)
    if field.name != 'name'
  }
  given = {name: value for name, value in given.items() if value is not None}
  schedule = lookup(SCHEDULES, config.name, 'schedule.name')
  if not given['warmup']:
    del given['warmup']
  return schedule(
    **chosen_by(schedule, given, f'schedule.name={config.name!r}', 'schedule')
  )


def chosen_by(function: Callable, given: dict, chooser: str, path: str) -> dict:
  """`given` if the keyword function reads every key of it; ConfigError that names the
  first key it does not read.
  """
  known = inspect.signature(function).parameters
  for name in given:
    if name not in known:
      raise ConfigError(
        f'{path}.{name}: {chooser} does not read it; it reads {", ".join(map(repr, known))}'
      )
  return given


def _number(step):
  return jnp.asarray(step, jnp.float32)


def _progress(step, steps, start):
  """0 until `start`, 1 from `steps` on, a line between."""
  return jnp.clip((_number(step) - start) / max(steps - start, 1), 0, 1)


def _rising(step, warmup, after):
  return jnp.where(_number(step) < warmup, _number(step) / max(warmup, 1), after)
