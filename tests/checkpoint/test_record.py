"""The record decides what a step is, and no byte of it is unguarded."""

import json
import random

import numpy as np
import pytest

from tl_jax import files
from tl_jax.checkpoint import record
from tl_jax.checkpoint.record import CheckpointError, DamagedStep
from tl_jax.checkpoint.store import Store


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  store = Store(tmp_path_factory.mktemp('steps'))
  store.save(
    7,
    {'a': np.arange(5.0), 'b': np.ones((200, 100)), 'c': np.zeros(3, np.int8)},
    {'rows': 3},
  )
  store.wait()
  return store.directory / '7'


def test_a_record_reads_as_it_was_written(folder):
  found = record.load_record(folder)
  assert found['step'] == 7 and found['meta'] == {'rows': 3}
  assert (
    found['leaves']['b']['shape'] == [200, 100]
    and len(found['leaves']['b']['files']) == 2
  )
  assert record.find_problems(folder, found) == []
  assert found['bytes'] == sum(
    path.stat().st_size
    for path in folder.rglob('*')
    if path.is_file() and path.name != record.NAME
  )


def test_every_flipped_byte_of_the_record_is_noticed(folder, tmp_path):
  content = (folder / record.NAME).read_bytes()
  copy = tmp_path / '7'
  copy.mkdir()
  chosen = random.Random(0)
  for position in chosen.sample(range(len(content)), 300):
    flipped = bytearray(content)
    flipped[position] ^= 1 << chosen.randrange(8)
    (copy / record.NAME).write_bytes(flipped)
    with pytest.raises(DamagedStep, match=r'commit\.json'):
      record.load_record(copy)


@pytest.mark.parametrize(
  'content',
  [
    b'',
    b'null',
    b'[]',
    b'{}',
    b'{"format":NaN}',
    b'{"format":1,"format":1}',
    b'[' * 100_000,
    b'\xff',
    b'{"format":1}',
  ],
)
def test_what_is_no_record_is_damage(tmp_path, content):
  (tmp_path / record.NAME).write_bytes(content)
  with pytest.raises(DamagedStep, match=r'commit\.json: '):
    record.load_record(tmp_path)


def test_a_huge_record_is_not_read(tmp_path):
  with open(tmp_path / record.NAME, 'wb') as file:
    file.truncate(200 << 20)
  with pytest.raises(DamagedStep, match='at most'):
    record.load_record(tmp_path)


def rewrite(folder, target, **changes):
  found = {**record.load_record(folder), **changes}
  target.mkdir()
  record.write_record(target, {**found, 'digest': record._digest(found)})
  return target


def test_another_format_says_who_reads_it_and_another_step_is_damage(folder, tmp_path):
  with pytest.raises(CheckpointError, match='format 2; this tl_jax reads format 1'):
    record.load_record(rewrite(folder, tmp_path / '7', format=2))
  with pytest.raises(DamagedStep, match='record of step 8'):
    record.load_record(rewrite(folder, tmp_path / '7-abc', step=8))
  assert record.load_record(tmp_path) is None


def test_a_file_that_nobody_committed_is_a_problem_but_what_a_desktop_leaves_is_not(
  folder,
):
  found = record.load_record(folder)
  stray = folder / 'arrays' / 'b' / '.DS_Store'
  stray.write_text('')
  assert record.find_problems(folder, found) == []
  stray.unlink()
  stray = folder / 'arrays' / 'b' / '1.0'
  stray.write_text('')
  (problem,) = record.find_problems(folder, found)
  assert problem.startswith("leaf 'b': ") and 'not committed' in problem
  stray.unlink()


def test_only_the_files_of_the_leaves_asked_for_are_checked(folder):
  found = record.load_record(folder)
  path = folder / next(iter(found['leaves']['b']['files']))
  content = path.read_bytes()
  path.write_bytes(b'')
  assert record.find_problems(folder, found, ['a']) == []
  assert "leaf 'b'" in record.find_problems(folder, found, ['b'])[0]
  path.write_bytes(content)
  assert json.loads((folder / record.NAME).read_text()) == found and files.encode(found)
