"""Rows that hold several texts: which token belongs to which, and where it stands.

`segments` (rows, length) int32 has the number of the text of every token, from 1 on; 0
is padding.

>>> segments = jnp.array([[1, 1, 2, 2, 2, 0]])
>>> starts_of(segments).astype(int).tolist()
[[1, 0, 1, 0, 0, 1]]
>>> positions_of(segments).tolist()
[[0, 1, 0, 1, 2, 0]]
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp


def segments_of(
  batch: Mapping, tokens: str = 'tokens', segments: str = 'segments'
) -> jax.Array:
  """The segments (rows, length) of a batch. Where it has none, every row is one text
  without padding.
  """
  found = batch.get(segments)
  return jnp.ones_like(batch[tokens]) if found is None else found


def starts_of(segments: jax.Array) -> jax.Array:
  """Boolean (..., length): the first position of each run of one segment number."""
  # -1 is the number of no segment, so that every row begins with a start.
  return segments != one_right(segments, first=-1)


def one_right(array: jax.Array, first: int = 0) -> jax.Array:
  """The array (..., length) one place to the right, `first` in the first place."""
  front = jnp.full_like(array[..., :1], first)
  return jnp.concatenate([front, array[..., :-1]], -1)


def one_left(array: jax.Array) -> jax.Array:
  """The array (..., length) one place to the left, 0 in the last place."""
  back = jnp.zeros_like(array[..., :1])
  return jnp.concatenate([array[..., 1:], back], -1)


def positions_of(segments: jax.Array) -> jax.Array:
  """Positions (rows, length) int32 that restart in each segment; 0 for padding."""
  index = jnp.arange(segments.shape[1], dtype=jnp.int32)[None]
  # Of each position, the latest start that is not after it.
  start_or_zero = jnp.where(starts_of(segments), index, 0)
  start = jax.lax.cummax(start_or_zero, axis=1)
  return jnp.where(segments > 0, index - start, 0)
