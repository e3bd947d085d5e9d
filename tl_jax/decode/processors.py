"""What is done to logits before a token is chosen: pure functions of logits (...,
vocabulary).

>>> import jax.numpy as jnp
>>> keep_top_k(jnp.array([1.0, 3.0, 2.0]), 2).tolist()
[-inf, 3.0, 2.0]
"""

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.decode.settings import Decoding


def penalize_repetition(logits, seen, penalty: float):
  """Divides the positive and multiplies the negative logits of tokens that were seen
  (Keskar et al. 2019, section 4.1).

  `seen`: bool, the shape of `logits`. Once per token, however often it was seen.
  """
  return jnp.where(
    seen, jnp.where(logits < 0, logits * penalty, logits / penalty), logits
  )


def forbid(logits, tokens: tuple[int, ...]):
  """Makes these tokens impossible."""
  return jnp.where(_are(tokens, logits), -jnp.inf, logits)


def force(logits, tokens: tuple[int, ...]):
  """Makes these tokens certain, or equally likely where there are several."""
  return jnp.where(_are(tokens, logits), 0.0, -jnp.inf)


def forbid_repeats(logits, history, end, size: int):
  """Makes impossible what would complete `size` tokens that came before.

  Paulus et al. 2018, section 2.5. history: int32 (..., length), of which `end` tokens
  count; negative ones are none. `size` is static, `end` may be traced.
  """
  count = history.shape[-1] - size + 1
  if count < 1:
    return logits
  grams = jnp.stack([history[..., i : i + count] for i in range(size)], -1)
  last = _last(history, end, size - 1)
  same = (grams[..., :-1] == last[..., None, :]).all(-1) & (grams >= 0).all(-1)
  same &= (jnp.arange(count) + size <= end) & (end >= size - 1)
  following = jnp.broadcast_to(grams[..., -1], (*logits.shape[:-1], count))
  same = jnp.broadcast_to(same, following.shape).reshape(-1, count)
  mark = lambda row, found: (
    jnp.zeros(logits.shape[-1], bool).at[row].max(found, mode='drop')
  )
  banned = jax.vmap(mark)(following.reshape(-1, count), same)
  return jnp.where(banned.reshape(logits.shape), -jnp.inf, logits)


def forbid_words(logits, history, end, words: tuple[tuple[int, ...], ...]):
  """Makes impossible what would complete one of these sequences of ids.

  history and end: as of `forbid_repeats`; history may be None where all have one id.
  """
  logits = forbid(logits, tuple(word[0] for word in words if len(word) == 1))
  for word in words:
    if 1 < len(word) <= history.shape[-1]:
      begun = (_last(history, end, len(word) - 1) == jnp.array(word[:-1])).all(-1)
      begun &= end >= len(word) - 1
      logits = jnp.where(begun[..., None], forbid(logits, word[-1:]), logits)
  return logits


def _last(history, end, count: int):
  """The `count` tokens before `end`: (..., count)."""
  start = jnp.maximum(end - count, 0)
  return jax.lax.dynamic_slice_in_dim(history, start, count, axis=-1)


def keep_top_k(logits, k: int):
  """Keeps the k largest logits, and those equal to the smallest of them (Fan et al.
  2018).
  """
  least = jax.lax.top_k(logits, min(k, logits.shape[-1]))[0][..., -1:]
  return jnp.where(logits < least, -jnp.inf, logits)


def keep_top_p(logits, p: float):
  """Keeps the fewest most probable tokens whose probabilities add up to `p` or more
  (Holtzman et al. 2020, eq. 2-3).

  The token that crosses `p` is kept, so there always is one. Of equal tokens the
  smaller ids come first.
  """
  # From the least probable on, so that the small ones are added up before they vanish
  # beside the large ones.
  order = jnp.flip(jnp.argsort(logits, axis=-1, descending=True, stable=True), -1)
  ascending = jnp.take_along_axis(logits, order, -1)
  kept = jnp.cumsum(jax.nn.softmax(ascending, axis=-1), axis=-1) > 1 - p
  kept = kept.at[..., -1].set(True)
  ranks = jnp.argsort(order, axis=-1)
  return jnp.where(jnp.take_along_axis(kept, ranks, -1), logits, -jnp.inf)


