"""Leaves with structure, which stand where an array stood, or beside arrays.

`matmul` and its kin take them as they take arrays.

>>> import jax.numpy as jnp
>>> w = LowRank(jnp.eye(4), jnp.ones((4, 1)), jnp.zeros((1, 4)), scale=2.0)
>>> bool((matmul(jnp.ones((3, 4)), w) == 1.0).all())
True
"""

from tl_jax.leaves.matrices import Directed, Gated, LowRank, Scaled, Subset
from tl_jax.leaves.parts import ACTIVATIONS, Bottleneck, Prefix
from tl_jax.leaves.platforms import by_platform
from tl_jax.leaves.quantized import Quantized, quantize
from tl_jax.leaves.readout import Readout
from tl_jax.leaves.structure import (
  add_bias,
  cast,
  change,
  dense,
  drop,
  fuse,
  is_edited,
  is_structured,
  matmul,
  matmul_transposed,
  squared_change,
  take,
  wide,
)

__all__ = [
  'ACTIVATIONS',
  'Bottleneck',
  'Directed',
  'Gated',
  'LowRank',
  'Prefix',
  'Quantized',
  'Readout',
  'Scaled',
  'Subset',
  'add_bias',
  'by_platform',
  'cast',
  'change',
  'dense',
  'drop',
  'fuse',
  'is_edited',
  'is_structured',
  'matmul',
  'matmul_transposed',
  'quantize',
  'squared_change',
  'take',
  'wide',
]
