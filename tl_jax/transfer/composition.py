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
from tl_jax.transfer.method import TransferMethod, is_whole, named_leaves
from tl_jax.transfer.partitions import full
from tl_jax.transfer.regularizing import regularize

Tree = Any


def compose(*methods: TransferMethod) -> TransferMethod:
  """Trains what any of the methods trains.

  Each method sees what those before it left frozen, and the union is one tree. Where
  one method edits a leaf (`lora`) and another trains it in full (`last`), full training
  wins, in either order. Penalties and reserved positions add up. Regularizers (`l2sp`,
  `mixout`, ...) train nothing of their own: they act on what all the other methods
  train, wherever they stand in the composition, and on every leaf if there are no
  others.
  Errors: ValueError without a method, and for a regularizer that is given twice (but
  `ewc`, which may stand for several earlier tasks). At `init`: where two methods edit
  one leaf, where other methods train in full all that one edits, and where a
  regularizer finds nothing to act on.
  """
  if not methods:
    raise ValueError('compose: needs at least one method')
  regularizers = tuple(how for method in methods for how in method.regularizers)
  # Regularizers are taken out and put around all the others, whatever their order.
  if regularizers:
    require_different(regularizers)
    plain = without_regularizers(methods)
    return regularize(plain or full(), regularizers, plain)
  return union(methods)


def union(methods) -> TransferMethod:
  """The composition of methods none of which regularizes."""
  names = [method.edits for method in methods if method.edits]
  reserved_positions = sum(method.reserved_positions for method in methods)
  prompt_positions = sum(method.prompt_positions for method in methods)

  def over(function):
    return functools.partial(function, methods)

  return TransferMethod(
    init=over(_init),
    merge=over(_merge),
    fuse=over(_fuse),
    axes=over(_split_axes),
    penalty=over(_penalty),
    reserved_positions=reserved_positions,
    prompt_positions=prompt_positions,
    objective=over(_objective),
    optimizer=over(_optimizer),
    inserts=over(_inserts),
    edits='+'.join(names),
  )


def _init(methods, key, params, axes=None):
  trainable = None
  frozen = params
  edited = []
  for method in methods:
    # What one method trains is a hole to the next.
    added, frozen = method.init(key, frozen, axes)
    # The axes that the next method sees must mirror what is left.
    if axes is not None:
      _, axes = method.axes(axes)
    edited.append(edited_names(added))
    trainable = tree.combine(widened(trainable, added), added)
  trainable = drop_needless_edits(trainable, leaves.dense)
  # Only now is it known what later methods train in full.
  require_effect(methods, edited, edited_names(trainable))
  return trainable, frozen


def _split_axes(methods, axes):
  trainable = None
  frozen = axes
  for method in methods:
    added, frozen = method.axes(frozen)
    trainable = tree.combine(widened(trainable, added), added)
  # The axes of the base are those of the array that it is trained as.
  return drop_needless_edits(trainable, lambda leaf: leaf.base), frozen


def _merge(methods, trainable, frozen, *, key=None, step=None):
  # Each method fills in what it put there itself, so all of them see the whole tree.
  params = tree.combine(trainable, frozen)
  for place, method in enumerate(methods):
    own_key = None if key is None else rng.stream(key, f'compose/{place}')
    params = method.merge(params, None, key=own_key, step=step)
  return params


def _fuse(methods, trainable, frozen):
  # First, because a method may only fuse what it has merged.
  params = _merge(methods, trainable, frozen)
  for method in methods:
    params = method.fuse(params, None)
  return params


def _penalty(methods, trainable, frozen):
  return sum(method.penalty(trainable, frozen) for method in methods)


def _objective(methods, value):
  for method in methods:
    value = method.objective(value)
  return value


def _optimizer(methods, tx):
  for method in methods:
    tx = method.optimizer(tx)
  return tx


def _inserts(methods, name: str) -> bool:
  return any(method.inserts(name) for method in methods)


def without_regularizers(methods) -> TransferMethod | None:
  """The composition of what the methods train; None where they all only regularize."""
  parts = []
  for method in methods:
    # A method may be a composition itself, of which only a part regularizes.
    part = method.plain if method.regularizers else method
    if part is not None:
      parts.append(part)
  return compose(*parts) if parts else None


def require_different(regularizers) -> None:
  """Raises ValueError for a regularizer that is there twice.

  One that weighs by information (`ewc`) may be: each then stands for a task of its own.
  """
  names = [how.name for how in regularizers if how.weighs is None]
  for name in names:
    if names.count(name) > 1:
      raise ValueError(
        f'{name}: composed with itself; give it once, with the strength of both'
      )


def edited_names(trainable: Tree) -> set[str]:
  """The names of the leaves that are edited."""
  found = named_leaves(trainable)
  return {name for name, leaf in found.items() if leaves.is_edited(leaf)}


def require_effect(methods, edited: list[set[str]], left: set[str]) -> None:
  """Raises ValueError for a method all of whose edits were dropped.

  edited: for each method, the names of the leaves that it edits; left: the names of
  those that are still edited when other methods have taken theirs in full.
  """
  for method, names in zip(methods, edited, strict=True):
    if method.edits and not names & left:
      raise ValueError(
        f'{method.edits}: other methods train in full all that it edits, so it would '
        'do nothing; leave it out, or let it edit other leaves'
      )


def widened(trainable: Tree, other: Tree) -> Tree:
  """The tree in the shape of the other one, with holes for what it does not have.

  A later method may have put in leaves that the earlier ones know nothing of.
  """
  # New leaves stand in dicts alone, see `insert`.
  if not isinstance(other, dict) or not isinstance(trainable, dict):
    return trainable
  return {name: widened(trainable.get(name), child) for name, child in other.items()}


def drop_needless_edits(trainable: Tree, plain: Callable[[Any], Any]) -> Tree:
  """The tree with a plain leaf for every structured leaf whose base is trained too.

  A low-rank change adds nothing to a matrix that is trained in full.
  plain(leaf) -> the plain leaf, of arrays or of PartitionSpecs.
  """

  def settle(leaf):
    if not leaves.is_structured(leaf) or getattr(leaf, 'base', None) is None:
      return leaf
    # A bias that waits for the vector of its kernel (`ia3`) has none of its own yet.
    if isinstance(leaf, leaves.Scaled) and leaf.scale is None:
      return leaf.base
    return plain(leaf)

  return jax.tree.map(settle, trainable, is_leaf=is_whole)
