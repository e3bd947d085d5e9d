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


def likeliest(logits):
  """The first of the tokens (...) with the highest logit (..., vocabulary), as `argmax`
  finds it: where a logit is no number, the first such token.
  """
  # Two reductions that CPUs do many at a time. XLA has one for `argmax`, of one number
  # after the other: over a large vocabulary it takes as long as the product before it.
  highest = logits.max(-1, keepdims=True)
  is_highest = (logits == highest) | jnp.isnan(logits)
  tokens = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
  beyond = logits.shape[-1]
  return jnp.where(is_highest, tokens, beyond).min(-1)


def penalize_repetition(logits, seen, penalty: float):
  """Makes tokens that were seen less likely (Keskar et al. 2019, section 4.1).

  A positive logit is divided by the penalty and a negative one multiplied with it, once
  per token, however often it was seen. `seen`: bool, of the shape of `logits`.
  """
  # Dividing a negative logit would make the token more likely.
  penalized = jnp.where(logits < 0, logits * penalty, logits / penalty)
  return jnp.where(seen, penalized, logits)


def forbid(logits, tokens: tuple[int, ...]):
  """Makes these tokens impossible."""
  return jnp.where(_are(tokens, logits), -jnp.inf, logits)


def force(logits, tokens: tuple[int, ...]):
  """Makes these tokens certain, or equally likely where there are several."""
  return jnp.where(_are(tokens, logits), 0.0, -jnp.inf)


def forbid_repeats(logits, history, end, size: int):
  """Makes impossible every token that would complete an n-gram that came before.

  The n-grams have `size` tokens (Paulus et al. 2018, section 2.5). history: int32
  (..., length), of which the first `end` tokens count; negative ones are no tokens.
  `size` is static, `end` may be traced.
  """
  count = history.shape[-1] - size + 1
  if count < 1:
    return logits
  shifted = []
  for offset in range(size):
    shifted.append(history[..., offset : offset + count])
  # (..., count, size): the n-gram at each position.
  grams = jnp.stack(shifted, -1)
  last = _last(history, end, size - 1)

  # Which n-grams begin with the last tokens, are real, and lie before the end?
  begins_alike = grams[..., :-1] == last[..., None, :]
  same = begins_alike.all(-1)
  same &= (grams >= 0).all(-1)
  same &= jnp.arange(count) + size <= end
  # With fewer tokens than an n-gram's beginning there is nothing to complete.
  same &= end >= size - 1
  shape = *logits.shape[:-1], count
  following = jnp.broadcast_to(grams[..., -1], shape)
  same = jnp.broadcast_to(same, following.shape).reshape(-1, count)

  def mark(tokens, found):
    # max, because a token may follow at several positions; drop, because -1 is no id.
    nothing = jnp.zeros(logits.shape[-1], bool)
    return nothing.at[tokens].max(found, mode='drop')

  banned = jax.vmap(mark)(following.reshape(-1, count), same)
  return jnp.where(banned.reshape(logits.shape), -jnp.inf, logits)


def forbid_words(logits, history, end, words: tuple[tuple[int, ...], ...]):
  """Makes impossible every token that would complete one of these sequences of ids.

  history and end: as of `forbid_repeats`. The history may be None where every sequence
  has one id.
  """
  alone = tuple(word[0] for word in words if len(word) == 1)
  logits = forbid(logits, alone)
  for word in words:
    if len(word) == 1 or len(word) > history.shape[-1]:
      continue
    beginning = word[:-1]
    last = _last(history, end, len(beginning))
    is_there = (last == jnp.array(beginning)).all(-1)
    begun = is_there & (end >= len(beginning))
    forbidden = forbid(logits, word[-1:])
    logits = jnp.where(begun[..., None], forbidden, logits)
  return logits


def _last(history, end, count: int):
  """The `count` tokens before `end`: (..., count).

  Where there are fewer, these are the first `count` tokens, which mean nothing; the
  caller must compare `end` with `count`.
  """
  start = jnp.maximum(end - count, 0)
  return jax.lax.dynamic_slice_in_dim(history, start, count, axis=-1)


def keep_top_k(logits, k: int):
  """Keeps the k largest logits (Fan et al. 2018).

  Logits equal to the smallest of these are kept, too.
  """
  largest, _ = jax.lax.top_k(logits, min(k, logits.shape[-1]))
  least = largest[..., -1:]
  return jnp.where(logits < least, -jnp.inf, logits)


