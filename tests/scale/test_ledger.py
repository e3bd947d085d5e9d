"""The ledger: lines of several processes, of killed ones too, and where members stand."""

import multiprocessing
import os

import pytest

from tl_jax import checkpoint, files
from tl_jax.scale import ledger as ledgers
from tl_jax.scale.ledger import Ledger, standing


def write_many(workdir, name):
  ledger = Ledger(workdir)
  for number in range(50):
    ledger.note(f'{name}', ledgers.RUNNING, number=number)


def test_several_processes_lose_no_line(tmp_path):
  context = multiprocessing.get_context('spawn')
  made = [context.Process(target=write_many, args=(tmp_path, name)) for name in 'ab']
  for process in made:
    process.start()
  for process in made:
    process.join()
  lines = Ledger(tmp_path).lines()
  assert len(lines) == 100
  for name in 'ab':
    assert [line['number'] for line in lines if line['member'] == name] == [*range(50)]


@pytest.mark.parametrize('torn', [b'{"member":"b","sta', b'\xff\xfe', b'[1]', b'{}'])
def test_a_line_of_a_killed_writer_costs_no_other(tmp_path, torn):
  ledger = Ledger(tmp_path)
  ledger.note('a', ledgers.DONE)
  with open(ledger.path, 'ab') as file:
    file.write(torn)
  ledger.note('c', ledgers.FAILED, 'why')
  assert [line['member'] for line in ledger.lines()] == ['a', 'c']
  assert ledger.latest()['c']['reason'] == 'why'


def test_the_folder_says_more_than_the_ledger(tmp_path):
  folder = tmp_path / 'run'
  assert standing(folder, None).state == ledgers.WAITING
  folder.mkdir()
  running = dict(state=ledgers.RUNNING, pid=5, host='h')
  assert standing(folder, running) == (
    ledgers.STOPPED,
    'its process is gone: pid 5 on h',
    False,
  )
  with checkpoint.Workdir(folder) as workdir:
    found = standing(folder, None)
    assert found.state == ledgers.RUNNING and str(os.getpid()) in found.reason
    workdir.write_json('failed.json', dict(reason='no memory', retry=True))
  assert standing(folder, running) == (ledgers.FAILED, 'no memory', True)
  files.write_atomically(folder / 'result.json', b'{}')
  assert standing(folder, running).state == ledgers.DONE
