"""Label-efficiency curves, transfer gain and labels saved, from the rows of finished
runs.

>>> rows = [{'method': 'lora', 'labels': 10, 'seed': 0, 'value': 0.7}]
>>> for labels, value in ((10, 0.5), (100, 0.7), (1000, 0.9)):
...   rows.append({'method': 'scratch', 'labels': labels, 'seed': 0, 'value': value})
>>> lora, scratch = label_curve(rows, 'lora'), label_curve(rows, 'scratch')
>>> labels_saved(lora, scratch, at=10).needed
100.0

A row is a dict with `method`, `labels`, `seed` and `value`, or a `result.json`, whose
`metrics` hold the value by name.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping

import numpy as np

from tl_jax.config import nearest
from tl_jax.evals.statistics import Interval, paired_difference, t_interval


@dataclasses.dataclass(frozen=True)
class Point:
  """All runs of one method with one number of labels.

  interval: their mean with its t interval. values: seed -> value.
  """

  labels: float
  interval: Interval
  values: Mapping


@dataclasses.dataclass(frozen=True)
class LabelCurve:
  """A method's value against the number of labels, in rising order of labels."""

  method: str
  points: tuple[Point, ...]
  higher_is_better: bool = True

  @property
  def labels(self) -> list[float]:
    return [point.labels for point in self.points]

  @property
  def means(self) -> list[float]:
    return [point.interval.mean for point in self.points]

  def at(self, labels: float) -> Point:
    """The point at exactly this number of labels; ValueError where there is none."""
    for point in self.points:
      if point.labels == labels:
        return point
    raise ValueError(
      f'the curve of {self.method!r} has no point at {labels} labels, '
      f'only at {self.labels}'
    )


@dataclasses.dataclass(frozen=True)
class LabelsSaved:
  """How many labels the reference needs for the value that another curve has at `at`
  labels.

  target: that value.
  needed: labels of the reference; None where its curve does not cross the target.
  censored: 'above' where the reference never reaches the target: it needs more than
    `limit` labels. 'below' where it is there with its fewest labels already: it needs
    `limit` or fewer. Else ''.
  limit: the most labels of the reference, or its fewest; `needed` where not censored.
  multiplier: needed / at, with a bootstrap interval over the seeds that all points
    share. Where censored above, its mean is infinite; where censored below, its mean is
    the upper bound `limit / at`. An end of the interval is infinite where enough draws
    never reach the target. It is 0 or `limit / at`, whichever makes the interval wider,
    where enough draws are there from the start.
  """

  at: float
  target: float
  needed: float | None
  censored: str
  limit: float
  multiplier: Interval

  def __str__(self) -> str:
    sign = {'above': '> ', 'below': '≤ ', '': ''}[self.censored]
    labels = self.limit if self.needed is None else self.needed
    return f'{sign}{labels:.0f}'


def label_curve(
  rows: Iterable[Mapping],
  method: str,
  *,
  metric: str | None = None,
  higher_is_better: bool = True,
  level: float = 0.95,
) -> LabelCurve:
  """The curve of one method: mean and t interval over the seeds at every number of
  labels.

  The order of the rows does not matter.

  metric: the name of the value in a row's `metrics`; None where the row has a `value`.
  Raises ValueError where no row is of this method, where one has no number of labels
  above 0, and for two rows of one seed, which an average would count twice.
  """
  values = _values_by_labels(rows, method, metric)
  points = []
  for labels, seeds in sorted(values.items()):
    interval = t_interval(list(seeds.values()), level)
    # Sorted, so that two curves are equal in whatever order their rows came.
    points.append(Point(labels, interval, dict(sorted(seeds.items()))))
  return LabelCurve(method, tuple(points), higher_is_better)


def _values_by_labels(
  rows: Iterable[Mapping], method: str, metric: str | None
) -> dict[float, dict]:
  """labels -> seed -> value of one method."""
  values: dict[float, dict] = {}
  for row in rows:
    if row['method'] != method:
      continue
    labels, seed = row['labels'], row['seed']
    # The axis of a curve is logarithmic.
    if not isinstance(labels, (int, float)) or not 0 < labels < math.inf:
      raise ValueError(
        f'label_curve: a row of {method!r} has {labels!r} labels, not a number above 0'
      )
    seeds = values.setdefault(labels, {})
    if seed in seeds:
      raise ValueError(
        f'label_curve: two rows of {method!r} with {labels} labels and seed {seed}'
      )
    seeds[seed] = _value(row, metric)
  if not values:
    raise ValueError(f'label_curve: no row of the method {method!r}')
  return values


def _value(row: Mapping, metric: str | None) -> float:
  """The value of a row, by name where it has several."""
  if metric is None:
    return float(row['value'])
  metrics = row['metrics']
  if metric not in metrics:
    raise ValueError(
      f'label_curve: no metric {metric!r} in a row; nearest: {nearest(metric, metrics)}'
    )
  return float(metrics[metric])


def transfer_gain(
  pretrained: LabelCurve, scratch: LabelCurve, level: float = 0.95
) -> dict[float, Interval]:
  """Pre-trained minus scratch at every number of labels that both have.

  Each is a paired t interval over the shared seeds. A gain is positive where
  pre-training helps; so for a metric whose lower values are better, it is scratch minus
  pre-trained. A number of labels without a shared seed has n = 0 and no mean.
  """
  gains = {}
  for labels in pretrained.labels:
    if labels not in scratch.labels:
      continue
    ours, theirs = pretrained.at(labels).values, scratch.at(labels).values
    if pretrained.higher_is_better:
      gains[labels] = paired_difference(ours, theirs, level)
    else:
      gains[labels] = paired_difference(theirs, ours, level)
  return gains


