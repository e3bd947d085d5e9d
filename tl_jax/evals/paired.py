"""Two sets of predictions for the same examples: how far their scores lie apart, and
whether that may be chance.

>>> from tl_jax.evals.additive import additive_of
>>> from tl_jax.metrics import METRICS
>>> truth = [0, 1] * 50
>>> poor = [0] * 20 + truth[20:]
>>> names = ['accuracy']
>>> sums = additive_of('accuracy', [truth, poor], truth)
>>> [found] = compare(METRICS['accuracy'], names, truth, poor, truth, additive=sums)
>>> round(found.difference.mean, 3), found.only_first, found.only_second
(0.1, 10, 0)
>>> found.is_different(), round(found.mcnemar, 4)
(True, 0.002)

Both sets are judged on every draw, so that what makes an example hard for both counts
for neither.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from tl_jax.evals.additive import Additive, Metric
from tl_jax.evals.statistics import Interval

# A difference is called one where chance would give such a one more rarely than this.
ALPHA = 0.05
SAMPLES = 1000
# The values whose single examples are right, 1, or wrong, 0.
RIGHT_OR_WRONG = ('accuracy', 'exact_match')
# Differences of sums of floats that are equal up to rounding.
_ROUNDING = 1e-12


@dataclasses.dataclass(frozen=True)
class Comparison:
  """One value of a metric for two sets of predictions.

  first, second: the value of each, with its bootstrap interval over examples.
  difference: first - second, with its paired bootstrap interval.
  p_value: that of the paired permutation test.
  differ: how many examples have other scores in the two sets. Of a metric that is no
    mean over examples, it is how many have other predictions.
  only_first, only_second: how many examples are right in one set alone; None for scores
    that are not right or wrong.
  mcnemar: the p-value of McNemar's exact test of these; None where there are none.
  """

  metric: str
  first: Interval
  second: Interval
  difference: Interval
  p_value: float
  differ: int
  only_first: int | None = None
  only_second: int | None = None
  mcnemar: float | None = None

  def is_different(self, alpha: float = ALPHA) -> bool:
    """Does the permutation test say that there is a difference?"""
    return self.p_value < alpha

  def as_dict(self) -> dict:
    """The fields for JSON, and the verdict."""
    fields = dataclasses.asdict(self)
    for name in ('first', 'second', 'difference'):
      fields[name] = getattr(self, name).as_dict()
    return dict(fields, different=self.is_different())


def compare(
  metric: Metric,
  names: Sequence[str],
  first: Sequence,
  second: Sequence,
  references: Sequence,
  *,
  samples: int = SAMPLES,
  seed: int = 0,
  additive: Additive | None = None,
) -> list[Comparison]:
  """Compares two sets of predictions (n,) by values of a metric.

  The bootstrap draws n examples with replacement, the same ones for both sets (Efron
  1979), and takes percentiles. The permutation test, also called approximate
  randomisation (Noreen 1989), exchanges the two predictions of an example or leaves
  them, at random, and counts how often the difference gets as large as it is.

  metric: gives a dict with a value for each of `names`. It is computed for every draw,
    unless `additive` says how it comes from sums. Then each is one of its names.
  samples: how many draws the intervals and the test have.
  Raises ValueError for sets of different lengths, no examples or no samples.
  """
  count = len(references)
  _require_pairs(len(first), len(second), count, samples)
  rows = None
  columns = []
  if additive is None:
    score = _scores_anew(metric, names, [*first, *second], list(references))
  else:
    columns = [additive.names.index(name) for name in names]
    parts = [additive.rows(each, references) for each in (first, second)]
    rows = np.concatenate(parts)
    score = _scores_of_sums(additive, rows, columns)
  is_other = np.array([one != two for one, two in zip(first, second, strict=True)])
  here = np.arange(count)
  draws = _Draws(
    np.stack([score(here), score(here + count)]),
    _bootstrap(score, count, samples, seed),
    _swaps(score, is_other, samples, seed),
  )
  found = []
  for column, name in enumerate(names):
    own = None
    if additive is not None and additive.are_scores:
      own = rows[:, columns[column]].reshape(2, count)
    found.append(_summary(name, draws.of(column), own, is_other))
  return found


def _require_pairs(first: int, second: int, count: int, samples: int) -> None:
  """Raises ValueError for so many predictions of each set that they are no pairs."""
  if not count or first != count or second != count:
    raise ValueError(
      f'compare: {first} and {second} predictions for {count} references; both must '
      'have one for each'
    )
  if samples < 1:
    raise ValueError(f'compare: samples must be at least 1, not {samples}')


class _Draws(NamedTuple):
  """Values of both sets, (2, names); on resampled examples, (samples, 2, names); and
  differences after exchanges, (samples, names), None where no prediction differs.
  """

  observed: np.ndarray
  resampled: np.ndarray
  exchanged: np.ndarray | None

  def of(self, column: int) -> '_Draws':
    """Those of a single value."""
    exchanged = None if self.exchanged is None else self.exchanged[:, column]
    return _Draws(self.observed[:, column], self.resampled[..., column], exchanged)


def _scores_anew(metric: Metric, names, pool: list, truth: list) -> Callable:
  """places in the pool (2n,) of both sets -> the values of the metric there."""

  def score(places: np.ndarray) -> np.ndarray:
    chosen = [pool[place] for place in places.tolist()]
    expected = [truth[place] for place in (places % len(truth)).tolist()]
    values = metric(chosen, expected)
    return np.array([values[name] for name in names])

  return score


def _scores_of_sums(additive: Additive, rows: np.ndarray, columns: list) -> Callable:
  """places among the rows (2n, numbers) of both sets -> the values of columns there."""

  def score(places: np.ndarray) -> np.ndarray:
    values = additive.values(rows[places].sum(axis=0), len(places))
    return values[columns]

  return score


def mcnemar(only_first: int, only_second: int) -> float:
  """The p-value of McNemar's test (1947), exact by the binomial distribution.

  only_first, only_second: how many examples one set has right and the other wrong. If
  the sets are equally good, each of these falls to either with the same chance.
  """
  # Inside, as scipy is slow to import.
  from scipy.special import bdtr

  total = only_first + only_second
  if not total:
    return 1.0
  tail = float(bdtr(min(only_first, only_second), total, 0.5))
  return min(1.0, 2 * tail)


def _bootstrap(score: Callable, count: int, samples: int, seed: int) -> np.ndarray:
  """Values of both sets on resampled examples, (samples, 2, names)."""
  generator = np.random.default_rng([seed, 0])
  found = []
  for _ in range(samples):
    # The same examples for both, which is what pairs them.
    places = generator.integers(0, count, count)
    found.append([score(places), score(places + count)])
  return np.array(found)


def _swaps(
  score: Callable, is_other: np.ndarray, samples: int, seed: int
) -> np.ndarray | None:
  """Differences (samples, names) after predictions were exchanged at random."""
  # Without another prediction every exchange gives the same.
  if not is_other.any():
    return None
  generator = np.random.default_rng([seed, 1])
  count = len(is_other)
  here = np.arange(count)
  found = []
  for _ in range(samples):
    offset = count * generator.integers(0, 2, count)
    found.append(score(here + offset) - score(here + count - offset))
  return np.array(found)


def _summary(name: str, draws: _Draws, single, is_other: np.ndarray) -> Comparison:
  """The comparison by one value, whose draws these are.

  single: the scores (2, n) of single examples, or None if it is not their mean.
  """
  count = len(is_other)
  one, two = draws.resampled.T
  first = _interval(draws.observed[0], one, count)
  second = _interval(draws.observed[1], two, count)
  gap = draws.observed[0] - draws.observed[1]
  difference = _interval(gap, one - two, count)
  p_value = 1.0
  if draws.exchanged is not None:
    p_value = _p_value(gap, draws.exchanged)
  if single is None:
    return Comparison(name, first, second, difference, p_value, int(is_other.sum()))
  differ = int((single[0] != single[1]).sum())
  if name not in RIGHT_OR_WRONG:
    return Comparison(name, first, second, difference, p_value, differ)
  only_first = int((single[0] > single[1]).sum())
  only_second = int((single[1] > single[0]).sum())
  exact = mcnemar(only_first, only_second)
  counts = (only_first, only_second, exact)
  return Comparison(name, first, second, difference, p_value, differ, *counts)


def _interval(centre: float, drawn: np.ndarray, count: int) -> Interval:
  """The percentile interval of draws; without ends where all are the same."""
  low, high = np.quantile(drawn, [0.025, 0.975])
  spread = float(drawn.max() - drawn.min())
  # Draws that are all alike are no certainty.
  if math.isclose(spread, 0.0, abs_tol=_ROUNDING):
    return Interval(float(centre), n=count)
  return Interval(float(centre), float(low), float(high), count)


def _p_value(gap: float, exchanged: np.ndarray) -> float:
  """How often exchanges give a difference as large as this one.

  What was observed is one of the possible exchanges, so that it is never 0.
  """
  as_large = np.abs(exchanged) >= abs(gap) - _ROUNDING * max(1.0, abs(gap))
  return float((1 + as_large.sum()) / (1 + len(exchanged)))
