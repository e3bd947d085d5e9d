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
  """Every leaf by its name, in tree order.

  None is a hole and has no name. Errors: ValueError where two leaves share a name.
  """
  leaves = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    name = name_of(path)
    if name in leaves:
      raise ValueError(f'two leaves of the tree are called {name!r}')
    leaves[name] = leaf
  return leaves


def unflatten(leaves: dict[str, Any]) -> dict:
  """The nested dict whose leaves have these names.

  It is the inverse of `flatten` for nested dicts. Errors: ValueError where one name is
  also the beginning of another, as `a` and `a/b`.
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

  def with_name(path, *leaves):
    return function(name_of(path), *leaves)

  return jax.tree_util.tree_map_with_path(with_name, tree, *rest, is_leaf=is_leaf)


def matcher(*patterns: str) -> Callable[[str], bool]:
  """A predicate of names: does any of the regular expressions match the whole name?"""
  compiled = [_compile(pattern) for pattern in patterns]
  return lambda name: any(expression.fullmatch(name) for expression in compiled)


def require_match(patterns: Iterable[str], names: Iterable[str], what: str) -> None:
  """Raises ValueError, with the nearest names, for a pattern that matches no name."""
  names = list(names)
  for pattern in patterns:
    expression = _compile(pattern)
    if not any(expression.fullmatch(name) for name in names):
      close = _nearest_to_pattern(pattern, names)
      raise ValueError(
        f'{what}: the pattern {pattern!r} matches no parameter; nearest: {close}'
      )


def _nearest_to_pattern(pattern: str, names: list[str]) -> str:
  """The ends of names that look most like what a pattern spells out."""
  # Whatever is special in a regular expression separates the plain parts.
  separated = re.sub(r'\\.|[\^$.|?*+()\[\]{}]+', '/', pattern)
  plain = [part for part in separated.split('/') if part]
  # Names are compared by as many last parts as the pattern spells out: one
  # 'query/kernel' stands for every layer's.
  tails = {}
  for name in names:
    tail = name.split('/')[-len(plain) :]
    tails['/'.join(tail)] = None
  return nearest('/'.join(plain), tails)


def _compile(pattern: str) -> re.Pattern:
  """The compiled pattern; ValueError that names one that is no regular expression."""
  try:
    return re.compile(pattern)
  except (re.error, TypeError) as error:
    raise ValueError(f'{pattern!r} is not a regular expression: {error}') from error


def nearest(name: str, candidates: Iterable[str], most: int = 3) -> str:
  """The candidates that look most like `name`, for error messages."""
  candidates = [str(candidate) for candidate in candidates]
  close = difflib.get_close_matches(str(name), candidates, n=most, cutoff=0.4)
  # Where nothing is close, any names at all still say what kind of name is wanted.
  found = close or candidates[:most]
  return ', '.join(map(repr, found)) if found else 'none'


def partition(tree: Tree, predicate: Callable[[str], bool]) -> tuple[Tree, Tree]:
  """The leaves whose name satisfies the predicate, and the others.

  Both trees keep the structure, with None in the holes.
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
  """Fills the holes of one tree with the leaves of the other.

  It is the inverse of `partition`. A hole may stand for a whole subtree, so that a tree
  with structured leaves combines with one without. Errors: ValueError where both trees
  have a leaf, or nodes of different kinds.
  """
  return _combine(first, second, ())


def _combine(first, second, path):
  """`combine` of the subtrees at a jax key path."""
  if first is None:
    return second
  if second is None:
    return first
  if _is_leaf(first) or _is_leaf(second):
    # A subtree beside a leaf must be all holes, as of a structured leaf.
    if jax.tree.leaves(first) and jax.tree.leaves(second):
      raise ValueError(f'both trees have a leaf at {name_of(path)!r}')
    return first if jax.tree.leaves(first) else second
  children, structure = _open(first)
  others, other_structure = _open(second)
  if structure != other_structure:
    raise ValueError(
      f'the trees differ at {name_of(path)!r}: {structure} and {other_structure}'
    )
  combined = []
  for (step, child), (_, other) in zip(children, others, strict=True):
    combined.append(_combine(child, other, path + step))
  return structure.unflatten(combined)


def _is_leaf(node) -> bool:
  return jax.tree_util.all_leaves([node])


def _open(node):
  """The children of a node and the structure that holds them.

  Each child comes with the step of the key path that leads to it.
  """
  # jax opens nodes down to the leaves; here every child counts as a leaf.
  is_child = lambda child: child is not node
  return jax.tree_util.tree_flatten_with_path(node, is_leaf=is_child)


def count(tree: Tree) -> int:
  """The number of scalars in all leaves."""
  # A leaf may be a Python number, which has no shape of its own.
  shapes = [np.shape(leaf) for leaf in jax.tree.leaves(tree)]
  return sum(map(math.prod, shapes))
