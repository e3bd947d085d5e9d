"""Merging by task vectors, which are what training has changed: sums, TIES and DARE.

>>> import jax.numpy as jnp
>>> base, first, second = ({'w': jnp.array([0.0, value])} for value in (1.0, 3.0, 5.0))
>>> vectors = [task_vector(tuned, base) for tuned in (first, second)]
>>> apply_task_vectors(base, vectors)['w'].tolist()
[0.0, 7.0]
>>> ties(base, [first, second])['w'].tolist()
[0.0, 4.0]
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import rng, tree
from tl_jax.transfer.merging_trees import (
  is_floating,
  merge_leaves,
  numbered,
  require,
  require_equal,
  require_same,
  scales,
  wide,
)

Tree = Any


def task_vector(tuned: Tree, base: Tree) -> Tree:
  """tuned - base (Ilharco et al. 2023, section 2), in at least float32.

  A leaf that is not floating is 0.
  """
  require_same('task_vector', [base, tuned], ('base', 'tuned'))
  require_equal('task_vector', [base, tuned])
  others = tree.flatten(tuned)

  def change(name, leaf):
    # Zero and not left out: a vector has the structure of the base.
    if not is_floating(leaf):
      return jnp.zeros_like(leaf)
    return wide(others[name]) - wide(leaf)

  return tree.map_named(change, base)


def apply_task_vectors(
  base: Tree, vectors: Sequence[Tree], scale: float | Sequence[float] = 1.0
) -> Tree:
  """base + the sum of scale * vector (Ilharco et al. 2023, section 2).

  scale: one number for all vectors, or one per vector. A positive one learns the task,
  a negative one forgets it.
  """
  labels = ('base', *numbered('vectors', len(vectors)))
  require_same('apply_task_vectors', [base, *vectors], labels)
  numbers = scales('apply_task_vectors', scale, len(vectors))

  def add(name, start, *changes):
    total = jnp.zeros_like(start)
    for number, change in zip(numbers, changes, strict=True):
      total = total + number * change
    return start + total

  # A vector is 0 where the base has an index or a mask, so these differ by design.
  return merge_leaves('apply_task_vectors', add, [base, *vectors], equal=False)


def analogy(a: Tree, b: Tree, c: Tree) -> Tree:
  """c + (b - a): a is to b as c is to the result (Ilharco et al. 2023, section 5)."""
  require_same('analogy', [c, a, b], ('c', 'a', 'b'))

  def add(name, third, first, second):
    return third + (second - first)

  return merge_leaves('analogy', add, [c, a, b])


def ties(
  base: Tree,
  tuned: Sequence[Tree],
  *,
  density: float = 0.2,
  scale: float = 1.0,
  weights: Sequence[float] | None = None,
  trim: str = 'leaf',
  elect: str = 'mass',
  normalize: bool = True,
) -> Tree:
  """Trims the task vectors, elects a sign for every entry, and takes the mean of the
  values of that sign (TIES, Yadav et al. 2023, Algorithm 1).

  density: the part of every task vector that is kept, the largest in magnitude.
  trim: of what it is the part. 'leaf': of each leaf, at least one value (mergekit).
  'tree': of the vector of the whole tree (the paper).
  elect: the elected sign. 'mass': that of the sum of the kept values (the paper, and
  mergekit). Where the sum is exactly 0 nothing is elected and the base stays, as in the
  paper; mergekit takes plus there. 'count': that of the majority (mergekit); plus where
  both are equally many.
  weights: one per tree; its values count so much in the sum and in the mean (mergekit).
  The paper's are 1.
  scale: the paper's lambda, which multiplies what is added to the base.
  normalize: False adds the values up instead of taking their mean.
  """
  labels = ('base', *numbered('tuned', len(tuned)))
  require_same('ties', [base, *tuned], labels)
  require(0 < density <= 1, 'ties: density: must be above 0 and at most 1', density)
  weights = scales('ties: weights', 1.0 if weights is None else weights, len(tuned))
  # Trimmed before they are weighed: which values of a tree are largest does not depend
  # on its weight.
  changes = [tree.flatten(task_vector(each, base)) for each in tuned]
  if trim == 'leaf':
    kept = [_trimmed_leaves(change, density) for change in changes]
  elif trim == 'tree':
    kept = [_trimmed_together(change, density) for change in changes]
  else:
    raise ValueError(f"ties: trim: {trim!r} is not one of 'leaf', 'tree'")
  return _add_agreed('ties', base, kept, weights, scale, elect, normalize)


def dare(
  key,
  base: Tree,
  tuned: Sequence[Tree],
  *,
  drop: float = 0.9,
  rescale: bool = True,
  scale: float = 1.0,
  weights: Sequence[float] | None = None,
  elect: str | None = None,
  normalize: bool = False,
) -> Tree:
  """base + scale * the sum of the task vectors, each with a random part `drop` of its
  values set to 0 (DARE, Yu et al. 2024).

  key: as in `dare_mask`; the masks are `dare_mask(key, base, drop, index)`.
  rescale: the values that stay are divided by 1 - drop (eq. 2), so that the expected
  result is that of `apply_task_vectors`.
  weights: one per tree.
  elect, normalize: as in `ties`, after the drop in place of the trimming. This is
  mergekit's dare_ties, which like this does not take the mean unless asked to.
  """
  labels = ('base', *numbered('tuned', len(tuned)))
  require_same('dare', [base, *tuned], labels)
  weights = scales('dare: weights', 1.0 if weights is None else weights, len(tuned))
  divisor = 1 - drop if rescale else 1
  kept = []
  for index, each in enumerate(tuned):
    # Of the shapes of the base alone, so that anyone can draw the same masks again.
    masks = tree.flatten(dare_mask(key, base, drop, index))
    change = tree.flatten(task_vector(each, base))
    dropped = {}
    for name, leaf in change.items():
      dropped[name] = jnp.where(masks[name], leaf, 0) / divisor
    kept.append(dropped)
  return _add_agreed('dare', base, kept, weights, scale, elect, normalize)


def dare_mask(key, like: Tree, drop: float, index: int = 0) -> Tree:
  """Which values of the tree `index` stay: booleans, each True with the probability
  1 - drop.

  key: a jax key or an integer. The mask of a leaf depends on the key, the leaf's name
  and the index, and on nothing else.
  """
  require(0 <= drop < 1, 'dare: drop: must be at least 0 and below 1', drop)

  def mask(name, leaf):
    own_key = rng.stream(key, f'dare/{name}', index)
    return jax.random.bernoulli(own_key, 1.0 - drop, np.shape(leaf))

  return tree.map_named(mask, like)


def _trimmed_leaves(change: dict, density: float) -> dict:
  """Every leaf trimmed by itself."""
  return {name: _trimmed(leaf, density) for name, leaf in change.items()}


def _trimmed_together(change: dict, density: float) -> dict:
  """All floating leaves trimmed as one vector."""
  # The other leaves have a change of 0.
  names = [name for name, leaf in change.items() if is_floating(leaf)]
  if not names:
    return change
  whole = jnp.concatenate([change[name].ravel() for name in names])
  whole = _trimmed(whole, density)

  trimmed = dict(change)
  start = 0
  for name in names:
    leaf = change[name]
    flat = whole[start : start + leaf.size]
    trimmed[name] = flat.reshape(leaf.shape)
    start += leaf.size
  return trimmed


def _trimmed(leaf, density: float):
  """The leaf with all but its largest values 0; of equal ones the first stay."""
  # At least one, or a short bias would never change.
  most = max(1, int(density * leaf.size))
  if most >= leaf.size:
    return leaf
  # By rank and not by a threshold, which equal values would pass together.
  order = jnp.argsort(-jnp.abs(leaf.ravel()), stable=True)
  kept = order[:most]
  mask = jnp.zeros(leaf.size, bool).at[kept].set(True)
  return jnp.where(mask.reshape(leaf.shape), leaf, jnp.zeros_like(leaf))


def _add_agreed(
  what: str,
  base: Tree,
  changes: Sequence[dict],
  weights,
  scale,
  elect: str | None,
  normalize: bool,
) -> Tree:
  """base + scale * the sum, or the weighted mean, of the values of the elected sign.

  changes: what is left of every task vector, by name. elect: None takes all values.
  """
  if elect not in ('mass', 'count', None):
    raise ValueError(f"{what}: elect: {elect!r} is not one of 'mass', 'count', None")
  scale = scales(f'{what}: scale', scale, 1)[0]

  def add(name, start):
    values = []
    for weight, change in zip(weights, changes, strict=True):
      values.append(weight * change[name])
    agree = _agreement(values, elect)
    total = sum(
      jnp.where(mask, value, 0) for mask, value in zip(agree, values, strict=True)
    )
    if normalize:
      zero = jnp.zeros_like(start)
      counts = []
      for mask, weight in zip(agree, weights, strict=True):
        counts.append(jnp.where(mask, weight, zero))
      divisor = sum(counts)
      # Nobody agrees where the total is 0 as well.
      total = total / jnp.where(divisor == 0, 1, divisor)
    return start + scale * total

  return merge_leaves(what, add, [base])


def _agreement(values: Sequence[jax.Array], elect: str | None) -> list:
  """For every value, a mask of the entries that have the elected sign, or True."""
  if elect is None:
    return [True] * len(values)
  signs = [jnp.sign(value) for value in values]
  if elect == 'mass':
    # Where the sum is 0, so is its sign, and only values of 0 agree with it.
    elected = jnp.sign(sum(values))
  else:
    # Values of 0 have no vote.
    elected = jnp.where(sum(signs) >= 0, 1, -1)
  return [sign == elected for sign in signs]
