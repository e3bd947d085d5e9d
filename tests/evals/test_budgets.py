"""The expected best of a search, against what drawing by hand gives."""

import itertools

import numpy as np
import pytest

from tl_jax.evals.budgets import budgets, expected_best


@pytest.mark.parametrize('higher', [True, False])
def test_the_formula_is_the_mean_over_all_draws(higher):
  values = [0.3, 0.9, 0.9, 0.5]
  found = expected_best(values, higher)
  for trials in range(1, 5):
    draws = itertools.product(values, repeat=trials)
    best = [max(draw) if higher else min(draw) for draw in draws]
    assert found[trials - 1] == pytest.approx(np.mean(best))


def test_the_curve_rises_and_its_interval_holds_it():
  values = np.random.default_rng(0).uniform(size=30)
  curve = budgets(values)
  expected = [point.expected for point in curve]
  assert expected == sorted(expected) and expected[-1] < values.max()
  assert [point.trials for point in curve] == list(range(1, 31))
  for point in curve:
    assert point.low < point.expected < point.high + 1e-9
  # What is better when lower is the same mirrored.
  mirrored = budgets(1 - values, higher_is_better=False)
  assert mirrored[9].expected == pytest.approx(1 - expected[9])


def test_one_value_has_no_interval_and_none_no_curve():
  assert budgets([0.5]) == [(1, 0.5, None, None)]
  assert budgets([]) == []