def keep_min_p(logits, p: float):
  """Keeps the tokens at least `p` times as probable as the most probable one (Nguyen et
  al. 2024, eq. 2).
  """
  probabilities = jax.nn.softmax(logits, axis=-1)
  return jnp.where(
    probabilities < p * probabilities.max(-1, keepdims=True), -jnp.inf, logits
  )


def process(logits, seen, step, settings: Decoding, history=None):
  """What every method does before choosing new token number `step`, in the order of
  transformers.

  `seen` is None where there is no penalty; `history`, the tokens of the prompt and the
  new ones, (..., length + max_new_tokens), is None where `prompt_history` is. Beam
  search gives log-probabilities for `logits`.
  """
  if seen is not None:
    logits = penalize_repetition(logits, seen, settings.repetition_penalty)
  end = None if history is None else history.shape[-1] - settings.max_new_tokens + step
  if settings.no_repeat_ngram:
    logits = forbid_repeats(logits, history, end, settings.no_repeat_ngram)
  if settings.bad_words:
    logits = forbid_words(logits, history, end, settings.bad_words)
  if settings.min_new_tokens and settings.eos:
    logits = jnp.where(
      step < settings.min_new_tokens, forbid(logits, settings.eos), logits
    )
  if settings.forced_bos:
    logits = jnp.where(step == 0, force(logits, settings.forced_bos), logits)
  if settings.forced_eos:
    last = step == settings.max_new_tokens - 1
    logits = jnp.where(last, force(logits, settings.forced_eos), logits)
  if settings.suppress:
    logits = forbid(logits, settings.suppress)
  if settings.begin_suppress:
    first = step == (1 if settings.forced_bos else 0)
    logits = jnp.where(first, forbid(logits, settings.begin_suppress), logits)
  return logits


def warp(logits, settings: Decoding):
  """What sampling does to processed logits: temperature, top-k, top-p and min-p, in
  this order.
  """
  if settings.temperature != 1:
    logits = logits / settings.temperature
  if settings.top_k:
    logits = keep_top_k(logits, settings.top_k)
  if settings.top_p < 1:
    logits = keep_top_p(logits, settings.top_p)
  return keep_min_p(logits, settings.min_p) if settings.min_p else logits


def tokens_in(tokens, segments, vocabulary: int):
  """bool (rows, vocabulary): which tokens a prompt (rows, length) holds, without its
  padding (segment 0).
  """

  def one(row, real):
    return jnp.zeros(vocabulary, bool).at[row].max(real, mode='drop')

  return jax.vmap(one)(tokens, segments > 0)


def prompt_history(tokens, segments, settings: Decoding):
  """The tokens of prompts (rows, length), real ones last and -1 before them.

  None where no processor asks what came before.
  """
  asked = settings.no_repeat_ngram or any(len(word) > 1 for word in settings.bad_words)
  if not asked:
    return None
  real = segments > 0
  order = jnp.argsort(real, axis=1, stable=True)
  return jnp.take_along_axis(jnp.where(real, tokens, -1), order, 1)


def ends(tokens, eos: tuple[int, ...]):
  """bool, the shape of `tokens`: is this an end of sequence?"""
  found = jnp.zeros(jnp.shape(tokens), bool)
  for token in eos:
    found = found | (tokens == token)
  return found


def _are(tokens: tuple[int, ...], logits) -> np.ndarray:
  """bool (vocabulary,): which are these?"""
  found = np.zeros(logits.shape[-1], bool)
  found[list(tokens)] = True
  return found
