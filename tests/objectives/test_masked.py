"""Masked language modelling: exact budgets, BERT's rates, special tokens left alone,
whole words whole.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.objectives import masked

VOCABULARY, SPECIAL, MASK = 60, (0, 1, 2, 3, 4), 4
CONTINUES = np.arange(VOCABULARY) >= 40
ROWS, LENGTH = 6, 24


def build(**more):
  return masked(
    vocabulary=VOCABULARY,
    mask_id=MASK,
    special_ids=SPECIAL,
    **{'continues': CONTINUES, **more},
  )


@st.composite
def batches(draw):
  random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
  tokens = random.integers(0 if draw(st.booleans()) else 5, VOCABULARY, (ROWS, LENGTH))
  segments = np.zeros((ROWS, LENGTH), np.int32)
  for row in range(ROWS):
    place = 0
    for number in range(1, draw(st.integers(1, 4))):
      size = draw(st.integers(1, LENGTH // 2))
      segments[row, place : place + size] = number
      place += size
  return {
    'tokens': jnp.asarray(tokens * (segments > 0), jnp.int32),
    'segments': jnp.asarray(segments),
  }


def chosen_of(batch):
  chosen = np.zeros(batch['tokens'].shape, bool)
  for row, (places, weights) in enumerate(
    zip(batch['score'], batch['target_weights'], strict=True)
  ):
    chosen[row, np.asarray(places)[np.asarray(weights) > 0]] = True
  return chosen


prepared = {
  (rate, whole): jax.jit(build(rate=rate, whole_word=whole).prepare)
  for rate in (0.15, 0.4)
  for whole in (False, True)
}


@settings(max_examples=25, deadline=None)
@given(batch=batches(), rate=st.sampled_from((0.15, 0.4)), seed=st.integers(0, 99))
def test_every_row_has_exactly_its_budget(batch, rate, seed):
  out = prepared[rate, False](jax.random.key(seed), batch)
  tokens, segments = np.asarray(batch['tokens']), np.asarray(batch['segments'])
  candidate = (segments > 0) & ~np.isin(tokens, SPECIAL)
  chosen = chosen_of(out)
  assert (chosen <= candidate).all()
  budget = [max(1, round(rate * n)) if n else 0 for n in candidate.sum(1)]
  assert chosen.sum(1).tolist() == budget == out['target_weights'].sum(1).tolist()
  assert out['score'].shape == (ROWS, round(rate * LENGTH))
  assert (np.asarray(out['tokens'])[~chosen] == tokens[~chosen]).all()
  weights = np.asarray(out['target_weights']) > 0
  original = np.take_along_axis(tokens, np.asarray(out['score']), 1)
  assert (np.asarray(out['targets'])[weights] == original[weights]).all()
  assert set(np.asarray(out['tokens'])[chosen].tolist()) <= {
    MASK,
    *range(5, VOCABULARY),
  }


@settings(max_examples=25, deadline=None)
@given(batch=batches(), rate=st.sampled_from((0.15, 0.4)), seed=st.integers(0, 99))
def test_whole_words_are_chosen_whole_under_the_same_budget(batch, rate, seed):
  out = prepared[rate, True](jax.random.key(seed), batch)
  tokens, segments = np.asarray(batch['tokens']), np.asarray(batch['segments'])
  candidate = (segments > 0) & ~np.isin(tokens, SPECIAL)
  chosen = chosen_of(out)
  assert (chosen <= candidate).all()
  for row in range(ROWS):
    budget = max(1, round(rate * candidate[row].sum())) if candidate[row].any() else 0
    words = []
    for i in np.flatnonzero(candidate[row]):
      joined = (
        i
        and candidate[row, i - 1]
        and segments[row, i - 1] == segments[row, i]
        and CONTINUES[tokens[row, i]]
      )
      if joined:
        words[-1].append(i)
      else:
        words.append([i])
    left = budget - chosen[row].sum()
    assert left >= 0
    for word in words:
      assert chosen[row, word].all() or not chosen[row, word].any()
      # Whatever was skipped did not fit when its turn came, so it does not fit now.
      assert chosen[row, word].any() or len(word) > left


def test_fates_have_the_rates_of_bert():
  tokens = jnp.full((400, 100), 7)
  out = build().prepare(jax.random.key(3), {'tokens': tokens})
  seen = np.take_along_axis(
    np.asarray(out['tokens']), np.asarray(out['score']), 1
  ).ravel()
  n = seen.size
  assert n == 400 * 15
  near = lambda count, rate: abs(count / n - rate) < 4 * (rate * (1 - rate) / n) ** 0.5
  # One in 55 of the random tokens is the token itself.
  assert near((seen == MASK).sum(), 0.8)
  assert near((seen == 7).sum(), 0.1 + 0.1 / 55)
  others = np.bincount(seen[(seen != MASK) & (seen != 7)], minlength=VOCABULARY)
  assert others[:5].sum() == 0
  assert (others[[i for i in range(5, VOCABULARY) if i != 7]] > 0).all()


@pytest.mark.slow
def test_positions_are_uniform():
  out = build().prepare(jax.random.key(5), {'tokens': jnp.full((2000, 20), 9)})
  counts = np.bincount(np.asarray(out['score']).ravel(), minlength=20)
  assert abs(counts - 300).max() < 4.5 * (2000 * 0.15 * 0.85) ** 0.5


# Of any batch, the law of whole words above says what these two say of one.
@pytest.mark.slow
def test_a_word_longer_than_the_budget_is_never_split():
  tokens = jnp.array([[10, 41, 42, 43, 44, 45]])
  out = build(whole_word=True).prepare(jax.random.key(0), {'tokens': tokens})
  assert float(out['target_weights'].sum()) == 0
  assert (out['tokens'] == tokens).all()


@pytest.mark.slow
def test_a_word_ends_with_its_segment():
  batch = {'tokens': jnp.array([[10, 41]]), 'segments': jnp.array([[1, 2]])}
  out = build(whole_word=True).prepare(jax.random.key(0), batch)
  # One word of two pieces would exceed the budget of one.
  assert float(out['target_weights'].sum()) == 1


def test_only_the_scored_positions_get_logits_and_a_key_of_none_is_evaluation():
  objective, calls = build(), []
  batch = objective.prepare(jax.random.key(0), {'tokens': jnp.full((2, 20), 9)})

  def forward(batch, *, key=None, train=False, score=None, keep=()):
    calls.append((train, score.shape))
    return FakeOutputs(jax.nn.one_hot(batch['targets'], VOCABULARY) * 100)

  terms, metrics = objective.loss(forward, batch, jax.random.key(1))
  objective.loss(forward, batch, None)
  assert calls == [(True, (2, 3)), (False, (2, 3))]
  assert float(terms['masked'].sum) < 1e-6
  assert float(metrics['accuracy'].sum) == float(metrics['accuracy'].weight) == 6.0


class FakeOutputs:
  def __init__(self, logits):
    self.logits = logits


@pytest.mark.parametrize(
  'arguments, message',
  [
    (dict(mask_id=99), 'special_ids: 99 is outside the vocabulary of 60'),
    (dict(special_ids=range(60)), 'all 60 ids are special'),
    (
      dict(whole_word=True, continues=None),
      'whole_word needs a flag for each of the 60 ids, got none',
    ),
    (dict(whole_word=True, continues=[True]), r'got \(1,\)'),
  ],
)
def test_refusals_name_the_argument(arguments, message):
  with pytest.raises(ValueError, match=message):
    masked(
      **{
        'vocabulary': VOCABULARY,
        'mask_id': MASK,
        'special_ids': SPECIAL,
        'continues': None,
        **arguments,
      }
    )
