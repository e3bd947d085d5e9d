"""Logits processors against their definitions, written out one token at a time."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.decode import Decoding, processors

LOGITS = st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=9)
APART = LOGITS.filter(
  lambda values: all(abs(a - b) > 1e-3 for a, b in itertools.combinations(values, 2))
)


def softmax(values):
  weights = np.exp(np.array(values, np.float64) - max(values))
  return weights / weights.sum()


def survivors(logits):
  return {int(i) for i in np.flatnonzero(np.isfinite(np.asarray(logits)))}


def same_where_kept(before, after):
  before, after = np.asarray(before, np.float32), np.asarray(after)
  return (after[np.isfinite(after)] == before[np.isfinite(after)]).all()


@pytest.mark.parametrize(
  'logits',
  [
    [0.5, 2.0, 2.0, -1.0],
    [-np.inf, -np.inf, -3.0, -np.inf],
    [-np.inf] * 4,
    [1.0, np.inf, np.inf, np.nan],
    [5.0, np.nan, 7.0, np.nan],
  ],
)
def test_the_likeliest_token_is_the_first_of_the_highest(logits):
  both = jnp.array([logits, logits[::-1]])
  found = processors.likeliest(both)
  assert found.tolist() == np.argmax(both, -1).tolist()
  assert found.dtype == jnp.int32


@settings(max_examples=25)
@given(LOGITS, st.integers(1, 12))
def test_top_k_keeps_what_fewer_than_k_exceed(values, k):
  found = processors.keep_top_k(jnp.array(values, jnp.float32), k)
  assert survivors(found) == {
    i for i, value in enumerate(values) if sum(other > value for other in values) < k
  }
  assert same_where_kept(values, found)


@settings(max_examples=25)
@given(APART, st.floats(0.01, 0.999))
def test_top_p_keeps_the_token_that_crosses(values, p):
  probabilities = softmax(values)
  order = np.argsort(-probabilities)
  before = np.concatenate([[0], np.cumsum(probabilities[order])[:-1]])
  if np.abs(before - p).min() > 1e-5:  # nearer than this, rounding decides
    found = processors.keep_top_p(jnp.array(values, jnp.float32), p)
    assert survivors(found) == {
      int(i) for i, mass in zip(order, before, strict=True) if mass < p
    }
    assert same_where_kept(values, found)


def test_top_p_of_equal_tokens_takes_the_first_ones_and_never_none():
  assert survivors(processors.keep_top_p(jnp.zeros(8), 0.5)) == {0, 1, 2, 3}
  assert survivors(processors.keep_top_p(jnp.array([0.0, 9.0, 9.0]), 1e-6)) == {1}
  assert survivors(processors.keep_top_p(jnp.array([-jnp.inf, 1.0, 0.0]), 0.999)) == {
    1,
    2,
  }


@given(APART, st.floats(0.0, 1.0))
def test_min_p_is_relative_to_the_most_probable(values, p):
  probabilities = softmax(values)
  if np.abs(probabilities - p * probabilities.max()).min() > 1e-6 or p == 1:
    found = processors.keep_min_p(jnp.array(values, jnp.float32), p)
    assert survivors(found) == {
      i for i, one in enumerate(probabilities) if one >= p * probabilities.max()
    }
    assert same_where_kept(values, found)


@given(LOGITS, st.floats(0.25, 4), st.data())
def test_repetition_penalty_divides_positive_and_multiplies_negative(
  values, penalty, data
):
  seen = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
  expected = [
    (value / penalty if value > 0 else value * penalty) if met else value
    for value, met in zip(values, seen, strict=True)
  ]
  found = processors.penalize_repetition(
    jnp.array(values, jnp.float32), jnp.array(seen), penalty
  )
  assert np.allclose(found, expected, rtol=1e-5)


def test_prompt_padding_is_not_seen():
  tokens, segments = (
    jnp.array([[0, 0, 3, 1], [2, 0, 5, 5]]),
    jnp.array([[0, 0, 1, 1], [1, 1, 0, 0]]),
  )
  assert processors.tokens_in(tokens, segments, 4).tolist() == [
    [False, True, False, True],
    [True, False, True, False],
  ]


def test_no_end_before_the_least_length():
  settings = Decoding(min_new_tokens=2, eos=(0, 2), max_new_tokens=4)
  assert [
    survivors(processors.process(jnp.zeros(4), None, step, settings))
    for step in range(3)
  ] == [{1, 3}, {1, 3}, {0, 1, 2, 3}]


def test_the_order_is_temperature_then_top_k_then_top_p_then_min_p():
  logits = jnp.log(jnp.array([0.5, 0.25, 0.125, 0.125]))
  # At temperature 0.5 the first has 16/22 of the mass, the second 4/22: of two, the
  # first has 0.8.
  warp = lambda **options: survivors(
    processors.warp(logits, Decoding('sample', **options))
  )
  assert warp(top_p=0.7) == {0, 1}
  assert warp(temperature=0.5, top_p=0.7) == {0}
  assert warp(temperature=0.5, top_p=0.79) == {0, 1}
  assert warp(temperature=0.5, top_k=2, top_p=0.79) == {0}
  assert warp(min_p=0.3) == {0, 1}
  assert warp(min_p=0.3, temperature=0.5) == {0}


@settings(max_examples=25)
@given(
  st.lists(LOGITS, min_size=2, max_size=2).filter(
    lambda rows: len(rows[0]) == len(rows[1])
  ),
  st.sampled_from(
    [
      dict(top_k=2),
      dict(top_p=0.6),
      dict(min_p=0.2),
      dict(top_k=3, top_p=0.5, temperature=2.0),
    ]
  ),
)
def test_rows_do_not_meet(rows, options):
  settings = Decoding('sample', **options)
  both = processors.warp(jnp.array(rows, jnp.float32), settings)
  assert all(
    (
      np.asarray(both[i]) == processors.warp(jnp.array(row, jnp.float32), settings)
    ).all()
    for i, row in enumerate(rows)
  )


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('seed', range(3))
def test_the_same_as_in_transformers(seed):
  torch = pytest.importorskip('torch')
  theirs = pytest.importorskip('transformers.generation.logits_process')
  random = np.random.default_rng(seed)
  logits = (random.normal(size=(4, 30)) * 3).astype(np.float32)
  tokens = random.integers(0, 30, (4, 6))
  tokens[:, -1] = tokens[:, 1]
  words = ((4,), (int(tokens[0, -1]), 7), (*map(int, tokens[1, -2:]), 9))
  for mine, their in [
    (processors.keep_top_k(logits, 7), theirs.TopKLogitsWarper(7)),
    (processors.keep_top_p(logits, 0.8), theirs.TopPLogitsWarper(0.8)),
    (processors.keep_min_p(logits, 0.05), theirs.MinPLogitsWarper(0.05)),
    (
      processors.forbid_repeats(logits, jnp.array(tokens), 6, 2),
      theirs.NoRepeatNGramLogitsProcessor(2),
    ),
    (
      processors.forbid_words(logits, jnp.array(tokens), 6, words),
      theirs.NoBadWordsLogitsProcessor(list(map(list, words)), torch.tensor([29])),
    ),
    (
      processors.penalize_repetition(
        logits, processors.tokens_in(tokens, tokens * 0 + 1, 30), 1.3
      ),
      theirs.RepetitionPenaltyLogitsProcessor(1.3),
    ),
  ]:
    assert np.allclose(
      mine, their(torch.tensor(tokens), torch.tensor(logits)).numpy(), rtol=1e-6
    )
