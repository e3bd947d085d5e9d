"""A process killed at any moment loses no acknowledged step and lists none that cannot
be restored.
"""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tl_jax.checkpoint.store import Store

WRITER = """
import sys
import numpy as np
import orbax.checkpoint
from tl_jax.checkpoint.store import Store
from tl_jax.checkpoint.workdir import Workdir

def state(step):
  return {'small': {str(i): np.full(50, step + i) for i in range(20)}, 'large': np.full((120, 120), float(step)),
          'step': step}

with Workdir(sys.argv[1]) as workdir:
  store = Store(workdir.checkpoints, keep=2)
  restored = store.restore_latest(state(0))
  step = restored.step if restored else 0
  workdir.truncate_metrics(step if restored else None)
  print('start', step, flush=True)
  while True:
    step += 1
    workdir.append_metrics({'step': step})
    store.save(step, state(step), {'step': step})
    store.wait()
    print('committed', step, flush=True)
"""


def check(path, acknowledged):
  store = Store(path / 'checkpoints')
  steps = store.steps()
  assert not acknowledged or steps[-1] >= acknowledged
  for step in steps:
    assert store.verify(step) == []
    restored = store.restore(step, {'large': np.zeros((120, 120)), 'step': 0})
    assert restored['step'] == step and (restored['large'] == step).all()


def kill_once(path, delay, acknowledged):
  errors = path / 'errors'
  with (
    open(errors, 'ab') as log,
    subprocess.Popen(
      [sys.executable, '-c', WRITER, path / 'run'],
      stdout=subprocess.PIPE,
      stderr=log,
      text=True,
    ) as run,
  ):
    first = run.stdout.readline().split()
    assert first and first[0] == 'start' and int(first[1]) >= acknowledged, (
      errors.read_text()[-2000:]
    )
    time.sleep(delay)
    run.send_signal(signal.SIGKILL)
    said = run.stdout.read().splitlines()
  assert run.returncode == -signal.SIGKILL, errors.read_text()[-2000:]
  # A line that was cut off acknowledges nothing.
  committed = [
    int(line.split()[1]) for line in said[:-1] if line.startswith('committed')
  ]
  return max([acknowledged, *committed])


def run_kills(path, times, seed):
  chosen, acknowledged = random.Random(seed), 0
  for number in range(10 * times):
    # On a busy machine nothing may be saved in time; then it goes on until something
    # is.
    if number >= times and acknowledged:
      break
    acknowledged = kill_once(path, chosen.uniform(0.0, 0.8), acknowledged)
    check(path / 'run', acknowledged)
  assert acknowledged > 0 and not (path / 'run' / 'checkpoints' / 'quarantine').exists()


def test_killed_four_times(tmp_path):
  run_kills(tmp_path, 4, seed=8)


@pytest.mark.slow
def test_killed_thirty_times(tmp_path):
  run_kills(tmp_path, 30, seed=30)


CALLS = ['os.fsync', 'os.rename', 'os.replace', 'os.rmdir', 'os.unlink', 'os.mkdir']

DYING = """
import os, sys
import numpy as np
from tl_jax.checkpoint.store import Store
store = Store(sys.argv[1], keep=2)
for step in (1, 2):
  store.save(step, {'a': np.full(9, step), 'b': np.full((150, 150), step)})
store.wait()
left = int(sys.argv[3])
real = getattr(os, sys.argv[2].split('.')[1])
def dying(*arguments, **options):
  global left
  left -= 1
  if left < 0:
    os.kill(os.getpid(), 9)
  return real(*arguments, **options)
setattr(os, sys.argv[2].split('.')[1], dying)
store.save(3, {'a': np.full(9, 3), 'b': np.full((150, 150), 3)})
store.wait()
"""


@pytest.mark.slow
@pytest.mark.parametrize('call', CALLS)
def test_killed_at_every_system_call(tmp_path, call):
  like = {'a': np.zeros(9, int), 'b': np.zeros((150, 150), int)}
  for count in range(12):
    path = tmp_path / str(count)
    run = subprocess.run(
      [sys.executable, '-c', DYING, path, call, str(count)], check=False, timeout=60
    )
    store = Store(path, keep=2)
    assert store.steps() in ([1, 2], [1, 2, 3], [2, 3])
    for step in store.steps():
      assert (store.restore(step, like)['a'] == step).all()
    store.prepare()
    assert all(name.isdecimal() for name in os.listdir(path))
    if run.returncode == 0:
      assert store.steps() == [2, 3]
      break
    assert run.returncode == -signal.SIGKILL


def test_a_step_that_vanished_sends_resume_to_the_one_before(tmp_path):
  store = Store(tmp_path)
  for step in (1, 2):
    store.save(step, {'a': step})
  store.wait()
  os.rename(tmp_path / '2', tmp_path.parent / 'gone')
  assert Store(tmp_path).restore_latest({'a': 0}).step == 1
