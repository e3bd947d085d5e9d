"""A temperature is fitted to what a run held out, at its end or long after it."""

import json

import numpy as np
import pytest
from tiny_runs import SMALL

from tl_jax import config, train
from tl_jax.config import ConfigError
from tl_jax.train import calibration
from tl_jax.train.checks import check

NAMES = ('sun', 'rain')
CALIBRATE = ('eval.calibrate', 'True')
RATE = [('schedule.steps', '60'), ('optim.lr', '0.05'), ('compute.dropout', '0.0')]


def rows_of(count=160, validation=False):
  """Texts that say their class, of every fifth of which the label is wrong."""
  rows = []
  for place in range(count):
    right = place // 4 % 2
    label = 1 - right if place % 5 == 0 else right
    split = 'test' if place % 4 == 0 else 'train'
    if validation and place % 4 == 1:
      split = 'validation'
    text = f'{NAMES[right]} w{place % 40}'
    rows.append(dict(text=text, label=f'l{label}', number=label, split=split))
  return rows


def write(path, rows):
  path.write_text('\n'.join(map(json.dumps, rows)))
  return path


def config_of(path, *more, **arguments):
  given = dict(task=path, **arguments)
  named = ','.join(f'{name}={value}' for name, value in given.items())
  return config.load(f'configs/transfer.py:{named}', [*SMALL, *RATE, *more])


def outputs(path):
  lines = map(json.loads, path.read_text().splitlines())
  return [(line['prediction'], line['outputs']) for line in lines]


@pytest.fixture(scope='module')
def calibrated(tmp_path_factory):
  """(workdir, result, what was told) of a run that holds 40 examples out."""
  folder = tmp_path_factory.mktemp('calibrated')
  path = write(folder / 'own.jsonl', rows_of())
  said = []
  reporter = train.Reporter(said.append, lambda *given, **figures: None)
  settings = config_of(path, CALIBRATE, ('task.holdout', '40'))
  return folder / 'w', train.transfer(settings, folder / 'w', reporter), said


def test_a_run_says_how_well_it_knows_what_it_knows(calibrated):
  _, result, said = calibrated
  (found,) = result['calibration'].values()
  assert result['labels'] == 80 and found['validation'] == 40
  # It has learned wrong labels by heart, and is too sure of others.
  assert found['temperature'] > 1.2
  assert found['after']['loss'] < found['before']['loss']
  # What a run says of itself is what it is without a temperature.
  for name in ('brier', 'calibration_error_15'):
    assert found['before'][name] == pytest.approx(result['metrics'][name])
  assert any('held out for validation' in line for line in said)
  assert any('temperature' in line and 'fitted to 40' in line for line in said)


def test_evaluating_it_again_says_the_same(calibrated, tmp_path):
  workdir, result, _ = calibrated
  output = tmp_path / 'a.jsonl'
  found = train.evaluate(workdir, output=str(output), reliability=True)
  for name, one in result['calibration'].items():
    again = found['calibration'][name]
    assert again['temperature'] == pytest.approx(one['temperature'], rel=1e-3)
    assert again['after'] == pytest.approx(one['after'], rel=1e-3)
  # The curves are of all test examples, and as wrong as the metric says.
  as_it_is, scaled = found['reliability'].values()
  for bins in (as_it_is, scaled):
    assert sum(one.count for one in bins) == found['n'] == 40
  gaps = [one.count * abs(one.accuracy - one.confidence) for one in as_it_is]
  assert sum(gaps) / 40 == pytest.approx(found['metrics']['calibration_error_15'])
  # No prediction and no output is another one.
  for (one, raw), (other, again) in zip(
    outputs(output), outputs(workdir / 'predictions.jsonl'), strict=True
  ):
    assert one == other
    np.testing.assert_allclose(raw, again, atol=1e-4)


def test_other_texts_get_the_temperature_of_the_run(calibrated, tmp_path):
  workdir, result, _ = calibrated
  other = write(tmp_path / 'other.jsonl', rows_of(24))
  found = train.evaluate(
    workdir, overrides=[('task.name', str(other))], output=str(tmp_path / 'o.jsonl')
  )
  (own,) = result['calibration'].values()
  (name, again), *_ = found['calibration'].items()
  assert name == str(other) and found['n'] == 6
  assert again['temperature'] == pytest.approx(own['temperature'], rel=1e-3)


@pytest.mark.parametrize(
  ('validation', 'more'),
  [(True, []), (False, [('task.labels', '60'), ('task.holdout', '30')])],
)
def test_a_run_that_did_not_ask_is_calibrated_later(tmp_path, validation, more):
  """On its validation split, or on what its few labels left."""
  path = write(tmp_path / 'own.jsonl', rows_of(validation=validation))
  result = train.transfer(config_of(path, *more), tmp_path / 'w')
  assert result['calibration'] == {}
  found = train.evaluate(tmp_path / 'w', overrides=[CALIBRATE])
  (one,) = found['calibration'].values()
  assert one['validation'] == (40 if validation else 30)


def test_what_was_trained_on_is_no_validation(tmp_path):
  path = write(tmp_path / 'own.jsonl', rows_of(32))
  train.transfer(config_of(path, ('schedule.steps', '2')), tmp_path / 'w')
  with pytest.raises(ConfigError, match='was trained on the whole train split of'):
    train.evaluate(tmp_path / 'w', overrides=[CALIBRATE])
  assert 'calibration' not in train.evaluate(tmp_path / 'w')


def test_what_has_no_probabilities_is_refused(tmp_path):
  path = write(tmp_path / 'own.jsonl', rows_of(32))
  numbers = dict(label='number', kind='regression')
  with pytest.raises(ConfigError, match='config.eval.calibrate: .*regression'):
    check(config_of(path, CALIBRATE, **numbers))
  with pytest.raises(ConfigError, match='method tf-idf trains none'):
    check(config_of(path, CALIBRATE, method='tf-idf'))
  task = check(config_of(path, **numbers)).task
  with pytest.raises(ConfigError, match='--reliability: .*regression'):
    calibration.require_figure(task)
  with pytest.raises(ConfigError, match='--reliability: pre-training has no labels'):
    calibration.require_figure(None)
