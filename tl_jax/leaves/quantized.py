"""A held matrix in few bits.

It is in bfloat16, in int8 by column, or in the four-bit normal floats of QLoRA.

>>> full = jnp.linspace(-1.0, 1.0, 128).reshape(64, 2)
>>> w = quantize(full, 'int8')
>>> w.codes.dtype.name, w.shape, bool(jnp.abs(w.dense() - full).max() < 0.005)
('int8', (64, 2), True)
"""

from typing import Literal, get_args

import jax.numpy as jnp
import numpy as np

from tl_jax.leaves.structure import Array, matrix, require_whole, static

# The 16 values of NF4 (Dettmers et al. 2023, appendix E): quantiles of the normal,
# scaled into [-1, 1].
NF4 = np.array(
  [
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
  ],
  np.float32,
)
# Entries of a column that share a scale in NF4.
BLOCK = 64
Kind = Literal['bfloat16', 'int8', 'nf4']


@matrix
class Quantized:
  """A held matrix (in, out) as codes and scales.

  It is never trained; what changes it goes into a leaf around it.

  bfloat16: codes (in, out) bfloat16, no scale. A product in bfloat16 makes as much of
    the matrix anyway, in every step.
  int8: codes (in, out) int8, scale (1, out). The largest of each column is 127
    (LLM.int8, Dettmers et al. 2022).
  nf4: codes (in / 2, out) uint8, two entries of a column to a byte, and scale (in / 64,
    out). The largest of 64 entries that follow each other in a column is 1 (QLoRA,
    Dettmers et al. 2023, section 3).
  """

  codes: Array
  scale: Array
  kind: str = static('int8')

  def dense(self) -> Array:
    """The plain matrix (..., in, out), float32."""
    if self.kind == 'bfloat16':
      require_whole(self, 'codes')
      return self.codes.astype(jnp.float32)
    require_whole(self, 'codes', 'scale')
    if self.kind == 'int8':
      return self.codes.astype(self.scale.dtype) * self.scale
    # The first of two entries is in the upper half of its byte.
    halves = jnp.stack([self.codes >> 4, self.codes & 15], -2)
    values = jnp.asarray(NF4)[halves.astype(jnp.int32)]
    *stack, half, _, width = values.shape
    blocks = values.reshape(*stack, self.scale.shape[-2], -1, width)
    scaled = blocks * self.scale[..., None, :]
    return scaled.reshape(*stack, 2 * half, width)

  @property
  def shape(self) -> tuple[int, ...]:
    *stack, size, width = self.codes.shape
    if self.kind == 'nf4':
      size = 2 * size
    return (*stack, size, width)

  @property
  def dtype(self):
    # What `dense` returns, not what is stored.
    if self.kind == 'bfloat16':
      return jnp.dtype('float32')
    return self.scale.dtype


def quantize(w: Array, kind: Kind = 'int8') -> Quantized:
  """A matrix (in, out) in 16, 8 or 4 bits.

  Errors: ValueError for another kind, and for nf4 where `in` is no multiple of 64.
  """
  kinds = get_args(Kind)
  if kind not in kinds:
    raise ValueError(
      f'quantize: kind is {kind!r}, but must be one of {", ".join(kinds)}'
    )
  if kind == 'bfloat16':
    return Quantized(w.astype(jnp.bfloat16), None, kind)
  wide = w.astype(jnp.float32)
  if kind == 'int8':
    scale = jnp.abs(wide).max(-2, keepdims=True) / 127
    codes = jnp.round(wide / _divisor(scale)).astype(jnp.int8)
    return Quantized(codes, scale, kind)

  *stack, size, width = w.shape
  if size % BLOCK:
    raise ValueError(
      f'quantize: nf4 takes {BLOCK} entries of a column at a time, which do not divide '
      f'{size}'
    )
  blocks = wide.reshape(*stack, size // BLOCK, BLOCK, width)
  scale = jnp.abs(blocks).max(-2)
  values = blocks / _divisor(scale)[..., None, :]
  # The nearest value: the number of middles between neighbours that are below.
  middles = jnp.asarray((NF4[1:] + NF4[:-1]) / 2)
  codes = jnp.searchsorted(middles, values.reshape(*stack, size, width))
  pairs = codes.astype(jnp.uint8).reshape(*stack, size // 2, 2, width)
  packed = pairs[..., 0, :] << 4 | pairs[..., 1, :]
  return Quantized(packed, scale, kind)


def _divisor(scale: Array) -> Array:
  """The scale, with 1 for the 0 of entries that are all zero."""
  return jnp.where(scale == 0, 1, scale)
