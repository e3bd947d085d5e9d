"""The members of a cohort a step at a time: their states are one state, stacked, over
the devices of the mesh.

Leaves that no member trains and all share, the frozen base, have no axis of members.
The other leaves have it first, and the axis `cohort` of the mesh divides it.

>>> import numpy as np
>>> made = lambda base, own: {'base': 2 * base, 'own': base + own}
>>> depends(made, np.ones(3, np.float32), np.float32(1))
{'base': False, 'own': True}
"""

import contextlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from tl_jax import models, parallel
from tl_jax.train import loop, programs
from tl_jax.train.checks import check
from tl_jax.train.clock import Clock
from tl_jax.train.compilation import compile_ahead, together
from tl_jax.train.programs import MEMBERS
from tl_jax.train.reporter import Meter, Reporter
from tl_jax.train.results import survived, write_failure
from tl_jax.train.running import Trainer, make_trainer
from tl_jax.train.starting import Given, Own
from tl_jax.train.step import TrainState
from tl_jax.train.stopping import Stopped, Stopping
from tl_jax.train.workdir import Run, open_run


def depends(function, fixed, own) -> Any:
  """Which leaves of function(fixed, own) depend on `own`: a tree of booleans.

  Nothing is computed. A leaf may be said to depend on `own` where its value does not.
  """
  traced, shapes = jax.make_jaxpr(function, return_shape=True)(fixed, own)
  jaxpr = traced.jaxpr
  own_inputs = jaxpr.invars[len(jax.tree.leaves(fixed)) :]
  # Equations stand in the order in which they are computed, so one pass finds all.
  dependent = set(map(id, own_inputs))
  for equation in jaxpr.eqns:
    if any(id(value) in dependent for value in equation.invars):
      dependent.update(map(id, equation.outvars))
  found = [id(value) in dependent for value in jaxpr.outvars]
  return jax.tree.unflatten(jax.tree.structure(shapes), found)


def member_axes(make, given: Given, own: Own) -> TrainState:
  """0 for a leaf of the state make(given, own) that every member has its own of, None
  for one that all share. Nothing is computed; the arguments may be shapes.
  """
  dependent = depends(make, given, own).frozen
  frozen = jax.tree.map(lambda found: 0 if found else None, dependent)
  # Whatever is trained or counted is a member's own from the first step on.
  state = jax.eval_shape(make, given, own)
  return jax.tree.map(lambda leaf: 0, state)._replace(frozen=frozen)


def stacked_sharding(sharding: NamedSharding, axis: int | None) -> NamedSharding:
  """Where a leaf of all members lies, from where that of one does."""
  if axis is None:
    return sharding
  return NamedSharding(sharding.mesh, PartitionSpec(MEMBERS, *sharding.spec))