def keep_top_p(logits, p: float):
  """Keeps the nucleus (Holtzman et al. 2020, eq. 2-3).

  That is the fewest most probable tokens whose probabilities add up to `p` or more. The
  token that crosses `p` is kept, so that there always is one. Of equal tokens the
  smaller ids come first.
  """
  # From the least probable on, so that the small ones are added up before they vanish
  # beside the large ones.
  falling = jnp.argsort(logits, axis=-1, descending=True, stable=True)
  order = jnp.flip(falling, -1)
  ascending = jnp.take_along_axis(logits, order, -1)
  probabilities = jax.nn.softmax(ascending, axis=-1)
  kept = jnp.cumsum(probabilities, axis=-1) > 1 - p
  # Rounding might leave none.
  kept = kept.at[..., -1].set(True)
  # Back from ascending order to the order of the ids.
  ranks = jnp.argsort(order, axis=-1)
  kept = jnp.take_along_axis(kept, ranks, -1)
  return jnp.where(kept, logits, -jnp.inf)


def keep_min_p(logits, p: float):
  """Keeps the tokens that are probable enough beside the most probable one.

  A token is kept where it is at least `p` times as probable (Nguyen et al. 2024, eq.
  2).
  """
  probabilities = jax.nn.softmax(logits, axis=-1)
  least = p * probabilities.max(-1, keepdims=True)
  return jnp.where(probabilities < least, -jnp.inf, logits)


def process(logits, seen, step, settings: Decoding, history=None):
  """What every method does to logits before it chooses new token number `step`.

  The order is that of transformers. `seen` is None where there is no repetition
  penalty. `history`, int32 (..., length + max_new_tokens), holds the tokens of the
  prompt and the new ones; it is None where `prompt_history` is. Beam search gives
  log-probabilities for `logits`.
  """
  if seen is not None:
    logits = penalize_repetition(logits, seen, settings.repetition_penalty)
  end = None
  if history is not None:
    prompt_length = history.shape[-1] - settings.max_new_tokens
    end = prompt_length + step
  if settings.no_repeat_ngram:
    logits = forbid_repeats(logits, history, end, settings.no_repeat_ngram)
  if settings.bad_words:
    logits = forbid_words(logits, history, end, settings.bad_words)
  return _at_positions(logits, step, settings)


def _at_positions(logits, step, settings: Decoding):
  """The part of `process` that depends on the position, not on what came before."""
  if settings.min_new_tokens and settings.eos:
    too_early = step < settings.min_new_tokens
    logits = jnp.where(too_early, forbid(logits, settings.eos), logits)
  if settings.forced_bos:
    logits = jnp.where(step == 0, force(logits, settings.forced_bos), logits)
  if settings.forced_eos:
    last = step == settings.max_new_tokens - 1
    logits = jnp.where(last, force(logits, settings.forced_eos), logits)
  if settings.suppress:
    logits = forbid(logits, settings.suppress)
  if settings.begin_suppress:
    # A forced first token is no choice; then the second is the first that is chosen.
    first_choice = 1 if settings.forced_bos else 0
    suppressed = forbid(logits, settings.begin_suppress)
    logits = jnp.where(step == first_choice, suppressed, logits)
  return logits


def warp(logits, settings: Decoding):
  """What sampling does to processed logits: temperature, top-k, top-p, then min-p."""
  if settings.temperature != 1:
    logits = logits / settings.temperature
  if settings.top_k:
    logits = keep_top_k(logits, settings.top_k)
  if settings.top_p < 1:
    logits = keep_top_p(logits, settings.top_p)
  if settings.min_p:
    logits = keep_min_p(logits, settings.min_p)
  return logits


def tokens_in(tokens, segments, vocabulary: int):
  """bool (rows, vocabulary): which tokens do the prompts (rows, length) hold?

  Padding, segment 0, does not count.
  """

  def one(row, real):
    return jnp.zeros(vocabulary, bool).at[row].max(real, mode='drop')

  return jax.vmap(one)(tokens, segments > 0)


def prompt_history(tokens, segments, settings: Decoding):
  """The tokens of prompts (rows, length), real ones last and -1 before them.

  None where no processor asks what came before.
  """
  has_long_words = any(len(word) > 1 for word in settings.bad_words)
  if not settings.no_repeat_ngram and not has_long_words:
    return None
  real = segments > 0
  # A stable sort moves padding to the front and keeps the order of the real tokens.
  order = jnp.argsort(real, axis=1, stable=True)
  marked = jnp.where(real, tokens, -1)
  return jnp.take_along_axis(marked, order, 1)


def ends(tokens, eos: tuple[int, ...]):
  """bool, of the shape of `tokens`: is this token an end of sequence?"""
  found = jnp.zeros(jnp.shape(tokens), bool)
  for token in eos:
    found = found | (tokens == token)
  return found


def _are(tokens: tuple[int, ...], logits) -> np.ndarray:
  """bool (vocabulary,): which ids are among these tokens?"""
  found = np.zeros(logits.shape[-1], bool)
  found[list(tokens)] = True
  return found
