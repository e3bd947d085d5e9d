"""Trees in which the layers of a stack are one array: the held form of a tree of names.

In a named tree every layer has leaves of its own, `layers/3/mlp/in/kernel`. In its held
form the first layer of a group of alike ones has a `Stacked` in the place of a leaf,
and the others have holes. A loop over layers reads such an array as it is.

>>> named = {'layers': {'0': {'bias': jnp.zeros(3)}, '1': {'bias': jnp.ones(3)}}}
>>> held = hold(named, {'layers/0/bias': ('layers/0/bias', 'layers/1/bias')})
>>> held['layers']['0']['bias'].value.shape, held['layers']['1']['bias']
((2, 3), None)
>>> unstacked(held)['layers']['1']['bias'].tolist()
[1.0, 1.0, 1.0]
"""

import dataclasses
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tl_jax import tree

Tree = Any
# The names that are held together, by the name of the first.
Plan = dict[str, tuple[str, ...]]
_LAYER = re.compile(r'(?P<stack>(.*/)?layers/)(?P<index>\d+)(?P<rest>/.+)')


# Compared by identity: arrays have no one answer to ==.
@dataclasses.dataclass(frozen=True, eq=False)
class Stacked:
  """The leaves of `count` layers that follow each other, as one: value (count, ...).

  `value` may be anything that stands for an array, as its sharding.
  """

  value: Any
  # `tree.name_of` leaves out this field: the name is that of the first layer's leaf.
  count: int = dataclasses.field(metadata=dict(static=True))

  @property
  def shape(self) -> tuple[int, ...]:
    """The shape of one layer's leaf."""
    return tuple(self.value.shape[1:])

  @property
  def dtype(self):
    return self.value.dtype


jax.tree_util.register_dataclass(Stacked, ['value'], ['count'])


class Place(NamedTuple):
  """Where a leaf is of which layer.

  stack: what stands before the number of the layer. rest: what stands behind it.
  """

  stack: str
  index: int
  rest: str

  def names(self, count: int) -> tuple[str, ...]:
    """The names of this leaf and of its like in the layers that follow, `count` of them
    in all.
    """
    numbers = range(self.index, self.index + count)
    return tuple(f'{self.stack}{number}{self.rest}' for number in numbers)


def place_of(name: str) -> Place | None:
  """The place of a leaf in its layer by its name; None for one of no layer."""
  found = _LAYER.fullmatch(name)
  if found is None:
    return None
  return Place(found['stack'], int(found['index']), found['rest'])


def is_stacked(leaf) -> bool:
  """Is it the leaf of several layers?"""
  return isinstance(leaf, Stacked)


def is_held(held: Tree) -> bool:
  """Has a tree a stacked leaf?"""
  return any(map(is_stacked, jax.tree.leaves(held, is_leaf=is_stacked)))


def hold(named: Tree, plan: Plan, join: Callable = jnp.stack) -> Tree:
  """The held form of a named tree.

  join(leaves) -> the value of a `Stacked`, from the leaves of its layers in order.
  """
  # Most runs on a CPU hold nothing.
  if not plan:
    return named
  leaves = tree.flatten(named)
  # Holes, so that the tree keeps its structure and its names.
  others = {name for names in plan.values() for name in names[1:]}

  def put(name, leaf):
    if name in others:
      return None
    if name not in plan:
      return leaf
    names = plan[name]
    return Stacked(join([leaves[own] for own in names]), len(names))

  return tree.map_named(put, named)


def plan_of(held: Tree) -> Plan:
  """What a held tree holds together."""
  plan = {}
  for path, leaf in _with_holes(held):
    if not is_stacked(leaf):
      continue
    name = tree.name_of(path)
    plan[name] = place_of(name).names(leaf.count)
  return plan


def held_as(named: Tree, like: Tree, join: Callable = jnp.stack) -> Tree:
  """A named tree in the form of `like`, a held tree of the same names."""
  return hold(named, plan_of(like), join)


def unstacked(held: Tree) -> Tree:
  """The named tree of a held one."""
  return Parts().take(held)


class _Origin(NamedTuple):
  """The stack that a part is from, and its number there."""

  part: Any
  stacked: Stacked
  number: int


class Parts:
  """The arrays of the single layers that were taken out of stacked leaves.

  Whatever works by names does so with these. A leaf that it hands on as it is, is
  known again: a loop takes the stack that it is from, and nothing is computed for it.
  """

  def __init__(self):
    # By identity, which nothing else has as long as the part is kept here.
    self._origins: dict[int, _Origin] = {}

  def take(self, held: Tree) -> Tree:
    """The named tree of a held one."""
    leaves = {}
    for path, leaf in _with_holes(held):
      if is_stacked(leaf):
        names = place_of(tree.name_of(path)).names(leaf.count)
        leaves |= zip(names, self._split(leaf), strict=True)
    if not leaves:
      return held

    def put(path, leaf):
      return leaves.get(tree.name_of(path), leaf)

    return jax.tree_util.tree_map_with_path(put, held, is_leaf=_is_whole)

  def _split(self, stacked: Stacked) -> list:
    """The leaves of the layers. Its transpose is one concatenation."""
    value = stacked.value
    # Not by index: of each part the gradient would be as large as the stack.
    pieces = jax.lax.split(value, (1,) * stacked.count)
    parts = []
    for number, piece in enumerate(pieces):
      part = piece.reshape(value.shape[1:])
      self._origins[id(part)] = _Origin(part, stacked, number)
      parts.append(part)
    return parts

  def put_back(self, named: Tree) -> Tree:
    """The held form of a tree in which parts of this are leaves.

    A stack is put back where all its parts are, in their order. Leaves that are from
    elsewhere stay as they are.
    """
    # Nothing was taken out of a stack, so there is none to put back.
    if not self._origins:
      return named
    leaves = tree.flatten(named)
    plan = {}
    for name, leaf in leaves.items():
      origin = self._origins.get(id(leaf))
      place = place_of(name)
      is_first = origin is not None and origin.number == 0
      if not is_first or place is None:
        continue
      names = place.names(origin.stacked.count)
      parts = [leaves.get(own) for own in names]
      # A layer that was edited breaks its stack up.
      if self._find(parts)[0] is origin.stacked:
        plan[name] = names
    return hold(named, plan, self.stack)

  def stack(self, parts) -> jax.Array:
    """The leaves of layers that follow each other as one array: the stack that they are
    from, or else a new one.
    """
    stacked, first = self._find(parts)
    if stacked is None:
      return jnp.stack(parts)
    if len(parts) == stacked.count:
      return stacked.value
    # Some of the layers are a copy.
    return stacked.value[first : first + len(parts)]

  def _find(self, parts) -> tuple[Stacked | None, int]:
    """The stack that these are from, in its order, and the number of the first there;
    (None, 0) where they are from no one stack.
    """
    first = self._origins.get(id(parts[0]))
    if first is None:
      return None, 0
    for number, part in enumerate(parts, first.number):
      origin = self._origins.get(id(part))
      if origin is None or origin.stacked is not first.stacked:
        return None, 0
      if origin.number != number:
        return None, 0
    return first.stacked, first.number


def _is_whole(leaf) -> bool:
  return leaf is None or is_stacked(leaf)


def _with_holes(held: Tree) -> list:
  """(key path, leaf) of every leaf, holes and stacked leaves among them."""
  return jax.tree_util.tree_leaves_with_path(held, is_leaf=_is_whole)
