"""Moments in 8 bits: each a dynamic code times the largest value of its block.

The code is the dynamic quantization of Dettmers et al. 2022, section 2 ("8-bit
Optimizers via Block-wise Quantization"). A decade of magnitudes has twice as many
values as the next smaller one. Signed codes span seven decades with 1 to 64 values
each, unsigned ones with 2 to 128. There are also 0 and 1.

>>> rows = jnp.tile(jnp.array([0.5, 0.0, -2.0, 0.1]), (16, 64))
>>> codes, scales = encode(rows, signed=True)
>>> codes.dtype.name, codes.shape, scales.shape
('uint8', (16, 256), (16, 1))
>>> [round(float(value), 2) for value in decode(codes, scales, signed=True)[0, :4]]
[0.5, 0.0, -1.99, 0.1]
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

# Values that share a scale. The paper has 2048; shorter blocks are more exact, and lie
# on one device where a parameter is cut in more ways.
BLOCK = 256
# Below so many values a scale would take more than it saves.
SHORTEST = 64
# Leaves below this size keep their float32, as in the authors' code.
SMALLEST = 4096
# Which moments there are, by the fields of optax's states: is it signed?
MOMENTS = {'mu': True, 'trace': True, 'nu': False}
# A signed code is the position of its magnitude, counted from here.
ZERO = 127


class Encoded(NamedTuple):
  """A moment in codes; both trees have the structure of the parameters.

  codes: uint8, shaped like the parameter. A leaf that is not encoded is here as it is.
  scales: float32, shaped like the parameter with the blocks of an axis in the place of
  its values; a scalar for a leaf that is not encoded.
  """

  codes: Any
  scales: Any


def block_of(shape: tuple[int, ...]) -> tuple[int, int] | None:
  """(axis, length of a block) for a parameter; None for one that keeps its float32.

  Blocks lie along the last axis that a whole number of them fills, so that codes and
  scales are cut over devices as the parameter is.
  """
  if len(shape) < 2 or math.prod(shape) < SMALLEST:
    return None
  for axis in reversed(range(len(shape))):
    longest = min(BLOCK, shape[axis])
    for length in range(longest, SHORTEST - 1, -1):
      if shape[axis] % length == 0:
        return axis, length
  return None


def in_blocks(inner: optax.GradientTransformation) -> optax.GradientTransformation:
  """`inner` with its moments held in 8 bits between two updates.

  An update is computed from moments that are decoded to float32, before these are
  encoded again. It is made leaf by leaf: which leaves are encoded, and along which axis,
  depends on their whole shape. Layers that are stacked go through `jax.vmap`.
  """

  def each_moment(change, state, *rest):
    changed = {}
    for name, is_signed in MOMENTS.items():
      if name in state._fields:
        moment = getattr(state, name)
        changed[name] = change(moment, is_signed, *rest)
    return state._replace(**changed)

  def init(params):
    return each_moment(_encode_tree, inner.init(params))

  def update(updates, state, params=None):
    wide = each_moment(_decode_tree, state, updates)
    updates, wide = inner.update(updates, wide, params)
    return updates, each_moment(_encode_tree, wide)

  return optax.GradientTransformation(init, update)


def _encode_tree(moment, signed: bool) -> Encoded:
  leaves, structure = jax.tree.flatten(moment)
  codes = []
  scales = []
  for leaf in leaves:
    code, scale = leaf, jnp.ones(())
    if block_of(leaf.shape) is not None:
      code, scale = encode(leaf, signed)
    codes.append(code)
    scales.append(scale)
  return Encoded(structure.unflatten(codes), structure.unflatten(scales))


def _decode_tree(moment: Encoded, signed: bool, like):
  def decode_leaf(leaf, codes, scales):
    if block_of(leaf.shape) is None:
      return codes
    return decode(codes, scales, signed)

  return jax.tree.map(decode_leaf, like, moment.codes, moment.scales)


def encode(values, signed: bool):
  """(codes uint8 shaped like `values`, scales float32): the nearest code of each value.

  A positive value never becomes 0 in an unsigned code, because a second moment of 0
  under a first moment that is not would make an update of any size.
  """
  blocks, axis = _in_blocks(values.astype(jnp.float32))
  sizes = jnp.abs(blocks)
  scales = sizes.max(axis + 1, keepdims=True)
  # XLA's maximum on CPU passes over a NaN, which must stay visible.
  is_lost = jnp.isnan(blocks).any(axis + 1, keepdims=True)
  scales = jnp.where(is_lost, jnp.nan, scales)
  # A block of zeros has no scale.
  shares = jnp.where(scales > 0, sizes / scales, 0.0)
  places = _place(shares, _decades(signed))
  if signed:
    # The code has a 1, and no -1.
    downwards = ZERO - jnp.minimum(places, ZERO)
    codes = jnp.where(blocks < 0, downwards, ZERO + places)
  else:
    least = jnp.where(shares > 0, 2, 1)
    codes = jnp.maximum(places, least) - 1
  codes = codes.astype(jnp.uint8)
  return codes.reshape(values.shape), scales.squeeze(axis + 1)


def decode(codes, scales, signed: bool):
  """The float32 values of `encode`, shaped like `codes`."""
  blocks, axis = _in_blocks(codes.astype(jnp.int32))
  decades = _decades(signed)
  if signed:
    steps = blocks - ZERO
    magnitudes = _magnitude(jnp.abs(steps), decades)
    shares = jnp.sign(steps) * magnitudes
  else:
    magnitudes = _magnitude(blocks + 1, decades)
    shares = jnp.where(blocks == 0, 0.0, magnitudes)
  scales = jnp.expand_dims(scales, axis + 1)
  values = shares * scales
  return values.reshape(codes.shape)


def _in_blocks(values):
  """(values with the blocked axis cut in two: blocks, values of a block; that axis)."""
  shape = values.shape
  axis, length = block_of(shape)
  cut = shape[axis] // length, length
  whole = shape[:axis] + cut + shape[axis + 1 :]
  return values.reshape(whole), axis


# Decade p has n = 2^p values: the middles of n equal parts of [0.1, 1], times 10^(p -
# decades). The place of the j-th of them is n + j, so that places count all magnitudes
# upwards. Arithmetic finds them: a table would be gathered from, number by number,
# which accelerators do slowly.


def _decades(signed: bool) -> int:
  """The last decade: signed codes have decades 0 to 6, unsigned ones 1 to 7."""
  return 6 if signed else 7


def _place(shares, decades: int):
  """The places of the nearest magnitudes of numbers in [0, 1]; 0 for the number 0."""
  smallest = 10.0**-decades
  decade = jnp.zeros(shares.shape, jnp.int32)
  power = jnp.full(shares.shape, smallest)
  for number in range(decades):
    lower = 10.0 ** (number - decades)
    # Halfway between the last value of this decade and the first of the next.
    border = lower * (1 + 0.9 / 2**number)
    is_above = shares > border
    decade = jnp.where(is_above, number + 1, decade)
    power = jnp.where(is_above, 10 * lower, power)
  count = jnp.left_shift(1, decade)
  within = (shares / power - 0.1) / 0.9
  # A share that is no number may have any place: its scale is no number either.
  index = jnp.nan_to_num(within * count)
  index = jnp.clip(index, 0, count - 1)
  places = count + index.astype(jnp.int32)
  largest = 1 - 0.45 / 2**decades
  is_one = shares > (1 + largest) / 2
  places = jnp.where(is_one, 2 ** (decades + 1), places)
  is_zero = shares < 0.275 * smallest
  return jnp.where(is_zero, 0, places)


def _magnitude(places, decades: int):
  """The magnitudes at these places: 0 at 0, and 1 after the last decade."""
  highest_bit = 31 - jax.lax.clz(places)
  power = jnp.zeros(places.shape)
  for number in range(decades + 1):
    is_here = highest_bit == number
    power = jnp.where(is_here, 10.0 ** (number - decades), power)
  # At place 0 there is no bit, and the power stays 0.
  count = jnp.left_shift(1, jnp.maximum(highest_bit, 0))
  middle = (jnp.maximum(places, 1) - count + 0.5) / count
  found = power * (0.1 + 0.9 * middle)
  is_one = places == 2 ** (decades + 1)
  return jnp.where(is_one, 1.0, found)
