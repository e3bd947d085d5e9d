"""Laws of a forecast: it covers curves that are of its kind, and says what it does not
know.
"""

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
  curve = forecasting.fit(
    SIZES, np.clip(errors, 0, 1), noise=noise, common=common, training=0.01
  )
  return curve, lambda n: last * (floor + (1 - floor) * (n / SIZES[-1]) ** -exponent)


def test_intervals_cover_as_often_as_they_say(monkeypatch):
  monkeypatch.setattr(forecasting, 'SHAPES', 4000)
  generator = np.random.default_rng(0)
  covered = {200: [], 800: []}
  for _ in range(300):
    floor, exponent = generator.uniform(0, 0.9), generator.uniform(0.1, 1.0)
    curve, true = measured(generator, floor, exponent, generator.uniform(0.1, 0.4))
    for labels, found in covered.items():
      interval = curve.error_at(labels)
      came = true(labels) + generator.normal(0, 0.01 * math.sqrt(80 / labels))
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
  # The inverse of the curves: at that many labels half of them are below.
  middle = curve.labels_for(0.28).mean
  assert np.mean(curve.errors(middle) <= 0.28) == pytest.approx(0.5, abs=0.01)


def test_the_same_seed_says_the_same():
  first, second = (
    forecasting.fit(SIZES, [0.3] * 6, noise=[0.01] * 6, common=0.03) for _ in range(2)
  )
  assert first.error_at(300) == second.error_at(300)


@pytest.mark.parametrize(
  ('sizes', 'errors'), [([10], [0.3]), ([10, 0], [0.3, 0.2]), ([10, 20], [0.3, 1.2])]
)
def test_what_is_no_curve_is_refused(sizes, errors):
  with pytest.raises(ValueError, match='forecast'):
    forecasting.fit(sizes, errors, noise=[0.01] * len(sizes), common=0.03)
