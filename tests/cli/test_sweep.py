"""The verb `sweep`: what it refuses before anything runs, and a sweep that breaks in
every way.
"""

import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
from tiny_runs import SMALL
from two_processes import hear, start_two

from tl_jax.cli import main as command
from tl_jax.config import ConfigError

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILE = """
from tl_jax.scale import space

def sweep():
  base = space.base('configs/transfer.py:task=sentiment,method=lora')
  small = space.fixed({small})
  return base * small * ({points})
"""


def sweep_file(folder, points, **more):
  small = dict(SMALL) | {'task.test': '32', 'task.labels': '16'} | more
  # What is None stands in the points.
  small = {key: value for key, value in small.items() if value is not None}
  path = folder / 'sweep.py'
  path.write_text(FILE.replace('{small}', repr(small)).replace('{points}', points))
  return path


def test_a_dry_run_shows_the_members_and_makes_nothing(tmp_path, capsys):
  path = sweep_file(
    tmp_path, "space.product({'optim.lr': [1e-3, 1e-2]}, seed=range(3))"
  )
  workdir = tmp_path / 'w'
  words = ['sweep', str(path), f'--workdir={workdir}', '--dry-run']
  assert command.main(words) == 0
  said = capsys.readouterr().out
  assert '6 members in 1 cohorts from 1 configs' in said
  assert '--config.optim.lr=0.001 --config.seed=0' in said
  assert not workdir.exists()


@pytest.mark.parametrize(
  ('points', 'flags', 'words'),
  [
    ("space.product({'optim.lrr': [1]})", [], "unknown key; nearest: 'optim.lr'"),
    ('space.product(seed=[1])', ['--member=3'], 'there is no 3'),
    ('space.product(seed=[1])', ['--member=x'], 'needs numbers'),
    ('space.product(seed=[1])', ['--workers=0'], 'needs a number'),
    ('space.product(seed=[1])', ['--time=soon'], 'needs a time'),
    ('space.product(seed=[1])', ['--launcher=slrum'], 'slrum'),
    ('space.product(seed=[1])', ['--launcher.image=x'], 'has no settings'),
    ('space.product(seed=[1])', ['--dryrun'], "nearest: '--dry-run'"),
  ],
)
def test_what_is_wrong_is_said_before_anything_runs(tmp_path, points, flags, words):
  path = sweep_file(tmp_path, points)
  with pytest.raises(ConfigError, match=words):
    command.run(['sweep', str(path), f'--workdir={tmp_path / "w"}', *flags])
  assert not (tmp_path / 'w' / 'members').exists()


@pytest.mark.parametrize(
  ('line', 'words'),
  [
    ('HALVING = dict(step=3)', "HALVING.step: unknown key; nearest: 'steps'"),
    ('HALVING = dict(steps=(3, 2))', 'do not ascend'),
    ('HALVING = [1]', 'HALVING is a dict'),
    ('LAUNCH = 3', 'LAUNCH is a dict'),
  ],
)
def test_settings_of_the_file_that_are_wrong(tmp_path, line, words):
  path = sweep_file(tmp_path, 'space.product(seed=[1])')
  path.write_text(path.read_text() + line)
  with pytest.raises(ConfigError, match=words):
    command.run(['sweep', str(path), f'--workdir={tmp_path / "w"}', '--dry-run'])


def test_a_report_of_what_is_there_runs_nothing(tmp_path, capsys):
  path = sweep_file(tmp_path, 'space.product(seed=[1])')
  workdir = tmp_path / 'w'
  words = ['sweep', str(path), f'--workdir={workdir}', '--report']
  with pytest.raises(ConfigError, match='no such workdir'):
    command.run(words)
  workdir.mkdir()
  assert command.main(words) == 75
  assert '0 of 1 members are done' in capsys.readouterr().out
  assert (workdir / 'report.html').exists() and not (workdir / 'members').exists()


def test_the_help_names_every_setting_of_launchers():
  from tl_jax.cli.sweep import SETTINGS, SWEEP
  from tl_jax.scale.launchers import Launch

  named = {word.split('.')[0] for word in re.findall(r'[a-zA-Z.]+', SETTINGS)}
  assert named == {field.name for field in dataclasses.fields(Launch)}
  assert SETTINGS in SWEEP.notes


def start(path, workdir, *flags):
  """A sweep as its user starts it, in a session that can be killed whole."""
  return subprocess.Popen(
    [
      sys.executable,
      '-m',
      'tl_jax',
      'sweep',
      str(path),
      f'--workdir={workdir}',
      *flags,
    ],
    env={**os.environ, 'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu'},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    cwd=ROOT,
  )


def ledger_of(workdir):
  path = workdir / 'ledger.jsonl'
  if not path.exists():
    return []
  return [json.loads(line) for line in path.read_text().splitlines()]


def wait_for(found, process, seconds=240):
  """Waits until `found()` gives something, while the process runs."""
  until = time.monotonic() + seconds
  while time.monotonic() < until and process.poll() is None:
    value = found()
    if value:
      return value
    time.sleep(0.05)
  raise AssertionError(process.communicate()[1])


POINTS = """
  space.product({'optim.lr': [1e-3, 1e-2], 'schedule.steps': [3]}, seed=range(10))
  + space.fixed({'seed': 99, 'schedule.steps': 100_000})
  + space.fixed({'data.accumulate': 3})
  + space.fixed({'optim.lr': 1e30, 'optim.clip': None, 'schedule.steps': 20})
  + space.fixed({'seed': 77, 'schedule.steps': 3})
"""


