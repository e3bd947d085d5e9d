"""Attention as products of whole arrays: scores of all pairs, their softmax, and what
every query gathers of the values.

>>> scores = jnp.zeros((1, 1, 1, 1, 4))
>>> softmax(scores, jnp.float32)[0, 0, 0, 0].tolist()
[0.25, 0.25, 0.25, 0.25]
"""

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.leaves.products import copy_swapped, multiply

# The score of a hidden key.
LOWEST = float(np.finfo(np.float32).min)


def attention_scores(query, keys):
  """Scores (batch, key heads, groups, queries, keys) in float32 of query (batch,
  queries, key heads, groups, head) and keys (batch, key heads, keys, head).
  """
  if query.dtype != jnp.bfloat16:
    return jnp.einsum('bqhgk,bhmk->bhgqm', query, keys).astype(jnp.float32)
  # The queries of all heads that share a key head are the rows of one product.
  rows, queries, heads, groups, head = query.shape
  query = copy_swapped(query).swapaxes(2, 3)
  query = query.reshape(rows, heads, groups * queries, head)
  scores = multiply(query, keys, True, jnp.float32)
  return scores.reshape(rows, heads, groups, queries, keys.shape[2])


def masked_scores(query, keys, mask, bias=None, cap: float = 0.0):
  """Scores as `attention_scores` has them, capped where there is a cap, and a bias
  (batch or 1, key heads, groups, queries, keys) added; the lowest number where mask
  (batch, queries, keys) hides a key.
  """
  scores = attention_scores(query, keys)
  if cap:
    scores = cap * jnp.tanh(scores / cap)
  if bias is not None:
    scores = scores + bias
  # Replacing a score, not adding to it, makes the weight of a hidden token exactly
  # zero.
  return jnp.where(mask[:, None, None], scores, LOWEST)


def weighted_values(weights, values):
  """The sums (batch, queries, key heads, groups, head) of values (batch, key heads,
  keys, head) that weights (batch, key heads, groups, queries, keys) ask for.
  """
  if values.dtype != jnp.bfloat16:
    return jnp.einsum('bhgqm,bhmk->bqhgk', weights, values)
  rows, heads, groups, queries, count = weights.shape
  weights = weights.reshape(rows, heads, groups * queries, count)
  mixed = multiply(weights, values).reshape(rows, heads, groups, queries, -1)
  return copy_swapped(mixed.swapaxes(2, 3))


def softmax(scores, dtype):
  """The softmax of float32 scores over the last axis in `dtype`; of bfloat16 nothing
  wider is kept for the gradient.
  """
  if dtype == jnp.bfloat16:
    return _softmax_narrow(scores)
  return jax.nn.softmax(scores, -1).astype(dtype)


@jax.custom_vjp
def _softmax_narrow(scores):
  return jax.nn.softmax(scores, -1).astype(jnp.bfloat16)


def _softmax_forward(scores):
  weights = _softmax_narrow(scores)
  return weights, weights


def _softmax_backward(weights, gradient):
  weights = weights.astype(jnp.float32)
  gradient = gradient.astype(jnp.float32)
  scaled = weights * gradient
  return (scaled - weights * scaled.sum(-1, keepdims=True),)


_softmax_narrow.defvjp(_softmax_forward, _softmax_backward)
