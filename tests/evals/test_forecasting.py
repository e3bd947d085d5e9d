"""Laws of a forecast: it covers curves that are of its kind, and says what it does not
know.
"""

import dataclasses
import math

import numpy as np
import pytest

from tl_jax.evals import forecasting

SIZES = [10, 16, 25, 40, 63, 80]


def measured(generator, floor, exponent, last, labels=100):
  """Errors as a cross-validation of so many labels would give them."""
  falling = (np.array(SIZES) / SIZES[-1]) ** -exponent
  true = last * (floor + (1 - floor) * falling)
  common = math.sqrt(last * (1 - last) / labels)
  noise = 0.03 * np.sqrt(10 / np.array(SIZES))
  errors = true + generator.normal(0, common) + generator.normal(0, noise)
  errors += generator.normal(0, forecasting.MISFIT, len(SIZES))
  covariance = common**2 + np.diag(noise**2)
  curve = forecasting.fit(
    SIZES, np.clip(errors, 0, 1), covariance=covariance, training=0.01
  )
  return curve, lambda n: last * (floor + (1 - floor) * (n / SIZES[-1]) ** -exponent)


def test_intervals_cover_as_often_as_they_say(monkeypatch):
  monkeypatch.setattr(forecasting, 'SHAPES', 4000)
  generator = np.random.default_rng(0)
  covered = {200: [], 800: []}
  for _ in range(300):
    floor = generator.uniform(*forecasting.FLOORS)
    exponent = generator.uniform(*forecasting.EXPONENTS)
    curve, true = measured(generator, floor, exponent, generator.uniform(0.1, 0.4))
    # Nobody errs more often than always.
    if true(SIZES[0]) > 0.9:
      continue
    for labels, found in covered.items():
      interval = curve.error_at(labels)
      came = true(labels) + generator.normal(0, 0.01 * math.sqrt(80 / labels))
      # Nor is what comes on any power law.
      came += generator.normal(0, forecasting.MISFIT)
      found.append(interval.low <= came <= interval.high)
  for found in covered.values():
    assert 0.74 < np.mean(found) < 0.86


def test_more_labels_are_better_and_less_sure():
  curve, _ = measured(np.random.default_rng(1), 0.4, 0.5, 0.3)
  near, far = curve.error_at(160), curve.error_at(1600)
  assert far.mean < near.mean
  width = lambda interval: (interval.high - interval.low) / interval.mean
  assert width(far) > width(near)
  # What is measured on few examples is less sure than the error itself.
  tested = curve.error_at(160, tested=50)
  assert tested.high - tested.low > near.high - near.low


def test_a_target_beyond_reach_needs_no_number_of_labels():
  curve, _ = measured(np.random.default_rng(2), 0.8, 0.5, 0.3)
  easy, hard = curve.labels_for(0.31), curve.labels_for(0.01)
  assert easy.low < easy.mean < 200
  assert hard.mean == hard.high == math.inf


def test_labels_for_a_target_are_what_is_expected_read_the_other_way():
  """As many trainings reach it as the interval says, the luck of their labels in it."""
  curve, _ = measured(np.random.default_rng(2), 0.5, 0.5, 0.3)
  wanted = 0.27
  found = curve.labels_for(wanted)
  for labels, share in ((found.low, 0.1), (found.mean, 0.5), (found.high, 0.9)):
    chance = np.mean(curve.drawn(labels) <= wanted)
    assert chance == pytest.approx(share, abs=0.03)
    # Of so many labels, that share of intervals lies below.
    assert chance >= share
  lucky = dataclasses.replace(curve, training_variance=25 * curve.training_variance)
  assert lucky.labels_for(wanted).low < found.low


def test_the_same_seed_says_the_same():
  first, second = (
    forecasting.fit(SIZES, [0.3] * 6, covariance=1e-3 + 1e-4 * np.eye(6))
    for _ in range(2)
  )
  assert first.error_at(300) == second.error_at(300)


@pytest.mark.parametrize(
  ('sizes', 'errors'), [([10], [0.3]), ([10, 0], [0.3, 0.2]), ([10, 20], [0.3, 1.2])]
)
def test_what_is_no_curve_is_refused(sizes, errors):
  with pytest.raises(ValueError, match='forecast'):
    forecasting.fit(sizes, errors, covariance=1e-4 * np.eye(len(sizes)))
