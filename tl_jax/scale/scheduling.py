"""Hands the members of a sweep out to worker processes, and notes what becomes of them.

>>> cut(list(range(7)), 3)
[[0, 1, 2], [3, 4], [5, 6]]
"""

import collections
import pathlib
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from tl_jax import checkpoint, files
from tl_jax.checkpoint.lock import holder_of
from tl_jax.scale import ledger as ledgers
from tl_jax.scale.ledger import Ledger, Standing, standing
from tl_jax.scale.members import Listing, Member
from tl_jax.scale.processes import Process, folder_of, how_it_ended

# Seconds between two looks at the workers.
PAUSE = 0.25
# Parts per worker that the members are cut into: a slow part then holds up no other.
PARTS = 3
# Workers that die one after the other before any member is begun: nothing will run. One
# member that cannot be read is found by halves, which takes some of them.
MOST_DEAD = 8
# Seconds that the workers of a killed start are given to save and leave.
PATIENCE = 60.0
BY_SIGNAL = 'stopped by a signal'
SWEEP_IS_OVER = 'the time of the sweep is over'
OVER_LIMIT = 'over its time limit'
RESULT = 'result.json'
FAILURE = 'failed.json'


class Limits(NamedTuple):
  """Seconds that a member may take over all its starts, and that this start of the sweep
  may take; None: any.
  """

  member: float | None = None
  sweep: float | None = None


ANY_TIME = Limits()


def cut(members: Sequence, parts: int) -> list[list]:
  """The members in so many runs of neighbours, as equal as can be; none is empty."""
  parts = min(parts, len(members))
  if not parts:
    return []
  size, longer = divmod(len(members), parts)
  found = []
  begin = 0
  for number in range(parts):
    end = begin + size + (number < longer)
    found.append(list(members[begin:end]))
    begin = end
  return found


def in_cohorts(listing: Listing, members: Iterable[Member]) -> list[list[Member]]:
  """The members by signature: what one compiled step can serve stands together."""
  # Here, because it loads jax.
  from tl_jax.train.cohort import signature

  groups: dict[str, list[Member]] = {}
  for member in members:
    groups.setdefault(signature(listing.config(member)), []).append(member)
  return list(groups.values())


