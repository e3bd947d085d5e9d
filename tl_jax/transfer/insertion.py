"""Methods that put new leaves beside those that a model has.

>>> insert({'a': {'b': 1.0}}, {'a/c': 2.0})
{'a': {'b': 1.0, 'c': 2.0}}
"""

from collections.abc import Callable
from typing import Any

import jax

from tl_jax import leaves, rng, tree
from tl_jax.transfer.method import (
  TransferMethod,
  filling_method,
  is_whole,
  leaf_names,
  select_names_of_head,
  split_leaves,
)

Tree = Any


def insert(params: Tree, new: dict[str, Any]) -> Tree:
  """A nested dict with further leaves, by name. ValueError where there is one already,
  or no dict to put it in.
  """
  for name, leaf in new.items():
    params = _insert(params, name.split('/'), leaf, name)
  return params


def _insert(params, path: list[str], leaf, name: str):
  if not isinstance(params, dict):
    raise ValueError(
      f'{name!r} cannot be put in: {type(params).__name__} on its way, where a dict must be'
    )
  first, *rest = path
  if not rest and params.get(first) is not None:
    raise ValueError(f'{name!r} is there already: two methods put it in')
  return {
    **params,
    first: _insert(params.get(first, {}), rest, leaf, name) if rest else leaf,
  }


def inserting_method(
  places: Callable,
  make: Callable,
  make_axes: Callable,
  *,
  head: str | None,
  what: str,
  inserts: str,
  also: Callable[[str], bool] = lambda name: False,
) -> TransferMethod:
  """Trains new leaves, whose names and those of their arrays `inserts` matches, the
  head, and what `also` accepts.

  places(leaves by name) -> {name of a new leaf: what `make` must know of its place},
  for arrays or PartitionSpecs;
  make(key, place) -> the leaf; make_axes(place) -> its PartitionSpecs. The key is a
  stream of the new leaf's name.
  """
  select_head = select_names_of_head(head, what)

  def split(params, new):
    names = leaf_names(params)
    chosen = {*select_head(names), *filter(also, names)}
    trainable, frozen = split_leaves(
      lambda name, leaf: (leaf, None) if name in chosen else (None, leaf), params
    )
    return insert(trainable, new), insert(frozen, dict.fromkeys(new))

  def by_name(params):
    return {
      tree.name_of(path): leaf
      for path, leaf in jax.tree_util.tree_leaves_with_path(params, is_leaf=is_whole)
    }

  def init(key, params, axes=None):
    found = places(by_name(params))
    return split(
      params,
      {name: make(rng.stream(key, name), place) for name, place in found.items()},
    )

  def split_axes(axes):
    return split(
      axes, {name: make_axes(place) for name, place in places(by_name(axes)).items()}
    )

  return filling_method(init, split_axes)._replace(inserts=tree.matcher(inserts))


def require_kernel(named: dict, name: str, what: str):
  """The kernel of this name, or of the leaf that edits it. ValueError where there is
  none to take the size from.
  """
  if named.get(name) is None:
    taken = name in named
    raise ValueError(
      f'{what}: {name!r} '
      + (
        'was taken by a method before: compose this one first'
        if taken
        else f'does not exist; nearest: {tree.nearest(name, named)}'
      )
    )
  return named[name]


def last_axis(spec):
  """The axis of a matrix's outputs, from its PartitionSpec or that of the leaf that
  edits it.
  """
  while leaves.is_structured(spec):
    spec = spec.codes if isinstance(spec, leaves.Quantized) else spec.base
  return (*spec, None, None)[1]
