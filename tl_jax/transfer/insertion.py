"""Methods that put new leaves beside those that a model has.

>>> insert({'a': {'b': 1.0}}, {'a/c': 2.0})
{'a': {'b': 1.0, 'c': 2.0}}
"""

from collections.abc import Callable
from typing import Any

from tl_jax import leaves, rng, tree
from tl_jax.transfer.method import (
  TransferMethod,
  filling_method,
  named_leaves,
  select_names_of_head,
  split_leaves,
)

Tree = Any


def insert(params: Tree, new: dict[str, Any]) -> Tree:
  """A nested dict with further leaves, by name.

  Errors: ValueError where there is a leaf already, or no dict to put it in.
  """
  for name, leaf in new.items():
    params = _insert(params, name.split('/'), leaf, name)
  return params


def _insert(params, path: list[str], leaf, name: str):
  """The dict with a leaf at a path; name: the whole name, for errors."""
  if not isinstance(params, dict):
    raise ValueError(
      f'{name!r} cannot be put in: {type(params).__name__} on its way, where a dict '
      'must be'
    )
  first, *rest = path
  if rest:
    leaf = _insert(params.get(first, {}), rest, leaf, name)
  elif params.get(first) is not None:
    raise ValueError(f'{name!r} is there already: two methods put it in')
  return {**params, first: leaf}


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
  """Trains new leaves, the head, and what `also` accepts.

  places(leaves by name) -> {name of a new leaf: what `make` must know of its place}.
    The leaves are arrays or PartitionSpecs.
  make(key, place) -> the new leaf. The key is a stream of its name.
  make_axes(place) -> the PartitionSpecs of the new leaf.
  what: the method, for errors.
  inserts: a pattern that matches the names of the new leaves and of their arrays.
  """
  select_head = select_names_of_head(head, what)

  def split(params, new):
    """The two trees, of arrays or of axes, with the new leaves in the trainable one."""
    named = named_leaves(params)
    # Houlsby adapters train the norms of the model too.
    chosen = {*select_head(named), *filter(also, named)}

    def split_leaf(name, leaf):
      return (leaf, None) if name in chosen else (None, leaf)

    trainable, frozen = split_leaves(split_leaf, params)
    # Each tree has a hole where the other has a leaf, so that both can be combined.
    return insert(trainable, new), insert(frozen, dict.fromkeys(new))

  def init(key, params, axes=None):
    new = {}
    for name, place in places(named_leaves(params)).items():
      new[name] = make(rng.stream(key, name), place)
    return split(params, new)

  def split_axes(axes):
    new = {}
    for name, place in places(named_leaves(axes)).items():
      new[name] = make_axes(place)
    return split(axes, new)

  return filling_method(init, split_axes)._replace(inserts=tree.matcher(inserts))


def require_kernel(named: dict, name: str, what: str):
  """The kernel of this name, or the leaf that edits it, from which a size is taken.

  Errors: ValueError where there is none.
  """
  kernel = named.get(name)
  if kernel is not None:
    return kernel
  if name in named:
    raise ValueError(
      f'{what}: {name!r} was taken by a method before: compose this one first'
    )
  raise ValueError(
    f'{what}: {name!r} does not exist; nearest: {tree.nearest(name, named)}'
  )


def last_axis(spec):
  """The axis of a matrix's outputs, from its PartitionSpec or that of the leaf that
  edits it.
  """
  # The base of an edit may be quantised.
  while leaves.is_structured(spec):
    spec = spec.codes if isinstance(spec, leaves.Quantized) else spec.base
  # A spec may be shorter than the array: the axes that it leaves out are not sharded.
  _, axis_out, *_ = (*spec, None, None)
  return axis_out
