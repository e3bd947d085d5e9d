"""Intervals: equal to scipy's, invariant under order, and covering as often as they
say.
"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.evals import statistics
from tl_jax.evals.statistics import (
  Interval,
  bootstrap_interval,
  deviation,
  expected_best,
  mean,
  paired_difference,
  paired_t_interval,
  t_interval,
  wilson_interval,
)

VALUES = st.lists(st.integers(-1000, 1000), min_size=2, max_size=12).filter(
  lambda values: len(set(values)) > 1
)


@settings(max_examples=60, deadline=None)
@given(VALUES, st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_the_t_interval_is_that_of_scipy(values, level):
  import scipy.stats

  found = t_interval(values, level)
  low, high = scipy.stats.t.interval(
    level, len(values) - 1, np.mean(values), scipy.stats.sem(values)
  )
  assert (found.low, found.high) == pytest.approx((low, high), rel=1e-7, abs=1e-7)
  assert (found.n, found.df, found.mean) == (
    len(values),
    len(values) - 1,
    pytest.approx(np.mean(values)),
  )
  assert deviation(values) == pytest.approx(np.std(values, ddof=1))


@settings(max_examples=60, deadline=None)
@given(
  st.lists(
    st.tuples(st.integers(-99, 99), st.integers(-99, 99)), min_size=2, max_size=12
  ).filter(lambda pairs: len({a - b for a, b in pairs}) > 1)
)
def test_the_paired_interval_is_that_of_scipy_and_changes_sign_with_the_order(pairs):
  import scipy.stats

  first, second = map(list, zip(*pairs, strict=True))
  found, back = paired_t_interval(first, second), paired_t_interval(second, first)
  expected = scipy.stats.ttest_rel(first, second).confidence_interval(0.95)
  assert (found.low, found.high) == pytest.approx(
    (expected.low, expected.high), rel=1e-7, abs=1e-7
  )
  assert (back.low, back.high) == pytest.approx((-found.high, -found.low))


@settings(max_examples=40, deadline=None)
@given(VALUES, st.randoms())
def test_the_order_of_values_does_not_matter(values, random):
  shuffled = list(values)
  random.shuffle(shuffled)
  assert t_interval(values) == t_interval(shuffled)
  assert bootstrap_interval(values, draws=50) == bootstrap_interval(shuffled, draws=50)
  assert expected_best(values, 3) == expected_best(shuffled, 3)


def test_the_t_interval_covers_as_often_as_it_says():
  samples = np.random.default_rng(0).normal(3.0, 2.0, (1500, 5))
  hits = [found.low <= 3.0 <= found.high for found in map(t_interval, samples)]
  assert 0.935 <= np.mean(hits) <= 0.965


def test_the_bootstrap_interval_covers_nearly_as_often_as_it_says():
  samples = np.random.default_rng(1).exponential(1.0, (300, 60))
  found = [bootstrap_interval(sample, draws=400) for sample in samples]
  assert (
    0.89
    <= np.mean([interval.low <= 1.0 <= interval.high for interval in found])
    <= 0.98
  )


@pytest.mark.parametrize('share', [0.05, 0.5, 0.9])
def test_the_wilson_interval_covers_as_often_as_it_says(share):
  found = [
    wilson_interval(int(hits), 60)
    for hits in np.random.default_rng(2).binomial(60, share, 2000)
  ]
  assert (
    np.mean([interval.low <= share <= interval.high for interval in found]) >= 0.925
  )


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_wilson_interval_is_that_of_scipy(pair):
  import scipy.stats

  found = wilson_interval(*pair)
  expected = scipy.stats.binomtest(*pair).proportion_ci(0.95, method='wilson')
  assert (found.low, found.high) == pytest.approx(
    (expected.low, expected.high), abs=1e-9
  )
  assert 0.0 <= found.low <= found.mean <= found.high <= 1.0


@settings(max_examples=40, deadline=None)
@given(VALUES)
def test_the_expected_best_rises_from_the_mean_to_the_maximum(values):
  path = [expected_best(values, budget) for budget in (1, 2, 5, 500)]
  assert path[0] == pytest.approx(mean(values))
  assert path == sorted(path)
  assert path[-1] == pytest.approx(max(values), rel=1e-6, abs=1e-6)


def test_the_bootstrap_is_a_function_of_its_seed_and_takes_any_statistic():
  values = [1.0, 2.0, 5.0, 9.0]
  assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
  assert bootstrap_interval(values, seed=1, draws=99) != bootstrap_interval(
    values, seed=2, draws=99
  )
  found = bootstrap_interval(values, np.median, draws=200)
  assert found.mean == 3.5
  assert 1.0 <= found.low <= 3.5 <= found.high <= 9.0


def test_differences_pair_by_seed_and_say_how_many_pairs():
  found = paired_difference({0: 1.0, 1: 3.0, 2: 5.0}, {2: 4.0, 1: 1.0, 7: 0.0})
  assert (found.mean, found.n, found.df) == (1.5, 2, 1.0)
  assert paired_difference({0: 1.0}, {1: 1.0}) == Interval(None)


@pytest.mark.parametrize(
  ('found', 'expected_mean', 'n'),
  [
    (t_interval([]), None, 0),
    (t_interval([4.0]), 4.0, 1),
    (t_interval([0.1] * 3), 0.1, 3),
    (t_interval([0.1 + 0.2, 0.3]), 0.3, 2),
    (paired_t_interval([], []), None, 0),
    (paired_t_interval([2.0], [1.0]), 1.0, 1),
    (paired_t_interval([1.1, 2.1, 7.1], [1.0, 2.0, 7.0]), 0.1, 3),
    (bootstrap_interval([]), None, 0),
    (bootstrap_interval([2.0]), 2.0, 1),
    (bootstrap_interval([2.0] * 3), 2.0, 3),
    (wilson_interval(0, 0), None, 0),
  ],
)
def test_an_interval_that_is_not_defined_has_no_ends(found, expected_mean, n):
  assert (found.low, found.high, found.half, found.n) == (None, None, None, n)
  assert found.mean == (None if expected_mean is None else pytest.approx(expected_mean))


@pytest.mark.parametrize(
  'call',
  [
    lambda: t_interval([1.0, math.nan]),
    lambda: t_interval([1.0, 2.0], 1.0),
    lambda: paired_t_interval([1.0], []),
    lambda: wilson_interval(3, 2),
    lambda: wilson_interval(-1, 2),
    lambda: expected_best([], 1),
    lambda: expected_best([1.0], 0),
    lambda: bootstrap_interval([1.0, 2.0], draws=0),
  ],
)
def test_bad_input_is_an_error(call):
  with pytest.raises(ValueError):
    call()


def test_json_has_no_infinity():
  found = Interval(math.inf, 2.0, math.inf, 3).as_dict()
  assert (found['mean'], found['low'], found['high'], found['censored']) == (
    None,
    2.0,
    None,
    ['mean', 'high'],
  )
  assert Interval(1.0, 2.0, math.inf).half is None
  assert 'censored' not in Interval(1.0).as_dict()


def test_an_interval_of_seeds_and_examples_has_both_sources():
  values = [0.8, 0.82, 0.84]
  alone = statistics.t_interval(values)
  # Without a variance over examples it is Student's.
  found = statistics.seeds_and_examples(values, 0.0, 100)
  assert (found.low, found.high) == pytest.approx((alone.low, alone.high))
  wider = statistics.seeds_and_examples(values, 0.02**2, 100)
  assert wider.df > alone.df and wider.low < found.mean - 1.96 * 0.02
  # Of examples alone, of which there are many, it is the normal one.
  many = statistics.seeds_and_examples([0.8, 0.8 + 1e-9], 0.01**2, 10**6)
  assert many.half == pytest.approx(1.96 * 0.01, rel=1e-3)
  assert statistics.seeds_and_examples([0.8], 0.01, 100).low is None


def test_a_difference_over_seeds_is_that_of_welch():
  from scipy import stats

  first, second = [0.8, 0.85, 0.83, 0.9], [0.7, 0.79, 0.81]
  found = statistics.difference_of_seeds(first, second, 0.0, 1000)
  expected = stats.ttest_ind(first, second, equal_var=False)
  ends = expected.confidence_interval()
  assert (found.low, found.high) == pytest.approx((ends.low, ends.high))
  assert statistics.p_value(found) == pytest.approx(expected.pvalue)
  assert statistics.p_value(statistics.Interval(0.1)) == 1.0
