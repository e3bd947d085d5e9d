"""Metrics of real values: correlations and the mean squared error.

>>> pearson([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
{'pearson': 1.0}
>>> spearman([1.0, 1.0], [0.0, 5.0])
{'spearman': 0.0}
"""

import numpy as np

from tl_jax.metrics.edges import finite, reals, same_length


def pearson(predictions, references) -> dict[str, float]:
  """The linear correlation of two lists of real numbers (n,).

  It is 0.0 where either is constant or n < 2.
  """
  predicted, expected = _pair(predictions, references, 'pearson')
  return {'pearson': _correlation(predicted, expected)}


def spearman(predictions, references) -> dict[str, float]:
  """The correlation of the ranks; values that are equal share their mean rank.

  It is 0.0 where either side is constant or n < 2.
  """
  predicted, expected = _pair(predictions, references, 'spearman')
  return {'spearman': _correlation(_ranks(predicted), _ranks(expected))}


def mean_squared_error(predictions, references) -> dict[str, float]:
  """The mean of the squared differences, in the squared unit of the references.

  It is 0.0 for no examples.
  """
  predicted, expected = _pair(predictions, references, 'mean_squared_error')
  if not len(expected):
    return {'mean_squared_error': 0.0}
  # `finite` takes care of an overflow.
  with np.errstate(over='ignore'):
    error = np.square(predicted - expected).mean()
  return {'mean_squared_error': finite(error)}


def _pair(predictions, references, what: str) -> tuple[np.ndarray, np.ndarray]:
  """Both sides, checked, as float64 arrays (n,)."""
  same_length(predictions, references, what)
  predicted = reals(predictions, what, 'predictions')
  expected = reals(references, what, 'references')
  return predicted, expected


def _ranks(values: np.ndarray) -> np.ndarray:
  """Ranks from 0, equal values sharing the mean of their ranks."""
  _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
  # The last rank of each value, from 1, less half of the others that share it.
  mean_ranks = np.cumsum(counts) - (counts + 1) / 2
  return mean_ranks[inverse]


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
  """The linear correlation, 0.0 where a side is constant."""
  first = _standard(first)
  second = _standard(second)
  if first is None or second is None:
    return 0.0
  # Rounding can leave a little more than 1.
  return float(np.clip(first @ second, -1.0, 1.0))


def _standard(values: np.ndarray) -> np.ndarray | None:
  """The values centred and scaled to length one.

  None where they are constant, as far as float64 can tell.
  """
  if len(values) < 2 or values.min() == values.max():
    return None
  # Dividing by the largest magnitude first keeps the squares from overflowing and
  # underflowing.
  values = values / np.abs(values).max()
  centred = values - values.mean()
  length = np.linalg.norm(centred)
  # Less is the rounding of the mean.
  if length <= 1e-13 * np.sqrt(len(values)):
    return None
  return centred / length
