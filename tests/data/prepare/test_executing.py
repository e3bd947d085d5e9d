"""A corpus has the same bytes whoever filters it: one process, several, or Slurm."""

import dataclasses
import importlib.util
import json
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from planted import corpus as plant

from tl_jax.cli import main
from tl_jax.config import ConfigError
from tl_jax.data.prepare import Corpus, executing, prepare, workers
from tl_jax.data.prepare.settings import Execution

with_datatrove = pytest.mark.skipif(
  importlib.util.find_spec('datatrove') is None, reason='datatrove is not installed'
)


def files_below(folder):
  """The content of every file by its path."""
  paths = filter(pathlib.Path.is_file, sorted(folder.rglob('*')))
  return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(scope='module')
def planted(tmp_path_factory):
  folder = tmp_path_factory.mktemp('planted')
  plant(folder)
  prepare(corpus_of(folder), folder / 'alone')
  return folder


def corpus_of(folder, **execution):
  return Corpus(
    {'web': str(folder / 'web.jsonl')},
    chunk=60,
    execution=Execution(**execution),
  )


def test_a_wrong_executor_is_named():
  with pytest.raises(ValueError, match="executor: 'lokal'; nearest: 'local'"):
    Execution(executor='lokal')


@pytest.mark.parametrize(
  'given, missing, match',
  [
    (dict(executor='ray'), 'datatrove', r"ray with 1 .*'tl-jax\[corpus\]'"),
    (dict(executor='ray'), 'ray', "ray with 1 .* needs ray: pip install 'ray'"),
  ],
)
def test_a_library_that_is_missing_is_named(given, missing, match, monkeypatch):
  monkeypatch.setitem(sys.modules, 'datatrove', sys)
  monkeypatch.setitem(sys.modules, missing, None)
  with pytest.raises(ConfigError, match=match):
    executing.require(Execution(**given))


def test_slurm_has_to_be_there(monkeypatch, tmp_path):
  monkeypatch.setenv('PATH', str(tmp_path))
  with pytest.raises(ConfigError, match='no sbatch on PATH'):
    executing.require(Execution(executor='slurm', partition='cpu'))


def test_jobs_of_slurm_are_not_waited_for(tmp_path):
  corpus = Corpus({'a': 'a.txt'}, execution=Execution(executor='slurm'))
  with pytest.raises(ConfigError, match='executor: slurm filters in jobs of its own'):
    executing.filter_all(corpus, tmp_path, print)


def test_two_workers_make_what_one_makes(planted, tmp_path, monkeypatch):
  monkeypatch.setattr(workers.Progress.__init__, '__defaults__', (0.0,))
  told = []
  prepare(corpus_of(planted, workers=2), tmp_path / 'out', told.append)
  assert told[0] == '2 local workers filter'
  assert files_below(tmp_path / 'out') == files_below(planted / 'alone')
  # A line for each chunk, of both workers together.
  manifest = json.loads((tmp_path / 'out' / 'manifest.json').read_text())
  count = manifest['before']['web']['documents']
  assert f'{count:,} documents filtered' in told


def test_a_wrong_row_is_one_line_of_whichever_worker(tmp_path, capfd):
  rows = [dict(text='One.')] * 9 + [dict(body='Two.')]
  path = tmp_path / 'a.jsonl'
  path.write_text('\n'.join(map(json.dumps, rows)))
  code = main.main(
    [
      'data',
      'prepare',
      f'--config=configs/corpus.py:text={path}',
      f'--workdir={tmp_path / "out"}',
      '--config.chunk=2',
      '--config.execution.workers=2',
    ]
  )
  shown = capfd.readouterr()
  assert code == 2
  assert shown.err.strip().count('\n') == 0 and 'a.jsonl:10: text' in shown.err
  assert not (tmp_path / 'out' / 'manifest.json').exists()


def test_a_worker_that_is_killed_is_said_and_not_waited_for(planted, tmp_path):
  class Killing:
    def add(self, documents):
      os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

  corpus = dataclasses.replace(corpus_of(planted, workers=2), chunk=5)
  with pytest.raises(ConfigError, match='config.execution.workers: one was killed'):
    workers.filter_together(corpus, tmp_path, Killing())
  assert multiprocessing.active_children() == []


