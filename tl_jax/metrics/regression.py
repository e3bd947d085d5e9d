"""Metrics of real values: correlations and the mean squared error.

>>> pearson([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
{'pearson': 1.0}
>>> spearman([1.0, 1.0], [0.0, 5.0])
{'spearman': 0.0}
"""

import numpy as np

from tl_jax.metrics.edges import finite, reals, same_length


def pearson(predictions, references) -> dict[str, float]:
  """The linear correlation of two lists of real numbers (n,); 0.0 when either is
  constant or n < 2.
  """
  return {'pearson': _correlation(*_pair(predictions, references, 'pearson'))}


def spearman(predictions, references) -> dict[str, float]:
  """The correlation of the ranks, ties sharing their mean rank; 0.0 when either side is
  constant or n < 2.
  """
  return {
    'spearman': _correlation(
      *(_ranks(side) for side in _pair(predictions, references, 'spearman'))
    )
  }


def mean_squared_error(predictions, references) -> dict[str, float]:
  """The mean of the squared differences, in the squared unit of the references; 0.0 for
  no examples.
  """
  predicted, expected = _pair(predictions, references, 'mean_squared_error')
  if not len(expected):
    return {'mean_squared_error': 0.0}
  with np.errstate(over='ignore'):
    return {'mean_squared_error': finite(np.square(predicted - expected).mean())}


def _pair(predictions, references, what: str) -> tuple[np.ndarray, np.ndarray]:
  same_length(predictions, references, what)
  return reals(predictions, what, 'predictions'), reals(references, what, 'references')


def _ranks(values: np.ndarray) -> np.ndarray:
  """Ranks from 0, equal values sharing the mean of their ranks."""
  _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
  return (np.cumsum(counts) - (counts + 1) / 2)[inverse]


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
  first, second = _standard(first), _standard(second)
  if first is None or second is None:
    return 0.0
  return float(np.clip(first @ second, -1.0, 1.0))


def _standard(values: np.ndarray) -> np.ndarray | None:
  """The values centred and of length one; None when they are constant, as far as
  float64 can tell.
  """
  if len(values) < 2 or values.min() == values.max():
    return None
  # Dividing by the largest magnitude first keeps the squares from overflowing and
  # underflowing.
  values = values / np.abs(values).max()
  centred = values - values.mean()
  length = np.linalg.norm(centred)
  return centred / length if length > 1e-13 * np.sqrt(len(values)) else None
