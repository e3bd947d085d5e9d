"""Biases by the distance of query and key (T5, Raffel et al. 2020, section 2.1).

>>> distance = jnp.array([-3, 0, 1])
>>> relative_bucket(distance, both_ways=True, buckets=8, farthest=16).tolist()
[2, 0, 5]
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from tl_jax.models.arch import Arch
from tl_jax.models.layers import initializer


def relative_bucket(distance, *, both_ways: bool, buckets: int, farthest: int):
  """T5's bucket (Raffel et al. 2020, 2.1) of a relative position, key minus query:
  exact near, logarithmic far.
  """
  offset = 0
  if both_ways:
    buckets //= 2
    offset = jnp.where(distance > 0, buckets, 0)
    distance = jnp.abs(distance)
  else:
    distance = jnp.maximum(-distance, 0)
  exact = buckets // 2
  # At least 1: what the `where` below throws away is computed for near keys, too.
  times = jnp.maximum(distance, 1).astype(jnp.float32) / exact
  ratio = jnp.log(times) / jnp.log(farthest / exact)
  far = exact + (ratio * (buckets - exact)).astype(jnp.int32)
  far = jnp.minimum(far, buckets - 1)
  return offset + jnp.where(distance < exact, distance, far)


class PositionBias(NamedTuple):
  """A bias by position that is not looked up yet.

  table (buckets, heads). Positions (batch, queries) and (batch, keys).
  """

  table: Any
  query_positions: Any
  key_positions: Any
  both_ways: bool
  farthest: int

  def dense(self):
    """The bias (batch, heads, queries, keys)."""
    bucket = bucket_of(
      self.query_positions,
      self.key_positions,
      both_ways=self.both_ways,
      buckets=self.table.shape[0],
      farthest=self.farthest,
    )
    return self.table[bucket].transpose(0, 3, 1, 2)


def bucket_of(query_positions, key_positions, **known):
  """The bucket (batch, queries, keys) of each key for each query; known: as
  `relative_bucket` has it.
  """
  distance = key_positions[:, None, :] - query_positions[:, :, None]
  return relative_bucket(distance, **known)


class RelativeBias(nn.Module):
  """The bias (batch, heads, queries, keys) that all layers of a T5 stack share, or one
  of UMT5 has.

  whole: else it is not looked up, and a `PositionBias`.
  """

  arch: Arch
  both_ways: bool
  whole: bool = True

  @nn.compact
  def __call__(self, query_positions, key_positions):
    arch = self.arch
    draw = initializer(arch, std=arch.width**-0.5)
    table = self.param('kernel', draw, (arch.relative_buckets, arch.heads))
    bias = PositionBias(
      table, query_positions, key_positions, self.both_ways, arch.relative_distance
    )
    return bias.dense() if self.whole else bias
