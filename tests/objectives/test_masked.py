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
from tl_jax.objectives.masked import span_sizes

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
  (rate, masking): jax.jit(build(rate=rate, masking=masking).prepare)
  for rate in (0.15, 0.4)
  for masking in ('pieces', 'words', 'spans')
}


@settings(max_examples=25, deadline=None)
@given(
  batch=batches(),
  rate=st.sampled_from((0.15, 0.4)),
  seed=st.integers(0, 99),
  masking=st.sampled_from(('pieces', 'spans')),
)
def test_every_row_has_exactly_its_budget(batch, rate, seed, masking):
  out = prepared[rate, masking](jax.random.key(seed), batch)
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
  out = prepared[rate, 'words'](jax.random.key(seed), batch)
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


def runs_of(chosen):
  """(first, behind the last) of the runs of a boolean array."""
  edges = np.flatnonzero(np.diff(chosen.astype(int), prepend=0, append=0))
  return list(zip(edges[::2], edges[1::2], strict=True))


def walked(seed, size):
  """The words of the runs, but those cut within a word, that SpanBERT's rules hide of
  words of two pieces: token by token, drawn until the budget is spent.
  """
  draw = np.random.default_rng(seed)
  chances = 0.2 * 0.8 ** np.arange(10)
  hidden = np.zeros(size, bool)
  budget = round(0.15 * size)
  while hidden.sum() < budget:
    words = draw.choice(10, p=chances / chances.sum()) + 1
    anchor = draw.integers(size)
    if hidden[anchor]:
      continue
    first = anchor - anchor % 2
    for place in range(first, min(size, first + 2 * words)):
      hidden[place] |= hidden.sum() < budget
  lengths = [end - first for first, end in runs_of(hidden)]
  return [length // 2 for length in lengths if length % 2 == 0]


def test_spans_have_the_lengths_of_spanbert_and_one_fate_each():
  """Rows of which one span is hidden: its words are 1 to 10, of a geometric chance."""
  size, rows = 400, 1000
  # Words of two pieces; a budget that no span exceeds.
  tokens = jnp.tile(jnp.array([7, 45]), (rows, size // 2))
  prepare = jax.jit(build(rate=0.15, masking='spans').prepare)
  out = prepare(jax.random.key(0), {'tokens': tokens})
  chosen = chosen_of(out)
  assert (chosen.sum(1) == 60).all()
  seen = np.asarray(out['tokens'])
  whole, kinds = [], []
  for row in range(rows):
    for first, end in runs_of(chosen[row]):
      hidden = seen[row, first:end] == MASK
      kept = seen[row, first:end] == np.asarray(tokens)[row, first:end]
      # Of the random tokens one in 55 is the one that was there.
      assert hidden.all() or not hidden.any()
      kinds.append('hidden' if hidden.all() else 'kept' if kept.all() else 'other')
      assert first % 2 == 0
      if (end - first) % 2 == 0:
        whole.append((end - first) // 2)
  n = len(kinds)
  for kind, rate in (('hidden', 0.8), ('kept', 0.1), ('other', 0.1)):
    # Short random spans that are what was there count as kept: one in 55 squared.
    error = 4 * (rate * (1 - rate) / n) ** 0.5 + 1e-3
    assert abs(kinds.count(kind) / n - rate) < error
  # Spans that meet are longer, those before a hidden word shorter, the last one is cut.
  wanted = np.concatenate([walked(number, size) for number in range(rows)])
  errors = [np.std(part) / len(part) ** 0.5 for part in (whole, wanted)]
  assert abs(np.mean(whole) - np.mean(wanted)) < 4 * np.hypot(*errors)
  assert len(whole) == pytest.approx(len(wanted), rel=0.02)


def test_a_single_span_has_one_to_ten_words_of_a_geometric_chance():
  drawn = np.asarray(span_sizes(jax.random.key(2), (200, 500))).ravel()
  wanted = 0.2 * 0.8 ** np.arange(10)
  wanted /= wanted.sum()
  found = np.bincount(drawn, minlength=11)[1:] / drawn.size
  bound = 4.5 * (wanted * (1 - wanted) / drawn.size) ** 0.5
  assert drawn.min() == 1 and drawn.max() == 10
  assert (abs(found - wanted) < bound).all()
  # The paper's mean, with the lengths beyond 10 left out.
  assert drawn.mean() == pytest.approx(3.8, abs=0.02)


def test_a_span_ends_with_its_segment_and_hides_nothing_special():
  tokens = jnp.array([[0, 7, 8, 9, 2, 0, 10, 11, 12, 2]] * 400)
  segments = jnp.array([[1] * 5 + [2] * 5] * 400)
  # As many tokens as a segment has: spans of one would not stop there by themselves.
  out = build(rate=0.5, masking='spans').prepare(
    jax.random.key(0), {'tokens': tokens, 'segments': segments}
  )
  chosen = chosen_of(out)
  assert (chosen.sum(1) == 3).all()
  assert not chosen[:, [0, 4, 5, 9]].any()
  only_one = (chosen[:, 1:4].sum(1) == 0) | (chosen[:, 6:9].sum(1) == 0)
  assert 0.1 < only_one.mean() < 0.9


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
  out = build(masking='words').prepare(jax.random.key(0), {'tokens': tokens})
  assert float(out['target_weights'].sum()) == 0
  assert (out['tokens'] == tokens).all()


@pytest.mark.slow
def test_a_word_ends_with_its_segment():
  batch = {'tokens': jnp.array([[10, 41]]), 'segments': jnp.array([[1, 2]])}
  out = build(masking='words').prepare(jax.random.key(0), batch)
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
      dict(masking='words', continues=None),
      "masking 'words' needs a flag for each of the 60 ids, got none",
    ),
    (dict(masking='words', continues=[True]), r'got \(1,\)'),
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
