"""Evaluation counts every example once, and baselines answer for every class."""

import numpy as np
import pytest

from tl_jax import evals


def answer(params, batch):
  return batch['identifiers'][..., None] * np.array([1.0, 2.0])


@pytest.mark.parametrize('rows', [1, 3, 8])
def test_every_example_gets_its_own_output(rows):
  order = np.random.default_rng(rows).permutation(21)
  padded = np.concatenate([order, -np.ones(-21 % (2 * rows), int)]).reshape(-1, rows, 2)
  found = evals.outputs(answer, None, [{'identifiers': part} for part in padded], 21)
  np.testing.assert_array_equal(found, np.arange(21)[:, None] * [1.0, 2.0])


@pytest.mark.parametrize(
  'identifiers', [[[0, 1]], [[0, 1], [2, 2]], [[0, 1], [2, -1], [1, -1]]]
)
def test_a_missing_or_repeated_example_is_an_error(identifiers):
  with pytest.raises(ValueError, match='did not come exactly once'):
    evals.outputs(answer, None, [{'identifiers': np.array(identifiers)}], 3)


def test_the_baseline_learns_words():
  texts = [
    f'{word} number {index}'
    for index in range(10)
    for word in ('apple', 'stone', 'river')
  ]
  labels = [0, 1, 2] * 10
  found = evals.CLASSIFIERS['tf-idf'](
    texts, labels, ['an apple', 'the stone', 'a river']
  )
  assert found.argmax(1).tolist() == [0, 1, 2]


@pytest.mark.parametrize('absent', [0, 1, 2, 3])
def test_the_columns_of_the_baseline_are_the_classes_whichever_have_labels(absent):
  words = ['apple', 'stone', 'river', 'cloud']
  present = [place for place in range(4) if place != absent]
  texts = [f'{words[place]} number {index}' for index in range(10) for place in present]
  found = evals.CLASSIFIERS['tf-idf'](
    texts, present * 10, [f'one {word}' for word in words], 4
  )
  assert found.shape == (4, 4) and np.isfinite(found).all()
  assert found[present].argmax(1).tolist() == present
  assert (found[:, absent] < found[:, present].min(axis=1)).all()


def test_a_baseline_with_one_class_always_answers_with_it():
  found = evals.CLASSIFIERS['tf-idf'](
    ['an apple', 'a pear'], [2, 2], ['an apple', 'a stone'], 4
  )
  assert found.argmax(1).tolist() == [2, 2] and np.isfinite(found).all()


def test_a_baseline_refuses_labels_that_are_no_classes():
  with pytest.raises(ValueError, match='3 classes'):
    evals.CLASSIFIERS['tf-idf'](['a', 'b'], [0, 3], ['c'], 3)
