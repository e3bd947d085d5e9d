"""Rotary positions (Su et al. 2021): how far each layer turns its queries and keys.

>>> rotary_frequencies(Arch(heads=192, positions='rotary'), EVERYWHERE).tolist()
[1.0, 0.009999999776482582]
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tl_jax.models.arch import Arch
from tl_jax.segments import starts_of


class Reach(NamedTuple):
  """What a layer's attention has of its own besides parameters.

  window: its span; 0 for all. rotary: do rotary positions, where the family has them,
  turn its queries and keys? Both are traced where layers are scanned.
  """

  window: Any = 0
  rotary: Any = True


EVERYWHERE = Reach()


def layer_reach(arch: Arch, index: int) -> Reach:
  """The reach of layer `index` of a stack."""
  window = arch.windows[index % len(arch.windows)]
  rotary = arch.rotary_layers[index % len(arch.rotary_layers)]
  return Reach(window, rotary)


def last_positions(segments, positions):
  """Where the text of every token ends: the position (batch, length) of the last token
  of its segment.
  """
  # From the end, the last token of a segment is the first.
  index = jnp.arange(segments.shape[1])
  begin_or_zero = jnp.where(starts_of(segments[:, ::-1]), index, 0)
  ends = jax.lax.cummax(begin_or_zero, axis=1)
  found = jnp.take_along_axis(positions[:, ::-1], ends, 1)
  return found[:, ::-1]


def rotary_frequencies(arch: Arch, reach: Reach, last=None):
  """Radians per position (head_dim / 2,) of a layer; zeros, which turn nothing, for one
  without rotary positions.

  Layers without a window take `rotary_base` and `rotary_scaling`, which is one of
  three. Linear interpolation divides all frequencies (Chen et al. 2023). Llama 3's
  divides the slow frequencies, keeps the fast ones and blends between. LongRoPE's (Ding
  et al. 2024) has divisors for texts up to the original length and others for longer
  ones; then the result is (batch, length, head_dim / 2), for texts that end at the
  positions `last` (batch, length).
  """
  units = jnp.arange(0, arch.head_width, 2, dtype=jnp.float32)
  exponent = -units / arch.head_width
  plain = arch.rotary_base**exponent
  if arch.long_rotary:
    return _long_frequencies(arch, plain, last)
  wide = plain / arch.rotary_scaling[0] if arch.rotary_scaling else plain
  if len(arch.rotary_scaling) == 4:
    _, low, high, length = arch.rotary_scaling
    # How often a frequency turns within the original length.
    turns = length * plain / (2 * jnp.pi)
    kept = jnp.clip((turns - low) / (high - low), 0.0, 1.0)
    wide = (1 - kept) * wide + kept * plain
  if arch.local_rotary_base:
    near = arch.local_rotary_base**exponent
    has_window = jnp.asarray(reach.window) > 0
    wide = jnp.where(has_window, near, wide)
  if all(arch.rotary_layers):
    return wide
  return jnp.where(reach.rotary, wide, 0.0)


def _long_frequencies(arch: Arch, plain, last):
  _, length, *divisors = arch.rotary_scaling
  short, long = jnp.array(divisors, jnp.float32).reshape(2, -1)
  is_long = last[:, :, None] >= length
  return jnp.where(is_long, plain / long, plain / short)


def rotate(arch: Arch, x, positions, frequencies):
  """Rotary positions (Su et al. 2021, eq. 34), halves convention: x (batch, length,
  heads, head).

  LongRoPE multiplies what is turned by a factor, too.
  """
  factor = arch.rotary_scaling[0] if arch.long_rotary else 1.0
  # In float32, as bfloat16 has no room for the angles of late positions.
  angle = positions[:, :, None] * frequencies
  cos = factor * jnp.cos(angle)[:, :, None]
  sin = factor * jnp.sin(angle)[:, :, None]
  half = x.shape[-1] // 2
  first = x[..., :half].astype(jnp.float32)
  second = x[..., half:].astype(jnp.float32)
  first_turned = first * cos - second * sin
  second_turned = second * cos + first * sin
  turned = jnp.concatenate([first_turned, second_turned], -1)
  return turned.astype(x.dtype)
