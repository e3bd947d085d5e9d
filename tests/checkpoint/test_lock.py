"""One writer at a time, and a dead one is no writer."""

import json
import os
import subprocess
import sys
import time

import pytest

from tl_jax.checkpoint import lock
from tl_jax.checkpoint.lock import Lock, WorkdirBusy


def test_the_second_is_told_who_is_the_first(tmp_path):
  first = Lock(tmp_path)
  with pytest.raises(WorkdirBusy, match=f'pid {os.getpid()} on ') as caught:
    Lock(tmp_path)
  assert caught.value.pid == os.getpid() and first.is_held()
  first.release()
  first.release()
  second = Lock(tmp_path)
  first.release()
  assert second.is_held()
  second.release()
  assert os.listdir(tmp_path) == []


def leave(tmp_path, **changes):
  held = Lock(tmp_path)
  owner = {**held.owner, **changes}
  held.release()
  (tmp_path / lock.NAME).write_text(json.dumps(owner))


@pytest.mark.parametrize(
  'changes', [{'boot': 'another'}, {'start': 1}, {'pid': 2**22 + 1}, {'pid': -1}]
)
def test_a_dead_holder_is_replaced(tmp_path, changes):
  leave(tmp_path, **changes)
  held = Lock(tmp_path)
  assert held.is_held()
  held.release()


@pytest.mark.parametrize('content', [b'', b'{', b'[]', b'{"pid": "x"}'])
def test_a_lock_file_that_says_nothing_is_replaced(tmp_path, content):
  (tmp_path / lock.NAME).write_bytes(content)
  held = Lock(tmp_path)
  assert held.is_held()
  held.release()


def test_a_holder_elsewhere_lives_while_its_heart_beats(tmp_path):
  leave(tmp_path, host='elsewhere', pid=7)
  with pytest.raises(WorkdirBusy, match='pid 7 on elsewhere'):
    Lock(tmp_path)
  past = time.time() - 2 * lock._DEAD_AFTER_SECONDS
  os.utime(tmp_path / lock.NAME, (past, past))
  Lock(tmp_path).release()


def test_a_killed_process_leaves_the_folder_free(tmp_path):
  script = f"""
import os, signal, pathlib
from tl_jax.checkpoint.lock import Lock
Lock(pathlib.Path({str(tmp_path)!r}))
os.kill(os.getpid(), signal.SIGKILL)
"""
  subprocess.run([sys.executable, '-c', script], check=False, timeout=60)
  assert (tmp_path / lock.NAME).exists()
  Lock(tmp_path).release()


def test_of_many_that_take_over_at_once_one_wins(tmp_path):
  leave(tmp_path, boot='another')
  script = f"""
import pathlib, sys
from tl_jax.checkpoint.lock import Lock, WorkdirBusy
print('ready', flush=True); sys.stdin.readline()
try:
  Lock(pathlib.Path({str(tmp_path)!r})); print('mine', flush=True)
except WorkdirBusy:
  print('busy', flush=True)
sys.stdin.readline()
"""
  runs = [
    subprocess.Popen(
      [sys.executable, '-c', script],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
    for _ in range(4)
  ]
  assert [run.stdout.readline() for run in runs] == ['ready\n'] * 4
  for run in runs:
    run.stdin.write('\n')
    run.stdin.flush()
  said = [run.stdout.readline() for run in runs]
  for run in runs:
    run.communicate('\n', timeout=60)
  assert sorted(said) == ['busy\n'] * 3 + ['mine\n']


def test_whoever_lost_the_lock_notices(tmp_path):
  first = Lock(tmp_path)
  first.require()
  (tmp_path / lock.NAME).write_text(
    json.dumps({**first.owner, 'nonce': 'other', 'pid': 8})
  )
  with pytest.raises(WorkdirBusy, match='lost its lock to pid 8'):
    first.require()
  first.release()
  assert (tmp_path / lock.NAME).exists()
  (tmp_path / lock.NAME).unlink()
  with pytest.raises(OSError, match='gone'):
    first.require()
