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

  mean: None where there are no values.
  low, high: the ends; None where they are not defined. An end is infinite where the
  quantity is censored.
  n: how many values or pairs were used.
  df: degrees of freedom of a t interval; None for intervals of another kind.
  """

  mean: float | None
  low: float | None = None
  high: float | None = None
  n: int = 0
  df: float | None = None
  level: float = 0.95

  @property
  def half(self) -> float | None:
    """Half the width, for mean ± half.

    None where there is no interval or an end is infinite.
    """
    if self.low is None or self.high is None:
      return None
    width = self.high - self.low
    return None if math.isinf(width) else width / 2

  def as_dict(self) -> dict:
    """The fields for JSON, which has no infinity.

    An infinite number is None, and `censored` names the fields where that is so.
    """
    fields = dataclasses.asdict(self)
    censored = []
    for name in ('mean', 'low', 'high'):
      if fields[name] is not None and math.isinf(fields[name]):
        censored.append(name)
        fields[name] = None
    if censored:
      fields['censored'] = censored
    return fields


def mean(values: Sequence[float]) -> float | None:
  """The arithmetic mean; None where there are no values.

  Raises ValueError for values that are not finite.
  """
  values = _checked(values)
  # `fsum` rounds once, so the order of the seeds does not show in the last digit.
  return math.fsum(values) / len(values) if values else None


def deviation(values: Sequence[float]) -> float | None:
  """The sample standard deviation, with n - 1 in the denominator.

  None for fewer than two values.
  """
  values = _checked(values)
  if len(values) < 2:
    return None
  centre = mean(values)
  squares = [(value - centre) ** 2 for value in values]
  return math.sqrt(math.fsum(squares) / (len(values) - 1))


def t_interval(values: Sequence[float], level: float = 0.95) -> Interval:
  """Student's t interval of the mean: mean ± t(n - 1) s / sqrt(n).

  It has no ends for fewer than two values or for equal ones.
  """
  values = _checked(values)
  _check_level(level)
  centre = mean(values)
  spread = deviation(values)
  count = len(values)
  df = float(count - 1) if count > 1 else None
  # Values that differ only by rounding have no spread either.
  if not spread or spread <= 1e-14 * max(map(abs, values)):
    return Interval(centre, None, None, count, df, level)
  # Inside, as scipy is slow to import.
  from scipy.special import stdtrit

  quantile = float(stdtrit(df, (1 + level) / 2))
  half = quantile * spread / math.sqrt(count)
  return Interval(centre, centre - half, centre + half, count, df, level)


def paired_t_interval(
  first: Sequence[float], second: Sequence[float], level: float = 0.95
) -> Interval:
  """The t interval of the mean of first - second, pair by pair.

  Raises ValueError for sequences of different lengths.
  """
  if len(first) != len(second):
    raise ValueError(
      f'paired_t_interval: {len(first)} values cannot be paired with {len(second)}'
    )
  pairs = list(zip(_checked(first), _checked(second), strict=True))
  return t_interval(_differences(pairs), level)


def paired_difference(first: Mapping, second: Mapping, level: float = 0.95) -> Interval:
  """The paired t interval of first - second over the seeds that both have.

  first, second: seed -> value. The interval's `n` says how many seeds these are.
  """
  seeds = [seed for seed in first if seed in second]
  ours = [first[seed] for seed in seeds]
  theirs = [second[seed] for seed in seeds]
  return paired_t_interval(ours, theirs, level)


def seeds_and_examples(
  values: Sequence[float], of_examples: float, n: int, level: float = 0.95
) -> Interval:
  """The interval of a mean over runs, for other seeds and other examples.

  Its variance is s^2 / S + v: s^2 that of the S values, all on the same n examples, and
  v the variance that other examples give their mean. It is a t interval whose degrees
  of freedom are Satterthwaite's (1946). What a seed changes on some examples alone is in
  both terms, so that the interval is rather too wide than too narrow.

  of_examples: v. It has no ends for fewer than two values.
  """
  return _of_sources(mean(values), [values], of_examples, n, level)


def difference_of_seeds(
  first: Sequence[float],
  second: Sequence[float],
  of_examples: float,
  n: int,
  level: float = 0.95,
) -> Interval:
  """The interval of mean(first) - mean(second), for other seeds and other examples.

  Welch's (1947), with the variance v that other examples give the difference:
  s1^2 / S1 + s2^2 / S2 + v. It has no ends where a side has fewer than two values.
  """
  gap = mean(first) - mean(second)
  return _of_sources(gap, [first, second], of_examples, n, level)


def _of_sources(
  centre: float, sides: Sequence[Sequence[float]], of_examples: float, n: int, level
) -> Interval:
  """A t interval whose variance is that of the means of several sides and `of_examples`."""
  _check_level(level)
  count = min(map(len, sides))
  # A single run does not say what another seed would give.
  if count < 2:
    return Interval(centre, n=count, level=level)
  parts = [(deviation(side) ** 2 / len(side), len(side) - 1) for side in sides]
  parts.append((of_examples, max(1, n - 1)))
  variance = math.fsum(part for part, _ in parts)
  # Without any spread there is no telling.
  if variance <= 0:
    return Interval(centre, n=count, level=level)
  df = variance**2 / math.fsum(part**2 / free for part, free in parts)
  # Inside, as scipy is slow to import.
  from scipy.special import stdtrit

  half = float(stdtrit(df, (1 + level) / 2)) * math.sqrt(variance)
  return Interval(centre, centre - half, centre + half, count, df, level)


def p_value(interval: Interval) -> float:
  """The two-sided p-value of a mean of 0, of a t interval; 1.0 where it has no ends."""
  if not interval.half or interval.df is None:
    return 1.0
  # Inside, as scipy is slow to import.
  from scipy.special import stdtr, stdtrit

  error = interval.half / float(stdtrit(interval.df, (1 + interval.level) / 2))
  return float(2 * stdtr(interval.df, -abs(interval.mean) / error))


def bootstrap_interval(
  values: Sequence[float],
  statistic: Callable | None = None,
  *,
  draws: int = 10_000,
  seed: int = 0,
  level: float = 0.95,
) -> Interval:
  """The percentile bootstrap interval of a statistic (Efron 1979).

  The order of the values does not matter. The draws are a function of the seed. There
  are no ends for fewer than two values or for equal ones.

  statistic: a function of an array (n,) that gives a number; by default the mean.
  Raises ValueError for less than one draw.
  """
  # Sorted, so that the same draws choose the same values in whatever order these come.
  values = np.sort(np.asarray(_checked(values)))
  _check_level(level)
  if draws < 1:
    raise ValueError(f'bootstrap_interval: draws must be at least 1, not {draws}')
  if not len(values):
    return Interval(None, n=0, level=level)
  centre = float(values.mean() if statistic is None else statistic(values))
  # Every draw would be the same, which is no certainty.
  if len(values) < 2 or values[0] == values[-1]:
    return Interval(centre, n=len(values), level=level)
  generator = np.random.default_rng(seed)
  samples = values[generator.integers(0, len(values), (draws, len(values)))]
  if statistic is None:
    drawn = samples.mean(axis=1)
  else:
    drawn = np.array([float(statistic(sample)) for sample in samples])
  shares = [(1 - level) / 2, (1 + level) / 2]
  low, high = np.quantile(drawn, shares)
  return Interval(centre, float(low), float(high), len(values), level=level)


def wilson_interval(successes: int, n: int, level: float = 0.95) -> Interval:
  """The interval of a proportion (Wilson 1927).

  It always lies inside 0..1, and has no ends for n = 0. Raises ValueError for successes
  outside 0..n.
  """
  _check_level(level)
  if not 0 <= successes <= n:
    raise ValueError(f'wilson_interval: {successes} successes of {n}')
  if not n:
    return Interval(None, n=0, level=level)
  # Inside, as scipy is slow to import.
  from scipy.special import ndtri

  z = float(ndtri((1 + level) / 2))
  share = successes / n
  scale = 1 + z * z / n
  centre = (share + z * z / (2 * n)) / scale
  variance = share * (1 - share) / n + z * z / (4 * n * n)
  half = z / scale * math.sqrt(variance)
  # Rounding must not leave a little beyond the ends that are exact.
  low = 0.0 if successes == 0 else max(0.0, centre - half)
  high = 1.0 if successes == n else min(1.0, centre + half)
  return Interval(share, low, high, n, level=level)


def expected_best(values: Sequence[float], budget: int) -> float:
  """The expected best of `budget` trials (Dodge et al. 2019, eq. 1).

  The trials are drawn with replacement from these results; higher is better. Raises
  ValueError where there are no values or the budget is below 1.
  """
  values = sorted(_checked(values))
  if not values or budget < 1:
    raise ValueError(
      f'expected_best: {len(values)} values and a budget of {budget}; '
      'both must be at least 1'
    )
  count = len(values)
  terms = []
  for rank, value in enumerate(values):
    # The best is this value where all trials are at most it, and not all are below.
    at_most = ((rank + 1) / count) ** budget
    below = (rank / count) ** budget
    terms.append(value * (at_most - below))
  return math.fsum(terms)


def _checked(values) -> list[float]:
  """The values as floats. Raises ValueError where one is not finite."""
  values = [float(value) for value in values]
  if not all(map(math.isfinite, values)):
    raise ValueError('statistics of a value that is not finite')
  return values


def _differences(pairs: list[tuple[float, float]]) -> list[float]:
  """The differences of pairs.

  Where they vary only by the rounding of the numbers that they come from, their mean
  stands for all of them. An interval of that rounding would look like certainty.
  """
  differences = [first - second for first, second in pairs]
  if not pairs:
    return differences
  size = max(abs(value) for pair in pairs for value in pair)
  # About twice the spacing of float64 near the largest of the numbers.
  if max(differences) - min(differences) <= 4e-16 * size:
    return [mean(differences)] * len(differences)
  return differences


def _check_level(level: float) -> None:
  if not 0 < level < 1:
    raise ValueError(f'the level of an interval must be between 0 and 1, not {level}')