def labels_saved(
  curve: LabelCurve,
  reference: LabelCurve,
  at: float,
  *,
  draws: int = 1000,
  seed: int = 0,
  level: float = 0.95,
) -> LabelsSaved:
  """How many labels the reference needs to match the value of `curve` at `at` labels.

  Both curves are made monotone by their best value so far. The reference is interpolated
  linearly in the logarithm of the labels; its first crossing counts, which favours it.
  The interval comes from drawing seeds with replacement, the same seeds for both curves
  where they share them. Raises ValueError where `curve` has no point at `at`.

  draws, seed: of the bootstrap.
  """
  # From here on, higher is better.
  sign = 1.0 if curve.higher_is_better else -1.0
  target = curve.at(at).interval.mean
  values = [sign * value for value in reference.means]
  needed = _first_crossing(reference.labels, values, sign * target)
  if needed == math.inf:
    censored, limit, number = 'above', reference.labels[-1], math.inf
  elif needed == -math.inf:
    censored, limit = 'below', reference.labels[0]
    number = limit / at
  else:
    censored, limit, number = '', needed, needed / at
  # Without draws, the number stands alone.
  crossings, shared = _drawn_crossings(curve, reference, at, sign, draws, seed)
  multiplier = Interval(number, n=shared, level=level)
  if len(crossings):
    low, high = _quantiles(crossings, level, reference.labels[0])
    multiplier = Interval(number, low / at, high / at, shared, level=level)
  return LabelsSaved(
    at, target, None if censored else needed, censored, limit, multiplier
  )


def _first_crossing(labels: list[float], values: list[float], target: float) -> float:
  """Labels at which the running best first equals the target.

  Infinity where it never does; minus infinity where it is above at the first point.
  """
  best = np.maximum.accumulate(values)
  if best[0] >= target:
    return labels[0] if best[0] == target else -math.inf
  above = np.flatnonzero(best >= target)
  if not len(above):
    return math.inf
  right = int(above[0])
  # The logarithm and back would give a point that was measured with an error.
  if best[right] == target:
    return float(labels[right])
  before, after = best[right - 1], best[right]
  share = (target - before) / (after - before)
  low, high = math.log(labels[right - 1]), math.log(labels[right])
  return math.exp(low + share * (high - low))


def _drawn_crossings(
  curve: LabelCurve,
  reference: LabelCurve,
  at: float,
  sign: float,
  draws: int,
  seed: int,
) -> tuple[list[float], int]:
  """(labels at the first crossing in each draw of seeds, how many seeds are shared).

  Fewer than two shared seeds leave nothing to draw from: there are no crossings.
  """
  points = (curve.at(at), *reference.points)
  shared = sorted(set.intersection(*(set(point.values) for point in points)))
  if len(shared) < 2:
    return [], len(shared)
  # (points, seeds); the first row is the value that the reference has to match.
  table = np.array([[point.values[name] for name in shared] for point in points])
  # One choice of seeds for all points, so that what a seed does to both curves cancels.
  count = len(shared)
  chosen = np.random.default_rng(seed).integers(0, count, (draws, count))
  means = (sign * table)[:, chosen].mean(axis=2)
  crossings = []
  for target, *values in means.T:
    crossings.append(_first_crossing(reference.labels, values, target))
  return crossings, len(shared)


def _quantiles(
  crossings: list[float], level: float, fewest: float
) -> tuple[float, float]:
  """The ends of the percentile interval, in labels.

  fewest: the smallest number of labels of the reference.
  """
  # No interpolation between quantiles: it would be NaN between infinite crossings.
  shares = [(1 - level) / 2, (1 + level) / 2]
  low, high = np.quantile(crossings, shares, method='inverted_cdf').tolist()
  # Minus infinity stands for anything from no label to the fewest of the reference.
  return max(low, 0.0), fewest if high == -math.inf else high


@dataclasses.dataclass(frozen=True)
class Reached:
  """Where a training curve first reaches a target.

  at: in steps or seconds; None where the curve ends before. limit: where the curve ends.
  """

  target: float
  at: float | None
  limit: float

  def __str__(self) -> str:
    return f'> {self.limit:g}' if self.at is None else f'{self.at:g}'


def reach(
  rows: Iterable[Mapping],
  metric: str,
  target: float,
  *,
  by: str = 'step',
  higher_is_better: bool = True,
) -> Reached:
  """The first logged point whose `metric` is at least as good as the target.

  Nothing is interpolated.

  rows: the lines of a `metrics.jsonl`, in any order. Lines without the metric are passed
  over.
  by: the name of what is counted, `step` or `seconds`.
  Raises ValueError where no line has both.
  """
  points = []
  for row in rows:
    where, value = row.get(by), row.get(metric)
    if where is not None and value is not None:
      points.append((where, value))
  if not points:
    raise ValueError(
      f'reach: no line of the training curve has both {by!r} and {metric!r}'
    )
  points.sort()
  limit = points[-1][0]
  for where, value in points:
    is_there = value >= target if higher_is_better else value <= target
    if is_there:
      return Reached(target, where, limit)
  return Reached(target, None, limit)
