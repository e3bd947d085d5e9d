"""What became of the members of a sweep: a file that lines are only ever added to.

>>> import tempfile
>>> ledger = Ledger(Path(tempfile.mkdtemp()))
>>> ledger.note('lr=1-0a', RUNNING, pid=7); ledger.note('lr=1-0a', DONE)
>>> ledger.latest()['lr=1-0a']['state']
'done'

The ledger is for people and for what files cannot say: who ran a member, when, and why
it stopped. Whether a member is finished its folder says, which its run writes itself.
"""

import contextlib
import os
import socket
import time
from pathlib import Path
from typing import Any, NamedTuple

from tl_jax import files
from tl_jax.checkpoint.lock import holder_of

try:
  import fcntl
except ImportError:
  fcntl = None

FILE = 'ledger.jsonl'
# The states of a member. Stopped: it has been begun, and goes on when run again.
WAITING = 'waiting'
RUNNING = 'running'
DONE = 'done'
FAILED = 'failed'
STOPPED = 'stopped'
STATES = (WAITING, RUNNING, DONE, FAILED, STOPPED)


class Standing(NamedTuple):
  """Where a member stands. again: is a failed one made again by the next start?"""

  state: str
  reason: str = ''
  again: bool = False

  @property
  def is_open(self) -> bool:
    """Is there still something to do, and nobody who does it?"""
    return self.state in (WAITING, STOPPED)


class Ledger:
  """The ledger of a workdir. Several processes may write it, and each may be killed."""

  def __init__(self, workdir: Path):
    self.path = workdir / FILE

  def note(self, member: str, state: str, reason: str = '', **more: Any) -> None:
    """Adds a line, which is on the disk when this returns."""
    line = dict(
      member=member,
      state=state,
      time=round(time.time(), 3),
      host=socket.gethostname(),
      **more,
    )
    if reason:
      line['reason'] = reason
    content = files.encode(line).encode() + b'\n'
    handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
      if fcntl is not None:
        # Where a file system has no locks, lines are still added whole by O_APPEND.
        with contextlib.suppress(OSError):
          fcntl.flock(handle, fcntl.LOCK_EX)
      if _is_torn(handle):
        content = b'\n' + content
      os.write(handle, content)
      os.fsync(handle)
    finally:
      os.close(handle)

  def lines(self) -> list[dict]:
    """All lines in their order; what a killed writer left half is no line."""
    try:
      content = self.path.read_bytes()
    except FileNotFoundError:
      return []
    found = []
    for raw in content.splitlines():
      try:
        line = files.decode(raw)
      except ValueError:
        continue
      if isinstance(line, dict) and isinstance(line.get('member'), str):
        found.append(line)
    return found

  def latest(self) -> dict[str, dict]:
    """member -> its last line."""
    return {line['member']: line for line in self.lines()}


def _is_torn(handle: int) -> bool:
  """Did a killed writer leave a line without its end?"""
  size = os.fstat(handle).st_size
  return size > 0 and os.pread(handle, 1, size - 1) != b'\n'


def standing(folder: Path, last: dict | None) -> Standing:
  """Where a member stands, by its folder, and by its last line in the ledger.

  The folder is right where both speak: a worker that was killed wrote no line.
  """
  if (folder / 'result.json').is_file():
    return Standing(DONE)
  failure = files.find_json(folder / 'failed.json')
  if failure is not None:
    reason = str(failure.get('reason') or 'failed without a reason')
    return Standing(FAILED, reason, bool(failure.get('retry')))
  if not folder.is_dir():
    return Standing(WAITING)
  holder = holder_of(folder)
  if holder is not None:
    return Standing(RUNNING, f'by pid {holder.get("pid")} on {holder.get("host")}')
  if last is None:
    return Standing(WAITING)
  state = last.get('state')
  if state == RUNNING:
    who = f'pid {last.get("pid")} on {last.get("host")}'
    return Standing(STOPPED, f'its process is gone: {who}')
  if state == STOPPED:
    return Standing(STOPPED, str(last.get('reason', '')))
  return Standing(WAITING)
