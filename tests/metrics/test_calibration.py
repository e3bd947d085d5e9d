"""Brier and calibration error against scikit-learn and their formulas, and on every edge."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.metrics import brier, calibration_error
from tl_jax.metrics.calibration import log_loss, reliability

BINS = (1, 4, 10, 15)


@st.composite
def predictions_and_classes(draw):
  """Probabilities (n, classes) of small fractions, many of them at the ends of bins."""
  count = draw(st.integers(1, 4))
  weights = st.lists(st.integers(0, 10), min_size=count, max_size=count)
  rows = draw(st.lists(weights.filter(any), max_size=20))
  classes = draw(
    st.lists(st.integers(0, count - 1), min_size=len(rows), max_size=len(rows))
  )
  probabilities = [np.array(row) / sum(row) for row in rows]
  return np.reshape(probabilities, (len(rows), count)), classes


def by_bins(probabilities, classes, count):
  """The calibration error by its formula, bin by bin."""
  total = 0.0
  for place in range(count):
    confidences = []
    hits = []
    for row, right in zip(probabilities, classes, strict=True):
      if place / count < max(row) <= (place + 1) / count:
        confidences.append(max(row))
        hits.append(list(row).index(max(row)) == right)
    if hits:
      gap = abs(sum(hits) / len(hits) - sum(confidences) / len(hits))
      total += len(hits) / len(classes) * gap
  return total


@settings(max_examples=100, deadline=None)
@given(predictions_and_classes())
def test_calibration_error_is_its_formula(examples):
  found = calibration_error(*examples, bins=BINS)
  expected = {f'calibration_error_{count}': by_bins(*examples, count) for count in BINS}
  assert found == pytest.approx(expected, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(predictions_and_classes())
def test_the_bins_add_up_to_the_calibration_error(examples):
  found = reliability(*examples, bins=4)
  count = len(examples[1])
  assert sum(one.count for one in found) == count
  gaps = [one.count * abs(one.accuracy - one.confidence) for one in found]
  error = calibration_error(*examples, bins=[4])['calibration_error_4']
  assert sum(gaps) / max(count, 1) == pytest.approx(error, abs=1e-12)
  sure = [one.confidence for one in found]
  assert sure == sorted(sure)


def test_log_loss_is_by_hand_on_every_edge():
  assert log_loss([[0.5, 0.25, 0.25], [0, 1, 0]], [1, 1]) == pytest.approx(np.log(2))
  # Of several labels each is a question of its own.
  both = log_loss([[0.5, 0.25]], [[1, 0]])
  assert both == pytest.approx(-(np.log(0.5) + np.log(0.75)) / 2)
  assert log_loss(np.zeros((0, 2)), []) == 0.0
  assert 700 < log_loss([[1.0, 0.0]], [1]) < 710


@settings(max_examples=100, deadline=None)
@given(predictions_and_classes())
def test_brier_is_that_of_scikit_learn(examples):
  from sklearn.metrics import brier_score_loss

  probabilities, classes = examples
  count = probabilities.shape[1]
  found = brier(probabilities, classes)['brier']
  right = np.eye(count)[classes]
  if not classes:
    assert found == 0.0
    return
  assert found == pytest.approx(float(((probabilities - right) ** 2).sum(1).mean()))
  if count > 2:
    names = list(range(count))
    reference = brier_score_loss(classes, probabilities, labels=names)
    assert found == pytest.approx(reference)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 1))))
def test_the_probability_of_one_class_stands_for_two(examples):
  ones = np.array([eighths / 8 for eighths, _ in examples])
  classes = [label for _, label in examples]
  both = np.stack([1 - ones, ones], axis=1)
  assert brier(ones, classes) == brier(both, classes)
  assert calibration_error(ones, classes) == calibration_error(both, classes)


@pytest.mark.parametrize(
  ('probabilities', 'classes', 'of_brier', 'of_calibration'),
  [
    ([], [], 0.0, 0.0),
    (np.zeros((0, 3)), [], 0.0, 0.0),
    # A single class is always right.
    ([[1.0], [1.0]], [0, 0], 0.0, 0.0),
    ([[1.0, 0.0]], [0], 0.0, 0.0),
    ([[1.0, 0.0]], [1], 2.0, 1.0),
    # The first of equal ones is the prediction: right once of two, as it says.
    ([0.5, 0.5], [0, 1], 0.5, 0.0),
    ([[0.25] * 4], [0], 0.75, 0.75),
    # Over- and underconfidence in different bins do not cancel out.
    ([[0.9, 0.1], [0.6, 0.4]], [1, 0], (1.62 + 0.32) / 2, (0.9 + 0.4) / 2),
  ],
)
def test_edges(probabilities, classes, of_brier, of_calibration):
  assert brier(probabilities, classes)['brier'] == pytest.approx(of_brier)
  found = calibration_error(probabilities, classes, bins=(10, 15, 20))
  assert set(found) == {f'calibration_error_{count}' for count in (10, 15, 20)}
  assert list(found.values()) == pytest.approx([of_calibration] * 3)


def test_one_bin_compares_the_means_alone():
  found = calibration_error([[0.9, 0.1], [0.6, 0.4]], [1, 0], bins=[1])
  assert found == pytest.approx({'calibration_error_1': 0.25})


def test_probabilities_of_few_bits_pass():
  third = 0.333984375  # 1/3 in bfloat16
  assert brier([[third] * 3], [0])['brier'] == pytest.approx(2 / 3, abs=1e-2)


@pytest.mark.parametrize('metric', [brier, calibration_error])
@pytest.mark.parametrize(
  ('probabilities', 'classes', 'words'),
  [
    ([[0.5, 0.5]], [], '1 predictions for 0 references'),
    ([[0.5, 0.5], [0.5, 0.4]], [0, 0], 'example 1 sum to 0.9, not to 1'),
    ([[2.0, -1.0]], [0], 'example 0 has a probability outside'),
    ([1.5], [0], 'example 0 has a probability outside'),
    ([float('nan')], [0], 'example 0 has a probability outside'),
    ([[0.5, 0.5], [1.0]], [0, 0], 'as many for each example'),
    (['yes'], [0], 'must be probabilities'),
    ([[[1.0]]], [0], 'not of shape'),
    ([[0.5, 0.5]], [2], 'is of class 2, but there are 2'),
    ([[0.5, 0.5]], [-1], 'is of class -1'),
    ([[0.5, 0.5]], ['yes'], 'numbers of the right classes'),
    ([[0.5, 0.5]], [[1, 0, 0]], 'for indicators of shape'),
    ([[0.5, 0.5]], [0.5], 'class labels'),
  ],
)
def test_bad_input_is_an_error_of_one_line(metric, probabilities, classes, words):
  with pytest.raises(ValueError, match=words) as caught:
    metric(probabilities, classes)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('count', [0, -1, 2.5, True])
def test_bins_are_whole_numbers(count):
  with pytest.raises(ValueError, match='whole numbers from 1'):
    calibration_error([0.5], [1], bins=[count])
