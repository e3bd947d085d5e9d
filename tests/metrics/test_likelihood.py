"""Metrics of likelihoods at values that are counted by hand, and at their edges."""

import math

import pytest

from tl_jax import metrics


def test_a_pair_counts_for_its_paradigm_and_for_the_phenomenon_above():
  predictions = [[-1.0, -2.0], [-2.0, -1.0], [-3.0, -9.0], [-4.0, -4.0]]
  groups = ['islands/wh', 'islands/adjunct', 'islands/wh', '']
  # Two that are equal are no success.
  assert metrics.minimal_pairs(predictions, groups) == {
    'pair_accuracy': 0.5,
    'islands/pair_accuracy': pytest.approx(2 / 3),
    'islands/adjunct/pair_accuracy': 0.0,
    'islands/wh/pair_accuracy': 1.0,
  }


def test_the_perplexity_of_last_words_is_that_of_whole_words():
  found = metrics.last_word([[math.log(0.5), 1], [math.log(0.125), 0]], ['a', 'b'])
  assert found['last_word_accuracy'] == 0.5
  assert found['last_word_perplexity'] == pytest.approx(4.0)
  # Beyond the largest float there is none, and no warning.
  assert metrics.last_word([[-1e4, 0]], ['a'])['last_word_perplexity'] > 1e300


@pytest.mark.parametrize('metric', [metrics.minimal_pairs, metrics.last_word])
def test_nothing_to_score_is_zero_and_wrong_numbers_are_named(metric):
  assert set(metric([], []).values()) == {0.0}
  for wrong in ([[1.0]], [[math.nan, 0.0]], [[-math.inf, 0.0]], [1.0]):
    with pytest.raises(ValueError, match=metric.__name__):
      metric(wrong, ['a'])
  with pytest.raises(ValueError, match='for 1 references'):
    metric([[0.0, 0.0]] * 2, ['a'])


def test_a_probability_above_one_is_refused():
  with pytest.raises(ValueError, match='above 0'):
    metrics.last_word([[0.1, 1.0]], ['a'])
