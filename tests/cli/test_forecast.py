"""The verb `forecast`: from a file to a page, and what it refuses in one line."""

import csv
import json

import pytest

from tl_jax import config
from tl_jax.cli import main as command


def write(path, count):
  with path.open('w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(['subject', 'folder'])
    for place in range(count):
      word = ('win a prize', 'see you at noon')[place % 2]
      writer.writerow([f'{word} {place % 7}', ('junk', 'mail')[place % 2]])
  return path


@pytest.fixture
def mails(tmp_path):
  return write(tmp_path / 'mails.csv', 40)


def forecast(*flags):
  return command.main(['forecast', *map(str, flags)])


def test_from_a_file_to_a_page(mails, pretrained, tmp_path, capsys):
  pool = tmp_path / 'pool.csv'
  pool.write_text('subject\n' + ''.join(f'mail number {n}\n' for n in range(9)))
  flags = [
    f'--task={mails}',
    '--text=subject',
    '--label=folder',
    f'--init={pretrained}',
    f'--workdir={tmp_path / "w"}',
    '--target=90%',
    '--repeats=2',
    '--times=2,4',
    '--suggest=3',
    f'--pool={pool}',
  ]
  assert forecast(*flags) == 0
  out = capsys.readouterr().out
  assert '40 labels of 2 classes' in out and '160 labels' in out
  found = json.loads((tmp_path / 'w' / 'forecast.json').read_text())
  assert found['ahead'] == [80, 160] and found['target'] == 0.9
  assert [*found['candidates'][0]['forecast']] == ['160', '40', '80']
  page = (tmp_path / 'w' / 'forecast.html').read_text()
  assert 'Learning curves' in page and 'TF-IDF' in page
  suggested = (tmp_path / 'w' / 'suggested.csv').read_text()
  rows = list(csv.DictReader(suggested.splitlines()))
  assert len(rows) == 3 and all(row['label'] == '' for row in rows)
  # What is filled in is a file that transfer reads.
  assert [*rows[0]] == ['text', 'label', 'sure']


def test_what_cannot_be_is_one_line_and_exit_code_2(
  mails, pretrained, tmp_path, capsys
):
  good = [
    f'--task={mails}',
    '--text=subject',
    '--label=folder',
    f'--init={pretrained}',
    f'--workdir={tmp_path / "w"}',
  ]
  few = write(tmp_path / 'few.csv', 8)
  wrong = {
    'no such folder or file': [*good, f'--init={tmp_path / "nobody"}'],
    'no such file': [*good, f'--task={tmp_path / "nobody.csv"}'],
    'sender: no such column': [*good, '--text=sender'],
    'needs an accuracy': [*good, '--target=90'],
    'numbers above 1': [*good, '--times=0,2'],
    '--suggest and --pool': [*good, '--suggest=3'],
    '9 asked for': [*good, '--suggest=9', f'--pool={few}'],
    'a forecast needs 20': [*good, f'--task={few}'],
  }
  for said, flags in wrong.items():
    assert forecast(*flags) == 2, said
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert said in line


@pytest.mark.slow
def test_trained_runs_stand_beside_and_are_not_trained_again(
  mails, pretrained, tmp_path, capsys
):
  short = [('schedule.steps', '4'), ('schedule.warmup', '0'), ('data.length', '16')]
  found = config.load(f'configs/transfer.py:init={pretrained}', short)
  recipe = tmp_path / 'short.json'
  recipe.write_text(json.dumps(config.to_json(found)))
  flags = [f'--task={mails}', '--text=subject', '--label=folder', '--repeats=1']
  flags += [
    f'--init={pretrained}',
    f'--workdir={tmp_path / "w"}',
    f'--trained={recipe}',
  ]
  assert forecast(*flags) == 0
  name = f'{pretrained.name}, full'
  first = json.loads((tmp_path / 'w' / 'forecast.json').read_text())
  [runs] = [one for one in first['candidates'] if one['name'] == name]
  assert len(runs['measured']) == 3
  assert f'{name}: 15 trainings' in capsys.readouterr().out
  kept = {
    path: path.stat().st_mtime_ns for path in (tmp_path / 'w').rglob('result.json')
  }
  assert len(kept) == 15 and forecast(*flags) == 0
  assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
