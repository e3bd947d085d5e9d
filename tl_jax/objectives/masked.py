"""Masked language modelling (BERT): some tokens are hidden, the model says what they
were.

>>> objective = masked(vocabulary=100, mask_id=4, special_ids=(0, 1, 2, 3, 4))
>>> tokens = jnp.arange(10, 30).reshape(1, 20)
>>> batch = objective.prepare(jax.random.key(0), {'tokens': tokens})
>>> batch['score'].shape, float(objective.weights(batch)['masked'])
((1, 3), 3.0)
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.config import Count, Fraction, Natural
from tl_jax.objectives.tokens import token_loss, token_weights
from tl_jax.objectives.types import Entry, Objective
from tl_jax.segments import one_right, segments_of, starts_of

# What becomes of the chosen tokens: these fractions are masked or stay as they are. The
# rest become another token.
HIDDEN = 0.8
KEPT = 0.1


def masked(
  *,
  vocabulary: Count,
  mask_id: Natural,
  special_ids: Sequence[int],
  rate: Fraction = 0.15,
  whole_word: bool = False,
  continues=None,
) -> Objective:
  """BERT's masked language model (Devlin et al. 2018, section 3.1; whole words as in
  their later release).

  Candidates: the tokens of a segment (not padding) that are neither in `special_ids`
  nor `mask_id`. A row with n > 0 candidates has exactly max(1, round(rate * n)) chosen
  positions, where `round` is Python's. A row without candidates has none. A packed row
  is counted as one. (BERT's code counts [CLS] and [SEP] in n, too.)

  Chosen tokens become `mask_id` (80 %), stay (10 %), or become a token drawn uniformly
  from the vocabulary without special ids (10 %).

  `whole_word` chooses words in random order. A word is a token and the `continues`
  pieces right after it in its segment; `continues` (vocabulary,) bool says which ids
  continue a word (WordPiece `##`). A word that would exceed the same budget is skipped.
  So a row may come out below its budget, and a row whose words are all longer than its
  budget has none.

  `prepare` replaces tokens. It adds score (rows, K) int32, the positions in rising
  order, targets (rows, K) int32, and target_weights (rows, K) float32, 0 or 1, where K
  = max(1, round(rate * length)). Only those positions get logits. The term is `masked`
  (nats per chosen token), the metric `accuracy`.

  Errors: ValueError for ids outside the vocabulary, for a vocabulary of special ids
  only, and for `whole_word` without `continues` of the right length.
  """
  ordinary = _ordinary(vocabulary, mask_id, special_ids)
  draws = np.flatnonzero(ordinary).astype(np.int32)
  joins = _joins(vocabulary, continues) if whole_word else None

  def prepare(key, batch):
    tokens = batch['tokens']
    segments = segments_of(batch)
    budgets = budget_table(rate, tokens.shape[1])
    order_key, fate_key, fresh_key = jax.random.split(key, 3)

    # Which positions are chosen?
    noise = jax.random.uniform(order_key, tokens.shape)
    candidate = (segments > 0) & jnp.asarray(ordinary)[tokens]
    budget = jnp.asarray(budgets)[candidate.sum(-1)]
    if whole_word:
      begins = starts_of(segments) | ~jnp.asarray(joins)[tokens]
      chosen = jax.vmap(choose_words)(candidate, begins, noise, budget)
    else:
      chosen = choose_tokens(candidate, noise, budget)
    score, weights = slots(chosen, int(budgets[-1]))
    targets = jnp.take_along_axis(tokens, score, axis=1)

    # What does the model see there?
    fate = jax.random.uniform(fate_key, targets.shape)
    count = len(draws)
    drawn = jax.random.randint(fresh_key, targets.shape, 0, count)
    other = jnp.asarray(draws)[drawn]
    kept_or_other = jnp.where(fate < HIDDEN + KEPT, targets, other)
    seen = jnp.where(fate < HIDDEN, mask_id, kept_or_other)
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


def choose_words(candidate, begins, noise, budget):
  """Boolean (length,) of one row: whole words in random order.

  A word is taken if it fits into what is left of `budget`.
  """
  length = candidate.shape[0]
  # A word starts at a candidate that does not continue one, or that has no candidate
  # before it to continue.
  is_start = begins | ~one_right(candidate)
  begins = candidate & is_start
  # Words are numbered along the row; what is in no word has the number `length`.
  number = jnp.cumsum(begins) - 1
  word = jnp.where(candidate, number, length)
  sizes = jnp.zeros(length + 1, jnp.int32)
  sizes = sizes.at[word].add(1)
  sizes = sizes[:length]
  # Numbers that no word has come last.
  by_chance = jnp.where(sizes > 0, noise, 2.0)
  order = jnp.argsort(by_chance)

  def take(used, size):
    fits = (size > 0) & (used + size <= budget)
    return used + jnp.where(fits, size, 0), fits

  nothing = jnp.int32(0)
  _, taken = jax.lax.scan(take, nothing, sizes[order])
  by_word = jnp.zeros(length + 1, bool)
  by_word = by_word.at[order].set(taken)
  return by_word[word]


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


def _joins(vocabulary, continues) -> np.ndarray:
  """`continues` as an array, checked: boolean (vocabulary,)."""
  if continues is None or np.shape(continues) != (vocabulary,):
    got = 'none' if continues is None else np.shape(continues)
    raise ValueError(
      f'continues: whole_word needs a flag for each of the {vocabulary} ids, got {got}'
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
