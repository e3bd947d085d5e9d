"""Configs: loaded from files, overridden by text, checked into frozen dataclasses and
keyword arguments.

>>> def adamw(*, lr: Positive = 1e-3, decay: NonNegative = 0.0):
...   return lr, decay
>>> call(adamw, {'name': 'adamw', 'lr': 1}, 'config.optim')
(1.0, 0.0)
"""

from tl_jax.config.checks import (
  ConfigError,
  Count,
  Finite,
  Fraction,
  Natural,
  NonNegative,
  Part,
  Positive,
  Probability,
  Range,
  call,
  check,
  lookup,
  plain,
  regex_pair,
  struct,
)
from tl_jax.config.comparing import compare, require_same
from tl_jax.config.loading import execute, guard, load, locate, read
from tl_jax.config.near import beside, near_paths, nearest
from tl_jax.config.overrides import (
  arguments,
  digest,
  group,
  names,
  override,
  standing_twice,
  to_json,
  typed,
  value_at,
)
from tl_jax.config.published import dropout
from tl_jax.config.renamed import with_former_names, with_new_names

__all__ = [
  'ConfigError',
  'Count',
  'Finite',
  'Fraction',
  'Natural',
  'NonNegative',
  'Positive',
  'Probability',
  'Part',
  'Range',
  'arguments',
  'beside',
  'call',
  'check',
  'compare',
  'digest',
  'dropout',
  'execute',
  'group',
  'guard',
  'load',
  'locate',
  'lookup',
  'names',
  'near_paths',
  'nearest',
  'override',
  'plain',
  'read',
  'regex_pair',
  'require_same',
  'standing_twice',
  'struct',
  'to_json',
  'typed',
  'value_at',
  'with_former_names',
  'with_new_names',
]
