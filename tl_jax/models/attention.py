"""Attention inside segments: who may look at whom, where a token stands, and the product itself.

>>> restart_positions(jnp.array([[1, 1, 2, 2, 2, 0]])).tolist()
[[0, 1, 0, 1, 2, 0]]
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from tl_jax.models.arch import Arch
from tl_jax.models.layers import Linear, dropout, initializer, residual_scale


def restart_positions(segments):
  """Positions (batch, length) that count from 0 in each segment (batch, length)."""
  index = jnp.arange(segments.shape[-1])
  before = jnp.pad(segments, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]
  return index - jax.lax.cummax(jnp.where(segments != before, index, 0), axis=1)


def visible(query_segments, key_segments, query_positions=None, key_positions=None, *, window=0):
  """Boolean (batch, queries, keys): same segment, no padding; causal and within the window where positions are given.

  A window w > 0 lets a query see itself and the w - 1 tokens before it; it may be traced.
  """
  mask = (query_segments[:, :, None] == key_segments[:, None, :]) & (key_segments[:, None, :] > 0)
  if query_positions is not None:
    distance = query_positions[:, :, None] - key_positions[:, None, :]
    mask &= (distance >= 0) & ((window == 0) | (distance < window))
  return mask


def near(positions, window):
  """Boolean (batch, queries, keys) of an encoder's band: |distance| <= window / 2; everything where window is 0."""
  distance = jnp.abs(positions[:, :, None] - positions[:, None, :])
  return (window == 0) | (2 * distance <= window)


def relative_bucket(distance, *, both_ways: bool, buckets: int, farthest: int):
  """T5's bucket (Raffel et al. 2020, 2.1) of a relative position, key minus query: exact near, logarithmic far."""
  offset = 0
  if both_ways:
    buckets //= 2
    offset = jnp.where(distance > 0, buckets, 0)
    distance = jnp.abs(distance)
  else:
    distance = jnp.maximum(-distance, 0)
  exact = buckets // 2
  ratio = jnp.log(jnp.maximum(distance, 1).astype(jnp.float32) / exact) / jnp.log(farthest / exact)
  far = exact + (ratio * (buckets - exact)).astype(jnp.int32)
  return offset + jnp.where(distance < exact, distance, jnp.minimum(far, buckets - 1))


class RelativeBias(nn.Module):
  """The bias (batch, heads, queries, keys) that all layers of a T5 stack share."""
  arch: Arch
  both_ways: bool

  @nn.compact
  def __call__(self, query_positions, key_positions):
    arch = self.arch
    table = self.param('kernel', initializer(arch, std=arch.width ** -0.5), (arch.relative_buckets, arch.heads))
    bucket = relative_bucket(key_positions[:, None, :] - query_positions[:, :, None], both_ways=self.both_ways,
                             buckets=arch.relative_buckets, farthest=arch.relative_distance)
    return table[bucket].transpose(0, 3, 1, 2)


def rotate(x, positions, base: float):
  """Rotary positions (Su et al. 2021, eq. 34), halves convention: x (batch, length, heads, head)."""
  half = x.shape[-1] // 2
  angle = positions[:, :, None] * base ** (-jnp.arange(half, dtype=jnp.float32) / half)
  cos, sin = jnp.cos(angle)[:, :, None], jnp.sin(angle)[:, :, None]
  first, second = x[..., :half].astype(jnp.float32), x[..., half:].astype(jnp.float32)
  return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], -1).astype(x.dtype)


class Attention(nn.Module):
  """Multi-head attention (Vaswani et al. 2017, 3.2.2), with grouped keys where the family has them."""
  arch: Arch
  rate: float

  @nn.compact
  def __call__(self, x, memory, mask, bias=None, positions=None, key=None):
    """x (batch, queries, width) looks at memory (batch, keys, width) where mask (batch, queries, keys) allows."""
    arch = self.arch
    query, keys, values = self._project(x, memory)
    if positions is not None and arch.positions == 'rotary':
      query, keys = (rotate(part, positions, arch.rotary_base) for part in (query, keys))
    scale = arch.attention_scale or arch.head_width ** -0.5
    groups = arch.heads // arch.key_heads
    query = query.reshape(*query.shape[:2], arch.key_heads, groups, arch.head_width) * scale
    scores = jnp.einsum('bqhgk,bmhk->bhgqm', query, keys).astype(jnp.float32)
    if bias is not None:
      scores = scores + bias.reshape(-1, arch.key_heads, groups, *bias.shape[2:])
    # Replacing a score, not adding to it, makes the weight of a hidden token exactly zero.
    scores = jnp.where(mask[:, None, None], scores, jnp.finfo(jnp.float32).min)
    weights = dropout(jax.nn.softmax(scores, -1), self.rate, key, 'attention-weights').astype(values.dtype)
    mixed = jnp.einsum('bhgqm,bmhk->bqhgk', weights, values)
    out = Linear(arch.width, arch.bias, initializer(
        arch, residual_scale(arch), (arch.heads * arch.head_width) ** -0.5), name='out')
    return out(mixed.reshape(*x.shape[:2], arch.heads * arch.head_width))

  def _project(self, x, memory):
    arch = self.arch
    linear = functools.partial(Linear, use_bias=arch.bias)
    query_init = initializer(arch, std=(arch.width * arch.head_width) ** -0.5)
    query = linear(arch.heads * arch.head_width, kernel_init=query_init, name='query')(x)
    keys = linear(arch.key_heads * arch.head_width, kernel_init=initializer(arch), name='key')(memory)
    values = linear(arch.key_heads * arch.head_width, kernel_init=initializer(arch), name='value')(memory)
    split = lambda part: part.reshape(*part.shape[:2], -1, arch.head_width)
    return split(query), split(keys), split(values)
