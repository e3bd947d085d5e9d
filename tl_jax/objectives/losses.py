"""Losses per item in float32, and the sums that every objective is made of.

>>> nll = cross_entropy(jnp.zeros((2, 4)), jnp.array([0, 3]))
>>> [round(float(x), 4) for x in nll]
[1.3863, 1.3863]
"""

import jax
import jax.numpy as jnp

from tl_jax.leaves import by_platform
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
  chosen = chosen_logits(logits, targets)
  if smoothing:
    uniform = logits.mean(-1)
    chosen = (1 - smoothing) * chosen + smoothing * uniform
  return total - chosen


def chosen_logits(logits: Array, targets: Array) -> Array:
  """The logits (...) of the targets (...), integers, among logits (..., classes).

  On CPU they are looked up. The gradient of that is an array of zeros into which little
  is added, which no other platform makes in one pass with the softmax: there it is a
  sum over all classes but the others.
  """

  def looked_up(logits, targets):
    return jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]

  return by_platform(logits, targets, cpu=looked_up, default=_sum_of_chosen)


@jax.custom_jvp
def _sum_of_chosen(logits: Array, targets: Array) -> Array:
  """The sum (...) of the logits (..., classes) where a class is the target."""
  # What is the same in all parts of a loss, jax makes once in front of their loop, and
  # keeps it: so there is no array of as many zeros as logits.
  zero = (targets[..., None] * 0).astype(logits.dtype)
  return jnp.where(_is_chosen(logits, targets), logits, zero).sum(-1)


@_sum_of_chosen.defjvp
def _sum_of_chosen_jvp(primals, tangents):
  logits, targets = primals
  # Turned around, this product is no more than the gradient times a zero or a one.
  chosen = _is_chosen(logits, targets).astype(logits.dtype)
  return _sum_of_chosen(logits, targets), (tangents[0] * chosen).sum(-1)


def _is_chosen(logits: Array, targets: Array) -> Array:
  """Boolean (..., classes): is a class the target (...)?"""
  classes = jnp.arange(logits.shape[-1], dtype=targets.dtype)
  return classes == targets[..., None]


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
