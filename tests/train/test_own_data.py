"""Runs on files of the user: whose the labels are, and data that may not change."""

import json
import re
import shutil

import numpy as np
import pytest
from hearing import Said
from tiny_runs import SMALL

import tl_jax
from tl_jax import config, interop, tasks, train
from tl_jax.config import ConfigError
from tl_jax.data import store
from tl_jax.train import (
  information,
  loop,
  notes,
  preparing,
  results,
  tokenizing,
)
from tl_jax.train.checks import check

NAMES = ('neg', 'neu', 'pos')


def rows_of(names=NAMES, count=30):
  return [
    dict(
      text=f'w{place} {names[place % len(names)]} ko',
      label=names[place % len(names)],
      split='test' if place % 5 == 0 else 'train',
    )
    for place in range(count)
  ]


def write(path, rows):
  path.write_text('\n'.join(map(json.dumps, rows)))
  return path


def transfer_config(path, more=()):
  return config.load(f'configs/transfer.py:task={path},init=scratch', [*SMALL, *more])


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """(workdir, file) of a transfer to three classes."""
  folder = tmp_path_factory.mktemp('own')
  path = write(folder / 'my.data.jsonl', rows_of())
  train.transfer(transfer_config(path), folder / 'w')
  return folder / 'w', path


