"""A process that runs members of a sweep: what kills it costs the sweep one member.

>>> as_config({'data': {'mixture': [['a.txt', 1.0]]}}).data.mixture
(('a.txt', 1.0),)

It is started as `python -m tl_jax.scale.worker` and reads one line of JSON,
[workdir, members], as ["/work", "0-7,12"]. When its standard input ends, whoever started
it is gone: it saves and leaves, as after a signal.
"""

import os
import pathlib
import signal
import sys
import threading

from tl_jax import config as configs
from tl_jax import files
from tl_jax.scale.members import numbers_of, read_listing
from tl_jax.scale.processes import folder_of

DONE = 0
LATER = 75


def as_config(plain: dict):
  """The ConfigDict of a config as JSON has it."""
  import ml_collections

  return ml_collections.ConfigDict(configs.group(configs.plain(plain)))


def tell(text: str) -> None:
  """Writes a line to the log, which standard output leads to."""
  os.write(1, f'{text}\n'.encode(errors='backslashreplace'))


def main() -> int:
  """Runs the members of one line of standard input; returns the exit code."""
  workdir, numbers = files.decode(sys.stdin.buffer.readline())
  # A daemon: it waits for an end that may never come.
  threading.Thread(target=_leave_with_parent, daemon=True).start()
  from tl_jax import train
  from tl_jax.checkpoint import WorkdirBusy

  listing = read_listing(pathlib.Path(workdir))
  runs = []
  for number in numbers_of(numbers):
    member = listing.member(number)
    folder = folder_of(pathlib.Path(workdir), member)
    runs.append((as_config(listing.config(member)), folder))
  reporter = train.Reporter(tell, train.NULL_REPORTER.progress)
  halving = listing.read_halving()
  try:
    train.execute(runs, reporter, _together(runs, halving), halving)
  except (train.Stopped, WorkdirBusy) as error:
    tell(str(error))
    return LATER
  return DONE


def _together(runs: list, halving) -> bool | None:
  """Do members advance together? None: where `execute` finds that it pays.

  On a CPU they go in turn: together they are a quarter faster at the most, and a
  process that dies would take all of them along.
  """
  from tl_jax import parallel

  # Processes have to find each other before anything asks for a device.
  parallel.start()
  spread = any(run[0].get('mesh', {}).get('cohort', 1) != 1 for run in runs)
  if halving is not None or spread or parallel.target_platform() != 'cpu':
    return None
  return False


def _leave_with_parent() -> None:
  """Asks this process to stop when standard input ends."""
  # Not by the buffered reader, whose lock a thread would hold while the process ends.
  while os.read(0, 1024):
    pass
  os.kill(os.getpid(), signal.SIGTERM)


if __name__ == '__main__':
  raise SystemExit(main())
