"""A thread that notices when the main one hangs, and says where.

A run that waits for a process which never comes, or for a disk, says nothing by itself.
The watchdog writes the stacks of all threads beside the run, and one line into the log.
It ends nothing: what is slow may come yet.

>>> with during('meeting', 'the meeting at noon'):
...   current().what
'the meeting at noon'
"""

import collections
import contextlib
import faulthandler
import logging
import pathlib
import re
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

# An activity hangs that takes so many times the median of those of its kind before.
# Steps differ by a few times, as where a host is shared, but not by this.
TIMES = 30
# It takes so many seconds at least: a short step may wait for a disk or a network that
# comes back by itself.
LEAST_SECONDS = 300
# What has nothing to be compared with, as a first evaluation or a compilation.
FIRST_SECONDS = 1800
# So many of a kind are known before they are compared with.
KNOWN = 3
# The last ones of a kind that are remembered.
REMEMBERED = 101
# How often the thread looks.
LOOK_SECONDS = 10.0
# kind -> what an activity of it waits for
WAITS = {
  'step': 'for the devices, which every process must give the same step',
  'rows': 'for the threads that read the rows',
  'evaluation': 'for the devices, or for the rows of the evaluation',
  'save': 'for the disk, or for the parts of other processes',
  'meeting': 'for the other processes',
  'compile': 'for the compiler, or for other processes that compile',
}
_LOG = logging.getLogger(__name__)


class Activity(NamedTuple):
  """What the main thread does.

  kind: a key of WAITS. what: in words, as `step 12`. began: on the clock that is not
  set back.
  """

  kind: str
  what: str
  began: float


class _Course:
  """What this process does, and how long such things took before."""

  def __init__(self):
    self.now: Activity | None = None
    self.past = collections.defaultdict(self._memory)

  @staticmethod
  def _memory() -> collections.deque:
    return collections.deque(maxlen=REMEMBERED)


# A process has one main thread. Whoever works says here what it does, whether somebody
# looks or not: it costs less than a microsecond.
_course = _Course()


def current() -> Activity | None:
  """What the main thread does; None where nobody need know."""
  return _course.now


def enter(kind: str, what: str) -> None:
  """Says that what went on before is over, and this begins."""
  began = time.monotonic()
  _remember(began)
  _course.now = Activity(kind, what, began)


def rest() -> None:
  """Says that what went on before is over, and that nothing need be watched now."""
  _remember(time.monotonic())
  _course.now = None


def _remember(ended: float) -> None:
  before = _course.now
  if before is not None:
    _course.past[before.kind].append(ended - before.began)


@contextlib.contextmanager
def during(kind: str, what: str) -> Iterator[None]:
  """Says what goes on inside; after it goes on what went on before."""
  before = _course.now
  _course.now = Activity(kind, what, time.monotonic())
  try:
    yield
  finally:
    _remember(time.monotonic())
    # Begun anew: what happened inside was no part of it.
    _course.now = before and before._replace(began=time.monotonic())


def limit_of(kind: str) -> float:
  """The seconds after which an activity of this kind hangs."""
  past = list(_course.past[kind])
  if len(past) < KNOWN:
    return max(FIRST_SECONDS, LEAST_SECONDS)
  return max(LEAST_SECONDS, TIMES * statistics.median(past))


class Watchdog:
  """Looks at what the main thread does while it is entered.

  folder: where the stacks go, into a file named after the machine.
  """

  # One looks for all that are entered: members of a cohort are runs of one process.
  _is_watching = False

  def __init__(self, folder: pathlib.Path):
    self._folder = folder
    self._ended = threading.Event()
    self._thread: threading.Thread | None = None
    # The activity that was seen last, for how long it was seen, and whether it was told.
    self._seen: Activity | None = None
    self._seconds = 0.0
    self._told = False

  def __enter__(self) -> 'Watchdog':
    if not Watchdog._is_watching:
      Watchdog._is_watching = True
      self._thread = threading.Thread(target=self._watch, name='watchdog', daemon=True)
      self._thread.start()
    return self

  def __exit__(self, *_) -> None:
    if self._thread is None:
      return
    self._ended.set()
    # A thread that writes to a disk which hangs must not hold the run up.
    self._thread.join(LOOK_SECONDS)
    Watchdog._is_watching = False
    rest()

  def _watch(self) -> None:
    before = time.monotonic()
    while not self._ended.wait(LOOK_SECONDS):
      now = time.monotonic()
      # A process that was suspended, or held by a debugger, did not hang meanwhile: this
      # thread slept as well.
      self.look(min(now - before, 2 * LOOK_SECONDS))
      before = now

  def look(self, passed: float) -> None:
    """Looks once; `passed` is how many seconds went by since the last time."""
    activity = current()
    if activity is not self._seen:
      self._seen, self._seconds, self._told = activity, 0.0, False
      return
    self._seconds += passed
    if activity is None or self._told or self._seconds < limit_of(activity.kind):
      return
    self._told = True
    try:
      self._tell(activity)
    except OSError as error:
      # The run goes on without its stacks.
      _LOG.warning('the stacks could not be written: %s', error)

  def _tell(self, activity: Activity) -> None:
    """Says that an activity hangs, and writes the stacks of all threads."""
    host = socket.gethostname()
    # The name of a machine is no path.
    name = re.sub(r'[^A-Za-z0-9_.-]+', '_', host)
    path = self._folder / f'stacks-{name}.txt'
    past = list(_course.past[activity.kind])
    usual = f'{statistics.median(past):.1f} s is usual' if past else 'the first of them'
    waits = WAITS.get(activity.kind, 'for something')
    line = (
      f'{activity.what} has taken {self._seconds:.0f} s ({usual}): {_process()} on {host} '
      f'waits {waits}'
    )
    # Before the file is written, whose disk may be what hangs.
    _LOG.warning('%s; its stacks are in %s; it goes on waiting', line, path)
    stamp = time.strftime('%Y-%m-%d %H:%M:%S')
    text = f'{stamp} {line}\n\n{stacks()}\n'
    # At once, because other processes of this machine may write there.
    with open(path, 'a') as file:
      file.write(text)


def stacks() -> str:
  """The stacks of all threads of this process, the innermost call first."""
  # faulthandler writes to a file of the system alone.
  with tempfile.TemporaryFile('w+') as file:
    faulthandler.dump_traceback(file, all_threads=True)
    file.seek(0)
    return file.read()


def _process() -> str:
  """Which process this is, in words. No device is touched."""
  # jax has no public way to ask without a device.
  from jax._src import distributed

  state = distributed.global_state
  if state.client is None:
    return 'the only process'
  return f'process {state.process_id} of {state.num_processes}'
