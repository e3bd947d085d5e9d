"""Metrics of embeddings: how well the right text is found, how evenly texts are spread.

>>> retrieval([1, 4], ['a', 'b'])
{'mrr': 0.625, 'accuracy_1': 0.5, 'accuracy_10': 1.0}
>>> round(uniformity([[1.0, 0.0], [-1.0, 0.0]], ['a', 'b'])['uniformity'], 6)
-8.0
"""

import numpy as np

from tl_jax.metrics.edges import reals, same_length

# So many vectors are compared with all others at once.
BLOCK = 1024


def retrieval(predictions, references) -> dict[str, float]:
  """The mean reciprocal rank, and how often the right one is first or among ten.

  predictions (n,): the rank of the right one for each query, from 1. References are the
  right ones, of which only the number counts. All are 0.0 for no queries. Raises
  ValueError for a rank below 1.
  """
  same_length(predictions, references, 'retrieval')
  ranks = reals(predictions, 'retrieval', 'predictions')
  if not len(ranks):
    return {'mrr': 0.0, 'accuracy_1': 0.0, 'accuracy_10': 0.0}
  if ranks.min() < 1:
    raise ValueError(f'retrieval: a rank of {ranks.min():g}; the first is 1')
  return {
    'mrr': float((1 / ranks).mean()),
    'accuracy_1': float((ranks <= 1).mean()),
    'accuracy_10': float((ranks <= 10).mean()),
  }


def uniformity(predictions, references) -> dict[str, float]:
  """How evenly unit vectors (n, width) lie on the sphere; lower is more evenly.

  It is the logarithm of the mean over pairs of exp(-2 squared distance) (Wang and Isola
  2020, equation 5): 0 where all are one. References are the texts, of which only the
  number counts. It is 0.0 for n < 2.
  """
  same_length(predictions, references, 'uniformity')
  count = len(predictions)
  if count < 2:
    return {'uniformity': 0.0}
  vectors = np.asarray(predictions, np.float64)
  # In float64: most of the terms are tiny.
  total = 0.0
  for start in range(0, count, BLOCK):
    near = vectors[start : start + BLOCK] @ vectors.T
    # Of unit vectors the squared distance is 2 - 2 cosines.
    total += float(np.exp(4 * (near - 1)).sum())
  # Each is at no distance from itself.
  pairs = count * (count - 1)
  return {'uniformity': float(np.log(max(total - count, 1e-300) / pairs))}
