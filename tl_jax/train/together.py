"""A cohort whose members advance together: opened, put into waves, compared at the rungs
of a halving, and finished.

>>> waves_of([0, 0, 20, 0, 20], most=2)
[[0, 1], [3], [2, 4]]
"""

import contextlib
import math
import pathlib
from collections.abc import Callable, Sequence

import jax

from tl_jax.train import halving as halvings
from tl_jax.train.checks import check
from tl_jax.train.clock import Clock
from tl_jax.train.course import LOWER_IS_BETTER, Course
from tl_jax.train.halving import Halving
from tl_jax.train.member import Member, Open, Shares
from tl_jax.train.reporter import Reporter
from tl_jax.train.results import survived, write_failure
from tl_jax.train.running import Trainer, make_trainer
from tl_jax.train.stack import Stacks, owned
from tl_jax.train.stopping import Stopped, Stopping
from tl_jax.train.wave import Wave
from tl_jax.train.workdir import open_run

# What jax says where a device has no memory left.
EXHAUSTED = 'RESOURCE_EXHAUSTED'


def train_together(
  members: list[Member],
  reporter: Reporter,
  most: int | None = None,
  halving: Halving | None = None,
) -> None:
  """Trains members of one signature, those that are at one step all at once.

  Whoever cannot be a member, or diverges, leaves failed.json, and the others go on.

  Args:
    most: members of a wave; None for no limit.
    halving: at which steps only the best go on.
  """
  common = Clock()
  with contextlib.ExitStack() as stack:
    cohort = _Cohort(members, common, reporter, most, halving)
    for member in members:
      cohort.open(member, stack)
    cohort.train()


def waves_of(steps: Sequence[int], most: int | None = None) -> list[list[int]]:
  """The numbers of members at these steps, in waves of one step and `most` at most."""
  alike: dict[int, list[int]] = {}
  for index, step in enumerate(steps):
    alike.setdefault(step, []).append(index)
  found = []
  for _, group in sorted(alike.items()):
    size = most or len(group)
    for start in range(0, len(group), size):
      found.append(group[start : start + size])
  return found


class _Cohort:
  """The members of a signature, their trainer, and the waves that they are in."""

  def __init__(
    self,
    members: list[Member],
    common: Clock,
    reporter: Reporter,
    most: int | None,
    halving: Halving | None,
  ):
    self._folders = [member.folder for member in members]
    self._common, self._reporter = common, reporter
    self._most, self._halving = most, halving
    self._trainer: Trainer | None = None
    self._stacks: Stacks | None = None
    self._opened: list[Open] = []
    self._has_base: set[int] = set()

  def open(self, member: Member, stack: contextlib.ExitStack) -> None:
    """Opens the workdir of a member that is not finished; `stack` closes it."""
    with survived(member.folder, self._reporter):
      run = stack.enter_context(open_run(member.config, member.folder))
      with survived(member.folder, self._reporter, run):
        if run.result(member.settings) is not None:
          return
        if self._halving is not None:
          self._halving.require(member.settings)
        # In the folder of the first that can be: what it prepares serves them all.
        if self._trainer is None:
          checked = check(member.config)
          self._trainer = make_trainer(checked, run, cache=run.path.parent)
          self._stacks = Stacks(self._trainer)
        opened = Open.of(self._trainer, member.settings, run, self._reporter)
        self._opened.append(self._without_base(opened))

  def _without_base(self, opened: Open) -> Open:
    """A member that goes on, without a base that another one of its step has."""
    # Waves of one step, of which there may be several, each need a base of their own.
    if opened.state is None or self._most is not None:
      return opened
    is_first = opened.first not in self._has_base
    self._has_base.add(opened.first)
    return opened._replace(state=owned(opened.state, self._stacks.axes, is_first))

  def train(self) -> None:
    """Trains the members that are open."""
    if not self._opened:
      return
    shares = Shares(self._common, self._opened)
    try:
      with (
        jax.set_mesh(self._trainer.mesh),
        Stopping() as stopping,
        self._common.phase('training'),
      ):
        self._train(shares, stopping)
    finally:
      # Where it ends before its time, each has its share; a finished run's clock stands
      # still.
      shares.settle(self._opened)

  def _train(self, shares: Shares, stopping: Stopping) -> None:
    def wave(numbers: list[int]) -> Wave:
      members = [self._opened[number] for number in numbers]
      return Wave(self._stacks, members, self._common, shares, stopping, self._reporter)

    # Whoever was stopped elsewhere goes on in a wave of its own.
    grouped = waves_of([member.first for member in self._opened], self._most)
    if self._halving is None:
      self._one_by_one(grouped, wave)
      return
    waves = [wave(numbers) for numbers in grouped]
    try:
      self._halve(waves)
    except Stopped:
      for each in waves:
        each.save()
      raise

  def _one_by_one(
    self, waves: list[list[int]], make: Callable[[list[int]], Wave]
  ) -> None:
    """Trains one wave after the other, so that the states of one alone are in memory.

    One that the devices have not the memory for is trained in two halves.
    """
    left = list(waves)
    while left:
      numbers = left.pop(0)
      # The memory of the one before is given back first.
      wave = None
      try:
        wave = make(numbers)
        wave.begin()
      except jax.errors.JaxRuntimeError as error:
        if len(numbers) == 1 or EXHAUSTED not in str(error):
          self._fail(numbers, error)
          continue
        half = len(numbers) // 2
        left = [numbers[:half], numbers[half:], *left]
        self._reporter.info(f'no memory for {len(numbers)} members at once: in halves')
        continue
      try:
        wave.advance()
      except jax.errors.JaxRuntimeError as error:
        wave.fail(error)

  def _fail(self, numbers: list[int], error: Exception) -> None:
    """Leaves the reason in the folders of these members."""
    for number in numbers:
      run = self._opened[number].run
      write_failure(run.path, error, self._reporter, run)

  def _halve(self, waves: list[Wave]) -> None:
    """Brings all waves to every rung, and lets the best members go on."""
    for rung in self._halving.steps:
      # Saved only when they have been compared: the checkpoint of one that ends here
      # says so.
      for wave in waves:
        wave.advance(rung)
      self._judge(waves, rung)
      for wave in waves:
        wave.keep()
    for wave in waves:
      wave.advance(math.inf)

  def _judge(self, waves: list[Wave], rung: int) -> None:
    """Says of the members that are not among the best of a rung that they are over."""
    # Whoever is past the rung has gone on before.
    here = [wave for wave in waves if wave.number == rung]
    courses: dict[pathlib.Path, Course] = {}
    for wave in here:
      for member in wave.left.values():
        courses[member.run.path] = member.course
    if not courses:
      return
    metric = next(iter(courses.values())).metric
    values = self._values(courses, metric, rung)
    ranks = halvings.standings(values, metric in LOWER_IS_BETTER)
    count = self._halving.count(len(ranks))
    for place, path in enumerate(ranks, 1):
      if place > count and path in courses:
        reason = halvings.words(rung, place, len(ranks), count, metric, values[path])
        courses[path].end(reason)

  def _values(
    self, courses: dict[pathlib.Path, Course], metric: str, rung: int
  ) -> dict[pathlib.Path, float]:
    """What every member was worth at a rung, those that are finished among them: who
    goes on does not depend on where a cohort was interrupted.
    """
    values = {}
    for path in self._folders:
      if path in courses:
        value = courses[path].value_at(rung)
      else:
        value = halvings.value_on_disk(path, f'validation/{metric}', rung)
      if value is not None:
        values[path] = value
    return values