ALONE = """
import pathlib, sys
from tl_jax.data.prepare import Corpus, prepare
from tl_jax.data.prepare.settings import Execution
folder = pathlib.Path(sys.argv[1])
corpus = Corpus(
  {'web': str(folder / 'web.jsonl')}, chunk=1, execution=Execution(workers=2)
)
prepare(corpus, pathlib.Path(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='asks /proc')
def test_workers_end_with_the_process_that_started_them(planted, tmp_path):
  process = subprocess.Popen([sys.executable, '-c', ALONE, str(planted), str(tmp_path)])
  # Until both filter.
  while len(list(tmp_path.rglob('*.npz'))) < 9:
    time.sleep(0.05)
  listed = pathlib.Path(f'/proc/{process.pid}/task/{process.pid}/children')
  children = listed.read_text().split()
  assert len(children) >= 2
  process.kill()
  process.wait()
  end = time.monotonic() + 30
  while any(pathlib.Path(f'/proc/{child}').exists() for child in children):
    assert time.monotonic() < end
    time.sleep(0.05)


# What a cluster would have: `sbatch` writes down what it is asked, and gives numbers.
SBATCH = """#!/bin/sh
number=$(($(ls "$QUEUE" | wc -l) + 1))
for script; do :; done
cp "$script" "$QUEUE/$number.sh"
echo "$@" > "$QUEUE/$number.args"
echo "Submitted batch job $number"
"""
SRUN = """#!/bin/sh
while [ "$1" != launch_pickled_pipeline ]; do shift; done
exec "$@"
"""


def run_job(queue, number, variables):
  """Runs each task of a job in a process of its own, the last one first."""
  script = queue / f'{number}.sh'
  line = next(row for row in script.read_text().splitlines() if '--array=' in row)
  last = int(line.partition('=0-')[2].partition('%')[0])
  for task in reversed(range(last + 1)):
    own = dict(SLURM_ARRAY_TASK_ID=str(task), SLURM_NODELIST='here', RUN_OFFSET='0')
    subprocess.run(['bash', str(script)], env={**variables, **own}, check=True)


@with_datatrove
@pytest.mark.slow
def test_slurm_makes_the_same(planted, tmp_path, monkeypatch, capsys):
  queue = tmp_path / 'queue'
  programs = tmp_path / 'programs'
  queue.mkdir()
  programs.mkdir()
  scripts = dict(sbatch=SBATCH, srun=SRUN, scontrol='#!/bin/sh\necho here\n')
  for name, content in scripts.items():
    (programs / name).write_text(content)
    (programs / name).chmod(0o755)
  monkeypatch.setenv('PATH', f'{programs}:{os.environ["PATH"]}')
  monkeypatch.setenv('QUEUE', str(queue))
  command = [
    'data',
    'prepare',
    f'--config=configs/corpus.py:text={planted / "web.jsonl"}',
    f'--workdir={tmp_path / "out"}',
    '--config.chunk=60',
    '--config.execution.executor=slurm',
    '--config.execution.workers=2',
    '--config.execution.partition=cpu',
  ]
  assert main.main(command) == 0
  assert 'job 1 filters' in capsys.readouterr().out
  assert not (tmp_path / 'out' / 'manifest.json').exists()
  # The second job begins behind the first one: only when all of its tasks ended well.
  jobs = {path.stem: path.read_text() for path in queue.glob('*.args')}
  behind = [number for number, said in jobs.items() if '--dependency=afterok:1' in said]
  assert '#SBATCH --partition=cpu' in (queue / '1.sh').read_text()
  assert behind
  for number in ('1', *behind):
    run_job(queue, number, dict(os.environ))
  found = files_below(tmp_path / 'out' / 'corpus')
  assert found == files_below(planted / 'alone' / 'corpus')
  # Again: it shows what became of it.
  assert main.main(command) == 0
  assert 'documents stay' in capsys.readouterr().out


@pytest.mark.slow
def test_ray_makes_the_same(planted, tmp_path):
  pytest.importorskip('ray')
  corpus = corpus_of(planted, executor='ray', workers=2, memory=1)
  prepare(corpus, tmp_path / 'out')
  assert files_below(tmp_path / 'out') == files_below(planted / 'alone')
