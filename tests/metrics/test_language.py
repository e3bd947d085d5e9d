"""Perplexity: laws of uniform and shifted logits, masks, and every edge."""

import math
import sys

import numpy as np
import pytest

from tl_jax.metrics import perplexity


def test_uniform_logits_have_the_vocabulary_as_perplexity():
  found = perplexity(np.zeros((2, 3, 7)), np.zeros((2, 3), int))
  assert found == pytest.approx({'perplexity': 7.0, 'loss': math.log(7), 'tokens': 6.0})


def test_logits_and_log_probabilities_agree_and_a_shift_changes_nothing():
  random = np.random.default_rng(0)
  logits, tokens = random.normal(size=(5, 11)), random.integers(0, 11, 5)
  log = logits - np.log(np.exp(logits).sum(1, keepdims=True))
  expected = perplexity(log[np.arange(5), tokens], tokens)
  assert perplexity(logits, tokens) == pytest.approx(expected)
  assert perplexity(logits + 1e4, tokens) == pytest.approx(expected)


def test_negative_ids_are_no_tokens():
  scores = np.log([[0.5, 0.25], [0.125, 0.9]])
  assert perplexity(scores, np.array([[3, 3], [3, -1]])) == pytest.approx(
    {'perplexity': 4.0, 'loss': math.log(4), 'tokens': 3.0}
  )


@pytest.mark.parametrize(
  ('predicted', 'expected', 'value'),
  [
    ([], [], 0.0),
    ([-1.0], [-100], 0.0),
    ([0.0], [1], 1.0),
    ([-math.inf], [1], sys.float_info.max),
    ([-1e9], [1], sys.float_info.max),
    ([[0.0, -math.inf]], [1], sys.float_info.max),
  ],
)
def test_edges(predicted, expected, value):
  found = perplexity(predicted, expected)
  assert found['perplexity'] == pytest.approx(value)
  assert all(map(math.isfinite, found.values()))


@pytest.mark.parametrize(
  ('predicted', 'expected', 'words'),
  [
    ([-1.0, -1.0], [1], 'of shape'),
    ([math.nan], [1], 'NaN'),
    ([2.0], [1], 'above 0'),
    ([-1.0], [0.5], 'integer'),
    ([[0.0, 0.0]], [2], 'outside the vocabulary'),
    ([[math.inf, 0.0]], [1], 'infinity'),
  ],
)
def test_bad_input_is_an_error(predicted, expected, words):
  with pytest.raises(ValueError, match=words):
    perplexity(predicted, expected)
