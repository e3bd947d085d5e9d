"""Masked language modelling (BERT): some tokens are hidden, the model says what they
were.

>>> objective = masked(vocabulary=100, mask_id=4, special_ids=(0, 1, 2, 3, 4))
>>> tokens = jnp.arange(10, 30).reshape(1, 20)
>>> batch = objective.prepare(jax.random.key(0), {'tokens': tokens})
>>> batch['score'].shape, float(objective.weights(batch)['masked'])
((1, 3), 3.0)
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import rng
from tl_jax.config import Count, Natural, Part
from tl_jax.objectives.tokens import token_loss, token_weights
from tl_jax.objectives.types import Array, Entry, Objective
from tl_jax.segments import one_right, segments_of, starts_of

# What becomes of the chosen tokens: these fractions are masked or stay as they are. The
# rest become another token.
HIDDEN = 0.8
KEPT = 0.1
# Of spans: the chance to end after each word, and the most words.
SPAN_CHANCE = 0.2
LONGEST_SPAN = 10


def masked(
  *,
  vocabulary: Count,
  mask_id: Natural,
  special_ids: Sequence[int],
  rate: Part = 0.15,
  masking: Literal['pieces', 'words', 'spans'] = 'pieces',
  continues=None,
) -> Objective:
  """BERT's masked language model (Devlin et al. 2018, section 3.1; words as in their
  later release, spans as in SpanBERT, Joshi et al. 2020, section 3.1, and its code).

  Candidates: the tokens of a segment (not padding) that are neither in `special_ids`
  nor `mask_id`. A row with n > 0 candidates has exactly max(1, round(rate * n)) chosen
  positions, where `round` is Python's. A row without candidates has none. A packed row
  is counted as one. (BERT's code counts [CLS] and [SEP] in n, too.)

  Chosen tokens become `mask_id` (80 %), stay (10 %), or become a token drawn uniformly
  from the vocabulary without special ids (10 %).

  masking: what is chosen, always under the same budget.
    pieces: single tokens.
    words: words in random order. A word is a token and the `continues` pieces right
      after it in its segment; `continues` (vocabulary,) bool says which ids continue a
      word (WordPiece `##`). A word that would exceed the budget is skipped. So a row may
      come out below its budget, and a row whose words are all longer than its budget has
      none.
    spans: words that follow each other, until the budget is spent. A span begins with
      the word of a token drawn among those that are left, and has 1 to 10 words, of a
      geometric distribution (p = .2). It ends with its segment, and where the budget
      ends, be it within a word. All tokens of a span, or of spans that meet, are hidden,
      stay or are replaced together.

  `prepare` replaces tokens. It adds score (rows, K) int32, the positions in rising
  order, targets (rows, K) int32, and target_weights (rows, K) float32, 0 or 1, where K
  = max(1, round(rate * length)). Only those positions get logits. The term is `masked`
  (nats per chosen token), the metric `accuracy`.

  Errors: ValueError for ids outside the vocabulary, for a vocabulary of special ids
  only, and for words or spans without `continues` of the right length.
  """
  ordinary = _ordinary(vocabulary, mask_id, special_ids)
  draws = np.flatnonzero(ordinary).astype(np.int32)
  joins = None if masking == 'pieces' else _joins(vocabulary, continues, masking)

  def prepare(key, batch):
    tokens = batch['tokens']
    segments = segments_of(batch)
    budgets = budget_table(rate, tokens.shape[1])
    order_key, fate_key, fresh_key = jax.random.split(key, 3)

    # Which positions are chosen?
    noise = jax.random.uniform(order_key, tokens.shape)
    candidate = (segments > 0) & jnp.asarray(ordinary)[tokens]
    budget = jnp.asarray(budgets)[candidate.sum(-1)]
    if masking == 'pieces':
      chosen = choose_tokens(candidate, noise, budget)
    else:
      words = words_of(tokens, candidate, segments, jnp.asarray(joins))
    if masking == 'words':
      chosen = jax.vmap(choose_words)(words, noise, budget)
    if masking == 'spans':
      sizes = span_sizes(rng.stream(key, 'spans'), tokens.shape)
      chosen = jax.vmap(choose_spans)(words, noise, sizes, budget)
    score, weights = slots(chosen, int(budgets[-1]))
    targets = jnp.take_along_axis(tokens, score, axis=1)

    # What does the model see there?
    fate = jax.random.uniform(fate_key, targets.shape)
    if masking == 'spans':
      fate = of_spans(fate, chosen, segments, score)
    drawn = jax.random.randint(fresh_key, targets.shape, 0, len(draws))
    seen = seen_for(fate, targets, jnp.asarray(draws)[drawn], mask_id)
    return with_hidden(batch, score, weights, seen)

  def loss(forward, batch, key):
    return token_loss('masked', forward, batch, key, score=batch['score'])

  return Objective(prepare, token_weights('masked'), loss)


def budget_table(rate: float, length: int) -> np.ndarray:
  """How many positions to choose from 0..length candidates: int32 (length + 1,).

  It is a table made in Python, because rate * n in float32 would round otherwise.
  """
  some = [max(1, round(rate * n)) for n in range(1, length + 1)]
  return np.array([0, *some], np.int32)


def choose_tokens(candidate, noise, budget):
  """Boolean (rows, length): the `budget` (rows,) candidates with the smallest noise."""
  # Noise is below 1, so that everything else comes after the candidates.
  noise = jnp.where(candidate, noise, 2.0)
  order = jnp.argsort(noise, axis=-1)
  rank = jnp.argsort(order, axis=-1)
  return candidate & (rank < budget[:, None])


class Words(NamedTuple):
  """The words of rows, boolean or int (rows, length): the candidates, which of them begin
  a word, and the segments.
  """

  candidate: Array
  begins: Array
  segments: Array


def words_of(tokens, candidate, segments, joins) -> Words:
  """The words of rows; joins (vocabulary,): which ids go on with the word before."""
  # One starts at a candidate that does not continue another, or that has no candidate
  # before it to continue.
  is_first = starts_of(segments) | ~joins[tokens] | ~one_right(candidate)
  return Words(candidate, candidate & is_first, segments)


def choose_words(words: Words, noise, budget):
  """Boolean (length,) of one row: whole words in random order.

  A word is taken if it fits into what is left of `budget`.
  """
  candidate, begins, _ = words
  length = len(candidate)
  # Words are numbered along the row; what is in no word has the number `length`.
  number = jnp.cumsum(begins) - 1
  word = jnp.where(candidate, number, length)
  counts = jnp.zeros(length + 1, jnp.int32)
  counts = counts.at[word].add(1)
  counts = counts[:length]
  # Numbers that no word has come last.
  by_chance = jnp.where(counts > 0, noise, 2.0)
  order = jnp.argsort(by_chance)

  def take(used, size):
    fits = (size > 0) & (used + size <= budget)
    return used + jnp.where(fits, size, 0), fits

  nothing = jnp.int32(0)
  _, taken = jax.lax.scan(take, nothing, counts[order])
  by_word = jnp.zeros(length + 1, bool)
  by_word = by_word.at[order].set(taken)
  return by_word[word]


def span_sizes(key, shape: tuple[int, int]):
  """How many words a span has that begins at each token: int32 of this shape."""
  chances = SPAN_CHANCE * (1 - SPAN_CHANCE) ** np.arange(LONGEST_SPAN)
  cdf = np.cumsum(chances) / chances.sum()
  drawn = jax.random.uniform(key, shape)
  return 1 + jnp.searchsorted(jnp.asarray(cdf[:-1]), drawn, side='right')


def choose_spans(words: Words, noise, sizes, budget):
  """Boolean (length,) of one row: spans of words, until `budget` tokens are taken.

  sizes (length,): the words of a span that is drawn at each token. The tokens are asked
  in an order of `noise`.
  """
  candidate, begins, segments = words
  length = len(candidate)
  word = jnp.cumsum(begins) - 1
  by_chance = jnp.where(candidate, noise, 2.0)
  order = jnp.argsort(by_chance)

  def is_short(state):
    taken, place = state
    return (taken.sum() < budget) & (place < length)

  def take(state):
    taken, place = state
    anchor = order[place]
    first = word[anchor]
    within = (word >= first) & (word < first + sizes[anchor])
    fresh = candidate & within & (segments == segments[anchor]) & ~taken
    left = budget - taken.sum()
    fresh &= jnp.cumsum(fresh) <= left
    # A token that is in a span already begins no other.
    begins_one = candidate[anchor] & ~taken[anchor]
    return taken | (fresh & begins_one), place + 1

  nothing = jnp.zeros(length, bool)
  taken, _ = jax.lax.while_loop(is_short, take, (nothing, jnp.int32(0)))
  return taken


def seen_for(fate, targets, other, mask_id: int):
  """What the model sees in the place of targets with these fates; `other` are tokens
  that were drawn.
  """
  kept_or_other = jnp.where(fate < HIDDEN + KEPT, targets, other)
  return jnp.where(fate < HIDDEN, mask_id, kept_or_other)


def with_hidden(batch, score, weights, seen):
  """The batch with `seen` at the positions `score`, and what was there as targets."""
  tokens = batch['tokens']
  targets = jnp.take_along_axis(tokens, score, axis=1)
  # A slot that no chosen position fills holds some other position: it stays.
  seen = jnp.where(weights > 0, seen, targets)
  seen = seen.astype(tokens.dtype)
  put = jax.vmap(lambda row, places, new: row.at[places].set(new))
  return {
    **batch,
    'tokens': put(tokens, score, seen),
    'score': score,
    'targets': targets,
    'target_weights': weights,
  }


def of_spans(fate, chosen, segments, score):
  """The fates (rows, K) of the positions `score`, alike for all of a span.

  A span is what was chosen without a gap between, in one segment; its fate is that of
  its first position.
  """
  goes_on = chosen & one_right(chosen) & ~starts_of(segments)
  # Among the slots, which are in the order of their positions.
  begins = ~jnp.take_along_axis(goes_on, score, axis=1)
  slot = jnp.arange(score.shape[1])
  first = jax.lax.cummax(jnp.where(begins, slot, 0), axis=1)
  return jnp.take_along_axis(fate, first, axis=1)


def slots(chosen, most: int):
  """The chosen positions of each row, and the weights of these slots.

  The positions, int32 (rows, most), are in rising order; others fill up the slots that
  are left. The weights, float32 (rows, most), are 1 for the chosen and 0 for the rest.
  """
  # A stable sort, not top_k, which gathers the whole batch where its rows are sharded.
  chosen_first = jnp.argsort(~chosen, axis=1, stable=True)
  places = chosen_first[:, :most].astype(jnp.int32)
  is_chosen = jnp.take_along_axis(chosen, places, axis=1)
  return places, is_chosen.astype(jnp.float32)


def _ordinary(vocabulary, mask_id, special_ids) -> np.ndarray:
  """Boolean (vocabulary,): the ids that are not special."""
  ordinary = np.ones(vocabulary, bool)
  for special in (mask_id, *special_ids):
    if not 0 <= special < vocabulary:
      raise ValueError(
        f'special_ids: {special} is outside the vocabulary of {vocabulary}'
      )
    ordinary[special] = False
  if not ordinary.any():
    raise ValueError(
      f'special_ids: all {vocabulary} ids are special, none is left to draw'
    )
  return ordinary


def _joins(vocabulary, continues, masking: str) -> np.ndarray:
  """`continues` as an array, checked: boolean (vocabulary,)."""
  if continues is None or np.shape(continues) != (vocabulary,):
    got = 'none' if continues is None else np.shape(continues)
    raise ValueError(
      f'continues: masking {masking!r} needs a flag for each of the {vocabulary} ids, '
      f'got {got}'
    )
  return np.asarray(continues, bool)


def _facts(tokenizer, length) -> dict:
  del length
  return dict(
    vocabulary=tokenizer.vocabulary_size,
    mask_id=tokenizer.mask,
    special_ids=tokenizer.special_ids,
    continues=tokenizer.continues,
  )


MASKED = Entry(masked, 'masked', ('encoder',), facts=_facts)
