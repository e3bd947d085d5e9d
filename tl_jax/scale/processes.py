"""Worker processes of a sweep, as the process that started them sees them.

>>> how_it_ended(-9), how_it_ended(1)
('killed by SIGKILL, as a system does whose memory runs out', 'ended with exit code 1')
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from tl_jax.checkpoint.lock import holder_of
from tl_jax.scale.members import FOLDER, Member, as_ranges

# What a worker is: see `tl_jax.scale.worker`.
COMMAND = (sys.executable, '-m', 'tl_jax.scale.worker')
LOGS = 'logs'
# Seconds that a worker has to save what it has before it is killed.
GRACE = 120.0
# Bytes of a log that are looked through for its last words.
_TAIL = 1 << 14


def folder_of(workdir: pathlib.Path, member: Member) -> pathlib.Path:
  """The workdir of a member's run."""
  return workdir / FOLDER / member.id


class Process:
  """A worker with its members.

  members: those that are not finished yet, in the order in which they are run. begun:
  the ids of those that were seen to run. why: the reason for which the worker was asked
  to stop; '' where it was not.
  """

  def __init__(self, workdir: pathlib.Path, members: Sequence[Member]):
    self.members = list(members)
    self.begun: set[str] = set()
    self.why = ''
    self._asked = 0.0
    (workdir / LOGS).mkdir(parents=True, exist_ok=True)
    self.log = workdir / LOGS / f'{members[0].number:05d}.log'
    job = [str(workdir), as_ranges(member.number for member in members)]
    with open(self.log, 'ab') as log:
      self._begins = log.tell()
      self._child = subprocess.Popen(
        COMMAND,
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=_environment(),
        # A Ctrl-C reaches the whole terminal: the worker is to hear of it once.
        start_new_session=True,
      )
    # A worker that died at once is met by `code`.
    with contextlib.suppress(BrokenPipeError):
      self._child.stdin.write(json.dumps(job).encode() + b'\n')
      # Left open: its end tells the worker that this process is gone.
      self._child.stdin.flush()

  @property
  def pid(self) -> int:
    return self._child.pid

  @property
  def code(self) -> int | None:
    """The exit code, None while it runs."""
    return self._child.poll()

  def holds(self, folder: pathlib.Path) -> bool:
    """Is it this worker that holds a folder?"""
    holder = holder_of(folder)
    return holder is not None and holder.get('pid') == self.pid

  def stop(self, why: str) -> None:
    """Asks the worker to save and leave; one that does not in time is killed."""
    if not self.why:
      self.why = why
      self._asked = time.monotonic()
      self._child.terminate()
    elif time.monotonic() - self._asked > GRACE:
      self._child.kill()

  def close(self) -> None:
    """Waits for the end of a worker that has ended or was asked to."""
    self._child.wait()
    with contextlib.suppress(BrokenPipeError):
      self._child.stdin.close()

  def last_words(self) -> str:
    """The last line that the worker wrote to its log; '' for none."""
    with open(self.log, 'rb') as log:
      size = log.seek(0, os.SEEK_END)
      log.seek(max(self._begins, size - _TAIL))
      lines = log.read().decode(errors='replace').splitlines()
    said = [line.strip() for line in lines if line.strip()]
    return said[-1][:500] if said else ''


def _environment() -> dict[str, str]:
  """The variables of a worker: it finds this package where this process found it."""
  root = str(pathlib.Path(__file__).resolve().parents[2])
  before = os.environ.get('PYTHONPATH')
  path = root if not before else f'{root}{os.pathsep}{before}'
  return {**os.environ, 'PYTHONPATH': path}


def how_it_ended(code: int) -> str:
  """The end of a process in words."""
  if code >= 0:
    return f'ended with exit code {code}'
  try:
    name = signal.Signals(-code).name
  except ValueError:
    name = f'signal {-code}'
  memory = ', as a system does whose memory runs out' if name == 'SIGKILL' else ''
  return f'killed by {name}{memory}'
