"""Several runs of two sides on the same examples: does the difference hold for other
seeds, and other examples?

>>> import json, pathlib, tempfile
>>> folder = pathlib.Path(tempfile.mkdtemp())
>>> for name, right in (('a1', 9), ('a2', 8), ('b1', 4), ('b2', 5)):
...   answers = ['good'] * right + ['bad'] * (10 - right)
...   lines = [json.dumps(dict(text='', target='good', prediction=a)) for a in answers]
...   _ = (folder / name).write_text('\\n'.join(lines))
>>> sides = [[folder / 'a1', folder / 'a2'], [folder / 'b1', folder / 'b2']]
>>> [found] = compare(*sides, 'accuracy').comparisons
>>> found.first.n, round(found.difference.mean, 3)
(2, 0.4)

A test over examples knows two models. Whether one way to train is better than another
is a question about all seeds, of which a run is one.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from tl_jax.config import ConfigError
from tl_jax.evals import comparing, intervals, statistics
from tl_jax.evals.paired import ALPHA
from tl_jax.evals.statistics import Interval

# run -> the value of a metric, and its values on draws of examples (draws,).
Drawn = tuple[float, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Comparison:
  """One value for two sides of several runs each.

  first, second: the mean over the runs of a side. difference: first - second. All
  intervals are of `statistics.seeds_and_examples`. p_value: that of no difference.
  by_seed, by_example: the variances of the difference that seeds and examples give.
  """

  metric: str
  first: Interval
  second: Interval
  difference: Interval
  p_value: float
  by_seed: float
  by_example: float

  def is_different(self, alpha: float = ALPHA) -> bool:
    """Would other seeds and other examples show a difference as well?"""
    return self.p_value < alpha

  def as_dict(self) -> dict:
    """The fields for JSON, and the verdict."""
    fields = dataclasses.asdict(self)
    for name in ('first', 'second', 'difference'):
      fields[name] = getattr(self, name).as_dict()
    return dict(fields, different=self.is_different())


@dataclasses.dataclass(frozen=True)
class Report:
  """Everything that a comparison of several runs found.

  first, second: the files of each side. n: how many examples all were judged on.
  comparisons: by each value, that of the headline first.
  """

  first: tuple[str, ...]
  second: tuple[str, ...]
  n: int
  comparisons: tuple[Comparison, ...]
  samples: int
  seed: int

  @property
  def sentence(self) -> str:
    """Whether there is a difference by the headline, in a sentence."""
    found = self.comparisons[0]
    gap = found.difference
    spread = ''
    if gap.low is not None:
      spread = f' (95 % interval {gap.low:.3f} to {gap.high:.3f})'
    chance = f'p = {found.p_value:.2g}'
    runs = f'over {len(self.first)} and {len(self.second)} runs'
    if not found.is_different():
      return (
        f'{found.metric}: no difference at 5 % between A and B {runs}: '
        f'{gap.mean:.3f}{spread}, {chance}'
      )
    side = 'higher' if gap.mean > 0 else 'lower'
    return (
      f'{found.metric} of A is {side} than that of B by {abs(gap.mean):.3f}{spread} '
      f'{runs}, {chance}: a difference at 5 %'
    )

  def as_dict(self) -> dict:
    """The report for JSON."""
    return dict(
      first=list(self.first),
      second=list(self.second),
      n=self.n,
      headline=self.comparisons[0].metric,
      sentence=self.sentence,
      metrics={found.metric: found.as_dict() for found in self.comparisons},
      samples=self.samples,
      seed=self.seed,
    )


def compare(
  first: Sequence,
  second: Sequence,
  metric: str = '',
  samples: int = intervals.DRAWS,
  seed: int = 0,
) -> Report:
  """Compares two sides, each of several workdirs or files of predictions.

  metric: the only value to compare by; without it, those that all have. Raises
  ConfigError for a side of fewer than two runs, a run that is named twice, and runs
  that were not judged on the same examples.
  """
  require_several(first, second)
  base = first[0]
  pairs = [comparing.pair(base, path, metric) for path in (*first, *second)]
  # The headline is that of the first run; every name must be in all results.
  names = [name for name in pairs[0].names if all(name in each.names for each in pairs)]
  drawn = [_drawn(pair, names, samples, seed) for pair in pairs]
  sides = drawn[: len(first)], drawn[len(first) :]
  count = len(pairs[0].first.examples)
  paths = [str(pair.second.path) for pair in pairs]
  return Report(
    tuple(paths[: len(first)]),
    tuple(paths[len(first) :]),
    count,
    tuple(_comparison(name, *sides, count) for name in names),
    samples,
    seed,
  )


def require_several(first: Sequence, second: Sequence) -> None:
  """Raises ConfigError for sides that have not several runs of their own each."""
  for name, side in (('A', first), ('B', second)):
    if len(side) < 2:
      raise ConfigError(
        f'{name}: {side[0] if side else "nothing"}: several runs of one side need '
        'several of the other: two or more of each, with commas between'
      )
  every = [str(path) for path in (*first, *second)]
  for path in every:
    if every.count(path) > 1:
      raise ConfigError(f'{path}: is named twice; each run counts once')


def _drawn(
  pair: comparing.Pair, names: Sequence[str], samples: int, seed: int
) -> Mapping[str, Drawn]:
  """The values of the second run of a pair, on all examples and on draws of them."""
  found = {}
  for function in dict.fromkeys(pair.functions[name] for name in names):
    sides = pair.sides(function)
    found |= intervals.resampled(
      [function], sides.second, sides.references, draws=samples, seed=seed
    )
  return found


def _comparison(
  name: str,
  first: Sequence[Mapping[str, Drawn]],
  second: Sequence[Mapping[str, Drawn]],
  count: int,
) -> Comparison:
  """The comparison by one value, from that of every run of both sides."""
  values = []
  means = []
  for side in (first, second):
    values.append([run[name][0] for run in side])
    # The runs of a side meet the same examples in a draw: their mean moves as one.
    means.append(np.mean([run[name][1] for run in side], axis=0))
  alone = [
    statistics.seeds_and_examples(own, float(np.var(drawn)), count)
    for own, drawn in zip(values, means, strict=True)
  ]
  by_example = float(np.var(means[0] - means[1]))
  difference = statistics.difference_of_seeds(*values, by_example, count)
  shares = [statistics.deviation(own) ** 2 / len(own) for own in values]
  return Comparison(
    name,
    *alone,
    difference,
    statistics.p_value(difference),
    math.fsum(shares),
    by_example,
  )
