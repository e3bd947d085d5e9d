"""MultiRC's and ReCoRD's metrics by hand, and their edges."""

import pytest

from tl_jax import metrics


def test_the_sets_of_answers_are_scored_together_and_by_question():
  scores = [[1.0, -1.0, 2.0], [-1.0, -1.0]]
  right = [[1, 0, 0], [0, 0]]
  # Two are taken for right, one of which is; the second question is right as a whole.
  assert metrics.answer_sets(scores, right) == {
    'answer_f1': pytest.approx(2 / 3),
    'question_match': 0.5,
  }
  assert metrics.answer_sets([[-1.0]], [[0]]) == {'answer_f1': 0, 'question_match': 1}
  assert metrics.answer_sets([], []) == {'answer_f1': 0.0, 'question_match': 0.0}


def test_the_best_answer_is_worth_what_it_shares_with_the_right_ones():
  found = metrics.best_answer([[0.0, 3.0], [2.0, 1.0]], [[1.0, 0.5], [1.0, 0.0]])
  assert found == {'best_answer_f1': 0.75, 'best_answer_match': 0.5}
  assert metrics.best_answer([], []) == {
    'best_answer_f1': 0.0,
    'best_answer_match': 0.0,
  }


@pytest.mark.parametrize('metric', [metrics.answer_sets, metrics.best_answer])
@pytest.mark.parametrize(
  ('scores', 'worths'), [([[1.0]], [[1, 0]]), ([[]], [[]]), ([[float('nan')]], [[1]])]
)
def test_scores_that_are_not_those_of_the_candidates_are_refused(
  metric, scores, worths
):
  with pytest.raises(ValueError, match='example 0|value that is not finite'):
    metric(scores, worths)
