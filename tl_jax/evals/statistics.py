"""Statistics of a few repeated runs: means with intervals, and differences paired by
seed.

>>> interval = t_interval([0.80, 0.82, 0.84])
>>> round(interval.low, 3), round(interval.high, 3)
(0.77, 0.87)

An interval that a formula cannot give (one value, or no spread at all) is None at both
ends, never a width of zero: three equal values say nothing about the fourth.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Interval:
  """A mean with its confidence interval.

  mean: None for no values. low, high: None where they are not defined; an end may be
  infinite where the quantity is censored. n: values (or pairs) used. df: degrees of
  freedom of a t interval, else None.
  """

  mean: float | None
  low: float | None = None
  high: float | None = None
  n: int = 0
  df: float | None = None
  level: float = 0.95

  @property
  def half(self) -> float | None:
    """Half the width, for mean ± half; None where there is no interval or an end is
    infinite.
    """
    if self.low is None or self.high is None or math.isinf(self.high - self.low):
      return None
    return (self.high - self.low) / 2

  def as_dict(self) -> dict:
    """The fields for JSON: an infinite number is None, and `censored` says on which
    side.
    """
    fields = dataclasses.asdict(self)
    censored = [
      name
      for name in ('mean', 'low', 'high')
      if fields[name] is not None and math.isinf(fields[name])
    ]
    return {
      **fields,
      **dict.fromkeys(censored),
      **({'censored': censored} if censored else {}),
    }


def mean(values: Sequence[float]) -> float | None:
  """The arithmetic mean; None for no values; ValueError for values that are not finite."""
  values = _checked(values)
  return math.fsum(values) / len(values) if values else None


def deviation(values: Sequence[float]) -> float | None:
  """The sample standard deviation, n - 1 in the denominator; None for fewer than two
  values.
  """
  values = _checked(values)
  if len(values) < 2:
    return None
  centre = mean(values)
  return math.sqrt(
    math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1)
  )


def t_interval(values: Sequence[float], level: float = 0.95) -> Interval:
  """Student's t interval of the mean: mean ± t(n - 1) s / sqrt(n); no ends for n < 2 or
  equal values.
  """
  values, centre, spread = _checked(values), mean(values), deviation(values)
  _check_level(level)
  count = len(values)
  df = float(count - 1) if count > 1 else None
  # Values that differ only by rounding have no spread either.
  if not spread or spread <= 1e-14 * max(map(abs, values)):
    return Interval(centre, None, None, count, df, level)
  from scipy.special import stdtrit

  half = float(stdtrit(df, (1 + level) / 2)) * spread / math.sqrt(count)
  return Interval(centre, centre - half, centre + half, count, df, level)


def paired_t_interval(
  first: Sequence[float], second: Sequence[float], level: float = 0.95
) -> Interval:
  """The t interval of the mean of first - second, pair by pair; ValueError for
  different lengths.
  """
  if len(first) != len(second):
    raise ValueError(
      f'paired_t_interval: {len(first)} values cannot be paired with {len(second)}'
    )
  pairs = zip(_checked(first), _checked(second), strict=True)
  return t_interval(_cleaned([(a - b, max(abs(a), abs(b))) for a, b in pairs]), level)


def paired_difference(first: Mapping, second: Mapping, level: float = 0.95) -> Interval:
  """The paired t interval of first - second over the seeds that both have; `n` says how
  many these are.
  """
  seeds = [seed for seed in first if seed in second]
  return paired_t_interval(
    [first[seed] for seed in seeds], [second[seed] for seed in seeds], level
  )


def bootstrap_interval(
  values: Sequence[float],
  statistic: Callable | None = None,
  *,
  draws: int = 10_000,
  seed: int = 0,
  level: float = 0.95,
) -> Interval:
  """The percentile bootstrap interval of a statistic, by default the mean (Efron 1979);
  a function of the seed.

  statistic: array (n,) -> number. The order of the values does not matter. No ends for
  n < 2 or equal values.
  """
  values = np.sort(np.asarray(_checked(values)))
  _check_level(level)
  if draws < 1:
    raise ValueError(f'bootstrap_interval: draws must be at least 1, not {draws}')
  if not len(values):
    return Interval(None, n=0, level=level)
  centre = float(values.mean() if statistic is None else statistic(values))
  if len(values) < 2 or values[0] == values[-1]:
    return Interval(centre, n=len(values), level=level)
  chosen = values[
    np.random.default_rng(seed).integers(0, len(values), (draws, len(values)))
  ]
  drawn = (
    chosen.mean(axis=1)
    if statistic is None
    else np.array([float(statistic(row)) for row in chosen])
  )
  low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
  return Interval(centre, float(low), float(high), len(values), level=level)


def wilson_interval(successes: int, n: int, level: float = 0.95) -> Interval:
  """The interval of a proportion (Wilson 1927); inside 0..1 always, no ends for n = 0.

  ValueError: successes outside 0..n.
  """
  _check_level(level)
  if not 0 <= successes <= n:
    raise ValueError(f'wilson_interval: {successes} successes of {n}')
  if not n:
    return Interval(None, n=0, level=level)
  from scipy.special import ndtri

  z, share = float(ndtri((1 + level) / 2)), successes / n
  centre = (share + z * z / (2 * n)) / (1 + z * z / n)
  half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
  low = 0.0 if successes == 0 else max(0.0, centre - half)
  high = 1.0 if successes == n else min(1.0, centre + half)
  return Interval(share, low, high, n, level=level)


def expected_best(values: Sequence[float], budget: int) -> float:
  """The expected best of `budget` trials drawn with replacement from these results
  (Dodge et al. 2019, eq. 1).

  ValueError: no values, or a budget below 1.
  """
  values = sorted(_checked(values))
  if not values or budget < 1:
    raise ValueError(
      f'expected_best: {len(values)} values and a budget of {budget}; both must be at least 1'
    )
  count = len(values)
  return math.fsum(
    value * (((rank + 1) / count) ** budget - (rank / count) ** budget)
    for rank, value in enumerate(values)
  )


def _checked(values) -> list[float]:
  values = [float(value) for value in values]
  if not all(map(math.isfinite, values)):
    raise ValueError('statistics of a value that is not finite')
  return values


def _cleaned(pairs: list[tuple[float, float]]) -> list[float]:
  """Differences, all replaced by their mean where they vary only by the rounding of the
  numbers they came from.
  """
  differences = [difference for difference, _ in pairs]
  if pairs and max(differences) - min(differences) <= 4e-16 * max(
    size for _, size in pairs
  ):
    return [mean(differences)] * len(differences)
  return differences


def _check_level(level: float) -> None:
  if not 0 < level < 1:
    raise ValueError(f'the level of an interval must be between 0 and 1, not {level}')
