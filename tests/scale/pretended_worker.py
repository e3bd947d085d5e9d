"""A worker that trains nothing: its members do what the seed of their config says."""

import os
import pathlib
import signal
import sys
import time

from tl_jax import checkpoint, files
from tl_jax.scale.members import numbers_of, read_listing
from tl_jax.scale.processes import folder_of

GOOD, KILLED, BROKEN, ENDLESS, WRONG, UNREADABLE = range(6)


def leave(*_):
  raise SystemExit(75)


def run(folder, seed):
  with checkpoint.Workdir(folder) as workdir:
    with open(folder / 'starts', 'a') as starts:
      starts.write('x')
    # Long enough to be seen: who starts workers looks at them in pauses.
    time.sleep(0.3)
    kind = seed % 10
    if kind == KILLED:
      os.kill(os.getpid(), signal.SIGKILL)
    if kind == BROKEN:
      raise TypeError('a fault of the code')
    if kind == ENDLESS:
      for second in range(200):
        workdir.write_json('seconds.json', dict(seconds=float(second)))
        time.sleep(0.1)
    if kind == WRONG:
      workdir.write_json('failed.json', dict(reason='diverged', retry=False))
      return
    metrics = dict(accuracy=seed / 100)
    workdir.write_json('result.json', dict(task='t', metrics=metrics, seconds=1.0))


def main():
  signal.signal(signal.SIGTERM, leave)
  job = files.decode(sys.stdin.buffer.readline())
  workdir = pathlib.Path(job[0])
  listing = read_listing(workdir)
  seeds = [
    listing.config(listing.member(number))['seed'] for number in numbers_of(job[1])
  ]
  # As one whose own code ends the process when its task is opened.
  if UNREADABLE in [seed % 10 for seed in seeds]:
    os.kill(os.getpid(), signal.SIGKILL)
  for number in numbers_of(job[1]):
    member = listing.member(number)
    run(folder_of(workdir, member), listing.config(member)['seed'])


main()
