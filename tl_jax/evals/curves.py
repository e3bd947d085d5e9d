"""Label-efficiency curves, transfer gain and labels saved, from the rows of finished
runs.

>>> rows = [{'method': 'scratch', 'labels': n, 'seed': 0, 'value': v} for n, v in ((10, 0.5), (100, 0.7), (1000, 0.9))]
>>> pretrained = label_curve([{'method': 'lora', 'labels': 10, 'seed': 0, 'value': 0.7}], 'lora')
>>> labels_saved(pretrained, label_curve(rows, 'scratch'), at=10).needed
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
  """All runs of one method with one number of labels: the mean with its interval, and
  the value of every seed.
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
      f'the curve of {self.method!r} has no point at {labels} labels, only at {self.labels}'
    )


@dataclasses.dataclass(frozen=True)
class LabelsSaved:
  """How many labels the reference needs for the value that another curve has at `at`
  labels.

  needed: labels of the reference; None where its curve does not cross that value.
  censored: 'above' when the reference never reaches the value (it needs more than
  `limit`), 'below' when it is there with its fewest labels already (it needs `limit` or
  fewer), '' otherwise. multiplier: needed / at with a bootstrap interval over the seeds
  that all points share; where censored its mean is infinite (above) or the upper bound
  `limit / at` (below), and an end of the interval is infinite (above) or as wide as can
  be, from 0 to `limit / at` (below).
  """

  at: float
  target: float
  needed: float | None
  censored: str
  limit: float
  multiplier: Interval

  def __str__(self) -> str:
    sign = {'above': '> ', 'below': '≤ ', '': ''}[self.censored]
    return f'{sign}{self.limit if self.needed is None else self.needed:.0f}'


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

  The order of the rows does not matter. ValueError: no row of this method, a row
  without a number of labels above 0, or two rows of one seed (an average would count it
  twice).
  """
  values: dict[float, dict] = {}
  for row in rows:
    if row['method'] != method:
      continue
    labels = row['labels']
    if not isinstance(labels, (int, float)) or not 0 < labels < math.inf:
      raise ValueError(
        f'label_curve: a row of {method!r} has {labels!r} labels, not a number above 0'
      )
    seeds = values.setdefault(labels, {})
    if row['seed'] in seeds:
      raise ValueError(
        f'label_curve: two rows of {method!r} with {labels} labels and seed {row["seed"]}'
      )
    seeds[row['seed']] = _value(row, metric)
  if not values:
    raise ValueError(f'label_curve: no row of the method {method!r}')
  points = tuple(
    Point(labels, t_interval(list(seeds.values()), level), dict(sorted(seeds.items())))
    for labels, seeds in sorted(values.items())
  )
  return LabelCurve(method, points, higher_is_better)


def transfer_gain(
  pretrained: LabelCurve, scratch: LabelCurve, level: float = 0.95
) -> dict[float, Interval]:
  """Pre-trained minus scratch at every number of labels that both have: paired t
  intervals over the shared seeds.

  A gain is positive where pre-training helps, so for a metric whose lower values are
  better it is scratch minus pre-trained. A number of labels without a shared seed has n
  = 0 and no mean.
  """
  better, worse = (
    (pretrained, scratch) if pretrained.higher_is_better else (scratch, pretrained)
  )
  return {
    labels: paired_difference(better.at(labels).values, worse.at(labels).values, level)
    for labels in pretrained.labels
    if labels in scratch.labels
  }


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

  Both curves are made monotone by their best value so far, and the reference is
  interpolated linearly in the logarithm of the labels; the first crossing counts, which
  favours the reference. The interval comes from drawing seeds with replacement, the
  same seeds for both curves where they share them. ValueError where `curve` has no
  point at `at`.
  """
  sign = 1.0 if curve.higher_is_better else -1.0
  target = curve.at(at).interval.mean
  needed = _first_crossing(
    reference.labels, [sign * value for value in reference.means], sign * target
  )
  low_end, high_end = reference.labels[0], reference.labels[-1]
  censored = 'above' if needed == math.inf else 'below' if needed == -math.inf else ''
  limit = (
    high_end if censored == 'above' else low_end if censored == 'below' else needed
  )
  number = math.inf if censored == 'above' else limit / at
  interval = _multiplier(curve, reference, at, number, sign, draws, seed, level)
  return LabelsSaved(
    at, target, None if censored else needed, censored, limit, interval
  )


@dataclasses.dataclass(frozen=True)
class Reached:
  """Where a training curve first reaches a target: `at` steps (or seconds), or None
  when it ends at `limit` before.
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
  """The first logged point whose `metric` is at least as good as the target, in units
  of `by` (step or seconds).

  rows: the lines of a `metrics.jsonl`, in any order; lines without the metric are
  passed over. Nothing is interpolated. ValueError where no line has both.
  """
  points = sorted(
    (row[by], row[metric])
    for row in rows
    if row.get(by) is not None and row.get(metric) is not None
  )
  if not points:
    raise ValueError(
      f'reach: no line of the training curve has both {by!r} and {metric!r}'
    )
  for where, value in points:
    if (value >= target) if higher_is_better else (value <= target):
      return Reached(target, where, points[-1][0])
  return Reached(target, None, points[-1][0])


def _value(row: Mapping, metric: str | None) -> float:
  if metric is None:
    return float(row['value'])
  if metric not in row['metrics']:
    raise ValueError(
      f'label_curve: no metric {metric!r} in a row; nearest: {nearest(metric, row["metrics"])}'
    )
  return float(row['metrics'][metric])


def _first_crossing(labels: list[float], values: list[float], target: float) -> float:
  """Labels at which the running best first equals the target; inf: never, -inf: it is
  above at the first point.
  """
  best = np.maximum.accumulate(values)
  if best[0] >= target:
    return labels[0] if best[0] == target else -math.inf
  above = np.flatnonzero(best >= target)
  if not len(above):
    return math.inf
  right = int(above[0])
  if best[right] == target:
    return float(labels[right])
  share = (target - best[right - 1]) / (best[right] - best[right - 1])
  low, high = math.log(labels[right - 1]), math.log(labels[right])
  return math.exp(low + share * (high - low))


def _multiplier(
  curve: LabelCurve,
  reference: LabelCurve,
  at: float,
  number: float,
  sign: float,
  draws: int,
  seed: int,
  level: float,
) -> Interval:
  """needed / at with its percentile bootstrap over the shared seeds; no ends for fewer
  than two of these.
  """
  points = (curve.at(at), *reference.points)
  shared = sorted(set.intersection(*(set(point.values) for point in points)))
  if len(shared) < 2:
    return Interval(number, n=len(shared), level=level)
  table = sign * np.array([[point.values[name] for name in shared] for point in points])
  chosen = np.random.default_rng(seed).integers(0, len(shared), (draws, len(shared)))
  means = table[:, chosen].mean(axis=2)
  crossings = [
    _first_crossing(reference.labels, list(column[1:]), column[0]) for column in means.T
  ]
  low, high = (
    float(np.quantile(crossings, share, method='inverted_cdf'))
    for share in ((1 - level) / 2, (1 + level) / 2)
  )
  # Minus infinity stands for anything from no label to the smallest count of the
  # reference.
  low, high = max(low, 0.0), reference.labels[0] if high == -math.inf else high
  return Interval(number, low / at, high / at, len(shared), level=level)
