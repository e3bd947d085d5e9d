"""Disentangled attention: scores of contents against relative positions (DeBERTa, He et
al. 2021, section 3.1).

>>> buckets_by_distance(buckets=8, farthest=16).tolist()
[0, 1, 2, 3, 4, 5, 5, 6, 6, 6, 7, 7, 7, 7, 7, 7, 8]
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from tl_jax.models.arch import Arch
from tl_jax.models.layers import Norm, initializer


class RelativeTable(nn.Module):
  """The vectors (2 * relative_buckets, width) of the relative positions, normed, which
  all layers share.
  """

  arch: Arch

  @nn.compact
  def __call__(self):
    arch = self.arch
    shape = (2 * arch.relative_buckets, arch.width)
    table = self.param('table', initializer(arch), shape)
    return Norm(arch, name='norm')(table)


def buckets_by_distance(buckets: int, farthest: int) -> np.ndarray:
  """The bucket of every distance from 0 to `farthest`, int32 (farthest + 1,): exact
  near, logarithmic far.

  The bucket `buckets` itself, of what is farther than `farthest - 1`, has a vector on
  one side only. Made here and not in the compiled program, whose logarithm may round to
  another bucket.
  """
  exact = buckets // 2
  distance = np.arange(farthest + 1, dtype=np.float32)
  times = np.maximum(distance, exact) / np.float32(exact)
  most = np.float32((farthest - 1) / exact)
  ratio = np.log(times) / np.log(most)
  far = np.ceil(ratio * np.float32(exact - 1)) + exact
  return np.where(distance <= exact, distance, far).astype(np.int32)


def table_rows(arch: Arch, query_positions, key_positions):
  """The row (batch, queries, keys) of the table for the distance from each key to each
  query.
  """
  distance = query_positions[:, :, None] - key_positions[:, None, :]
  buckets = arch.relative_buckets
  farthest = arch.relative_distance
  known = jnp.asarray(buckets_by_distance(buckets, farthest))
  # Beyond the farthest distance all have one bucket.
  near = jnp.minimum(jnp.abs(distance), farthest)
  bucket = jnp.sign(distance) * known[near]
  # The middle row is of the distance 0, as buckets have a sign.
  return jnp.clip(bucket + buckets, 0, 2 * buckets - 1)


def position_scores(query, keys, position_query, position_keys, rows):
  """Content to position and position to content (equation 4), float32 (batch, heads,
  queries, keys), unscaled.

  query (batch, queries, heads, head); keys (batch, heads, keys, head); position_query
  and position_keys (table rows, heads, head), made of the table by the maps of query
  and key; rows (batch, queries, keys) of the table.
  """
  content_to_position = jnp.einsum('bqhd,phd->bhqp', query, position_keys)
  position_to_content = jnp.einsum('bhkd,phd->bhkp', keys, position_query)
  rows = rows[:, None]
  there = jnp.take_along_axis(content_to_position, rows, -1)
  # Scores of keys against positions have keys first, so they are turned back.
  back = jnp.take_along_axis(position_to_content, rows.swapaxes(2, 3), -1)
  back = back.swapaxes(2, 3)
  return (there + back).astype(jnp.float32)
