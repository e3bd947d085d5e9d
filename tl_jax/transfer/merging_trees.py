"""What all ways of merging share: checks of the arguments, and the walk over leaves.

>>> import jax.numpy as jnp
>>> first, second = {'w': jnp.zeros(2), 'step': 3}, {'w': jnp.ones(2), 'step': 3}
>>> def add(name, one, other):
...   return one + other
>>> merge_leaves('add', add, [first, second])['w'].tolist()
[1.0, 1.0]

`what`, here and below, is the function that a person called; every error starts with
it.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import leaves, tree

Tree = Any


def merge_leaves(
  what: str, function: Callable, trees: Sequence[Tree], equal: bool = True
) -> Tree:
  """The first tree with every floating leaf made of the leaves of all trees.

  function(name, leaf of each tree in at least float32) -> the leaf, which is cast to
  the dtype of the first tree's. Leaves that are not floating are the first tree's.
  Errors: ValueError, unless `equal` is False, where such leaves differ between trees.
  """
  if equal:
    require_equal(what, trees)
  others = [tree.flatten(each) for each in trees[1:]]

  def merged(name, leaf):
    # An index or a mask has no mean.
    if not is_floating(leaf):
      return jnp.asarray(leaf)
    values = [wide(other[name]) for other in others]
    merged = function(name, wide(leaf), *values)
    return merged.astype(jnp.result_type(leaf))

  return tree.map_named(merged, trees[0])


def require_same(
  what: str, trees: Sequence[Tree], labels: Sequence[str] | None = None
) -> list[Tree]:
  """The trees as a list, after a check that they have the same leaves.

  labels: what errors call each tree; where the first is 'base', another tree must
  follow.
  Errors: ValueError for the first leaf that is not there in all trees, differs in
  shape, or is structured, and without enough trees.
  """
  trees = list(trees)
  if not trees:
    raise ValueError(f'{what}: needs at least one tree')
  if labels is None:
    labels = numbered('trees', len(trees))
  elif labels[0] == 'base' and len(trees) < 2:
    raise ValueError(f'{what}: needs at least one tree beside the base')
  # What is no array has no shape to compare, so it is named first.
  for each in trees:
    tree.require_arrays(each, what)
  _require_plain(what, trees[0])
  first = tree.flatten(trees[0])
  for label, each in zip(labels[1:], trees[1:], strict=True):
    other = tree.flatten(each)
    _require_same_names(what, first, other, labels[0], label)
    _require_same_shapes(what, first, other, labels[0], label)
  return trees


def _require_plain(what: str, params: Tree) -> None:
  """Raises ValueError for a structured leaf: the factors of a product do not merge."""
  # To jax a structured leaf is a tree of its arrays, which would be merged one by one.
  flat = jax.tree_util.tree_leaves_with_path(params, is_leaf=leaves.is_structured)
  for path, leaf in flat:
    if leaves.is_structured(leaf):
      raise ValueError(
        f'{what}: {tree.name_of(path)!r}: fuse the tree first; needs an array, got '
        f'a {type(leaf).__name__}'
      )


def _require_same_names(
  what: str, first: dict, other: dict, first_label: str, other_label: str
) -> None:
  """Raises ValueError for the first name that only one of two trees has."""
  for name in first:
    if name not in other:
      raise ValueError(
        f'{what}: {name!r} is in {first_label} but not in {other_label}; '
        f'nearest there: {tree.nearest(name, other)}'
      )
  for name in other:
    if name not in first:
      raise ValueError(
        f'{what}: {name!r} is in {other_label} but not in {first_label}; '
        f'nearest there: {tree.nearest(name, first)}'
      )


def _require_same_shapes(
  what: str, first: dict, other: dict, first_label: str, other_label: str
) -> None:
  """Raises ValueError for the first leaf that has another shape in the other tree."""
  for name, leaf in first.items():
    shape = np.shape(leaf)
    other_shape = np.shape(other[name])
    if shape != other_shape:
      raise ValueError(
        f'{what}: {name!r} is {shape} in {first_label} and {other_shape} in '
        f'{other_label}'
      )


def require_equal(what: str, trees: Sequence[Tree]) -> None:
  """Raises ValueError for a leaf that is not floating and differs between the trees.

  Inside jit, values are not known and not compared.
  """
  first = tree.flatten(trees[0])
  for index, each in enumerate(trees[1:], start=1):
    for name, leaf in tree.flatten(each).items():
      if _differs(first[name], leaf):
        raise ValueError(
          f'{what}: {name!r} is not floating and differs between the first tree and '
          f'tree {index}'
        )


def _differs(one, other) -> bool:
  """Is one of two leaves not floating, and the other not the same?"""
  floating = [is_floating(one), is_floating(other)]
  if all(floating):
    return False
  if isinstance(one, jax.core.Tracer) or isinstance(other, jax.core.Tracer):
    return False
  return any(floating) or not np.array_equal(_bits(one), _bits(other))


def require(holds: bool, what: str, value) -> None:
  """Raises ValueError with the value unless the condition holds."""
  if not holds:
    raise ValueError(f'{what}, got {value}')


def numbered(what: str, count: int) -> list[str]:
  """The labels what[0], what[1] and so on."""
  return [f'{what}[{index}]' for index in range(count)]


def scales(what: str, scale, count: int) -> list:
  """One finite number per tree, from one number for all or from a sequence of `count`.

  Errors: ValueError for another count, and for a number that is not finite.
  """
  # np.ndim also knows a traced number, which has no length.
  values = list(scale) if np.ndim(scale) else [scale] * count
  require(
    len(values) == count, f'{what}: needs {count} numbers, one per tree', len(values)
  )
  for value in values:
    # A traced number has no value to look at.
    is_finite = isinstance(value, jax.core.Tracer) or math.isfinite(value)
    require(is_finite, f'{what}: must be finite', value)
  return values


def shares(what: str, weights, count: int) -> list:
  """One weight per tree, with the sum 1; equal ones where `weights` is None.

  Errors: ValueError as of `scales`, and for weights with the sum 0.
  """
  weights = scales(f'{what}: weights', 1.0 if weights is None else weights, count)
  total = sum(weights)
  has_sum = isinstance(total, jax.core.Tracer) or total != 0
  require(has_sum, f'{what}: weights: need another sum than 0', weights)
  return [weight / total for weight in weights]


def weighted_sum(weights: Sequence, values: Sequence):
  """The sum of every value times its weight, in the order given."""
  return sum(weight * value for weight, value in zip(weights, values, strict=True))


def is_floating(leaf) -> bool:
  """Is it an array of floating-point numbers?"""
  return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def _bits(leaf):
  """The leaf as an array that numpy compares: a random key as its integers."""
  # numpy cannot read a random key.
  is_key = jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)
  return jax.random.key_data(leaf) if is_key else leaf


def wide(leaf) -> jax.Array:
  """The leaf in at least float32; one that is not floating as it is.

  bfloat16 has 8 bits of precision, too few for small differences between models.
  """
  leaf = jnp.asarray(leaf)
  if not is_floating(leaf):
    return leaf
  return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
