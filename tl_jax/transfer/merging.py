"""Several trained models of one shape made one, without training.

>>> import jax.numpy as jnp
>>> base, first, second = ({'w': jnp.array([0.0, value])} for value in (1.0, 3.0, 5.0))
>>> soup([first, second])['w'].tolist()
[0.0, 4.0]
>>> ties(base, [first, second], density=0.5)['w'].tolist()
[0.0, 4.0]

Every function takes and gives parameter trees and can be jitted. All trees of a call
have the same names and shapes: ValueError names the leaf that differs. Floating leaves
are merged in at least float32, and the result has the dtypes of the first tree or of
the base. Other leaves (indices, masks) must be equal in all trees, and are kept.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

from tl_jax.transfer.informed_merging import fisher, regmean
from tl_jax.transfer.merging_trees import (
  merge_leaves,
  require_same,
  shares,
  weighted_sum,
)
from tl_jax.transfer.task_vectors import (
  analogy,
  apply_task_vectors,
  dare,
  dare_mask,
  task_vector,
  ties,
)

__all__ = [
  'analogy',
  'apply_task_vectors',
  'dare',
  'dare_mask',
  'fisher',
  'greedy_soup',
  'regmean',
  'slerp',
  'soup',
  'task_vector',
  'ties',
]

Tree = Any

# A cosine beyond which an arc is a line to float32, as in mergekit.
COLINEAR = 0.9995


def soup(trees: Sequence[Tree], weights: Sequence[float] | None = None) -> Tree:
  """The mean of the trees (model soup, Wortsman et al. 2022), or their weighted mean.

  weights: one number per tree, scaled to the sum 1; ValueError where the sum is 0.
  """
  trees = require_same('soup', trees)
  weights = shares('soup', weights, len(trees))

  def mean(name, *values):
    return weighted_sum(weights, values)

  return merge_leaves('soup', mean, trees)


def greedy_soup(
  trees: Sequence[Tree], score: Callable[[Tree], float]
) -> tuple[Tree, tuple[int, ...]]:
  """(mean of the chosen trees, their indices in the order of choice): Wortsman et al.
  2022, Recipe 1.

  score(tree) -> float, higher is better, on examples that are not the test's. The trees
  are tried from the best score of their own to the worst, equal ones in the order
  given. One is taken in where the mean with it scores no less than the mean without it.
  Errors: ValueError for a score that is not a number.
  """
  trees = require_same('greedy_soup', trees)
  alone = [float(score(each)) for each in trees]
  for index, value in enumerate(alone):
    # Every comparison with it is false: the tree would be left out without a word.
    if math.isnan(value):
      raise ValueError(f'greedy_soup: the score of trees[{index}] is not a number')
  # The sort is stable, which keeps equal scores in the order given.
  order = sorted(range(len(trees)), key=lambda index: -alone[index])

  chosen = order[:1]
  best = alone[order[0]]
  merged = soup([trees[order[0]]])
  for index in order[1:]:
    candidate = soup([trees[place] for place in (*chosen, index)])
    value = float(score(candidate))
    # An equal score takes the tree in, as in the recipe.
    if value >= best:
      chosen = [*chosen, index]
      best = value
      merged = candidate
  return merged, tuple(chosen)


def slerp(a: Tree, b: Tree, t: float) -> Tree:
  """From a (t = 0) to b (t = 1) on an arc, each leaf as one flat vector (Shoemake 1985;
  as in mergekit).

  The angle is between the directions, and the two vectors keep their lengths. Where
  they are colinear, or one is 0 and has no direction, the arc is the line. (mergekit
  takes 0 to be orthogonal to everything.)
  """
  require_same('slerp', [a, b], ('a', 'b'))

  def between(name, first, second):
    first_norm = jnp.linalg.norm(first.ravel())
    second_norm = jnp.linalg.norm(second.ravel())
    norms = first_norm * second_norm
    # Both branches of a `where` are computed, so neither may divide by 0.
    divisor = jnp.where(norms == 0, 1, norms)
    cosine = jnp.vdot(first, second) / divisor
    on_line = (norms == 0) | (jnp.abs(cosine) > COLINEAR)
    angle = jnp.arccos(jnp.where(on_line, 0, cosine))
    ahead = jnp.sin(t * angle) / jnp.sin(angle)
    behind = jnp.sin((1 - t) * angle) / jnp.sin(angle)
    line = (1 - t) * first + t * second
    arc = behind * first + ahead * second
    return jnp.where(on_line, line, arc)

  return merge_leaves('slerp', between, [a, b])
