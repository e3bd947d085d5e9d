"""One writer per folder: a lock file that says who holds it, taken over from the dead.

>>> import tempfile
>>> folder = Path(tempfile.mkdtemp())
>>> lock = Lock(folder); (folder / NAME).exists()
True
>>> lock.release(); (folder / NAME).exists()
False
"""

import contextlib
import errno
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from tl_jax import files

try:
  import fcntl
except ImportError:
  fcntl = None

NAME = 'lock'
_BEAT_SECONDS = 20.0
# Fifteen heartbeats: a file system may be slow, or show a file's time late.
_DEAD_AFTER_SECONDS = 300.0
_MOST_BYTES = 1 << 16


class WorkdirBusy(RuntimeError):
  """Another live process holds the workdir; the message names its pid and host."""

  def __init__(self, message: str, pid: int | None = None, host: str | None = None):
    super().__init__(message)
    self.pid = pid
    self.host = host


class Lock:
  """Holds `folder/lock` until `release`.

  Raises WorkdirBusy if a live process holds it. A holder on this machine is dead when
  its pid, its start or the boot differs. One on another machine is dead when its
  heartbeat, the time of the file, is five minutes old by the clock of the file system.
  """

  def __init__(self, folder: Path):
    self.path = folder / NAME
    self.owner = {
      'pid': os.getpid(),
      'host': socket.gethostname(),
      'boot': _boot(),
      'start': _start_of(os.getpid()),
      'nonce': uuid.uuid4().hex,
    }
    self._stop = threading.Event()
    # Written in full before it gets its name: no other process may read half of it.
    temporary = folder / f'.lock.{self.owner["nonce"]}.tmp'
    try:
      temporary.write_text(files.encode(self.owner))
      if not _link(temporary, self.path):
        self._take_over(temporary)
    finally:
      temporary.unlink(missing_ok=True)
    # A daemon: it must not keep a process alive that forgot to release.
    self._pulse = threading.Thread(target=self._beat, name='workdir-lock', daemon=True)
    self._pulse.start()

  def _take_over(self, temporary: Path) -> None:
    """Takes the lock of a dead holder. Raises WorkdirBusy if it is alive."""
    with _guard(self.path.parent):
      holder = _read(self.path)
      # The time of a file that was just written is now, by the file system's clock.
      now = temporary.stat().st_mtime
      if holder is not None and _is_alive(holder, self.path, now):
        pid = holder.get('pid')
        host = holder.get('host')
        raise WorkdirBusy(
          f'{self.path.parent} is in use by pid {pid} on {host} (its lock file says so)',
          pid,
          host,
        )
      os.replace(temporary, self.path)

  def is_held(self) -> bool:
    """Is the lock file still ours?"""
    holder = _read(self.path)
    return bool(holder) and holder.get('nonce') == self.owner['nonce']

  def require(self) -> None:
    """Raises WorkdirBusy when another process has taken the lock from this one.

    Raises OSError when the file is gone.
    """
    holder = _read(self.path)
    if holder is None:
      raise FileNotFoundError(
        errno.ENOENT, f'the lock of this run is gone: {self.path}'
      )
    if holder.get('nonce') != self.owner['nonce']:
      pid = holder.get('pid')
      host = holder.get('host')
      raise WorkdirBusy(
        f'{self.path.parent}: this run lost its lock to pid {pid} on {host}', pid, host
      )

  def _beat(self) -> None:
    """Renews the time of the lock file until it is released."""
    while not self._stop.wait(_BEAT_SECONDS):
      if self.is_held():
        with contextlib.suppress(OSError):
          os.utime(self.path)

  def release(self) -> None:
    """Deletes the lock file if it is still ours; a second call does nothing."""
    if self._stop.is_set():
      return
    self._stop.set()
    with contextlib.suppress(OSError), _guard(self.path.parent):
      if self.is_held():
        self.path.unlink()


def holder_of(folder: Path) -> dict | None:
  """Who holds a folder, as its lock file says: pid, host; None where nobody alive does.

  Of a holder on another machine the clock of this one says whether it lives.
  """
  path = folder / NAME
  holder = _read(path)
  if holder is None:
    return None
  try:
    return holder if _is_alive(holder, path, time.time()) else None
  except FileNotFoundError:
    # Released after it was read.
    return None


def _link(temporary: Path, path: Path) -> bool:
  """Creates the lock file with its content in one step; False if there is one."""
  # A hard link: creating a file and writing into it are two steps.
  try:
    os.link(temporary, path)
    return True
  except FileExistsError:
    return False
  except OSError as error:
    if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
      raise
  # No hard links on this file system. A reader of the half file takes it for a dead
  # lock, which is the best that there is.
  try:
    with open(path, 'xb') as file:
      file.write(temporary.read_bytes())
    return True
  except FileExistsError:
    return False


@contextlib.contextmanager
def _guard(folder: Path) -> Iterator[None]:
  """One process at a time decides about a dead lock, or two would each take it."""
  handle = os.open(folder, os.O_RDONLY)
  try:
    # Where a file system has no locks, two processes may both take over: it is rare.
    if fcntl is not None:
      with contextlib.suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX)
    yield
  finally:
    os.close(handle)


def _read(path: Path) -> dict | None:
  """What a lock file says of its holder; None for none, and for one that is no lock."""
  try:
    holder = files.decode(files.read_bounded(path, _MOST_BYTES))
  except (OSError, ValueError):
    return None
  return holder if isinstance(holder, dict) else None


def _is_alive(holder: dict, path: Path, now: float) -> bool:
  """Does the holder of a lock still run? `now` is by the clock of the file system."""
  pid = holder.get('pid')
  if not isinstance(pid, int) or pid <= 0:
    return False
  if holder.get('host') != socket.gethostname():
    return now - path.stat().st_mtime < _DEAD_AFTER_SECONDS
  if holder.get('boot') != _boot():
    return False
  # Signal 0 is not sent: it only asks whether the process is there.
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  except PermissionError:
    # It is there and belongs to another user.
    return True
  start = _start_of(pid)
  return start is None or holder.get('start') is None or start == holder['start']


def _boot() -> str:
  """Which boot of the machine this is: after another one all pids are new."""
  try:
    return Path('/proc/sys/kernel/random/boot_id').read_text().strip()
  except OSError:
    # The time of the boot, to ten seconds, since the clock may be set.
    return str(round(time.time() - time.monotonic(), -1))


def _start_of(pid: int) -> int | None:
  """When a process started, in ticks since boot; None where it cannot be told.

  A pid that was given out again has another start.
  """
  try:
    content = Path(f'/proc/{pid}/stat').read_text()
    # The second field is the program's name in brackets, which may hold any character.
    state, *rest = content.rpartition(')')[2].split()
  except (OSError, ValueError):
    return None
  # Zombies and dead processes run no more, whatever their pid says.
  return -1 if state in 'ZX' else int(rest[18])
