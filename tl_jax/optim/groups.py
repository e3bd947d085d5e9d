"""Groups of parameters by name: some learn slower, some do not decay, some are frozen.

>>> groups = parse_groups(((r'.*bias', {'decay': 0.0}), (r'embedding/.*', None)))
>>> group_of('head/bias', groups), group_of('embedding/tokens', groups), group_of('head/kernel', groups)
(Group(scale=1.0, decay=0.0), None, Group(scale=1.0, decay=None))
"""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tl_jax import tree
from tl_jax.config import ConfigError, NonNegative, struct

Groups = tuple[tuple[str, 'Group | None'], ...]


@dataclasses.dataclass(frozen=True)
class Group:
  """What is different for the parameters of a group: a multiplier of the rate, and a
  decay of their own.
  """

  scale: NonNegative = 1.0
  decay: NonNegative | None = None


def parse_groups(groups: Sequence[Any], path: str = 'optim.groups') -> Groups:
  """((regex, Group or None), ...) from ((regex, {scale, decay} or None), ...);
  ConfigError names a wrong one.
  """
  parsed = []
  for index, group in enumerate(groups):
    where = f'{path}[{index}]'
    if (
      not isinstance(group, (tuple, list))
      or len(group) != 2
      or not isinstance(group[0], str)
    ):
      raise ConfigError(f'{where}: must be (regex, overrides), got {group!r}')
    pattern, overrides = group
    try:
      re.compile(pattern)
    except re.error as error:
      raise ConfigError(
        f'{where}: {pattern!r} is not a regular expression: {error}'
      ) from error
    parsed.append(
      (pattern, None if overrides is None else struct(Group, overrides, where))
    )
  return tuple(parsed)


def group_of(name: str, groups: Groups) -> Group | None:
  """The group of the first regex that matches the whole name; None is frozen; Group()
  where none matches.
  """
  for pattern, group in groups:
    if re.fullmatch(pattern, name):
      return group
  return Group()


def check_groups(
  groups: Sequence[Any], names: Iterable[str], path: str = 'optim.groups'
) -> None:
  """ValueError for a group whose regex matches none of the names, with the nearest
  ones.
  """
  tree.require_match([pattern for pattern, _ in groups], names, path)


def freeze(
  inner: optax.GradientTransformation, groups: Groups
) -> optax.GradientTransformation:
  """`inner` over the leaves of groups other than None; the others get no state and
  updates of zero.
  """
  if all(group is not None for _, group in groups):
    return inner

  def split(params):
    return tree.partition(params, lambda name: group_of(name, groups) is not None)

  def update(updates, state, params=None):
    moved, held = split(updates)
    moved, state = inner.update(
      moved, state, None if params is None else split(params)[0]
    )
    return tree.combine(moved, jax.tree.map(jnp.zeros_like, held)), state

  return optax.GradientTransformation(
    lambda params: inner.init(split(params)[0]), update
  )
