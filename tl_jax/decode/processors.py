"""What is done to logits before a token is chosen: pure functions of logits (..., vocabulary).

>>> import jax.numpy as jnp
>>> keep_top_k(jnp.array([1.0, 3.0, 2.0]), 2).tolist()
[-inf, 3.0, 2.0]
"""

import jax
import jax.numpy as jnp

from tl_jax.decode.settings import Decoding


def penalize_repetition(logits, seen, penalty: float):
  """Divides the positive and multiplies the negative logits of tokens that were seen (Keskar et al. 2019, section 4.1).

  `seen`: bool, the shape of `logits`. Once per token, however often it was seen.
  """
  return jnp.where(seen, jnp.where(logits < 0, logits * penalty, logits / penalty), logits)


def forbid(logits, tokens: tuple[int, ...]):
  """Makes these tokens impossible."""
  return jnp.where(_among(jnp.arange(logits.shape[-1]), tokens), -jnp.inf, logits)


def keep_top_k(logits, k: int):
  """Keeps the k largest logits, and those equal to the smallest of them (Fan et al. 2018)."""
  least = jax.lax.top_k(logits, min(k, logits.shape[-1]))[0][..., -1:]
  return jnp.where(logits < least, -jnp.inf, logits)


def keep_top_p(logits, p: float):
  """Keeps the fewest most probable tokens whose probabilities add up to `p` or more (Holtzman et al. 2020, eq. 2-3).

  The token that crosses `p` is kept, so there always is one. Of equal tokens the smaller ids come first.
  """
  # From the least probable on, so that the small ones are added up before they vanish beside the large ones.
  order = jnp.flip(jnp.argsort(logits, axis=-1, descending=True, stable=True), -1)
  ascending = jnp.take_along_axis(logits, order, -1)
  kept = jnp.cumsum(jax.nn.softmax(ascending, axis=-1), axis=-1) > 1 - p
  kept = kept.at[..., -1].set(True)
  ranks = jnp.argsort(order, axis=-1)
  return jnp.where(jnp.take_along_axis(kept, ranks, -1), logits, -jnp.inf)


def keep_min_p(logits, p: float):
  """Keeps the tokens at least `p` times as probable as the most probable one (Nguyen et al. 2024, eq. 2)."""
  probabilities = jax.nn.softmax(logits, axis=-1)
  return jnp.where(probabilities < p * probabilities.max(-1, keepdims=True), -jnp.inf, logits)


def process(logits, seen, step, settings: Decoding):
  """What every method does before choosing new token number `step`: the repetition penalty, then the least length.

  `seen` is None where there is no penalty. Beam search gives log-probabilities for `logits`.
  """
  if seen is not None:
    logits = penalize_repetition(logits, seen, settings.repetition_penalty)
  if settings.min_new_tokens and settings.eos:
    logits = jnp.where(step < settings.min_new_tokens, forbid(logits, settings.eos), logits)
  return logits


def warp(logits, settings: Decoding):
  """What sampling does to processed logits: temperature, top-k, top-p and min-p, in this order."""
  if settings.temperature != 1:
    logits = logits / settings.temperature
  if settings.top_k:
    logits = keep_top_k(logits, settings.top_k)
  if settings.top_p < 1:
    logits = keep_top_p(logits, settings.top_p)
  return keep_min_p(logits, settings.min_p) if settings.min_p else logits


def tokens_in(tokens, segments, vocabulary: int):
  """bool (rows, vocabulary): which tokens a prompt (rows, length) holds, without its padding (segment 0)."""
  def one(row, real):
    return jnp.zeros(vocabulary, bool).at[row].max(real, mode='drop')
  return jax.vmap(one)(tokens, segments > 0)


def ends(tokens, eos: tuple[int, ...]):
  """bool, the shape of `tokens`: is this an end of sequence?"""
  return _among(tokens, eos)


def _among(tokens, wanted):
  found = jnp.zeros(jnp.shape(tokens), bool)
  for token in wanted:
    found = found | (tokens == token)
  return found
