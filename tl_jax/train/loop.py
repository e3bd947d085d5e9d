"""The loop: read, step, log, save, stop. Metrics are fetched one step late, so that the
device never waits.

>>> finite({'loss': 1.0}), finite({'loss': float('nan')})
(True, False)
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from tl_jax import optim
from tl_jax.parallel import watching
from tl_jax.train import phases, telling
from tl_jax.train.clock import Clock
from tl_jax.train.compilation import Compiled, compile_ahead
from tl_jax.train.course import Course
from tl_jax.train.reporter import Meter, Reporter
from tl_jax.train.results import Diverged
from tl_jax.train.settings import Settings
from tl_jax.train.step import TrainState
from tl_jax.train.stopping import Stopped, Stopping


class Recorder(NamedTuple):
  """Where the loop leaves what it learns.

  record(row) takes the figures of a logged step, save(step, state) a checkpoint.
  evaluate(step, state) measures a state, adds to the course of the run, and gives the
  values by split/name. The clock counts the seconds.
  """

  record: Callable[[dict], None]
  save: Callable[[int, TrainState], None]
  evaluate: Callable[[int, TrainState], dict[str, float]]
  clock: Clock
  course: Course


class Leg(NamedTuple):
  """Steps whose batches have one shape, up to step `last`.

  program: a jitted step, which is compiled once, or what an earlier call made of it.
  """

  program: Callable | Compiled
  last: int


class Fitted(NamedTuple):
  """The last state, and the legs with their compiled steps, for another run of the same
  signature; a leg without a step that was left is as it was.
  """

  state: Any
  legs: tuple[Leg, ...]


def finite(metrics: dict) -> bool:
  return all(math.isfinite(float(value)) for value in metrics.values())


def diverged(number: int, figures: dict, rows: int | None) -> Diverged:
  """The error of a step, some of whose figures are no numbers.

  rows: of every step; None where they are not as many in each.
  """
  wrong = ', '.join(
    f'{name} {value}' for name, value in figures.items() if not math.isfinite(value)
  )
  which = ''
  if rows is not None:
    which = f' (rows {(number - 1) * rows} to {number * rows - 1})'
  return Diverged(
    f'step {number}: {wrong}{which}; no checkpoint holds this step; lower '
    'config.optim.lr or look at these rows'
  )


def fit(
  settings: Settings,
  legs: Sequence[Leg],
  state: TrainState,
  batches: Iterable[tuple[dict, int]],
  recorder: Recorder,
  reporter: Reporter,
  title: str,
) -> Fitted:
  """Runs from the state's step to that of the last leg, over `batches` of (global batch,
  tokens in it), or until the course of the run says that it is over.

  A batch of another shape or type than others of its leg is a TypeError. Raises Diverged
  where the loss or gradient stops being finite, Stopped after a signal (saved before).
  """
  loop = _Loop(settings, recorder, reporter, title)
  with recorder.clock.phase('training'), Stopping() as stopping:
    return loop.run(list(legs), state, batches, stopping)


class _Loop:
  """The steps of one `fit`, and what they must remember of each other."""

  def __init__(
    self, settings: Settings, recorder: Recorder, reporter: Reporter, title: str
  ):
    self._settings, self._total = settings, settings.schedule.steps
    self._recorder, self._reporter, self._title = recorder, reporter, title
    self._meter = Meter()
    # Of the step before: its number, metrics and rate, which nobody has asked for yet.
    self._late: tuple | None = None

  def run(
    self,
    legs: list[Leg],
    state: TrainState,
    batches: Iterable[tuple[dict, int]],
    stopping: Stopping,
  ) -> Fitted:
    """`fit` between its first step and its last."""
    first = int(state.step) + 1
    # The range first: zip asks it before the batches, so none is read in vain.
    numbers = range(first, self._total + 1)
    if self._recorder.course.reason:
      numbers = range(0)
    watching.enter('rows', f'the rows of step {first}')
    # The leg that is run; before the first step there is none.
    place = -1
    waited = self._waited(batches)
    for number, (batch, tokens) in zip(numbers, waited, strict=False):
      watching.enter('step', f'step {number}')
      own = _place(legs, number)
      if own == place:
        state, metrics = legs[place].program.call(state, batch)
        self._meter.add(tokens)
      else:
        # What was measured of the leg before must not wait for a compilation.
        self._report_late()
        place = own
        legs[place], state, metrics = self._begin(legs[place], state, batch)
      # Taken now: the next step writes over this state.
      rate = optim.learning_rate(state.opt_state)
      self._report_late()
      self._late = (number, metrics, rate)
      self._leave(number, state, self._must_stop(number, stopping))
      if self._recorder.course.reason:
        break
      watching.enter('rows', f'the rows of step {number + 1}')
    watching.enter('step', 'the last step')
    self._report_late()
    jax.block_until_ready(state)
    watching.rest()
    return Fitted(state, tuple(legs))

  def _begin(self, leg: Leg, state: TrainState, batch: dict) -> tuple[Leg, Any, dict]:
    """(the leg with its compiled step, the state after its first step, its metrics)."""
    began = time.monotonic()
    program = leg.program
    if not isinstance(program, Compiled):
      program = self._compile(program, state, batch)
    state, metrics = program.call(state, batch)
    jax.block_until_ready(metrics)
    # What came before the first step was compilation, and no speed.
    self._meter = Meter()
    seconds = time.monotonic() - began
    self._reporter.info(f'{self._title}: {program}, first step after {seconds:.1f} s')
    return leg._replace(program=program), state, metrics

  def _waited(self, batches: Iterable) -> Iterator:
    """The batches; the time that each is waited for is counted."""
    began = time.monotonic()
    for batch in batches:
      self._meter.wait(time.monotonic() - began)
      yield batch
      began = time.monotonic()

  def _compile(self, step: Callable, state: TrainState, batch: dict) -> Compiled:
    compiling = f'{self._title}: compiling the step{_size(batch)}'
    watched = watching.during('compile', 'the compilation of the step')
    busy = self._reporter.busy(compiling)
    with busy, self._recorder.clock.phase('compile'), watched:
      return compile_ahead(step, state, batch)

  def _must_stop(self, number: int, stopping: Stopping) -> bool:
    """Is this the last step before a signal is followed?

    Processes ask each other at the steps that are logged alone, because to ask takes
    time. A single one need not agree with anyone, so it stops at the next step.
    """
    if number % self._settings.log.every == 0 and stopping.agreed():
      return True
    return jax.process_count() == 1 and stopping.asked

  def _leave(self, number: int, state: TrainState, stops: bool) -> None:
    """Evaluates and saves the state of a step where that is due. Raises Stopped."""
    settings, recorder = self._settings, self._recorder
    course = recorder.course
    is_last = number == self._total
    saves = number % settings.checkpoint.every == 0 or is_last or stops
    # First, so that a checkpoint knows what its own step was worth: a run that goes on
    # from it stops where one without a pause does.
    if self._must_evaluate(number):
      # The step's own seconds are of the training, not of the evaluation.
      jax.block_until_ready(state)
      self._report_late()
      looking = watching.during('evaluation', f'the evaluation of step {number}')
      with recorder.clock.phase('evaluation'), looking:
        values = recorder.evaluate(number, state)
      self._tell(number, values)
      saves = saves or bool(course.reason)
      saves = saves or (course.keeps_best and course.has_new_best)
    if saves:
      # Before it is saved: no checkpoint holds a step that diverged.
      self._report_late()
      with watching.during('save', f'the checkpoint of step {number}'):
        recorder.save(number, state)
    recorder.clock.keep()
    if stops and not is_last:
      raise Stopped(
        f'stopped at step {number} of {self._total}; the step is saved, run again to go '
        'on'
      )

  def _tell(self, number: int, values: dict[str, float]) -> None:
    """Says what the look at a step has found."""
    for line in telling.lines(f'{self._title} at step {number}', values):
      self._reporter.info(line)

  def _must_evaluate(self, number: int) -> bool:
    """Is the state of this step looked at?

    That of the last step is, too, where all are measured on validation: the result says
    what it is worth on the test split alone.
    """
    every = self._settings.eval.every
    if number == self._total:
      return bool(every) and bool(self._recorder.course.metric)
    return bool(every) and number % every == 0

  def _report_late(self) -> None:
    """Checks, shows and, where it is due, records the figures of the step before.

    By now the device is at work on the next step, so that to fetch them costs no time.
    """
    if self._late is None:
      return
    number, metrics, rate = self._late
    self._late = None
    found = jax.device_get(metrics)
    figures = {name: float(np.asarray(value)) for name, value in found.items()}
    if not finite(figures):
      group = self._settings.data
      rows = None if getattr(group, 'phases', ()) else group.batch
      raise diverged(number, figures, rows)
    shown = dict(loss=figures['loss'])
    if number % self._settings.log.every == 0 or number == self._total:
      speed = self._meter.read()
      row = dict(step=number, **figures, learning_rate=float(rate))
      self._recorder.record(row | speed)
      shown['tokens_per_second'] = speed['tokens_per_second']
    if getattr(self._settings.data, 'phases', ()):
      # Steps of later phases may take many times as long.
      read = phases.room_before(self._settings, number)
      shown['share'] = read / phases.room_before(self._settings, self._total)
    self._reporter.progress(self._title, number, self._total, **shown)


def _place(legs: Sequence[Leg], number: int) -> int:
  """The place of the leg that a step is in."""
  for place, leg in enumerate(legs):
    if number <= leg.last:
      return place
  return len(legs) - 1


def _size(batch: dict) -> str:
  """What a step works on, in words; nothing where the batch has no tokens."""
  if 'tokens' not in batch:
    return ''
  rows, length = batch['tokens'].shape
  return f' for {rows} rows of {length} tokens'
