"""Several methods as one.

>>> from tl_jax.transfer.partitions import bitfit, norms
>>> both = compose(bitfit(), norms())
>>> both.init(None, {'kernel': 1.0, 'bias': 2.0, 'norm': {'scale': 3.0}})[0]
{'bias': 2.0, 'kernel': None, 'norm': {'scale': 3.0}}
"""

import functools
from collections.abc import Callable
from typing import Any

import jax

from tl_jax import leaves, rng, tree
from tl_jax.transfer.method import TransferMethod, is_whole
from tl_jax.transfer.partitions import full
from tl_jax.transfer.regularizing import regularize

Tree = Any


def compose(*methods: TransferMethod) -> TransferMethod:
  """Trains what any of the methods trains: each sees what those before it left frozen,
  and the union is one tree.

  Where one method edits a leaf (`lora`) and another trains it in full (`last`), full
  training wins, in either order. Penalties and reserved positions add up. Regularizers
  (`l2sp`, `mixout`, ...) train nothing of their own. They act on what all the other
  methods train, wherever they stand, on every leaf if there are none; `init` raises
  ValueError where one finds nothing to act on.
  Errors: ValueError without a method, for a regularizer that is given twice (but `ewc`,
  which may stand for several earlier tasks), where two methods edit one leaf, and where
  other methods train in full all that one edits.
  """
  if not methods:
    raise ValueError('compose: needs at least one method')
  regularizers = tuple(how for method in methods for how in method.regularizers)
  if regularizers:
    require_different(regularizers)
    parts = [method.plain if method.regularizers else method for method in methods]
    parts = [part for part in parts if part is not None]
    plain = compose(*parts) if parts else None
    return regularize(plain or full(), regularizers, plain)

  def init(key, params, axes=None):
    trainable, frozen, edited = None, params, []
    for method in methods:
      added, frozen = method.init(key, frozen, axes)
      axes = axes if axes is None else method.axes(axes)[1]
      edited.append(edited_names(added))
      trainable = tree.combine(widened(trainable, added), added)
    trainable = drop_needless_edits(trainable, leaves.dense)
    require_effect(methods, edited, edited_names(trainable))
    return trainable, frozen

  def split_axes(axes):
    trainable, frozen = None, axes
    for method in methods:
      added, frozen = method.axes(frozen)
      trainable = tree.combine(widened(trainable, added), added)
    return drop_needless_edits(trainable, lambda leaf: leaf.base), frozen

  def merge(trainable, frozen, *, key=None, step=None):
    params = tree.combine(trainable, frozen)
    for place, method in enumerate(methods):
      own_key = key if key is None else rng.stream(key, f'compose/{place}')
      params = method.merge(params, None, key=own_key, step=step)
    return params

  def fuse(trainable, frozen):
    # first, because a method may only fuse what it has merged
    params = merge(trainable, frozen)
    for method in methods:
      params = method.fuse(params, None)
    return params

  def penalty(trainable, frozen):
    return sum(method.penalty(trainable, frozen) for method in methods)

  def chained(name):
    return lambda value: functools.reduce(
      lambda value, method: getattr(method, name)(value), methods, value
    )

  return TransferMethod(
    init,
    merge,
    fuse,
    split_axes,
    penalty,
    reserve=sum(method.reserve for method in methods),
    columns=sum(method.columns for method in methods),
    objective=chained('objective'),
    optimizer=chained('optimizer'),
    inserts=lambda name: any(method.inserts(name) for method in methods),
    edits='+'.join(method.edits for method in methods if method.edits),
  )


def require_different(regularizers) -> None:
  """ValueError for a regularizer that is there twice, unless each has information of
  its own.
  """
  names = [how.name for how in regularizers if how.weighs is None]
  for name in names:
    if names.count(name) > 1:
      raise ValueError(
        f'{name}: composed with itself; give it once, with the strength of both'
      )


def edited_names(trainable: Tree) -> set[str]:
  """The names of the leaves that are edited."""
  found = jax.tree_util.tree_leaves_with_path(trainable, is_leaf=is_whole)
  return {tree.name_of(path) for path, leaf in found if leaves.is_edited(leaf)}


def require_effect(methods, edited: list[set[str]], left: set[str]) -> None:
  """ValueError for a method of whose edits none is left, because others train it all."""
  for method, names in zip(methods, edited, strict=True):
    if method.edits and not names & left:
      raise ValueError(
        f'{method.edits}: other methods train in full all that it edits, so it would do '
        'nothing; leave it out, or let it edit other leaves'
      )


def widened(trainable: Tree, other: Tree) -> Tree:
  """The tree with a hole for everything that a later method has put in."""
  if not isinstance(other, dict) or not isinstance(trainable, dict):
    return trainable
  return {name: widened(trainable.get(name), child) for name, child in other.items()}


def drop_needless_edits(trainable: Tree, plain: Callable[[Any], Any]) -> Tree:
  """Every structured leaf whose base is trained becomes the plain leaf: a low-rank
  change adds nothing to that.
  """

  def settle(leaf):
    if not leaves.is_structured(leaf) or getattr(leaf, 'base', None) is None:
      return leaf
    # A bias that waits for the vector of its kernel (`ia3`) has none of its own yet.
    return (
      leaf.base
      if isinstance(leaf, leaves.Scaled) and leaf.scale is None
      else plain(leaf)
    )

  return jax.tree.map(settle, trainable, is_leaf=is_whole)
