"""What result.json says: one form for every run, seconds over all starts, and nothing
changed by a second call.
"""

import dataclasses
import json

import numpy as np
import pytest

from tl_jax import config, files, tasks, train
from tl_jax.train import evaluators, results, running
from tl_jax.train.clock import Clock
from tl_jax.train.cohort import execute
from tl_jax.train.datasets import Labelled
from tl_jax.train.results import (
  Diverged,
  Result,
  digest_examples,
  predictions_of,
  require_numbers,
)

NAMES = {field.name for field in dataclasses.fields(Result)}
QUICK = [
  ('schedule.steps', '4'),
  ('schedule.warmup', '1'),
  ('data.length', '32'),
  ('data.batch', '4'),
  ('task.test', '60'),
  ('log.every', '2'),
  ('log.tensorboard', 'false'),
  ('checkpoint.every', '2'),
]


def transfer_config(pretrained, method='probe', labels=8, more=()):
  return config.load(
    f'configs/transfer.py:task=sentiment,method={method},init={pretrained},labels={labels}',
    [*QUICK, *more],
  )


def read_result(folder):
  return json.loads((folder / 'result.json').read_text())


def fail(*_, **__):
  raise AssertionError('a finished run was run again')


def test_a_clock_counts_every_second_once(monkeypatch):
  now = [100.0]
  monkeypatch.setattr('time.monotonic', lambda: now[0])

  def wait(seconds):
    now[0] += seconds

  clock = Clock(dict(seconds=10.0, training_seconds=4.0, compile_seconds=1.0))
  wait(1)
  with clock.phase('training'):
    wait(2)
    with clock.phase('compile'):
      wait(4)
    with clock.phase('evaluation'):
      wait(8)
    wait(16)
  wait(32)
  assert clock.totals() == dict(
    seconds=10 + 63, training_seconds=4 + 18, compile_seconds=1 + 4
  )


def test_a_clock_keeps_what_was_counted_at_most_once_a_second():
  kept = []
  clock = Clock(None, kept.append)
  for _ in range(100):
    clock.keep()
  assert kept == []
  clock.keep(now=True)
  assert set(kept[0]) == {'seconds', 'training_seconds', 'compile_seconds'}
  clock.stop()
  clock.keep(now=True)
  assert len(kept) == 1


def test_a_damaged_record_of_seconds_counts_as_none():
  assert (
    Clock(dict(seconds='a', training_seconds=float('nan'))).totals()['training_seconds']
    == 0.0
  )


def test_every_kind_of_run_says_the_same_things(pretrained, tmp_path):
  execute([(transfer_config(pretrained), tmp_path / 'probe')])
  train.transfer(transfer_config('scratch', 'tf-idf'), tmp_path / 'tf-idf')
  found = [
    read_result(folder)
    for folder in (pretrained, tmp_path / 'probe', tmp_path / 'tf-idf')
  ]
  for result in found:
    assert result.keys() == NAMES
    assert (
      result['seconds'] >= result['training_seconds'] + result['compile_seconds'] > 0
    )
  assert (
    found[1]['examples'] == found[2]['examples']
    and found[1]['n'] == found[2]['n'] == 60
  )
  predictions = (tmp_path / 'tf-idf' / 'predictions.jsonl').read_text().splitlines()
  assert len(predictions) == 60


def test_a_second_call_of_a_finished_run_changes_nothing(
  pretrained, tmp_path, monkeypatch
):
  runs = [
    (transfer_config(pretrained), tmp_path / 'one'),
    (transfer_config('scratch', 'tf-idf'), tmp_path / 'two'),
  ]
  execute(runs)
  before = [(folder / 'result.json').read_bytes() for _, folder in runs]
  monkeypatch.setattr(running, 'prepare', fail)
  monkeypatch.setattr(running, 'write_predictions', fail)
  again = train.transfer(*runs[0])
  execute(runs)
  assert [(folder / 'result.json').read_bytes() for _, folder in runs] == before
  assert again == json.loads(before[0])


def test_seconds_are_summed_over_starts(pretrained, tmp_path):
  loaded = transfer_config(pretrained)
  train.transfer(loaded, tmp_path)
  (tmp_path / 'result.json').unlink()
  # What a start that was killed has left.
  earlier = dict(seconds=1000.0, training_seconds=500.0, compile_seconds=200.0)
  (tmp_path / 'seconds.json').write_text(json.dumps(earlier))
  result = train.transfer(loaded, tmp_path)
  for name, value in earlier.items():
    assert value <= result[name] < value + 100
  assert result['seconds'] > 1000


