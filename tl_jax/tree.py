"""Names of leaves, and trees taken apart and put together by name.

>>> params = {'dense': {'kernel': 1.0, 'bias': 2.0}}
>>> trained, held = partition(params, lambda name: name.endswith('bias'))
>>> combine(trained, held) == params
True
"""

import difflib
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

Tree = Any


def name_of(path) -> str:
  """The name of a leaf, `layers/3/attention/query/kernel`, from a jax key path.

  flax.nnx holds every array in the attribute `value` of a Variable, which is no part
  of the name: patterns are about the module and its parameter.
  """
  if len(path) > 1 and path[-1] == jax.tree_util.GetAttrKey('value'):
    path = path[:-1]
  return jax.tree_util.keystr(path, simple=True, separator='/')


def flatten(tree: Tree) -> dict[str, Any]:
  """Every leaf by its name, in tree order; None is a hole and has no name. ValueError
  where two leaves share a name.
  """
  leaves = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    name = name_of(path)
    if name in leaves:
      raise ValueError(f'two leaves of the tree are called {name!r}')
    leaves[name] = leaf
  return leaves


def unflatten(leaves: dict[str, Any]) -> dict:
  """The nested dict whose leaves have these names: the inverse of `flatten` for nested
  dicts.

  ValueError where one name is also the beginning of another, as `a` and `a/b`.
  """
  tree = {}
  for name, leaf in leaves.items():
    *parents, last = name.split('/')
    node = tree
    for depth, parent in enumerate(parents, start=1):
      path = '/'.join(parents[:depth])
      if path in leaves:
        raise ValueError(f'the tree has a leaf {path!r} and a leaf {name!r} inside it')
      node = node.setdefault(parent, {})
    node[last] = leaf
  return tree


def map_named(
  function: Callable[..., Any], tree: Tree, *rest: Tree, is_leaf=None
) -> Tree:
  """`jax.tree.map` whose function is given the name of the leaf first."""
  return jax.tree_util.tree_map_with_path(
    lambda path, *leaves: function(name_of(path), *leaves), tree, *rest, is_leaf=is_leaf
  )


def matcher(*patterns: str) -> Callable[[str], bool]:
  """A predicate of names: does any of the regular expressions match the whole name?"""
  compiled = [_compile(pattern) for pattern in patterns]
  return lambda name: any(expression.fullmatch(name) for expression in compiled)


def require_match(patterns: Iterable[str], names: Iterable[str], what: str) -> None:
  """Raises ValueError for the first pattern that matches no name, with the nearest
  names.
  """
  names = list(names)
  for pattern in patterns:
    expression = _compile(pattern)
    if not any(expression.fullmatch(name) for name in names):
      plain = [
        part
        for part in re.sub(r'\\.|[\^$.|?*+()\[\]{}]+', '/', pattern).split('/')
        if part
      ]
      # Names are compared by as many last parts as the pattern spells out: one
      # 'query/kernel' stands for every layer's.
      tails = dict.fromkeys('/'.join(name.split('/')[-len(plain) :]) for name in names)
      raise ValueError(
        f'{what}: the pattern {pattern!r} matches no parameter; nearest: {nearest("/".join(plain), tails)}'
      )


def _compile(pattern: str) -> re.Pattern:
  try:
    return re.compile(pattern)
  except (re.error, TypeError) as error:
    raise ValueError(f'{pattern!r} is not a regular expression: {error}') from error


def nearest(name: str, candidates: Iterable[str], most: int = 3) -> str:
  """The candidates that look most like `name`, for error messages."""
  candidates = [str(candidate) for candidate in candidates]
  found = (
    difflib.get_close_matches(str(name), candidates, n=most, cutoff=0.4)
    or candidates[:most]
  )
  return ', '.join(map(repr, found)) if found else 'none'


def partition(tree: Tree, predicate: Callable[[str], bool]) -> tuple[Tree, Tree]:
  """(leaves whose name satisfies the predicate, the others); each keeps the structure,
  with None in the holes.
  """
  chosen = map_named(lambda name, leaf: leaf if predicate(name) else None, tree)
  others = map_named(lambda name, leaf: None if predicate(name) else leaf, tree)
  return chosen, others


def require_arrays(tree: Tree, what: str) -> None:
  """Raises ValueError for a leaf that is no array or number, with what to pass."""
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    if not hasattr(leaf, 'dtype') and not isinstance(leaf, (bool, int, float, complex)):
      raise ValueError(
        f'{what}: {name_of(path)!r} is no array but {type(leaf).__name__}; pass the '
        'arrays alone, as equinox.partition(model, equinox.is_array)[0]'
      )


def combine(first: Tree, second: Tree) -> Tree:
  """Fills the holes of one tree with the leaves of the other: the inverse of
  `partition`.

  A hole may stand for a whole subtree, so a tree with structured leaves combines with
  one without. Raises ValueError where both trees have a leaf, or nodes of different
  kinds.
  """
  return _combine(first, second, ())


def _combine(first, second, path):
  if first is None or second is None:
    return second if first is None else first
  if _is_leaf(first) or _is_leaf(second):
    if jax.tree.leaves(first) and jax.tree.leaves(second):
      raise ValueError(f'both trees have a leaf at {name_of(path)!r}')
    return first if jax.tree.leaves(first) else second
  children, structure = _open(first)
  others, other_structure = _open(second)
  if structure != other_structure:
    raise ValueError(
      f'the trees differ at {name_of(path)!r}: {structure} and {other_structure}'
    )
  return structure.unflatten(
    [
      _combine(child, other, path + step)
      for (step, child), (_, other) in zip(children, others, strict=True)
    ]
  )


def _is_leaf(node) -> bool:
  return jax.tree_util.all_leaves([node])


def _open(node):
  """The children of a node, each with the step that leads to it, and the structure that
  holds them.
  """
  return jax.tree_util.tree_flatten_with_path(
    node, is_leaf=lambda child: child is not node
  )


def count(tree: Tree) -> int:
  """The number of scalars in all leaves."""
  return sum(math.prod(np.shape(leaf)) for leaf in jax.tree.leaves(tree))