class Stack:
  """The states of some members as one, with the programs that make it, step it and take
  one out.

  `size` is the number of members, rounded up to what the mesh divides: the last one is
  repeated to fill up, and what becomes of the copies is dropped.
  """

  def __init__(self, trainer: Trainer, given: Given, owns: list[Own]):
    ready, mesh = trainer.ready, trainer.mesh
    self.trainer, self.given, self.count = trainer, given, len(owns)
    ways = mesh.shape[MEMBERS]
    self.size = -(-self.count // ways) * ways
    # A copy has the right shapes, and does not diverge on its own.
    owns = [*owns, *[owns[-1]] * (self.size - self.count)]
    self._own = Own(*(np.stack(values) for values in zip(*owns, strict=True)))
    self.axes = member_axes(ready.start.state, given, owns[0])
    self.shardings = jax.tree.map(stacked_sharding, trainer.shardings, self.axes)
    self.batch_sharding = NamedSharding(
      mesh, PartitionSpec(MEMBERS, *trainer.sharding.spec)
    )
    self.first_states = programs.cohort_first_states(
      ready.start.state, self.axes, self.shardings
    )
    self.step = programs.cohort_step(
      ready.parts, self.axes, self.shardings, self.batch_sharding
    )
    self._start = together(self.first_states)
    self._pick = together(programs.cohort_member(self.axes, trainer.shardings))
    self.rates = together(programs.cohort_rates(mesh))

  def start(self) -> TrainState:
    """The stacked state at step 0; the base that members share is never there once per
    member.
    """
    return self._start(self.given, self._own)

  def place(self, batches: list[dict]) -> dict:
    """The batches of the members as one, on the mesh: (members, rows, ...) each."""
    batches = [*batches, *[batches[-1]] * (self.size - len(batches))]
    stacked = {
      name: np.stack([batch[name] for batch in batches]) for name in batches[0]
    }
    return parallel.place(stacked, self.batch_sharding)

  def pick(self, state: TrainState, index: int) -> TrainState:
    """The state of one member, as a run of its own has it."""
    return self._pick(state, jnp.int32(index))


class Open(NamedTuple):
  """A member whose workdir is open, with the examples that it is trained on and where
  its figures go.
  """

  settings: Any
  run: Run
  stream: Any
  chosen: np.ndarray
  recorder: loop.Recorder
  meter: Meter
  earlier: dict


def train_together(members, reporter: Reporter) -> None:
  """Trains members of one signature, none of which has a step yet, all of them at once.

  A checkpoint is kept of the last step alone. Whoever cannot be a member, or diverges,
  leaves failed.json, and the others go on.
  """
  common = Clock()
  with contextlib.ExitStack() as stack:
    trainer, opened = None, []
    for member in members:
      with survived(member.folder, reporter):
        run = stack.enter_context(open_run(member.config, member.folder))
        with survived(member.folder, reporter, run):
          if run.result(member.settings) is not None:
            continue
          if trainer is None:
            trainer = make_trainer(check(member.config), run, cache=run.path.parent)
          opened.append(open_member(trainer, member.settings, run))
    if opened:
      _train(trainer, opened, common, reporter)


def open_member(trainer: Trainer, settings, run: Run) -> Open:
  """A member at its start. Raises ConfigError for more labels than there are."""
  settings = trainer.in_steps(settings)
  earlier = run.clock.totals()
  stream, chosen = trainer.ready.corpus.stream(settings)
  trainer.describe(settings, run)
  if run.is_primary:
    run.workdir.truncate_metrics(None)
  recorder = trainer.recorder(settings, run, chosen)
  return Open(settings, run, stream, chosen, recorder, Meter(), earlier)


def _train(
  trainer: Trainer, members: list[Open], common: Clock, reporter: Reporter
) -> None:
  """Trains and judges members that can be; `common` counts the time that they share."""
  # by their place in the stack; one that diverges leaves
  left = dict(enumerate(members))
  try:
    given = trainer.given  # not on the mesh, as `Trainer.start` says
    with jax.set_mesh(trainer.mesh):
      stack = Stack(trainer, given, [Own.of(member.settings) for member in members])
      with Stopping() as stopping, common.phase('training'):
        state = _fit(stack, left, common, reporter, stopping)
      shared = common.totals()
      for index, member in left.items():
        with survived(member.run.path, reporter, member.run):
          _settle(member, shared, len(members))
          one = stack.pick(state, index)
          member.recorder.save(member.settings.schedule.steps, one)
          course = member.recorder.course
          trainer.finish(member.settings, member.run, one, member.chosen, course)
  finally:
    # Where it ends before its time, each has its share; a finished run's clock stands
    # still.
    for member in members:
      _settle(member, common.totals(), len(members))


def _fit(
  stack: Stack,
  left: dict[int, Open],
  common: Clock,
  reporter: Reporter,
  stopping: Stopping,
) -> TrainState:
  """The stacked state after the last step of the schedule.

  Members in `left` that diverge are taken out. Raises Stopped after a signal, when
  every member has been saved, to go on by itself.
  """
  trainer = stack.trainer
  total = trainer.ready.settings.schedule.steps
  with common.phase('start'):
    state = stack.start()
    streams = [
      trainer.evaluator.training_rows(member.stream, stack.pick(state, index), 0, total)
      for index, member in left.items()
    ]
  program = None
  for number in range(1, total + 1):
    # Before the step: whoever has no batch leaves, and the stack keeps its shape.
    batches = _read(stack, streams, left, number - 1, reporter)
    if not left:
      break
    batch = stack.place(batches)
    if program is None:
      title = f'{trainer.ready.title}: compiling the step of {len(streams)} members'
      with reporter.busy(title), common.phase('compile'):
        program = compile_ahead(stack.step, state, batch)
    state, metrics = program.call(state, batch)
    for index, member in left.items():
      member.meter.add(streams[index].tokens_at(number - 1))
    _tell(stack, left, number, metrics, state, common, reporter)
    if number < total and _stops(stopping, number, trainer.ready.settings.log.every):
      _save(stack, left, number, state)
      raise Stopped(
        f'stopped at step {number} of {total}; the members are saved, run again to go on'
      )
  return jax.block_until_ready(state)


def _stops(stopping: Stopping, number: int, every: int) -> bool:
  """Is the run to stop at this step? Processes agree on it at every so many steps
  alone.
  """
  if jax.process_count() == 1:
    return stopping.asked
  return number % every == 0 and stopping.agreed()


def _tell(
  stack: Stack,
  left: dict[int, Open],
  number: int,
  metrics: dict,
  state: TrainState,
  common: Clock,
  reporter: Reporter,
) -> None:
  """Logs and evaluates a step where that is due; the clocks of the members are set for
  it.
  """
  settings = stack.trainer.ready.settings
  total = settings.schedule.steps
  if number % settings.log.every == 0 or number == total:
    _record(stack, left, number, metrics, state, reporter)
    for member in left.values():
      _settle(member, common.totals(), stack.count)
      member.run.clock.keep(now=True)
  every = settings.eval.every
  if every and (number % every == 0 or number == total):
    jax.block_until_ready(state)
    with common.phase('evaluation'):
      for index, member in left.items():
        _settle(member, common.totals(), stack.count)
        member.recorder.evaluate(number, stack.pick(state, index))
  reporter.progress(stack.trainer.ready.title, number, total)


def _save(stack: Stack, left: dict[int, Open], number: int, state: TrainState) -> None:
  """Commits a step of every member that is left."""
  for index, member in left.items():
    member.recorder.save(number, stack.pick(state, index))
  # Only now: the members are saved side by side.
  for member in left.values():
    member.run.store.wait()


def _read(
  stack: Stack, streams: list, left: dict[int, Open], step: int, reporter: Reporter
) -> list[dict]:
  """The batch of every member at a step; one whose batch cannot be is failed, and
  leaves.
  """
  found = {}
  for index, member in list(left.items()):
    with survived(member.run.path, reporter, member.run):
      batch = streams[index].batch_at(step)
      models.require_rows(stack.trainer.ready.parts.model.arch, batch)
      found[index] = batch
    if index not in found:
      del left[index]
  # Whoever has left keeps its place, with the batch of another; nobody looks at its
  # state.
  other = next(iter(found.values()), None)
  return [found.get(index, other) for index in range(stack.count)]


def _record(
  stack: Stack, left: dict[int, Open], number: int, metrics, state, reporter: Reporter
) -> None:
  """Logs a step of every member; one whose figures are no numbers is failed, and
  leaves.
  """
  metrics, rates = jax.device_get((metrics, stack.rates(state.opt_state)))
  for index, member in list(left.items()):
    figures = {name: float(values[index]) for name, values in metrics.items()}
    if not loop.finite(figures):
      error = loop.diverged(number, figures, member.settings.data.batch)
      write_failure(member.run.path, error, reporter, member.run)
      del left[index]
      continue
    speed = round(member.meter.read(), 1)
    rate = float(rates[index])
    member.recorder.record(
      dict(step=number, **figures, learning_rate=rate, tokens_per_second=speed)
    )


def _settle(member: Open, shared: dict[str, float], count: int) -> None:
  """Sets a member's clock to what it took before and its part of what `count` members
  share.
  """
  member.run.clock.set(
    {name: before + shared[name] / count for name, before in member.earlier.items()}
  )
