"""A save that cannot be finished is never a step, and says why."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tl_jax import files
from tl_jax.checkpoint import commit, record
from tl_jax.checkpoint.commit import SaveFailed, explain
from tl_jax.checkpoint.store import Store


def test_the_reason_is_found_behind_other_errors(tmp_path):
  try:
    try:
      raise OSError(28, 'x', '/d/f')
    except OSError as error:
      raise RuntimeError('outer') from error
  except RuntimeError as error:
    failure = explain(error, 3, tmp_path, 1000)
  assert failure.errno == 28
  assert (
    f'step 3 was not saved in {tmp_path}: No space left on device: /d/f; it needs about 1000 bytes'
    in str(failure)
  )
  assert 'are free' in str(failure)
  assert explain(ValueError('[OS error 122: EDQUOT]'), 3, tmp_path, 1).errno == 122
  assert 'KeyError' in str(
    explain(KeyError('a\nb'), 3, tmp_path, 1)
  ) and '\n' not in str(explain(KeyError('a\nb'), 3, tmp_path, 1))


@pytest.fixture
def store(tmp_path):
  store = Store(tmp_path)
  store.save(1, {'w': np.ones(3)})
  store.wait()
  return store


def fails(store, step=2, message='was not saved'):
  store.save(step, {'w': np.zeros(3)})
  with pytest.raises(SaveFailed, match=message) as caught:
    store.wait()
  assert store.wait() == 0.0
  return caught.value


def test_an_error_while_flushing_is_no_commit(store, monkeypatch):
  def fail(_):
    raise OSError(5, 'Input/output error')

  monkeypatch.setattr(os, 'fsync', fail)
  fails(store, message='step 2 was not saved in .*: Input/output error')
  monkeypatch.undo()
  assert (
    store.steps() == [1]
    and store.verify(1) == []
    and not (store.directory / '2.partial').exists()
  )
  store.save(2, {'w': np.zeros(3)})
  store.wait()
  assert store.steps() == [1, 2]


def test_an_error_while_the_record_is_written_is_no_commit(store, monkeypatch):
  def fail(*_):
    raise OSError(28, 'No space')

  monkeypatch.setattr(record, 'write_record', fail)
  assert fails(store).errno == 28 and store.steps() == [1]


def test_the_error_of_a_save_is_raised_by_the_next(store, monkeypatch):
  monkeypatch.setattr(commit, '_versions', lambda: 1 / 0)
  store.save(2, {'w': np.zeros(3)})
  with pytest.raises(SaveFailed, match='ZeroDivisionError'):
    store.save(3, {'w': np.zeros(3)})


def test_a_folder_that_vanished_is_an_error(store):
  files.purge(store.directory)
  fails(store, message='No such file or directory')


def run(script):
  done = subprocess.run(
    [sys.executable, '-c', script],
    capture_output=True,
    text=True,
    check=False,
    timeout=120,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


SCRIPT = """
import sys, numpy as np, resource
from tl_jax.checkpoint.store import Store
from tl_jax.checkpoint.commit import SaveFailed
store = Store({path!r}); store.save(1, {{'w': np.ones(3)}}); store.wait()
{before}
store.save(2, {{'w': np.random.default_rng(0).random(1_000_000)}})
try:
  store.wait()
except SaveFailed as error:
  print(error.errno, error)
print(store.steps(), store.verify(1), sorted(p.name for p in store.directory.glob('2.p*')))
[p.unlink() for p in store.directory.glob('*.x')]
store.save(3, {{'w': np.zeros(3)}}); store.wait(); print(store.steps())
"""


def test_a_limit_on_file_size_is_named(tmp_path):
  out = run(
    SCRIPT.format(
      path=str(tmp_path),
      before='resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))',
    )
  )
  first, second, third = out.splitlines()
  assert (
    first.startswith('27 step 2 was not saved in')
    and 'File too large' in first
    and '8000000 bytes' in first
  )
  assert second == '[1] [] []' and third == '[1, 3]'


@pytest.mark.parametrize('options', ['size=4m', 'size=64m,nr_inodes=15'])
def test_a_full_disk_is_named(tmp_path, options):
  if subprocess.run(
    ['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', tmp_path],
    check=False,
    capture_output=True,
  ).returncode:
    pytest.skip('mounting a tmpfs is not permitted here')
  try:
    fill = '[open(store.directory / f"{i}.x", "w").close() for i in range(6)]'
    before = fill if 'inodes' in options else ''
    first, second, third = run(
      SCRIPT.format(path=str(tmp_path), before=before)
    ).splitlines()
    assert (
      first.startswith('28 step 2 was not saved in')
      and 'No space left on device' in first
    )
    assert 'are free' in first and second == '[1] [] []' and third == '[1, 3]'
    assert ('no inode' in first) == ('inodes' in options), first
  finally:
    subprocess.run(['umount', tmp_path], check=True)
