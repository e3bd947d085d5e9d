"""What a table says of other seeds and other examples, beside what it says of seeds.

>>> from tl_jax.report.cells import Run, cells
>>> runs = []
>>> for seed, value in enumerate((0.80, 0.82)):
...   ends = {'accuracy': [value - 0.04, value + 0.04]}
...   result = dict(metrics={'accuracy': value}, intervals=ends, n=400)
...   runs.append(Run('lora', 'mine', seed, result=result))
>>> found = interval_of(cells(runs, 'accuracy')['lora', 'mine'], 'accuracy')
>>> round(found.mean, 2), round(found.half, 3)
(0.81, 0.047)

Rows of a table share their test examples, so that its ± over seeds is what compares
them. How well a method would do on other examples of the kind is a wider question.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tl_jax.evals.statistics import Interval, mean, seeds_and_examples
from tl_jax.report.cells import Cell

# A normal interval of 95 % has so many standard errors on either side.
_ERRORS = 1.959964
TITLE = (
  'For other seeds and other examples: 95 % t intervals of s²/S over seeds + the mean '
  'variance over examples (bootstrap)'
)


def interval_of(cell: Cell, metric: str, factor: float = 1.0) -> Interval | None:
  """The interval of a cell's mean for other seeds and other examples.

  The variance over examples is the mean of those of the runs: their errors on the same
  examples count as one and do not average out. Of a single run it is that over examples
  alone. None where a finished run has no interval over examples.

  factor: multiplies the values, as it does those of the cell.
  """
  results = [_result_of(cell, seed) for seed in cell.values]
  own = [_ends_of(result, metric) for result in results]
  # An earlier version gave none. A mean over some seeds would stand for all.
  if not own or None in own:
    return None
  ends = [(factor * low, factor * high) for low, high in own]
  counts = [result.get('n') or 2 for result in results]
  values = list(cell.values.values())
  if len(values) == 1:
    [(low, high)] = ends
    return Interval(values[0], low, high, 1)
  variances = [((high - low) / (2 * _ERRORS)) ** 2 for low, high in ends]
  return seeds_and_examples(values, mean(variances), min(counts))


def _result_of(cell: Cell, seed: int) -> Mapping[str, Any]:
  """What a run of a cell found; {} where there is no such run, or no result of it."""
  run = cell.runs.get(seed)
  return {} if run is None else run.result or {}


def _ends_of(result: Mapping[str, Any], metric: str) -> Sequence[float] | None:
  """The interval of a metric over the examples; None where the result has none."""
  intervals = result.get('intervals') or {}
  return intervals.get(metric)
