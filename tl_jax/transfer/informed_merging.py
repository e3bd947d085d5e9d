"""Merging that weighs what each model has learned, by information on its own data.

>>> import jax.numpy as jnp
>>> trees = [{'w': jnp.array([1.0])}, {'w': jnp.array([5.0])}]
>>> fisher(trees, [{'w': jnp.array([3.0])}, {'w': jnp.array([1.0])}])['w'].tolist()
[2.0]
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from tl_jax import tree
from tl_jax.transfer.merging_trees import (
  merge_leaves,
  numbered,
  require,
  require_same,
  shares,
  weighted_sum,
  wide,
)

Tree = Any


def fisher(
  trees: Sequence[Tree],
  fishers: Sequence[Tree],
  weights: Sequence[float] | None = None,
  floor: float = 1e-6,
) -> Tree:
  """The mean in which every value counts by its Fisher information (Matena & Raffel
  2022, eq. 3).

  fishers: the diagonal of each tree's Fisher information, in its shapes, as
  `tl_jax.transfer.fisher.fisher_diagonal` estimates it.
  weights: one per tree, by which its information is multiplied.
  floor: what a value counts for at least. Where no model has information, the result is
  the weighted mean.
  """
  trees = require_same('fisher', trees)
  require(
    len(fishers) == len(trees),
    f'fisher: needs {len(trees)} fishers, one per tree',
    len(fishers),
  )
  require(floor > 0, 'fisher: floor: must be above 0', floor)
  # Information has the names and shapes of what it weighs.
  labels = ('trees[0]', *numbered('fishers', len(fishers)))
  require_same('fisher', [trees[0], *fishers], labels)
  weights = shares('fisher', weights, len(trees))
  information = [tree.flatten(each) for each in fishers]

  def mean(name, *values):
    # The floor is above 0, so what nobody has information of counts too.
    counts = []
    for weight, by_name in zip(weights, information, strict=True):
      held = jnp.maximum(wide(by_name[name]), floor)
      counts.append(weight * held)
    return weighted_sum(counts, values) / sum(counts)

  return merge_leaves('fisher', mean, trees)


def regmean(
  trees: Sequence[Tree],
  grams: Sequence[Mapping[str, Any]],
  pattern: str = '.*',
  shrink: float = 0.9,
) -> Tree:
  """The matrices whose products, on the inputs of every source, are nearest to those of
  that source (RegMean, Jin et al. 2023, eq. 2).

  grams: one mapping per tree, from the name of a matrix (..., in, out) to the inner
  products X^T X (..., in, in) of its inputs X (rows, in).
  pattern: which of the named matrices are merged by (sum G_i)^-1 sum G_i W_i. All other
  leaves are averaged.
  shrink: the paper's alpha, by which what is off the diagonal is multiplied. Below 1
  the sum can be inverted.
  An input that is 0 for all sources says nothing about its row, which is averaged.
  """
  trees = require_same('regmean', trees)
  require(0 <= shrink <= 1, 'regmean: shrink: must be from 0 to 1', shrink)
  require(
    len(grams) == len(trees),
    f'regmean: needs {len(trees)} grams, one per tree',
    len(grams),
  )
  chosen = _gram_names(tree.flatten(trees[0]), grams, pattern)

  def solve(name, *kernels):
    mean = sum(kernels) / len(kernels)
    if name not in chosen:
      return mean
    eye = jnp.eye(mean.shape[-2], dtype=mean.dtype)
    # The diagonal stays, and all else is multiplied by `shrink`.
    kept = shrink + (1 - shrink) * eye
    shrunk = [wide(gram[name]) * kept for gram in grams]
    total = sum(shrunk)
    # Solved for the distance from the mean: the same where the sum can be inverted, and
    # the mean where an input is 0. A TPU would multiply in bfloat16 by default.
    pull = sum(
      jnp.matmul(gram, kernel - mean, precision='highest')
      for gram, kernel in zip(shrunk, kernels, strict=True)
    )
    # A 1 on the diagonal of such an input makes the sum invertible and pulls nothing.
    empty = jnp.diagonal(total, axis1=-2, axis2=-1) == 0
    regular = total + eye * empty[..., None, :]
    return mean + jnp.linalg.solve(regular, pull)

  return merge_leaves('regmean', solve, trees)


def _gram_names(
  held: dict, grams: Sequence[Mapping[str, Any]], pattern: str
) -> set[str]:
  """The names of the leaves that have inner products and match the pattern.

  held: the leaves of the trees, by name. Errors: ValueError where sources have the
  inner products of different leaves, or their shapes do not fit.
  """
  tree.require_match([pattern], grams[0], 'regmean: pattern')
  chosen = set(filter(tree.matcher(pattern), grams[0]))
  for index, gram in enumerate(grams):
    for name in sorted(chosen):
      _require_gram(name, held, gram, index)
  return chosen


def _require_gram(name: str, held: dict, gram: Mapping[str, Any], index: int) -> None:
  """Raises ValueError unless the inner products of a source fit the leaf."""
  if name not in held:
    raise ValueError(
      f'regmean: grams: no leaf {name!r} in the trees; nearest: '
      f'{tree.nearest(name, held)}'
    )
  if name not in gram:
    raise ValueError(
      f'regmean: grams[{index}] has no {name!r}; nearest: {tree.nearest(name, gram)}'
    )
  shape = np.shape(held[name])
  found = np.shape(gram[name])
  is_matrix = len(shape) > 1
  # Leading axes are a stack of layers, each with inner products of its own.
  wanted = (*shape[:-1], shape[-2]) if is_matrix else None
  if found != wanted:
    needed = wanted if is_matrix else 'two axes to be merged by inner products'
    raise ValueError(
      f'regmean: grams[{index}]: {name!r} is {found}; a leaf {shape} needs {needed}'
    )
