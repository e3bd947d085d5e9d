"""Label-efficiency curves: pairing, interpolation, censoring and their invariances."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.evals.curves import label_curve, labels_saved, reach, transfer_gain
from tl_jax.evals.statistics import paired_t_interval, t_interval


def rows_of(method, values):
  """Rows from labels -> list of values by seed."""
  return [
    {'method': method, 'labels': labels, 'seed': seed, 'value': value}
    for labels, seeds in values.items()
    for seed, value in enumerate(seeds)
  ]


def curve_of(method, values, **arguments):
  return label_curve(rows_of(method, values), method, **arguments)


GROWING = {10: [0.50, 0.52], 100: [0.70, 0.72], 1000: [0.90, 0.92]}


def test_a_point_is_the_t_interval_of_its_seeds_and_order_does_not_matter():
  rows = rows_of('a', GROWING) + rows_of('b', {10: [0.0]})
  curve = label_curve(rows, 'a')
  assert curve == label_curve(rows[::-1], 'a')
  assert curve.labels == [10, 100, 1000]
  assert curve.at(100).interval == t_interval([0.70, 0.72])
  assert dict(curve.at(10).values) == {0: 0.50, 1: 0.52}


def test_the_value_may_be_a_metric_of_a_result():
  rows = [
    {
      'method': 'lora',
      'labels': 5,
      'seed': 0,
      'metrics': {'accuracy': 0.5, 'f1': 0.25},
      'seconds': 2.0,
    }
  ]
  assert label_curve(rows, 'lora', metric='f1').means == [0.25]
  with pytest.raises(
    ValueError, match="no metric 'acuracy' in a row; nearest: 'accuracy'"
  ):
    label_curve(rows, 'lora', metric='acuracy')


@pytest.mark.parametrize(
  ('rows', 'words'),
  [
    ([], 'no row'),
    (rows_of('b', GROWING), "no row of the method 'a'"),
    (rows_of('a', {10: [1.0]}) * 2, 'two rows'),
    (rows_of('a', {0: [1.0]}), 'not a number above 0'),
    (rows_of('a', {None: [1.0]}), 'not a number above 0'),
    (rows_of('a', {math.inf: [1.0]}), 'not a number above 0'),
  ],
)
def test_rows_that_make_no_curve_are_errors(rows, words):
  with pytest.raises(ValueError, match=words):
    label_curve(rows, 'a')


def test_the_gain_is_paired_by_seed_and_positive_where_transfer_helps():
  first, second = {10: [0.9, 0.7, 0.8], 20: [0.9]}, {10: [0.5, 0.4, 0.3], 40: [0.1]}
  gain = transfer_gain(curve_of('a', first), curve_of('b', second))
  assert gain == {10: paired_t_interval(first[10], second[10])}
  errors = transfer_gain(
    curve_of('a', second, higher_is_better=False),
    curve_of('b', first, higher_is_better=False),
  )
  assert errors[10] == gain[10]


def test_only_shared_seeds_count_in_a_gain():
  rows = rows_of('b', {10: [0.5, 0.4, 0.3]})[1:]
  gain = transfer_gain(curve_of('a', {10: [0.9, 0.7]}), label_curve(rows, 'b'))
  assert (gain[10].n, gain[10].mean, gain[10].low) == (1, pytest.approx(0.3), None)


@pytest.mark.parametrize(
  ('value', 'needed', 'censored', 'text'),
  [
    ([0.70, 0.72], 100.0, '', '100'),
    ([0.60, 0.62], math.sqrt(1000), '', '32'),
    ([0.80, 0.82], 10**2.5, '', '316'),
    ([0.99, 0.99], None, 'above', '> 1000'),
    ([0.10, 0.12], None, 'below', '≤ 10'),
    ([0.90, 0.92], 1000.0, '', '1000'),
  ],
)
def test_labels_saved_interpolates_in_the_logarithm_and_is_censored_outside(
  value, needed, censored, text
):
  found = labels_saved(curve_of('a', {50: value}), curve_of('b', GROWING), 50)
  assert found.needed == (None if needed is None else pytest.approx(needed))
  assert (found.censored, str(found)) == (censored, text)
  expected = math.inf if censored == 'above' else found.limit / 50
  assert found.multiplier.mean == expected


def test_a_curve_matches_itself_with_the_same_labels():
  curve = curve_of('a', GROWING)
  for labels in curve.labels:
    assert labels_saved(curve, curve, labels).needed == pytest.approx(labels)


@settings(max_examples=60, deadline=None)
@given(
  st.lists(st.floats(0, 1), min_size=2, max_size=6), st.floats(0, 1), st.floats(0, 1)
)
def test_more_is_never_matched_by_fewer_labels_even_on_a_curve_that_falls(
  means, first, second
):
  reference = curve_of('b', {2**rank: [value] for rank, value in enumerate(means)})
  low, high = sorted((first, second))
  needed = [
    labels_saved(curve_of('a', {1: [value]}), reference, 1, draws=2).multiplier.mean
    for value in (low, high)
  ]
  assert needed[0] <= needed[1]


def test_errors_are_the_mirror_image_of_scores():
  mirrored = {
    labels: [1 - value for value in values] for labels, values in GROWING.items()
  }
  plain = labels_saved(curve_of('a', {10: [0.6, 0.64]}), curve_of('b', GROWING), 10)
  mirror = labels_saved(
    curve_of('a', {10: [0.4, 0.36]}, higher_is_better=False),
    curve_of('b', mirrored, higher_is_better=False),
    10,
  )
  assert mirror.needed == pytest.approx(plain.needed)
  assert mirror.multiplier.low == pytest.approx(plain.multiplier.low)


def test_the_multiplier_has_an_interval_only_with_two_shared_seeds():
  found = labels_saved(curve_of('a', {10: [0.60, 0.70]}), curve_of('b', GROWING), 10)
  assert found.multiplier.low < found.multiplier.mean < found.multiplier.high
  assert found.multiplier.n == 2
  assert (
    labels_saved(curve_of('a', {10: [0.6]}), curve_of('b', GROWING), 10).multiplier.low
    is None
  )
  censored = labels_saved(
    curve_of('a', {10: [0.85, 0.99]}), curve_of('b', GROWING), 10
  ).multiplier
  assert censored.high == math.inf


def test_a_number_of_labels_without_a_point_is_an_error():
  with pytest.raises(ValueError, match='no point at 11 labels'):
    labels_saved(curve_of('a', GROWING), curve_of('b', GROWING), 11)


LINES = [
  {'step': 1, 'loss': 3.0, 'seconds': 0.5},
  {'step': 2, 'eval': 0.5, 'seconds': 1.0},
  {'step': 4, 'eval': 0.8, 'seconds': 2.0},
  {'step': 6, 'eval': 0.7, 'seconds': 3.0},
]


@pytest.mark.parametrize(
  ('arguments', 'at', 'text'),
  [
    (dict(metric='eval', target=0.5), 2, '2'),
    (dict(metric='eval', target=0.6), 4, '4'),
    (dict(metric='eval', target=0.8, by='seconds'), 2.0, '2'),
    (dict(metric='eval', target=0.9), None, '> 6'),
    (dict(metric='eval', target=0.7, higher_is_better=False), 2, '2'),
    (dict(metric='loss', target=1.0, higher_is_better=False), None, '> 1'),
  ],
)
def test_reach_gives_the_first_logged_point(arguments, at, text):
  found = reach(LINES[::-1], **arguments)
  assert (found.at, str(found)) == (at, text)


def test_reach_needs_a_line_with_the_metric():
  with pytest.raises(ValueError, match="both 'step' and 'accuracy'"):
    reach(LINES, 'accuracy', 0.5)
