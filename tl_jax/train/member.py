"""A member of a cohort that advances with others: its workdir is open, its examples are
chosen, and what it must not share is its own.

>>> shares = Shares(Clock(), [])
>>> shares.settle([])
"""

import pathlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from tl_jax import optim
from tl_jax.train import loop, results
from tl_jax.train.clock import NAMES, Clock
from tl_jax.train.course import Course
from tl_jax.train.reporter import Meter, Reporter
from tl_jax.train.running import Trainer
from tl_jax.train.settings import Settings
from tl_jax.train.starting import Own
from tl_jax.train.step import TrainState
from tl_jax.train.workdir import Run


class Member(NamedTuple):
  """One run of a cohort: its config, the settings read from it, and where its files
  go.
  """

  config: Any
  settings: Settings
  folder: pathlib.Path


class Open(NamedTuple):
  """A member whose workdir is open.

  settings: with the length in steps. stream, chosen: its rows, and the numbers of the
  examples that they are of. first: the step that it is at. state: as a checkpoint has
  it; None at step 0. factors: those of its schedule, one for every step.
  """

  settings: Settings
  run: Run
  stream: Any
  chosen: np.ndarray
  recorder: loop.Recorder
  meter: Meter
  factors: np.ndarray
  first: int = 0
  state: TrainState | None = None

  @classmethod
  def of(
    cls, trainer: Trainer, settings: Settings, run: Run, reporter: Reporter
  ) -> 'Open':
    """A member at its start, or where its newest good checkpoint is.

    Raises ConfigError for more labels than there are, and where an earlier start was
    trained on something else.
    """
    settings, stream, chosen = trainer.admit(settings, run)
    recorder = trainer.recorder(settings, run, chosen)
    state = trainer.restore(settings, run, recorder.course, reporter)
    first = 0
    if state is None:
      trainer.describe(settings, run)
    else:
      first = int(state.step)
    factors = factors_of(settings)
    return cls(settings, run, stream, chosen, recorder, Meter(), factors, first, state)

  @property
  def own(self) -> Own:
    return Own.of(self.settings)

  @property
  def alike(self) -> tuple:
    """Equal for members that see the same rows and draw the same."""
    return self.settings.seed, results.digest_numbers(self.chosen)

  @property
  def total(self) -> int:
    """The last step of its schedule."""
    return self.settings.schedule.steps

  @property
  def course(self) -> Course:
    return self.recorder.course

  def rate_at(self, number: int) -> float:
    """The learning rate of a step."""
    return float(np.float32(self.settings.optim.lr) * self.factors[number - 1])

  def is_evaluated(self, number: int) -> bool:
    """Is the state of this step looked at? As `loop` has it of a single run."""
    every = self.settings.eval.every
    if number == self.total:
      return bool(every) and bool(self.course.metric)
    return bool(every) and number % every == 0

  def is_logged(self, number: int) -> bool:
    return number % self.settings.log.every == 0 or number == self.total

  def is_saved(self, number: int) -> bool:
    """Is a checkpoint kept of this step, which has been evaluated where that is due?"""
    course = self.course
    if number == self.total or number % self.settings.checkpoint.every == 0:
      return True
    return bool(course.reason) or (course.keeps_best and self._improved(number))

  def is_over(self, number: int) -> bool:
    """Is this its last step?"""
    return number == self.total or bool(self.course.reason)

  def _improved(self, number: int) -> bool:
    """Was the last value, that of this step, the best?"""
    return self.is_evaluated(number) and self.course.has_new_best


def factors_of(settings: Settings) -> np.ndarray:
  """The factor of a schedule for every step of a run, float32 (steps,)."""
  # Some bytes a step: cheaper than a program for every schedule.
  schedule = optim.make_schedule(settings.schedule)
  factors = schedule(np.arange(settings.schedule.steps, dtype=np.int32))
  return np.asarray(factors, np.float32)


class Shares:
  """Divides the seconds of a common clock among the members that are there meanwhile."""

  def __init__(self, common: Clock, members: Iterable[Open]):
    self._common = common
    self._then = dict.fromkeys(NAMES, 0.0)
    self._took = {}
    for member in members:
      self._took[member.run.path] = member.run.clock.totals()

  def settle(self, members: Iterable[Open]) -> None:
    """Sets the clocks of the members that are there to what they took before, and their
    part of what came since the last call.
    """
    members = list(members)
    now = self._common.totals()
    for member in members:
      took = self._took[member.run.path]
      for name in NAMES:
        took[name] += (now[name] - self._then[name]) / len(members)
      member.run.clock.set(took)
    self._then = now

  def skip(self) -> None:
    """What came since the last call is nobody's: a member has counted it itself."""
    self._then = self._common.totals()