class Scheduler:
  """Runs members in worker processes until all are settled, or it is to stop.

  joins: may other processes make the same members together with this one, as the hosts
  of a pod do? Then a member that is held by another process is begun all the same: its
  run itself knows whether it has a part in it.
  say: is told a line. progress: is told (title, done, total, **figures).
  """

  def __init__(
    self,
    listing: Listing,
    workdir: pathlib.Path,
    members: Sequence[Member],
    limits: Limits,
    joins: bool,
    say: Callable[[str], None],
    progress: Callable[..., None],
  ):
    self.listing = listing
    self.workdir = workdir
    self.members = members
    self.limits = limits
    self.joins = joins
    self.say = say
    self.progress = progress
    self.ledger = Ledger(workdir)
    self.queue: collections.deque[list[Member]] = collections.deque()
    self.processes: list[Process] = []
    # member -> its state, of those that are over in this start, one way or the other
    self.settled: dict[str, str] = {}
    self.dead = 0

  def run(self, workers: int) -> None:
    """Runs what is to do. Raises RuntimeError where workers die before they begin."""
    from tl_jax.train.stopping import Stopping

    began = time.monotonic()
    todo = self._to_do()
    # Neighbours share a compiled step, so that to cut the row costs few cohorts.
    groups = in_cohorts(self.listing, todo)
    self.queue.extend(self._jobs(groups, workers))
    self._tell()
    with Stopping() as stopping:
      try:
        while self.queue or self.processes:
          why = BY_SIGNAL if stopping.asked else self._why_over(began)
          self._step(workers, why)
      finally:
        # An error of this process must not leave workers that nobody looks after.
        for process in self.processes:
          process.stop(BY_SIGNAL)
          process.close()

  def _jobs(self, groups: list[list[Member]], workers: int) -> list[list[Member]]:
    """The members in parts for workers."""
    # Members that are compared on their way must be together.
    if self.listing.halving:
      return groups
    ordered = [member for group in groups for member in group]
    return cut(ordered, 1 if workers == 1 else PARTS * workers)

  def _why_over(self, began: float) -> str:
    """Why the sweep is over before its members are; '' where it is not."""
    limit = self.limits.sweep
    is_over = limit is not None and time.monotonic() - began > limit
    return SWEEP_IS_OVER if is_over else ''

  def _step(self, workers: int, why: str) -> None:
    """Stops or starts workers, and looks at all of them once."""
    if why:
      # Asked again at every look: one that does not leave in time is killed.
      self.queue.clear()
      for process in self.processes:
        process.stop(why)
    while self.queue and len(self.processes) < workers:
      job = self.queue.popleft()
      self.processes.append(Process(self.workdir, job))
    time.sleep(PAUSE)
    for process in list(self.processes):
      # Asked before the look, which then sees all that it did.
      code = process.code
      self._look(process)
      if code is not None:
        process.close()
        self.processes.remove(process)
        self._bury(process, code)

  # What is there before the first worker begins.

  def _to_do(self) -> list[Member]:
    """The members that are not finished and that nobody else runs."""
    latest = self.ledger.latest()
    if not self.joins:
      self._wait_for_orphans(latest)
    todo = []
    for member in self.members:
      found = standing(self._folder(member), latest.get(member.id))
      if self._is_settled(member, found):
        self.settled[member.id] = found.state
        continue
      if found.state == ledgers.FAILED:
        # Its cause may be gone; what is left here must not look like an answer.
        (self._folder(member) / FAILURE).unlink(missing_ok=True)
      last = latest.get(member.id, {}).get('state')
      if found.state == ledgers.STOPPED and last == ledgers.RUNNING:
        self.say(f'{member.id}: {found.reason}; it goes on')
        self.ledger.note(member.id, ledgers.STOPPED, found.reason)
      todo.append(member)
    return todo

  def _is_settled(self, member: Member, found: Standing) -> bool:
    """Is there nothing to do for a member?"""
    if found.state == ledgers.RUNNING:
      if self.joins:
        return False
      self.say(f'{member.id}: is run {found.reason}')
      return True
    if found.state == ledgers.STOPPED and self._is_over_limit(member):
      return True
    return found.state == ledgers.DONE or (
      found.state == ledgers.FAILED and not found.again
    )

  def _wait_for_orphans(self, latest: dict[str, dict]) -> None:
    """Gives the workers of a killed start the time to save and leave."""
    begun = []
    for member in self.members:
      if latest.get(member.id, {}).get('state') == ledgers.RUNNING:
        begun.append(member)
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
      if not any(_is_held_here(self._folder(member)) for member in begun):
        return
      time.sleep(PAUSE)

  # What workers do.

  def _folder(self, member: Member) -> pathlib.Path:
    return folder_of(self.workdir, member)

  def _look(self, process: Process) -> None:
    """Notes which members of a worker have begun and which are over."""
    left = []
    for member in process.members:
      folder = self._folder(member)
      if not folder.is_dir():
        # Most of ten thousand members: one question for each at every look.
        left.append(member)
        continue
      # The run itself wrote these: they are right whatever became of the worker.
      if (folder / RESULT).is_file():
        self.dead = 0
        self._settle(member, ledgers.DONE)
      elif (folder / FAILURE).is_file():
        self.dead = 0
        failure = files.find_json(folder / FAILURE) or {}
        self._settle(member, ledgers.FAILED, str(failure.get('reason', '')))
      else:
        left.append(member)
        self._look_at_begun(process, member)
    process.members = left

  def _look_at_begun(self, process: Process, member: Member) -> None:
    """Notes that a member has begun; stops its worker where it takes too long."""
    if member.id not in process.begun:
      if not process.holds(self._folder(member)):
        return
      process.begun.add(member.id)
      self.ledger.note(member.id, ledgers.RUNNING, pid=process.pid)
      self.dead = 0
    if self._is_over_limit(member):
      process.stop(f'{OVER_LIMIT} of {self.limits.member:g} s')

  def _is_over_limit(self, member: Member) -> bool:
    """Has a member used up its time?"""
    if self.limits.member is None:
      return False
    found = files.find_json(self._folder(member) / 'seconds.json') or {}
    seconds = found.get('seconds')
    return isinstance(seconds, int | float) and seconds >= self.limits.member

  def _settle(self, member: Member, state: str, reason: str = '') -> None:
    """Notes that a member is over."""
    self.settled[member.id] = state
    self.ledger.note(member.id, state, reason)
    if reason:
      self.say(f'{member.id}: {state}: {reason}')
    self._tell()

  def _tell(self) -> None:
    """Tells how far the sweep has come."""
    figures = {}
    failed = list(self.settled.values()).count(ledgers.FAILED)
    if failed:
      figures['failed'] = failed
    self.progress('sweep', len(self.settled), len(self.members), **figures)

  # What is left when a worker has ended.

  def _bury(self, process: Process, code: int) -> None:
    """Decides about the members that a worker which has ended left unfinished."""
    if not process.members:
      return
    begun, others = [], []
    for member in process.members:
      (begun if member.id in process.begun else others).append(member)
    # It was asked to: how it ended says nothing of its members.
    if process.why:
      self._stop(process, begun, others)
    elif code == 75:
      self._leave_to_others(process.members)
    elif len(begun) == 1 or (begun and self.listing.halving):
      # Those that are compared cannot be tried alone: the next start goes on with them.
      for member in begun:
        self._fail(process, code, member)
      self._queue_again(others)
    else:
      self._divide(process, code, begun, others)

  def _stop(self, process: Process, begun: list[Member], others: list[Member]) -> None:
    """Notes members whose worker was asked to stop; one in time goes on later."""
    again = others
    is_over = not process.why.startswith(OVER_LIMIT)
    for member in begun:
      if is_over or self._is_over_limit(member):
        self._settle(member, ledgers.STOPPED, process.why)
      else:
        again = [member, *again]
    if not is_over:
      self._queue_again(again)

  def _leave_to_others(self, members: list[Member]) -> None:
    """After a worker that met a member in use, or was itself told to stop."""
    again = []
    for member in members:
      holder = holder_of(self._folder(member))
      if holder is None:
        again.append(member)
        continue
      self.say(f'{member.id}: in use by pid {holder["pid"]} on {holder["host"]}')
      self.settled[member.id] = ledgers.RUNNING
    if self.joins:
      # Whoever started this process starts it again, with the others of the run.
      for member in again:
        self._settle(member, ledgers.STOPPED, BY_SIGNAL)
      return
    self._count_dead('its members were in use or it was stopped')
    self._queue_again(again)

  def _divide(
    self, process: Process, code: int, begun: list[Member], others: list[Member]
  ) -> None:
    """After a worker that died with several members or none: who did it is found alone.

    Raises RuntimeError where worker after worker dies before it begins.
    """
    if begun:
      for member in begun:
        self.queue.append([member])
      self._queue_again(others)
      return
    # All are read before the first begins: it was one that cannot even be read.
    self._count_dead(f'{how_it_ended(code)}: {process.last_words()}')
    if len(others) == 1:
      self._fail(process, code, others[0])
      return
    self.queue.extend(cut(others, 2))

  def _count_dead(self, words: str) -> None:
    """Counts workers that ended before they began; raises RuntimeError for too many."""
    self.dead += 1
    if self.dead >= MOST_DEAD:
      raise RuntimeError(f'{self.dead} workers ended before any member began: {words}')

  def _queue_again(self, members: list[Member]) -> None:
    if members:
      self.queue.append(members)

  def _fail(self, process: Process, code: int, member: Member) -> None:
    """Leaves the reason of a member whose worker died."""
    words = process.last_words() if code > 0 else ''
    reason = f'its process was {how_it_ended(code)}' if code < 0 else how_it_ended(code)
    if not code:
      reason = 'ended without a result'
    log = process.log.relative_to(self.workdir)
    said = f'{reason}: {words}' if words else reason
    failure = dict(reason=f'{said} (see {log})', retry=True)
    self._write_failure(self._folder(member), failure)
    self._settle(member, ledgers.FAILED, failure['reason'])

  def _write_failure(self, folder: pathlib.Path, failure: dict) -> None:
    """Leaves failed.json in the folder of a dead worker's member."""
    try:
      workdir = checkpoint.Workdir(folder)
    except checkpoint.WorkdirBusy:
      # Somebody else has taken it, who then knows better.
      return
    with workdir:
      workdir.write_json(FAILURE, failure)


def _is_held_here(folder: pathlib.Path) -> bool:
  """Does a live process of this machine hold a folder?"""
  holder = holder_of(folder)
  return holder is not None and holder.get('host') == socket.gethostname()
