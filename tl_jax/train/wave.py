"""Members of a cohort that advance together, a step at a time, each on a course of its
own: it is logged, evaluated, saved, stopped and judged as a run by itself would be.

>>> WORTH_A_PROGRAM > 0
True
"""

import math
import time

import jax

from tl_jax import models
from tl_jax.parallel import watching
from tl_jax.train import loop
from tl_jax.train.clock import Clock
from tl_jax.train.member import Open, Shares
from tl_jax.train.reporter import Reporter
from tl_jax.train.results import survived, write_failure
from tl_jax.train.stack import Stack, Stacks
from tl_jax.train.stopping import Stopped, Stopping

# Steps that must be left for a smaller stack, whose program is compiled anew.
WORTH_A_PROGRAM = 50


class Wave:
  """Members at one common step, those of one program.

  `number` is the step that they are at, `left` has the members that are not finished,
  by their place among those of the stack. Whoever diverges, or has a batch that cannot
  be, leaves failed.json, and the others go on.
  """

  def __init__(
    self,
    stacks: Stacks,
    members: list[Open],
    common: Clock,
    shares: Shares,
    stopping: Stopping,
    reporter: Reporter,
  ):
    self._trainer = stacks.trainer
    self._common, self._shares = common, shares
    self._stopping, self._reporter = stopping, reporter
    self.left = dict(enumerate(members))
    self.number = members[0].first
    self._last = max(member.total for member in members)
    owns = [member.own for member in members]
    self._stack = stacks.stack(owns, [member.alike for member in members])
    self._state = self._first_state(members)
    self._streams = self._open_streams()
    # Of the step before: its number and metrics, which nobody has asked for yet.
    self._late: tuple | None = None
    # Has the first step been taken, and not been looked at?
    self._has_begun = False
    # Has the step been evaluated, and not been kept?
    self._is_open = False

  def _first_state(self, members: list[Open]):
    """The stacked state, at step 0 or where the members have been saved."""
    with self._common.phase('start'):
      # Never made by one member after the other: the base would be there twice.
      if self.number == 0:
        return self._stack.start()
      return self._stack.gather([member.state for member in members])

  def _open_streams(self) -> dict:
    """The rows as the step reads them, by what members of equal rows have in common."""
    longest: dict[tuple, int] = {}
    for member in self.left.values():
      longest[member.alike] = max(member.total, longest.get(member.alike, 0))
    streams = {}
    evaluator = self._trainer.evaluator
    for index, member in self.left.items():
      # A head that is trained alone reads features, which are made here; of members
      # that see the same rows they are the same.
      if member.alike not in streams:
        state = self._stack.pick(self._state, index)
        streams[member.alike] = evaluator.training_rows(
          member.stream, state, self.number, longest[member.alike]
        )
    return streams

  def begin(self) -> None:
    """Takes the first step, which shows whether the devices have the memory.

    Raises jax's error where they have not; nothing has been recorded then.
    """
    self._step()
    self._has_begun = True
    jax.block_until_ready(self._state)

  def fail(self, error: Exception) -> None:
    """Leaves the reason in the folder of every member that is left."""
    for index, member in list(self.left.items()):
      write_failure(member.run.path, error, self._reporter, member.run)
      self._drop(index)

  def advance(self, until: float = math.inf) -> None:
    """Goes to the step `until`, or until nobody is left.

    That step is evaluated where it is due, but not saved before `keep` is called.
    Raises Stopped after a signal.
    """
    while self.left and (self._has_begun or self.number < until):
      if not self._has_begun:
        watching.enter('step', f'step {self.number + 1} of {len(self.left)} members')
        self._step()
      self._has_begun = False
      self._look()
      if self.number < until:
        self.keep()
    watching.rest()

  def _step(self) -> None:
    began = time.monotonic()
    # Before the step: whoever has no batch leaves, and the stack keeps its shape.
    batches = self._read()
    if not self.left:
      return
    self.number += 1
    stack = self._stack
    batch = stack.place(batches)
    # The members go at one pace: what one waits for, all do.
    waited = time.monotonic() - began
    factors = stack.place_factors(self._factors())
    program = self._program(stack, batch, factors)
    self._state, metrics = program.call(self._state, batch, factors)
    self._report_late()
    self._late = self.number, metrics
    # Each counts the tokens of its own rows, though others may have the same.
    for member in self.left.values():
      stream = self._streams[member.alike]
      member.meter.add(stream.tokens_at(self.number - 1))
      member.meter.wait(waited)
    self._is_open = True
    title = self._trainer.ready.title
    self._reporter.progress(title, self.number, self._last)

  def _program(self, stack: Stack, batch: dict, factors):
    count = len(stack.owns)
    title = f'{self._trainer.ready.title}: compiling the step of {count} members'
    with self._reporter.busy(title), self._common.phase('compile'):
      return stack.compile(self._state, batch, factors)

  def _factors(self) -> list[float]:
    """The factor of the schedule of every member at this step; 0 for who has left."""
    factors = [0.0] * len(self._stack.owns)
    for index, member in self.left.items():
      factors[index] = member.factors[self.number - 1]
    return factors

  def _read(self) -> dict[int, dict]:
    """The batches of the next step, by the first member of each group."""
    found = {}
    for index, member in list(self.left.items()):
      if member.alike in found:
        continue
      with survived(member.run.path, self._reporter, member.run):
        batch = self._streams[member.alike].batch_at(self.number)
        models.require_rows(self._trainer.ready.parts.model.arch, batch)
        found[member.alike] = batch
      if member.alike not in found:
        self._drop(index)
    # Whoever has left keeps its place, with the batch of another; nobody looks at its
    # state.
    other = next(iter(found.values()), None)
    courses = self._stack.courses
    groups = self._stack.layout.groups
    return {group: found.get(courses[group], other) for group in groups}

  def _drop(self, index: int) -> None:
    """Lets a member go; what it took until now is counted."""
    self._shares.settle(self.left.values())
    del self.left[index]

  def _report_late(self) -> None:
    """Records the figures of the step before; one whose figures are no numbers is
    failed, and leaves.

    By now the device is at work on the next step, so that to fetch them costs no time.
    """
    if self._late is None:
      return
    number, metrics = self._late
    self._late = None
    metrics = jax.device_get(metrics)
    for index, member in list(self.left.items()):
      place = self._stack.layout.place_of(index)
      figures = {name: float(values[place]) for name, values in metrics.items()}
      if not loop.finite(figures):
        error = loop.diverged(number, figures, member.settings.data.batch)
        write_failure(member.run.path, error, self._reporter, member.run)
        self._drop(index)
      elif member.is_logged(number):
        row = dict(step=number, **figures, learning_rate=member.rate_at(number))
        member.recorder.record(row | member.meter.read())

  def _look(self) -> None:
    """Evaluates the members that are to be evaluated at this step."""
    number = self.number
    due = [index for index, one in self.left.items() if one.is_evaluated(number)]
    if not due:
      return
    self._report_late()
    # The step's own seconds are of the training, not of the evaluation.
    jax.block_until_ready(self._state)
    self._shares.settle(self.left.values())
    looking = watching.during('evaluation', f'the evaluation of step {number}')
    with self._common.phase('evaluation'), looking:
      for index in due:
        if index in self.left:
          one = self._stack.pick(self._state, index)
          self.left[index].recorder.evaluate(number, one)

  def keep(self) -> None:
    """Saves the step of whoever is to be saved, finishes whoever has come to an end, and
    makes the stack smaller where few are left.

    Raises Stopped after a signal, when all that are left have been saved.
    """
    if not self._is_open:
      return
    self._is_open = False
    stops = self._stops()
    members = self.left.values()
    if any(stops or member.is_saved(self.number) for member in members):
      self.save(stops)
    for index in list(self.left):
      # Only now: of those that were to be saved, one may have diverged.
      if self.left[index].is_over(self.number):
        self._finish(index)
    for member in self.left.values():
      member.run.clock.keep()
    if stops and self.left:
      raise Stopped(
        f'stopped at step {self.number} of {self._last}; the members are saved, run '
        'again to go on'
      )
    self._shrink()

  def _stops(self) -> bool:
    """Is the wave to stop at this step? Processes agree on it at every so many steps
    alone.
    """
    if jax.process_count() == 1:
      return self._stopping.asked
    every = self._trainer.ready.settings.log.every
    return self.number % every == 0 and self._stopping.agreed()

  def save(self, all_of_them: bool = True) -> None:
    """Commits the step of every member that is left, or of those that are to be saved
    at it.
    """
    # Before: no checkpoint holds a step that diverged.
    self._report_late()
    self._shares.settle(self.left.values())
    saved = []
    for index, member in self.left.items():
      if all_of_them or member.is_saved(self.number):
        self._save(index)
        saved.append(member)
    # Only now: the members are saved side by side.
    for member in saved:
      member.run.store.wait()

  def _save(self, index: int) -> None:
    member = self.left[index]
    # A step that was there when the members went on is saved again only where it has
    # become the last.
    if member.run.store.latest() == self.number and not member.course.reason:
      return
    one = self._stack.pick(self._state, index)
    member.recorder.save(self.number, one)

  def _finish(self, index: int) -> None:
    """Judges a member whose course is over, and lets it go."""
    member = self.left[index]
    self._shares.settle(self.left.values())
    one = self._stack.pick(self._state, index)
    with survived(member.run.path, self._reporter, member.run):
      self._trainer.finish(
        member.settings, member.run, one, member.chosen, member.course
      )
    del self.left[index]
    self._shares.skip()

  def _shrink(self) -> None:
    """A stack of those that are left, where it is half as large or smaller."""
    self._report_late()
    left = list(self.left)
    if not left or self._last - self.number < WORTH_A_PROGRAM:
      return
    stack = self._stack.smaller(left)
    if stack is None:
      return
    self._state = self._stack.moved(self._state, left, stack)
    self._stack = stack
    # Numbered anew, by their places in the smaller stack.
    self.left = dict(enumerate(self.left.values()))
    self._last = max(member.total for member in self.left.values())
