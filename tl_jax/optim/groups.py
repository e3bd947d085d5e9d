"""Groups of parameters by name: some learn slower, some do not decay, some are frozen.

>>> groups = parse_groups(((r'.*bias', {'decay': 0.0}), (r'embedding/.*', None)))
>>> group_of('head/bias', groups), group_of('head/kernel', groups)
(Group(scale=1.0, decay=0.0), Group(scale=1.0, decay=None))
>>> group_of('embedding/tokens', groups) is None
True
"""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tl_jax import tree
from tl_jax.config import NonNegative, regex_pair, struct

Groups = tuple[tuple[str, 'Group | None'], ...]


@dataclasses.dataclass(frozen=True)
class Group:
  """What is different for the parameters of a group.

  scale: a multiplier of the rate. decay: their own; None for that of all parameters.
  """

  scale: NonNegative = 1.0
  decay: NonNegative | None = None


def parse_groups(groups: Sequence[Any], path: str = 'optim.groups') -> Groups:
  """The checked groups ((regex, Group or None), ...).

  A config writes them as ((regex, {scale, decay} or None), ...). Errors: ConfigError
  that names a wrong one.
  """
  parsed = []
  for index, group in enumerate(groups):
    parsed.append(_parse_group(group, f'{path}[{index}]'))
  return tuple(parsed)


def _parse_group(group, path: str) -> tuple[str, Group | None]:
  """One pair of regex and Group; ConfigError that begins with `path`."""
  pattern, overrides = regex_pair(group, path, '(regex, overrides)')
  if overrides is None:
    return pattern, None
  return pattern, struct(Group, overrides, path)


def group_of(name: str, groups: Groups) -> Group | None:
  """The group of the first regex that matches the whole name.

  None means frozen. Where no regex matches it is Group(), which changes nothing.
  """
  for pattern, group in groups:
    if re.fullmatch(pattern, name):
      return group
  return Group()


def check_groups(
  groups: Sequence[Any], names: Iterable[str], path: str = 'optim.groups'
) -> None:
  """Refuses a group whose regex matches no name: ValueError with the nearest ones."""
  tree.require_match([pattern for pattern, _ in groups], names, path)


def freeze(
  inner: optax.GradientTransformation, groups: Groups
) -> optax.GradientTransformation:
  """`inner` over the leaves that are not frozen.

  Frozen leaves get no state and updates of zero.
  """
  if all(group is not None for _, group in groups):
    return inner

  def split(params):
    return tree.partition(params, lambda name: group_of(name, groups) is not None)

  def init(params):
    moved, _ = split(params)
    return inner.init(moved)

  def update(updates, state, params=None):
    moved, held = split(updates)
    if params is not None:
      params, _ = split(params)
    moved, state = inner.update(moved, state, params)
    # Zeros rather than holes: optax adds updates to all parameters.
    return tree.combine(moved, jax.tree.map(jnp.zeros_like, held)), state

  return optax.GradientTransformation(init, update)