def read(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def predictions(workdir):
  return read(workdir / 'predictions.jsonl')


def test_labels_come_back_with_the_model_and_go_into_its_export(trained, tmp_path):
  loaded = tl_jax.load(trained[0])
  assert (loaded.labels, loaded.kind) == (NAMES, 'single_label')
  interop.save(tmp_path / 'hf', loaded)
  said = json.loads((tmp_path / 'hf' / 'config.json').read_text())
  assert said['id2label'] == {'0': 'neg', '1': 'neu', '2': 'pos'}
  assert said['label2id'] == {'neg': 0, 'neu': 1, 'pos': 2}
  assert said['problem_type'] == 'single_label_classification'
  again = tl_jax.load(tmp_path / 'hf')
  assert (again.labels, again.kind) == (NAMES, 'single_label')


def test_evaluation_matches_labels_by_name(trained, tmp_path):
  workdir, path = trained
  train.evaluate(workdir)
  wanted = {row['text']: row for row in predictions(workdir)}
  two = write(
    tmp_path / 'two.jsonl', [row for row in rows_of() if row['label'] != 'neg']
  )
  train.evaluate(workdir, overrides=[('task.name', str(two))])
  # Beside those of the run, which stay as they are.
  (beside,) = workdir.glob('predictions-*.jsonl')
  found = read(beside)
  assert beside.name == 'predictions-2.jsonl'
  assert predictions(workdir) == list(wanted.values())
  assert found and all(row['target'] != 'neg' for row in found)
  for row in found:
    assert row['prediction'] == wanted[row['text']]['prediction']
    np.testing.assert_allclose(
      row['outputs'], wanted[row['text']]['outputs'], atol=1e-5
    )


@pytest.mark.parametrize(
  'ask, of_task',
  [(train.evaluate, True), (train.evaluate, False), (information.fisher_of, True)],
)
def test_what_is_mounted_to_be_read_is_read_and_nothing_is_kept_there(
  trained, pretrained, tmp_path, monkeypatch, ask, of_task
):
  workdir = tmp_path / 'mounted'
  source = trained[0] if of_task else pretrained
  shutil.copytree(source, workdir, ignore=shutil.ignore_patterns(tokenizing.CACHE))
  wanted = ask(workdir)
  shutil.rmtree(workdir / tokenizing.CACHE)
  # A superuser may write anywhere, so the answer to the question is given here.
  monkeypatch.setattr(store, 'is_writable', lambda folder: folder != workdir)
  monkeypatch.setenv('TL_JAX_DATA', str(tmp_path / 'sets'))
  assert str(ask(workdir)) == str(wanted)
  assert not (workdir / tokenizing.CACHE).exists()
  assert any((tmp_path / 'sets' / tokenizing.CACHE).iterdir())


def test_predictions_go_where_they_are_asked_for(trained, pretrained, tmp_path):
  workdir, _ = trained
  own = (workdir / 'predictions.jsonl').read_bytes()
  there = sorted(workdir.iterdir())
  output = tmp_path / 'mine.jsonl'
  output.write_text('of another day')
  train.evaluate(workdir, output=str(output))
  assert read(output) == predictions(workdir)
  # The same ones again need no other file.
  train.evaluate(workdir)
  assert sorted(workdir.iterdir()) == there
  with pytest.raises(ConfigError, match='what the run itself left'):
    train.evaluate(workdir, output=str(workdir / 'predictions.jsonl'))
  with pytest.raises(ConfigError, match='a file in a folder that is there'):
    train.evaluate(workdir, output=str(tmp_path / 'no' / 'a.jsonl'))
  with pytest.raises(ConfigError, match='no task, so no predictions'):
    train.evaluate(pretrained, output=str(output))
  assert (workdir / 'predictions.jsonl').read_bytes() == own


def test_predictions_of_a_step_never_replace_others(tmp_path):
  names = []
  for content in (b'a', b'b', b'c', b'b', b'a'):
    names.append(results.keep_predictions(tmp_path, 7, content).name)
  assert names == [
    'predictions.jsonl',
    'predictions-7.jsonl',
    'predictions-7-2.jsonl',
    'predictions-7.jsonl',
    'predictions.jsonl',
  ]
  assert (tmp_path / 'predictions.jsonl').read_bytes() == b'a'


@pytest.mark.parametrize(
  'change, named',
  [
    (lambda row: row | dict(label='z_' + row['label']), "'z_neg', 'z_neu', 'z_pos'"),
    (
      lambda row: (
        row | dict(label='aaa' if row['text'].startswith('w7 ') else row['label'])
      ),
      "'aaa'",
    ),
  ],
)
def test_labels_that_the_model_does_not_know_are_refused(
  trained, tmp_path, change, named
):
  other = write(tmp_path / 'other.jsonl', list(map(change, rows_of())))
  with pytest.raises(
    ConfigError, match=f"other.jsonl:.*: {named} not among .*: 'neg', 'neu', 'pos'"
  ):
    train.evaluate(trained[0], overrides=[('task.name', str(other))])


def test_a_model_opens_when_its_data_is_gone(tmp_path):
  path = write(tmp_path / 'a.jsonl', rows_of())
  train.transfer(transfer_config(path), tmp_path / 'w')
  path.unlink()
  assert tl_jax.load(tmp_path / 'w').labels == NAMES


def test_a_run_does_not_go_on_with_other_data(tmp_path):
  path = write(tmp_path / 'a.jsonl', rows_of())
  more = [('schedule.steps', '4'), ('checkpoint.every', '2'), ('checkpoint.keep', '2')]
  train.transfer(transfer_config(path, more), tmp_path / 'w')
  # As if it had been stopped after step 2.
  for name in ('checkpoints/4', 'result.json'):
    (tmp_path / 'w' / name).rename(tmp_path / name.replace('/', '-'))
  rows = rows_of()
  write(path, [row | dict(label=NAMES[2 - NAMES.index(row['label'])]) for row in rows])
  with pytest.raises(
    ConfigError, match='a.jsonl: its content is not that from which step 2'
  ):
    train.transfer(transfer_config(path, more), tmp_path / 'w')
  assert train.evaluate(tmp_path / 'w')['step'] == 2
  write(path, rows)
  assert train.transfer(transfer_config(path, more), tmp_path / 'w')['steps'] == 4


def test_what_was_left_out_cut_or_is_missing_is_said(tmp_path):
  rows = [
    row | dict(label='ab'[place % 2]) for place, row in enumerate(rows_of(count=20))
  ]
  rows += [
    dict(text=' ', label='a', split='train'),
    dict(text='', label='b', split='test'),
  ]
  rows += [
    dict(text='ko ' * 100, label='b', split='train'),
    dict(text='new', label='c', split='test'),
  ]
  rows += [dict(text=rows[0]['text'], label='a', split='train')]
  said = Said()
  train.transfer(
    transfer_config(write(tmp_path / 'a.jsonl', rows)), tmp_path / 'w', said.reporter
  )
  path = tmp_path / 'a.jsonl'
  (cut,) = [line for line in said if ' cut to ' in line]
  assert cut.startswith(
    f'{path}: 2 empty texts skipped, 1 train text cut to 16 tokens '
  )
  assert '(5.6 % of all, ' in cut
  enough = int(re.search(r'; (\d+) would keep 99 % whole', cut).group(1))
  for length, count in ((enough, 0), (enough - 1, 1)):
    checked = check(transfer_config(path, [('data.length', str(length))]))
    ready = preparing.prepare(checked, tmp_path / str(length))
    assert sum(part.count for part in ready.corpus.train.cut) == count
  assert "label 'c': no train example" in said
  assert f'{path}: 1 of 5 test texts stand in the train split too' in said
  assert not [line for line in said if 'no test example' in line]
  kept = json.loads((tmp_path / 'w' / 'result.json').read_text())['notes']
  assert len(kept) == 4 and set(kept) <= set(said)


def test_a_row_without_a_label_is_told_by_every_command(trained, tmp_path):
  path = write(tmp_path / 'a.jsonl', [*rows_of(), rows_of()[1] | dict(label=None)])
  line = f'{path}: 1 of 31 rows have no label: left out (label: empty)'
  said = Said()
  overrides = [('task.name', str(path))]
  train.evaluate(trained[0], overrides=overrides, reporter=said.reporter)
  assert said[0] == line
  said = Said()
  loaded = config.load(f'configs/transfer.py:task={path},method=tf-idf', SMALL)
  result = train.transfer(loaded, tmp_path / 'w', said.reporter)
  assert said[0] == line and line in result['notes']


def test_a_class_without_a_test_example_is_said_and_a_split_by_hash(tmp_path):
  rows = [{'text': row['text'], 'label': row['label']} for row in rows_of()]
  task = tasks.find(str(write(tmp_path / 'a.jsonl', rows)))
  assert 'no column split; by the hash of their texts' in task.told[0]
  assert notes.absent('test', task.labels, [2, 0, 1]) == [
    "label 'neu': no test example"
  ]
  assert notes.absent('test', task.labels, [2, 1, 1]) == []


@pytest.mark.parametrize(
  'labels, kind, metric, target',
  [
    ([0.5, 1.25, 3, 4.5], 'regression', 'pearson', float),
    ([['x'], ['x', 'y'], [], ['y']], 'multi_label', 'f1_micro', list),
  ],
)
def test_numbers_and_sets_of_labels_are_learned_and_scored(
  tmp_path, labels, kind, metric, target
):
  rows = [
    row | dict(label=labels[place % 4]) for place, row in enumerate(rows_of(count=24))
  ]
  said = Said()
  result = train.transfer(
    transfer_config(write(tmp_path / 'a.jsonl', rows)), tmp_path / 'w', said.reporter
  )
  assert (
    metric in result['metrics']
    and 'accuracy' not in result['metrics']
    or kind == 'multi_label'
  )
  holds = {
    'regression': ': label: numbers from 0.5 to 4.5, regression; kind=single_label',
    'multi_label': ": label: sets of 2 classes ('x' 12, 'y' 12)",
  }
  assert any(holds[kind] in line for line in said)
  assert all(
    isinstance(row['target'], target) and isinstance(row['prediction'], target)
    for row in predictions(tmp_path / 'w')
  )
  again = train.evaluate(tmp_path / 'w')
  assert again['metrics'] == pytest.approx(result['metrics'], abs=1e-5)
  loaded = tl_jax.load(tmp_path / 'w')
  interop.save(tmp_path / 'hf', loaded)
  assert tl_jax.load(tmp_path / 'hf').kind == loaded.kind == kind
  assert tl_jax.load(tmp_path / 'hf').labels == loaded.labels


def test_a_command_that_is_corrected_runs_and_what_it_trained_is_its_own(
  tmp_path, monkeypatch
):
  """A first start that came to nothing leaves neither its config nor its tokenizer."""
  path = write(tmp_path / 'a.jsonl', rows_of())

  def fail(*given):
    raise train.Diverged('step 1')

  with monkeypatch.context() as patched, pytest.raises(train.Diverged):
    patched.setattr(loop, 'fit', fail)
    train.transfer(
      transfer_config(path, [('tokenizer.size', '70'), ('optim.lr', '1.0')]),
      tmp_path / 'w',
    )
  first = (tmp_path / 'w' / 'tokenizer.json').read_bytes()
  train.transfer(transfer_config(path), tmp_path / 'w')
  assert (tmp_path / 'w' / 'tokenizer.json').read_bytes() != first
  # Nor does it keep a tokenizer of texts that were corrected, under the same config.
  with monkeypatch.context() as patched, pytest.raises(train.Diverged):
    patched.setattr(loop, 'fit', fail)
    train.transfer(transfer_config(path), tmp_path / 'v')
  first = (tmp_path / 'v' / 'tokenizer.json').read_bytes()
  write(path, [row | dict(text=row['text'] + ' unheard') for row in rows_of()])
  with monkeypatch.context() as patched, pytest.raises(train.Diverged):
    patched.setattr(loop, 'fit', fail)
    train.transfer(transfer_config(path), tmp_path / 'v')
  assert (tmp_path / 'v' / 'tokenizer.json').read_bytes() != first
  assert (
    json.loads((tmp_path / 'w' / 'config.json').read_text())['config']['optim']['lr']
    == 5e-4
  )
  # From here on the workdir is bound.
  with pytest.raises(ValueError, match='another config: optim.lr'):
    train.transfer(transfer_config(path, [('optim.lr', '0.5')]), tmp_path / 'w')


def test_a_workdir_from_before_there_were_these_keys_goes_on(trained, tmp_path):
  workdir = shutil.copytree(trained[0], tmp_path / 'w')
  stored = json.loads((workdir / 'config.json').read_text())
  for key in ('text', 'label', 'kind', 'files'):
    del stored['config']['task'][key]
  (workdir / 'config.json').write_text(json.dumps(stored))
  again = train.transfer(transfer_config(trained[1]), workdir)
  assert again == json.loads((workdir / 'result.json').read_text())
  with pytest.raises(ValueError, match='task.label: .* -> .split'):
    train.transfer(transfer_config(trained[1], [('task.label', 'split')]), workdir)


def test_one_with_a_result_alone_is_bound_too(trained, tmp_path):
  workdir = shutil.copytree(trained[0], tmp_path / 'w')
  shutil.rmtree(workdir / 'checkpoints')
  with pytest.raises(ValueError, match='another config: optim.lr'):
    train.transfer(transfer_config(trained[1], [('optim.lr', '0.5')]), workdir)
