"""Correlations and squared error against scipy, their invariances and edges."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tl_jax.metrics import mean_squared_error, pearson, spearman

PAIRS = st.lists(
  st.tuples(st.integers(-20, 20), st.integers(-20, 20)), min_size=3, max_size=30
)


@settings(max_examples=80, deadline=None)
@given(PAIRS)
def test_they_agree_with_scipy(pairs):
  import scipy.stats

  predicted, expected = map(list, zip(*pairs, strict=True))
  assert mean_squared_error(predicted, expected)['mean_squared_error'] == pytest.approx(
    np.mean((np.array(predicted) - expected) ** 2)
  )
  assume(len(set(predicted)) > 1 and len(set(expected)) > 1)
  assert pearson(predicted, expected)['pearson'] == pytest.approx(
    scipy.stats.pearsonr(predicted, expected).statistic, abs=1e-9
  )
  assert spearman(predicted, expected)['spearman'] == pytest.approx(
    scipy.stats.spearmanr(predicted, expected).statistic, abs=1e-9
  )


@settings(max_examples=40, deadline=None)
@given(PAIRS, st.floats(0.01, 100), st.integers(-50, 50))
def test_correlations_ignore_scale_and_shift(pairs, scale, shift):
  predicted, expected = (np.array(side, float) for side in zip(*pairs, strict=True))
  moved = predicted * scale + shift
  assert pearson(moved, expected)['pearson'] == pytest.approx(
    pearson(predicted, expected)['pearson'], abs=1e-7
  )
  assert spearman(np.exp(predicted / 10), expected) == spearman(predicted, expected)
  assert pearson(-predicted, expected)['pearson'] == pytest.approx(
    -pearson(predicted, expected)['pearson'], abs=1e-9
  )


@pytest.mark.parametrize('metric', [pearson, spearman])
@pytest.mark.parametrize(
  ('predicted', 'expected', 'value'),
  [
    ([], [], 0.0),
    ([1.0], [2.0], 0.0),
    ([3.0, 3.0], [1.0, 2.0], 0.0),
    ([1.0, 2.0], [0.1, 0.1], 0.0),
    ([0.1 + 0.2] * 3, [1, 2, 3], 0.0),
    ([1e300, -1e300, 0], [1e300, -1e300, 0], 1.0),
    ([1e-300, 2e-300, 3e-300], [1, 2, 3], 1.0),
    ([[1.0], [2.0], [4.0]], [1.0, 2.0, 4.0], 1.0),
  ],
)
def test_edges_of_correlations(metric, predicted, expected, value):
  (found,) = metric(predicted, expected).values()
  assert found == pytest.approx(value, abs=1e-12)


def test_squared_error_of_nothing_and_of_too_much():
  assert mean_squared_error([], []) == {'mean_squared_error': 0.0}
  assert math.isfinite(mean_squared_error([1e200], [-1e200])['mean_squared_error'])


@pytest.mark.parametrize('metric', [pearson, spearman, mean_squared_error])
@pytest.mark.parametrize(
  ('predicted', 'words'),
  [
    ([1.0], '1 predictions for 2'),
    ([1.0, math.nan], 'not finite at example 1'),
    ([math.inf, 1.0], 'not finite'),
    (['a', 'b'], 'real numbers'),
    ([[1.0, 2.0], [1.0, 2.0]], 'one real number per example'),
  ],
)
def test_bad_input_is_an_error(metric, predicted, words):
  with pytest.raises(ValueError, match=words):
    metric(predicted, [1.0, 2.0])
