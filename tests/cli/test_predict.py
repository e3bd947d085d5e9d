"""`predict` from a table of one's own to labels: exit codes, resuming, workdirs."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from tiny_runs import SMALL

from tl_jax import config, train
from tl_jax.cli import main as command

COUNT = 103


def table(path, header, rows):
  with path.open('w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(header)
    writer.writerows(rows)
  return path


def rows(count):
  """Two columns of text, and labels that alternate."""
  return [[f'title {place}', 'word ' * (place % 9), place] for place in range(count)]


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """(workdir, file of texts) of a transfer on two columns."""
  folder = tmp_path_factory.mktemp('predict')
  labelled = [[*row[:2], ('no', 'yes')[row[2] % 2]] for row in rows(30)]
  path = table(folder / 'train.csv', ['title', 'body', 'label'], labelled)
  train.transfer(
    config.load(f'configs/transfer.py:task={path},text=title+body,init=scratch', SMALL),
    folder / 'w',
  )
  return folder / 'w', table(folder / 'in.csv', ['title', 'body', 'id'], rows(COUNT))


def predict(*flags):
  return command.main(['predict', *map(str, flags)])


def read(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_workdir_and_its_export_give_the_same_labels(trained, tmp_path, capsys):
  workdir, source = trained
  output = tmp_path / 'a.jsonl'
  flags = (f'--model={workdir}', f'--input={source}', f'--output={output}')
  assert predict(*flags) == 0
  found = read(output)
  assert len(found) == COUNT and {*found[0]['probabilities']} == {'no', 'yes'}
  # A second call has nothing to do.
  assert predict(*flags) == 0
  assert 'the answers to all 103 texts are there' in capsys.readouterr().out
  exported = tmp_path / 'hf'
  assert command.main(['export', str(workdir), str(exported)]) == 0
  flags = (
    f'--model={exported}',
    f'--input={source}',
    f'--output={tmp_path / "b.jsonl"}',
  )
  assert predict(*flags) == 2
  said = capsys.readouterr().err
  assert 'text: no such column; it has title, body, id' in said and '--text' in said
  assert predict(*flags, '--text=title+body') == 0
  for row, other in zip(found, read(tmp_path / 'b.jsonl'), strict=True):
    assert row['label'] == other['label']
    assert row['probabilities'] == pytest.approx(other['probabilities'], abs=1e-5)


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (['--output=no/a.jsonl'], 'no: no such folder'),
    (['--output=a.txt'], "'.txt' is none of .jsonl, .csv"),
    (['--output=a.jsonl', '--normalize'], 'add --embeddings'),
    (['--output=a.jsonl', '--embeddings', '--top-p=.5'], '--top-p: of texts'),
    (['--output=a.jsonl', '--batch=0'], '--batch'),
    (['--output=a.jsonl', '--dtype=int8'], 'float32, bfloat16'),
    (['--output=a.jsonl', '--step=7'], '7'),
    (['--output=a.jsonl', '--modle=x'], 'nearest'),
  ],
)
def test_what_is_wrong_is_one_line(
  trained, tmp_path, monkeypatch, capsys, flags, message
):
  workdir, source = trained
  monkeypatch.chdir(tmp_path)
  assert predict(f'--model={workdir}', f'--input={source}', *flags) == 2
  said = capsys.readouterr().err
  assert message in said and said.count('\n') == 1
  assert not list(tmp_path.iterdir())


def test_help_has_examples(capsys):
  assert predict('--help') == 0
  said = capsys.readouterr().out
  assert 'tl-jax predict --model=' in said and '"probabilities"' in said


# A start of a process takes seconds.
@pytest.mark.slow
def test_eight_devices_give_the_same_labels(trained, tmp_path, run_cli):
  workdir, source = trained
  flags = (f'--model={workdir}', f'--input={source}')
  output = tmp_path / 'a.jsonl'
  assert predict(*flags, f'--output={output}') == 0
  eight = tmp_path / 'b.jsonl'
  env = dict(XLA_FLAGS='--xla_force_host_platform_device_count=8')
  done = run_cli('predict', *flags, f'--output={eight}', env=env)
  assert done.returncode == 0, done.stderr
  for row, other in zip(read(output), read(eight), strict=True):
    assert row['label'] == other['label']
    assert row['probabilities'] == pytest.approx(other['probabilities'], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('number', 'code'), [(signal.SIGTERM, 75), (signal.SIGKILL, -9)]
)
def test_a_killed_command_goes_on(trained, tmp_path, number, code):
  workdir, _ = trained
  source = table(tmp_path / 'in.csv', ['title', 'body', 'id'], rows(20_000))
  output = tmp_path / 'a.jsonl'
  flags = [f'--model={workdir}', f'--input={source}', '--batch=1']
  argv = [sys.executable, '-m', 'tl_jax', 'predict', *flags, f'--output={output}']
  process = subprocess.Popen(argv, env=dict(os.environ, PYTHONPATH=os.getcwd()))
  until = time.monotonic() + 120
  while time.monotonic() < until and not (output.exists() and output.stat().st_size):
    time.sleep(0.05)
  process.send_signal(number)
  assert process.wait(60) == code
  begun = len(read(output))
  assert 0 < begun < 20_000
  assert predict(*flags, f'--output={output}') == 0
  whole = tmp_path / 'b.jsonl'
  assert predict(*flags, f'--output={whole}') == 0
  assert output.read_bytes() == whole.read_bytes()
