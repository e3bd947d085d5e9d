"""Learning-rate schedules.

A schedule is the fraction of the peak rate, in [0, 1], as a function of the updates
made so far.

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
  """Rises from 0 over `warmup` updates, then falls in a line.

  It reaches `final` at `steps` and stays there.
  """

  def factor(step):
    left = 1 - _progress(step, steps, warmup)
    return _rising(step, warmup, final + (1 - final) * left)

  return factor


def bert(*, steps: Count, warmup: Natural = 0, final: Probability = 0.0) -> Schedule:
  """BERT's own: a line to `final` at `steps` that starts at step 0.

  The warm-up overrides it. The factor therefore jumps from almost 1 to 1 - warmup /
  steps when the warm-up ends (their optimization.py).
  """

  def factor(step):
    left = 1 - _progress(step, steps, 0)
    return _rising(step, warmup, final + (1 - final) * left)

  return factor


def cosine(
  *,
  steps: Count,
  warmup: Natural = 0,
  final: Probability = 0.0,
  settled: Natural = 0,
) -> Schedule:
  """Rises over `warmup` updates, then falls as half a cosine.

  It reaches `final` at `steps` (Loshchilov and Hutter 2016, eq. 5), or `settled` updates
  before it and stays there, as GPT-3 does. Errors: ValueError for more of these than
  there are.
  """
  bottom = steps - settled
  if bottom < warmup:
    raise ValueError(
      f'schedule.settled: {settled} updates and {warmup} of warm-up are more than the '
      f'{steps} of the run; nearest: {max(0, steps - warmup)}'
    )

  def factor(step):
    progress = _progress(step, bottom, warmup)
    wave = 0.5 * (1 + jnp.cos(jnp.pi * progress))
    return _rising(step, warmup, final + (1 - final) * wave)

  return factor


def inverse_sqrt(*, steps: Count, warmup: Natural = 0, hold: Natural = 0) -> Schedule:
  """Rises over `warmup` updates, then falls as 1 / sqrt(step).

  It stays at the peak until step `hold`. `warmup` alone is Vaswani et al. 2017, eq. 3.
  `hold=10_000` alone is T5's 1 / sqrt(max(step, 10^4)) with a peak rate of 0.01.
  `steps` ends the run and does not shape the curve.
  """
  del steps
  # At least 1, so that step 0 does not divide by zero.
  knee = max(warmup, hold, 1)

  def factor(step):
    falling = jnp.sqrt(knee / jnp.maximum(_number(step), knee))
    return _rising(step, warmup, falling)

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
  """ULMFiT's slanted triangle (Howard and Ruder 2018, eq. 3).

  It rises until step floor(steps * cut), of one update or more, then falls slowly.
  `ratio` is the peak over the lowest rate. From `steps` on it stays at the lowest rate.
  (The equation's line ends up to one update earlier where steps * cut is not whole.)
  Errors: ValueError for a ratio below 1.
  """
  # 0.29 * 100 is 28.999999999999996 in binary.
  peak = max(1, int(steps * cut + 1e-9))
  if ratio < 1:
    raise ValueError(
      f'schedule.ratio: the peak over the lowest rate is at least 1, got {ratio}'
    )

  def factor(step):
    step = jnp.minimum(_number(step), steps)
    # Where the cut is the whole run there is no way down, and nothing to divide by.
    falling = 1 - (step - peak) / max(steps - peak, 1)
    height = jnp.where(step < peak, step / peak, falling)
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
  """Which schedule, and how long.

  The length is one of two: `steps`, as `warmup` in optimizer updates, or `epochs`,
  passes over the examples, which are steps once these are known. None means the
  schedule's own default.
  Errors: ValueError for an unknown name, for two lengths or none, a warm-up longer than
  the run, and a value that the chosen schedule does not read.
  """

  steps: Count | None = None
  name: str = 'linear'
  warmup: Natural = 0
  final: Probability | None = None
  hold: Natural | None = None
  cut: Fraction | None = None
  ratio: Positive | None = None
  settled: Natural | None = None
  epochs: Positive | None = None

  def __post_init__(self):
    if (self.steps is None) == (self.epochs is None):
      raise ValueError(
        f'schedule.steps: {self.steps} beside schedule.epochs={self.epochs}; a run has '
        'one of them, and the other is None'
      )
    if self.steps is not None and self.warmup > self.steps:
      raise ValueError(
        f'schedule.warmup: {self.warmup} updates of warm-up do not fit into '
        f'schedule.steps={self.steps}; give schedule.warmup={self.steps // 10}, or more '
        'steps'
      )
    # Made to be refused here rather than when the run is built.
    make_schedule(self.of_steps(self.steps or max(1, self.warmup)))

  def of_steps(self, steps: int) -> 'ScheduleConfig':
    """The same schedule over so many steps. Raises ValueError for a longer warm-up."""
    if steps == self.steps:
      return self
    return dataclasses.replace(self, steps=steps, epochs=None)


def make_schedule(config: ScheduleConfig) -> Schedule:
  """The factor function of a config: step () or any shape -> float32 in [0, 1].

  Raises ValueError for one whose steps are not known yet.
  """
  if config.steps is None:
    raise ValueError(f'schedule.epochs: {config.epochs}, but the steps are not known')
  schedule = lookup(SCHEDULES, config.name, 'schedule.name')
  given = {}
  for field in dataclasses.fields(config):
    value = getattr(config, field.name)
    if field.name != 'name' and value is not None:
      given[field.name] = value
  # No warm-up is what a schedule without one has.
  if not config.warmup:
    del given['warmup']
  chooser = f'schedule.name={config.name!r}'
  return schedule(**chosen_by(schedule, given, chooser, 'schedule'))


def chosen_by(function: Callable, given: dict, chooser: str, path: str) -> dict:
  """`given`, if the function has a parameter for every key of it.

  Errors: ConfigError that names the first key that it does not read.
  """
  known = inspect.signature(function).parameters
  for name in given:
    if name not in known:
      reads = ', '.join(map(repr, known))
      raise ConfigError(f'{path}.{name}: {chooser} does not read it; it reads {reads}')
  return given


def _number(step):
  return jnp.asarray(step, jnp.float32)


def _progress(step, steps, start):
  """0 until `start`, 1 from `steps` on, a line between."""
  done = (_number(step) - start) / max(steps - start, 1)
  return jnp.clip(done, 0, 1)


def _rising(step, warmup, after):
  """A line from 0 to 1 over the warm-up, then `after`."""
  step = _number(step)
  # Without a warm-up the line is not taken, but computed.
  line = step / max(warmup, 1)
  return jnp.where(step < warmup, line, after)
