"""Accuracy, F1 and Matthews against scikit-learn, and on every edge."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.metrics import accuracy, choice_accuracy, f1, matthews

PAIRS = st.integers(1, 4).flatmap(
  lambda classes: st.lists(
    st.tuples(st.integers(0, classes), st.integers(0, classes)), min_size=1, max_size=40
  )
)


@settings(max_examples=80, deadline=None)
@given(PAIRS)
def test_labels_agree_with_scikit_learn(pairs):
  from sklearn import metrics as reference

  predicted, expected = map(list, zip(*pairs, strict=True))
  assert accuracy(predicted, expected)['accuracy'] == pytest.approx(
    reference.accuracy_score(expected, predicted)
  )
  found = f1(predicted, expected)
  arguments = dict(zero_division=0.0)
  for name, average in (('f1_macro', 'macro'), ('f1_micro', 'micro')):
    assert found[name] == pytest.approx(
      reference.f1_score(expected, predicted, average=average, **arguments)
    )
  one, rest = [label == 1 for label in predicted], [label == 1 for label in expected]
  of_one = pytest.approx(reference.f1_score(rest, one, **arguments))
  assert f1(predicted, expected, positive=1)['f1'] == of_one
  # Of three classes none is the positive one.
  assert found.get('f1') == (of_one if {*predicted, *expected} <= {0, 1} else None)
  if len({*predicted, *expected}) > 1:
    assert matthews(predicted, expected)['matthews'] == pytest.approx(
      reference.matthews_corrcoef(expected, predicted), abs=1e-12
    )


@settings(max_examples=40, deadline=None)
@given(
  st.lists(
    st.tuples(*[st.tuples(*[st.integers(0, 1)] * 3)] * 2), min_size=1, max_size=20
  )
)
def test_indicators_agree_with_scikit_learn(pairs):
  from sklearn import metrics as reference

  predicted, expected = (np.array(side) for side in zip(*pairs, strict=True))
  assert accuracy(predicted, expected)['accuracy'] == pytest.approx(
    reference.accuracy_score(expected, predicted)
  )
  found = f1(predicted, expected)
  assert set(found) == {'f1_macro', 'f1_micro'}
  for name, average in (('f1_macro', 'macro'), ('f1_micro', 'micro')):
    assert found[name] == pytest.approx(
      reference.f1_score(expected, predicted, average=average, zero_division=0.0)
    )


@settings(max_examples=40, deadline=None)
@given(PAIRS, st.randoms())
def test_the_order_of_examples_does_not_matter(pairs, random):
  shuffled = list(pairs)
  random.shuffle(shuffled)
  for metric in (accuracy, f1, matthews):
    first, second = (
      metric(*map(list, zip(*order, strict=True))) for order in (pairs, shuffled)
    )
    assert first == pytest.approx(second)


@pytest.mark.parametrize(
  ('predicted', 'expected', 'value'),
  [
    ([], [], {'f1': 0.0, 'f1_macro': 0.0, 'f1_micro': 0.0}),
    ([0, 0], [0, 0], {'f1': 0.0, 'f1_macro': 1.0, 'f1_micro': 1.0}),
    ([1, 1], [1, 1], {'f1': 1.0, 'f1_macro': 1.0, 'f1_micro': 1.0}),
    ([1, 1], [0, 0], {'f1': 0.0, 'f1_macro': 0.0, 'f1_micro': 0.0}),
    (['ham', 'spam'], ['spam', 'spam'], {'f1_macro': 1 / 3, 'f1_micro': 0.5}),
    ([True, False], [True, True], {'f1': 2 / 3, 'f1_macro': 1 / 3, 'f1_micro': 0.5}),
    ([1.0, 0.0], [1, 0], {'f1': 1.0, 'f1_macro': 1.0, 'f1_micro': 1.0}),
    (np.zeros((2, 3), int), np.zeros((2, 3), int), {'f1_macro': 0.0, 'f1_micro': 0.0}),
  ],
)
def test_edges_of_f1(predicted, expected, value):
  assert f1(predicted, expected) == pytest.approx(value)


def test_a_positive_class_can_be_named():
  assert f1(['ham', 'spam'], ['spam', 'spam'], positive='spam')['f1'] == pytest.approx(
    2 / 3
  )


@pytest.mark.parametrize(
  ('predicted', 'expected'),
  [
    ([], []),
    ([1], [1]),
    ([1, 1, 1], [0, 1, 0]),
    ([0, 1], [1, 1]),
    (['a', 'a'], ['a', 'a']),
  ],
)
def test_matthews_of_a_constant_side_is_zero(predicted, expected):
  assert matthews(predicted, expected) == {'matthews': 0.0}


def test_matthews_stays_exact_where_64_bits_overflow():
  half = np.repeat([0, 1], 60_000)
  assert matthews(np.tile(half, 2), np.tile(half, 2))['matthews'] == 1.0


@pytest.mark.parametrize('metric', [accuracy, f1, matthews])
@pytest.mark.parametrize(
  ('predicted', 'expected', 'words'),
  [
    ([1, 2], [1], '2 predictions for 1 references'),
    ([], [1], '0 predictions for 1 references'),
    ([0.5], [1], 'class labels'),
    ([float('nan')], [1], 'class labels'),
    ([None], [1], 'integers, booleans or text'),
    (['1'], [1], 'text, the other numbers'),
    ('11', [1, 1], 'must be a list'),
    ([[1, 0]], [1], 'of shape'),
    (3, [1], 'must be a list'),
  ],
)
def test_bad_input_is_an_error_of_one_line(metric, predicted, expected, words):
  with pytest.raises(ValueError, match=words) as caught:
    metric(predicted, expected)
  assert '\n' not in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(
  st.lists(
    st.lists(st.integers(-3, 3), min_size=1, max_size=5).flatmap(
      lambda scores: st.tuples(st.just(scores), st.integers(0, len(scores) - 1))
    )
  )
)
def test_the_first_of_the_best_candidates_is_chosen(questions):
  scores = [candidates for candidates, _ in questions]
  right = [place for _, place in questions]
  chosen = [candidates.index(max(candidates)) for candidates in scores]
  value = accuracy(chosen, right)['accuracy']
  assert choice_accuracy(scores, right) == {'choice_accuracy': value}


@pytest.mark.parametrize(
  ('scores', 'right', 'words'),
  [
    ([[0.1, 0.2]], [], '1 predictions for 0 references'),
    ([[0.1, 0.2]], [2], '2 candidates, and none at the place 2'),
    ([[0.1, 0.2]], [-1], 'none at the place -1'),
    ([[]], [0], 'example 0 has 0 candidates'),
    ([[0.1], [0.1, float('nan')]], [0, 0], 'example 1 has a value that is not finite'),
    ([0], [0], 'example 0 must be a list'),
    ([['yes', 'no']], [0], 'must be real numbers'),
    ([[0.1, 0.2]], ['1'], 'the places of candidates'),
    ([[0.1, 0.2]], [[0, 1]], 'the places of candidates'),
  ],
)
def test_a_choice_that_cannot_be_scored_is_an_error(scores, right, words):
  with pytest.raises(ValueError, match=words):
    choice_accuracy(scores, right)