@pytest.mark.slow
def test_24_members_with_three_that_break(tmp_path):
  """One has a bad config, one diverges, one is killed: 21 results and 3 reasons."""
  path = sweep_file(tmp_path, POINTS, **{'log.every': '1', 'schedule.steps': None})
  workdir = tmp_path / 'w'
  process = start(path, workdir)

  def victim():
    for line in ledger_of(workdir):
      if line['state'] == 'running' and line['member'] == endless:
        return line['pid']
    return None

  def listed():
    return (workdir / 'sweep.json').exists()

  wait_for(listed, process)
  members = json.loads((workdir / 'sweep.json').read_text())['members']
  endless = next(each['id'] for each in members if each['fields'].get('seed') == 99)
  os.kill(wait_for(victim, process), signal.SIGKILL)
  said, complaints = process.communicate(timeout=600)
  assert process.returncode == 1, complaints
  last = {line['member']: line for line in ledger_of(workdir)}
  states = [last[each['id']]['state'] for each in members]
  assert states.count('done') == 21 and states.count('failed') == 3
  reasons = [line['reason'] for line in last.values() if line['state'] == 'failed']
  for words in ('not divisible', 'nan', 'killed by SIGKILL'):
    assert sum(words in reason for reason in reasons) == 1
    assert words in complaints
  assert '21 of 24 members are done' in said
  assert len((workdir / 'members.jsonl').read_text().splitlines()) == 24
  assert (workdir / 'report.html').exists()


@pytest.mark.slow
def test_killed_five_times_nothing_finished_is_repeated(tmp_path):
  """Each start is killed, with its worker, after one more member has finished."""
  points = "space.product({'optim.lr': [1e-3, 1e-2]}, seed=range(4))"
  path = sweep_file(tmp_path, points, **{'schedule.steps': '40', 'log.every': '1'})
  workdir = tmp_path / 'w'
  finished = {}

  def results():
    found = {}
    for file in (workdir / 'members').glob('*/result.json'):
      status = file.stat()
      found[file.parent.name] = (status.st_mtime_ns, status.st_ino)
    return found

  def has_more():
    return len(results()) > len(finished)

  for _ in range(5):
    process = start(path, workdir)
    wait_for(has_more, process)
    # The parent alone: its worker notices, saves and leaves by itself.
    process.kill()
    process.communicate()
    finished |= results()
  process = start(path, workdir)
  complaints = process.communicate(timeout=600)[1]
  assert process.returncode == 0, complaints
  assert len(results()) == 8
  for name, made in finished.items():
    assert results()[name] == made
  # Every step of every member was logged once, in order, over all starts.
  for name in results():
    lines = (workdir / 'members' / name / 'metrics.jsonl').read_text().splitlines()
    assert [json.loads(line)['step'] for line in lines] == [*range(1, 41)]


@pytest.mark.slow
def test_the_better_half_goes_on(tmp_path):
  more = {'schedule.steps': '8', 'eval.every': '4'}
  path = sweep_file(tmp_path, 'space.product(seed=range(4))', **more)
  path.write_text(path.read_text() + 'HALVING = dict(steps=(4,), keep=0.5)\n')
  workdir = tmp_path / 'w'
  process = start(path, workdir)
  complaints = process.communicate(timeout=600)[1]
  assert process.returncode == 0, complaints
  rows = []
  for line in (workdir / 'members.jsonl').read_text().splitlines():
    rows.append(json.loads(line))
  assert sorted(row['steps'] for row in rows) == [4, 4, 8, 8]
  for row in rows:
    assert ('halving' in row['stopped']) == (row['steps'] == 4)


@pytest.mark.slow
def test_two_processes_make_a_member_of_a_launcher_together(tmp_path, monkeypatch):
  """As the hosts of a pod do, each of which a launcher gives the same command."""
  monkeypatch.chdir(ROOT)
  path = sweep_file(tmp_path, 'space.product(seed=range(2))')
  workdir = tmp_path / 'w'
  words = ['-m', 'tl_jax', 'sweep', str(path), f'--workdir={workdir}']
  for member in range(2):
    processes = start_two([*words, f'--member={member}'], JAX_PLATFORMS='cpu')
    heard = hear(processes)
    assert [process.returncode for process in processes] == [0, 0], heard
  running = [line for line in ledger_of(workdir) if line['state'] == 'running']
  # Only the process that holds the folder says that it runs.
  assert len(running) == 2
  # The last member of all has the report written.
  assert '2 of 2 members' in (workdir / 'report.html').read_text()


@pytest.mark.slow
def test_ten_thousand_points_are_shown_in_seconds(tmp_path):
  points = (
    'space.product(seed=range(5)) * '
    "space.random(2000, {'optim.lr': space.log_uniform(1e-5, 1e-3)})"
  )
  path = sweep_file(tmp_path, points)
  program = (
    'import sys, resource\n'
    'from tl_jax.cli import main\n'
    'code = main.main(sys.argv[1:])\n'
    'used = resource.getrusage(resource.RUSAGE_SELF)\n'
    "print('cpu', used.ru_utime + used.ru_stime)\n"
  )
  words = ['sweep', str(path), f'--workdir={tmp_path / "w"}', '--dry-run']
  done = subprocess.run(
    [sys.executable, '-c', program, *words],
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
    check=True,
  )
  assert '10000 members in 1 cohorts' in done.stdout
  assert float(done.stdout.split()[-1]) < 5
