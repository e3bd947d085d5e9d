"""The transfer method of a run: what `config.method` names, or several composed.

>>> name_of({'name': 'compose', 'methods': (('lora', {}), ('l2sp', {}))})
'lora+l2sp'
"""

import dataclasses
from collections.abc import Mapping

from tl_jax import config as configs
from tl_jax import transfer


def name_of(group) -> str:
  """How results call the method of `config.method`: several names with + between."""
  if group['name'] != 'compose':
    return group['name']
  return '+'.join(part for part, _ in group['methods'])


def make(group) -> transfer.TransferMethod:
  """The method of `config.method`. Raises ConfigError that names the key."""
  return _make(group, 'config.method')


def _make(group, path: str) -> transfer.TransferMethod:
  """The method of a group at `path`; that of `compose` has groups of its own."""
  if group.get('name') == 'compose':
    parts = configs.struct(Composed, group, path).methods
    return transfer.compose(
      *(
        _make({'name': name} | dict(options), f'{path}.methods.{name}')
        for name, options in parts
      )
    )
  # `compose` is among the names, so that it can be the nearest to a misspelt one.
  constructor = configs.lookup(
    transfer.METHODS | {'compose': None}, group.get('name'), f'{path}.name'
  )
  return configs.call(constructor, group, path)


@dataclasses.dataclass(frozen=True)
class Composed:
  """Several methods as one: ((name, options), ...), in this order."""

  name: str
  methods: tuple

  def __post_init__(self):
    for pair in self.methods:
      if not _is_named_group(pair):
        raise ValueError(f'methods: must be pairs (name, options), got {pair!r}')


def _is_named_group(pair) -> bool:
  """Is this (name, options), as a config writes one method of several?"""
  return len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], Mapping)
