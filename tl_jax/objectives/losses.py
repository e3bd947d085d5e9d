"""Losses per item in float32, and the sums that every objective is made of.

>>> nll = cross_entropy(jnp.zeros((2, 4)), jnp.array([0, 3]))
>>> [round(float(x), 4) for x in nll]
[1.3863, 1.3863]
"""

import jax
import jax.numpy as jnp

from tl_jax.objectives.types import Array, Batch


def cross_entropy(logits: Array, targets: Array, smoothing: float = 0.0) -> Array:
  """The negative log likelihood, float32 (...) in nats, of targets under logits.

  The targets are integers (...), the logits are (..., classes). `smoothing` mixes the
  target with the uniform distribution over all classes (Szegedy et al. 2015, section
  7).
  """
  logits = logits.astype(jnp.float32)
  total = jax.nn.logsumexp(logits, axis=-1)
  chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)
  chosen = chosen[..., 0]
  if smoothing:
    uniform = logits.mean(-1)
    chosen = (1 - smoothing) * chosen + smoothing * uniform
  return total - chosen


def weighted_sum(values: Array, weights: Array) -> Array:
  """The sum of values * weights in float32.

  A weight of 0 silences even a value that is not finite, as 0 * inf would not.
  """
  weights = weights.astype(jnp.float32)
  products = values.astype(jnp.float32) * weights
  return jnp.where(weights > 0, products, 0.0).sum()


def segments_of(
  batch: Batch, tokens: str = 'tokens', segments: str = 'segments'
) -> Array:
  """The segments (rows, length) of a batch; all ones where it has none."""
  if segments in batch:
    return batch[segments]
  return jnp.ones_like(batch[tokens])


def shift_right(tokens: Array, segments: Array, start: int) -> Array:
  """What a decoder reads to predict `tokens` (rows, length).

  That is `start` at the head of each segment, then each token one place later. Padding
  becomes `start`, too.
  """
  shifted = jnp.where(starts_of(segments), start, _one_right(tokens))
  return jnp.where(segments > 0, shifted, start)


def starts_of(segments: Array) -> Array:
  """Boolean (rows, length): the first position of each run of one segment number."""
  # -1 is the number of no segment, so that every row begins with a start.
  return segments != _one_right(segments, first=-1)


def _one_right(array: Array, first: int = 0) -> Array:
  """The array (rows, length) one place to the right, `first` in the first column."""
  return jnp.pad(array[:, :-1], ((0, 0), (1, 0)), constant_values=first)


def positions_of(segments: Array) -> Array:
  """Positions (rows, length) int32 that restart in each segment."""
  index = jnp.arange(segments.shape[1], dtype=jnp.int32)[None]
  # Of each position, the latest start that is not after it.
  start_or_zero = jnp.where(starts_of(segments), index, 0)
  start = jax.lax.cummax(start_or_zero, axis=1)
  return jnp.where(segments > 0, index - start, 0)
