"""The loop: read, step, log, save, stop. Metrics are fetched one step late, so that the
device never waits.

>>> finite({'loss': 1.0}), finite({'loss': float('nan')})
(True, False)
"""

import math
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from tl_jax import optim
from tl_jax.train.clock import Clock
from tl_jax.train.compilation import Program, compile_ahead
from tl_jax.train.reporter import Meter, Reporter
from tl_jax.train.results import Diverged
from tl_jax.train.settings import Settings
from tl_jax.train.step import TrainState
from tl_jax.train.stopping import Stopped, Stopping


class Recorder(NamedTuple):
  """Where the loop leaves what it learns.

  record(row) takes the figures of a logged step, save(step, state) a checkpoint, and
  evaluate(step, state) measures a state on the test split. The clock counts the
  seconds.
  """

  record: Callable[[dict], None]
  save: Callable[[int, TrainState], None]
  evaluate: Callable[[int, TrainState], dict]
  clock: Clock


class Fitted(NamedTuple):
  """The last state, and the compiled step, for another run of the same signature; None
  where no step was left.
  """

  state: Any
  program: Program | None


def finite(metrics: dict) -> bool:
  return all(math.isfinite(float(value)) for value in metrics.values())


def diverged(number: int, figures: dict, rows: int) -> Diverged:
  """The error of a step of so many rows, some of whose figures are no numbers."""
  wrong = ', '.join(
    f'{name} {value}' for name, value in figures.items() if not math.isfinite(value)
  )
  return Diverged(
    f'step {number}: {wrong} (rows {(number - 1) * rows} to {number * rows - 1}); no checkpoint '
    'holds this step; lower config.optim.lr or look at these rows'
  )


def fit(
  settings: Settings,
  step: Callable,
  state: TrainState,
  batches: Iterable[tuple[dict, int]],
  recorder: Recorder,
  reporter: Reporter,
  title: str,
) -> Fitted:
  """Runs from the state's step to the schedule's last, over `batches` of (global batch,
  tokens in it).

  The step is a jitted function, which is compiled once, or the program that an earlier
  call left: a batch of another shape or type is a TypeError. Raises Diverged where the
  loss or gradient stops being finite, Stopped after a signal (saved before).
  """
  with recorder.clock.phase('training'):
    return _fit(settings, step, state, batches, recorder, reporter, title)


def _fit(settings, step, state, batches, recorder, reporter, title) -> Fitted:
  """`fit`, whose seconds are counted."""
  clock = recorder.clock
  total, start = settings.schedule.steps, int(state.step)
  began = time.monotonic()
  meter, late = Meter(), None
  program = step if isinstance(step, Program) else None
  with Stopping() as stopping:
    for number, (batch, tokens) in zip(
      range(start + 1, total + 1), batches, strict=False
    ):
      if program is None:
        with (
          reporter.busy(f'{title}: compiling the step{_size(batch)}'),
          clock.phase('compile'),
        ):
          program = compile_ahead(step, state, batch)
      state, metrics = program.call(state, batch)
      rate = optim.learning_rate(state.opt_state)
      if number == start + 1:
        jax.block_until_ready(metrics)
        meter = Meter()
        reporter.info(
          f'{title}: {program}, first step after {time.monotonic() - began:.1f} s'
        )
      else:
        meter.add(tokens)
      if late is not None:
        _report(*late, settings, recorder, reporter, title, meter)
      late = (number, metrics, rate)
      saves = number % settings.checkpoint.every == 0 or number == total
      stops = number % settings.log.every == 0 and stopping.agreed() or _alone(stopping)
      if saves or stops:
        _report(*late, settings, recorder, reporter, title, meter)
        late = None
        recorder.save(number, state)
      if settings.eval.every and number % settings.eval.every == 0 and number < total:
        jax.block_until_ready(state)
        with clock.phase('evaluation'):
          recorder.evaluate(number, state)
      clock.keep()
      if stops and number < total:
        raise Stopped(
          f'stopped at step {number} of {total}; the step is saved, run again to go on'
        )
  if late is not None:
    _report(*late, settings, recorder, reporter, title, meter)
  return Fitted(jax.block_until_ready(state), program)


def _size(batch: dict) -> str:
  """What a step works on, in words; nothing where the batch has no tokens."""
  if 'tokens' not in batch:
    return ''
  rows, length = batch['tokens'].shape
  return f' for {rows} rows of {length} tokens'


def _alone(stopping: Stopping) -> bool:
  """A single process need not agree with anyone, so it stops at the next step."""
  return jax.process_count() == 1 and stopping.asked


def _report(number, metrics, rate, settings, recorder, reporter, title, meter) -> None:
  """Checks, shows and, where it is due, records the figures of a step."""
  figures = {
    name: float(np.asarray(value)) for name, value in jax.device_get(metrics).items()
  }
  if not finite(figures):
    raise diverged(number, figures, settings.data.batch)
  total = settings.schedule.steps
  if number % settings.log.every == 0 or number == total:
    speed = meter.read()
    recorder.record(
      dict(
        step=number,
        **figures,
        learning_rate=float(rate),
        tokens_per_second=round(speed, 1),
      )
    )
    reporter.progress(
      title, number, total, loss=figures['loss'], tokens_per_second=speed
    )
  else:
    reporter.progress(title, number, total, loss=figures['loss'])
