"""Losses per item in float32, and the sums that every objective is made of.

>>> nll = cross_entropy(jnp.zeros((2, 4)), jnp.array([0, 3]))
>>> [round(float(x), 4) for x in nll]
[1.3863, 1.3863]
"""

import jax
import jax.numpy as jnp

from tl_jax.objectives.types import Array
from tl_jax.segments import one_right, starts_of


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


def symmetric_divergence(log_p: Array, log_q: Array) -> Array:
  """The mean of both Kullback-Leibler divergences of two distributions, in nats.

  They are given by log-probabilities (..., cases); the result is (...).
  """
  # (p - q)(log p - log q) is the sum of both directions.
  difference = jnp.exp(log_p) - jnp.exp(log_q)
  both_ways = difference * (log_p - log_q)
  return both_ways.sum(-1) / 2


def weighted_sum(values: Array, weights: Array) -> Array:
  """The sum of values * weights in float32.

  A weight of 0 silences even a value that is not finite, as 0 * inf would not.
  """
  weights = weights.astype(jnp.float32)
  products = values.astype(jnp.float32) * weights
  return jnp.where(weights > 0, products, 0.0).sum()


def shift_right(tokens: Array, segments: Array, start: int) -> Array:
  """What a decoder reads to predict `tokens` (rows, length).

  That is `start` at the head of each segment, then each token one place later. Padding
  becomes `start`, too.
  """
  shifted = jnp.where(starts_of(segments), start, one_right(tokens))
  return jnp.where(segments > 0, shifted, start)
