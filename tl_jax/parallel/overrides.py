"""Placement of single arrays, where a preset cuts them in another way than is wanted.

>>> overrides = parse_overrides((('embedding/tokens', ('fsdp', None)),))
>>> overrides[0].pattern, overrides[0].spec
('embedding/tokens', ('fsdp', None))
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jax.sharding import PartitionSpec

from tl_jax import tree
from tl_jax.config import ConfigError, nearest, regex_pair
from tl_jax.parallel.mesh import AXES, divisors, nearest_number

KEY = 'config.sharding_overrides'


class Override(NamedTuple):
  """Where the parameters lie whose whole names match a regular expression.

  spec: for each dimension the mesh axis that cuts it, several axes, or None. Dimensions
  that it does not reach are whole.
  """

  pattern: str
  spec: tuple


def parse_overrides(overrides: Sequence[Any]) -> tuple[Override, ...]:
  """The checked overrides. Raises ConfigError that names a wrong one."""
  found = []
  for index, entry in enumerate(overrides):
    path = f'{KEY}[{index}]'
    found.append(_parse(entry, path))
  return tuple(found)


def _parse(entry: Any, path: str) -> Override:
  """One pair of regex and spec."""
  form = "(regex, axes), as ('embedding/tokens', ('fsdp', None))"
  pattern, spec = regex_pair(entry, path, form)
  if not isinstance(spec, (tuple, list)):
    raise ConfigError(
      f'{path}: must have one axis or None for each dimension in a tuple, got {spec!r}'
    )
  return Override(pattern, _parse_spec(spec, path))


def _parse_spec(spec: Sequence[Any], path: str) -> tuple:
  """The spec, with tuples for lists. No axis is unknown, and none is used twice."""
  found = []
  used: list[str] = []
  for entry in spec:
    if isinstance(entry, list):
      entry = tuple(entry)
    found.append(entry)
    if entry is not None:
      used += _several(entry)
  for axis in used:
    if axis not in AXES:
      close = nearest(axis, AXES)
      raise ConfigError(f'{path}: {axis!r} is no axis of the mesh; nearest: {close}')
    if used.count(axis) > 1:
      raise ConfigError(f'{path}: {axis!r} cuts two dimensions; name it once')
  return tuple(found)


def _several(entry: Any) -> tuple:
  """The axes of one dimension that is cut, in a tuple also where it is one."""
  return entry if isinstance(entry, tuple) else (entry,)


def overridden(
  overrides: Sequence[Override], axes: Any, abstract: Any, sizes: Mapping[str, int]
):
  """The logical axes of parameters, with those of the overrides in their places.

  The first override that matches the whole name of a parameter counts.

  Args:
    axes: a tree with a PartitionSpec for every parameter.
    abstract: the shapes, in a tree of the same structure.
    sizes: mesh axis -> its size.
  Raises ConfigError for an axis that cannot cut the array that it shall. A pattern that
  matches nothing here is refused by `require_matches` alone: what is trained and what is
  frozen are two trees.
  """
  if not overrides:
    return axes
  shapes = {name: leaf.shape for name, leaf in tree.flatten(abstract).items()}

  def replaced(name, spec):
    for index, override in enumerate(overrides):
      if re.fullmatch(override.pattern, name):
        path = f'{KEY}[{index}]'
        _require_cut(override.spec, name, shapes[name], sizes, path)
        return PartitionSpec(*override.spec)
    return spec

  is_spec = lambda node: isinstance(node, PartitionSpec)
  return tree.map_named(replaced, axes, is_leaf=is_spec)


def require_matches(overrides: Sequence[Override], names) -> None:
  """Raises ConfigError, with the nearest names, for a pattern that matches none."""
  for index, override in enumerate(overrides):
    try:
      tree.require_match([override.pattern], names, f'{KEY}[{index}]')
    except ValueError as error:
      raise ConfigError(str(error)) from error


def _require_cut(
  spec: tuple, name: str, shape: tuple[int, ...], sizes: Mapping[str, int], path: str
) -> None:
  """Raises ConfigError where a spec does not cut an array into equal parts."""
  if len(spec) > len(shape):
    raise ConfigError(
      f'{path}: {len(spec)} axes, but {name} has {len(shape)} dimensions {shape}; '
      f'nearest: {spec[: len(shape)]}'
    )
  for dimension, (size, entry) in enumerate(zip(shape, spec, strict=False)):
    if entry is None:
      continue
    several = _several(entry)
    parts = math.prod(sizes[axis] for axis in several)
    if size % parts == 0:
      continue
    asked = ' x '.join(f'{axis} {sizes[axis]}' for axis in several)
    best = nearest_number(parts, divisors(size))
    raise ConfigError(
      f'{path}: {asked} does not divide dimension {dimension} of {name}, which is '
      f'{size}; nearest: {best}'
    )
