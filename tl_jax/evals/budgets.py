"""What a search of some budget can be expected to find: the curve of Dodge et al. 2019.

>>> values = [0.5, 0.7, 0.6]
>>> [round(value, 4) for value in expected_best(values)]
[0.6, 0.6444, 0.6667]

"Show Your Work: Improved Reporting of Experimental Results" (EMNLP 2019): a search of n
trials, drawn independently as the trials at hand were, keeps the best of them. Reported
is its expected value for every n, not the best of all trials alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Budget(NamedTuple):
  """A point of the curve: the expected best value of `trials` trials.

  low, high: the ends of a bootstrap interval; None where one value has none.
  """

  trials: int
  expected: float
  low: float | None
  high: float | None


def expected_best(
  values: Sequence[float], higher_is_better: bool = True
) -> list[float]:
  """The expected best value of 1, 2, ..., N trials, from the values of N (equation 7).

  The trials of a search are drawn with replacement from those at hand, so that of N
  trials too the expected value is below the best one. Equation 6 is the distribution:
  P(best of n <= v) is the empirical P(value <= v) to the power n.
  """
  array = np.asarray(values, np.float64)
  return _expected(array[None], higher_is_better)[0].tolist()


def _expected(samples: np.ndarray, higher_is_better: bool) -> np.ndarray:
  """(samples, N) values to (samples, N) expected best values of 1 to N trials."""
  sign = 1.0 if higher_is_better else -1.0
  ordered = np.sort(sign * samples, axis=1)
  count = ordered.shape[1]
  trials = np.arange(1, count + 1)[:, None]
  rank = np.arange(1, count + 1)[None]
  # P(best = the value of this rank); ties fall together by themselves.
  weights = (rank / count) ** trials - ((rank - 1) / count) ** trials
  return sign * ordered @ weights.T


def budgets(
  values: Sequence[float],
  higher_is_better: bool = True,
  resamples: int = 1000,
  level: float = 0.95,
  seed: int = 0,
) -> list[Budget]:
  """The curve with percentile bootstrap intervals: the trials at hand drawn anew.

  What lies beyond the best trial no resample knows: no interval reaches above it.
  """
  array = np.asarray(values, np.float64)
  count = len(array)
  if not count:
    return []
  expected = expected_best(array, higher_is_better)
  if count == 1:
    return [Budget(1, expected[0], None, None)]
  # A seed of its own: a report that is written again is the same.
  generator = np.random.default_rng(seed)
  drawn = array[generator.integers(count, size=(resamples, count))]
  curves = _expected(drawn, higher_is_better)
  ends = [(1 - level) / 2, (1 + level) / 2]
  low, high = np.quantile(curves, ends, axis=0)
  found = []
  for index in range(count):
    ends = float(low[index]), float(high[index])
    found.append(Budget(index + 1, expected[index], *ends))
  return found