def test_a_run_that_stops_halfway_has_kept_its_seconds(
  pretrained, tmp_path, monkeypatch
):
  def judge(self, state):
    raise KeyboardInterrupt

  monkeypatch.setattr(evaluators.TaskEvaluator, 'outputs', judge)
  with pytest.raises(KeyboardInterrupt):
    train.transfer(transfer_config(pretrained), tmp_path)
  kept = json.loads((tmp_path / 'seconds.json').read_text())
  assert kept['training_seconds'] > 0 and kept['compile_seconds'] > 0
  monkeypatch.undo()
  result = train.transfer(transfer_config(pretrained), tmp_path)
  # Nothing was left to train or compile.
  assert result['training_seconds'] == pytest.approx(kept['training_seconds'], abs=0.5)
  assert result['compile_seconds'] == kept['compile_seconds']


@pytest.mark.parametrize(
  'texts, targets',
  [
    (['a', 'bc'], [0, 1]),
    (['ab', 'd'], [0, 1]),
    (['ab', 'c'], [1, 1]),
    (['c', 'ab'], [1, 0]),
    (['ab'], [0]),
  ],
)
def test_a_digest_tells_examples_apart(texts, targets):
  assert digest_examples(texts, targets) != digest_examples(['ab', 'c'], [0, 1])


def test_a_finished_run_whose_last_step_is_damaged_is_finished_again(
  pretrained, tmp_path
):
  loaded = transfer_config(pretrained, more=[('checkpoint.keep', '2')])
  result = train.transfer(loaded, tmp_path)
  step = tmp_path / 'checkpoints' / '4'
  largest = max(
    step.rglob('*'), key=lambda path: path.stat().st_size if path.is_file() else 0
  )
  largest.write_bytes(b'')
  again = train.transfer(loaded, tmp_path)
  assert again['metrics'] == result['metrics'] and again['seconds'] > result['seconds']
  # A result that has outlived its steps stays what it is.
  for path in (tmp_path / 'checkpoints').iterdir():
    path.rename(tmp_path / f'deleted-{path.name}')
  assert train.transfer(loaded, tmp_path) == again


@pytest.mark.parametrize(
  'metrics, outputs, said',
  [
    (dict(loss=float('nan')), None, 'loss nan'),
    (dict(loss=float('inf'), accuracy=0.0), None, 'says loss inf on the test'),
    ({}, np.array([[0.0, 1.0], [np.nan, 0.0]]), 'no number for 1 of 2 examples'),
  ],
)
def test_what_is_no_number_is_no_result(metrics, outputs, said):
  with pytest.raises(Diverged, match=f'^step 3: .*{said}'):
    require_numbers(3, metrics, outputs)


@pytest.mark.parametrize(
  'metrics, outputs',
  [
    (dict(loss=1.0, matthews=None), None),
    ({}, np.array([[0.0, -np.inf]])),
    ({}, np.array(['a text', ''])),
    ({}, np.zeros((0, 2))),
  ],
)
def test_what_may_be_said_is_a_result(metrics, outputs):
  require_numbers(3, metrics, outputs)
  # Beside what is no number it is none.
  with pytest.raises(Diverged, match='step 3'):
    require_numbers(3, metrics | dict(accuracy=float('nan')), outputs)


def test_an_infinite_output_is_null_in_strict_json():
  task = tasks.find('sentiment')
  split = Labelled(['good', 'bad'], np.array([1, 0]))
  outputs = np.array([[-np.inf, 1.5], [0.25, -0.5]])
  lines = predictions_of(task, split, outputs).decode().splitlines()
  found = [files.decode(line) for line in lines]
  assert [row['outputs'] for row in found] == [[None, 1.5], [0.25, -0.5]]
  assert found[0]['prediction'] == task.labels[1]


@pytest.mark.parametrize(
  ('error', 'has_traceback'),
  [
    (config.ConfigError('config.seed: wrong'), False),
    (Diverged('step 3: nan'), False),
    (ValueError('cannot reshape'), True),
  ],
)
def test_a_failure_that_no_config_is_to_blame_for_has_its_traceback(
  tmp_path, error, has_traceback
):
  with results.survived(tmp_path / 'run', train.NULL_REPORTER):
    raise error
  found = files.find_json(tmp_path / 'run' / 'failed.json')
  assert found['reason'] == str(error) and ('traceback' in found) == has_traceback
  assert 'raise error' in str(found.get('traceback', 'raise error'))
