"""The loss of candidates: a softmax over those of one question."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import objectives

BATCH = dict(
  # Two questions of 3 and 2 candidates in the first row, none in the second.
  examples=jnp.array([[[1, 2, 3], [4, 5, 0]], [[0, 0, 0], [0, 0, 0]]]),
  labels=jnp.array([[2, 0], [0, 0]]),
)
SCORES = np.array([[[0.5, -1.0, 2.0], [1.0, 3.0, -1e9]], np.full((2, 3), -1e9)])


class Outputs:
  def __init__(self, logits):
    self.logits = logits


def loss_of(scores, batch=BATCH, **how):
  objective = objectives.choice(**how)
  terms, means = objective.loss(
    lambda batch, key, train: Outputs(jnp.asarray(scores)), batch, None
  )
  return terms['choice'].sum, means['accuracy'], objective.weights(batch)['choice']


def log_softmax(scores):
  return scores - np.log(np.exp(scores).sum())


def test_the_loss_is_that_of_the_candidates_of_each_question_alone():
  total, accuracy, weight = loss_of(SCORES)
  first = log_softmax(SCORES[0, 0])
  second = log_softmax(SCORES[0, 1, :2])
  np.testing.assert_allclose(total, -first[2] - second[0], rtol=1e-6)
  assert (float(accuracy.sum), float(accuracy.weight), float(weight)) == (1.0, 2.0, 2.0)


def test_smoothing_is_spread_over_the_candidates_that_there_are():
  total, _, _ = loss_of(SCORES, smoothing=0.2)
  first = log_softmax(SCORES[0, 0])
  second = log_softmax(SCORES[0, 1, :2])
  wanted = -0.8 * (first[2] + second[0]) - 0.2 * (first.mean() + second.mean())
  np.testing.assert_allclose(total, wanted, rtol=1e-6)


def test_an_unknown_answer_weighs_nothing():
  batch = BATCH | dict(labels=jnp.array([[2, -1], [0, 0]]))
  total, accuracy, weight = loss_of(SCORES, batch)
  np.testing.assert_allclose(total, -log_softmax(SCORES[0, 0])[2], rtol=1e-6)
  assert float(accuracy.weight) == float(weight) == 1.0


def test_a_missing_candidate_has_no_gradient():
  gradient = jax.grad(lambda scores: loss_of(scores, smoothing=0.1)[0])(SCORES)
  assert np.isfinite(gradient).all() and not gradient[0, 1, 2]
  assert not gradient[1].any() and np.abs(gradient[0, 0]).min() > 0


def test_scores_of_another_head_are_refused():
  with pytest.raises(ValueError, match='needs the head for choices'):
    loss_of(SCORES[..., :1])


WORTHS = dict(BATCH, labels=jnp.array([[[1.0, 0, 1], [0, 1, -1]], [[0.0] * 3] * 2]))


def test_any_right_candidate_counts_by_their_probabilities_together():
  total, accuracy, weight = loss_of(SCORES, WORTHS)
  first = np.exp(log_softmax(SCORES[0, 0]))
  second = np.exp(log_softmax(SCORES[0, 1, :2]))
  wanted = -np.log(first[0] + first[2]) - np.log(second[1])
  np.testing.assert_allclose(total, wanted, rtol=1e-6)
  assert (float(accuracy.sum), float(weight)) == (2.0, 2.0)


def test_each_candidate_may_be_decided_for_itself():
  total, accuracy, _ = loss_of(SCORES, WORTHS, each=True)
  signs = [np.array([1, -1, 1]), np.array([-1, 1])]
  own = [SCORES[0, 0], SCORES[0, 1, :2]]
  wanted = [np.log1p(np.exp(-s * x)).mean() for s, x in zip(signs, own, strict=True)]
  np.testing.assert_allclose(total, sum(wanted), rtol=1e-6)
  # Of the second question the wrong candidate is taken for right, too.
  assert float(accuracy.sum) == 1.0


@pytest.mark.parametrize('each', [False, True])
def test_an_empty_place_of_several_has_no_gradient(each):
  gradient = jax.grad(lambda scores: loss_of(scores, WORTHS, each=each)[0])(SCORES)
  assert np.isfinite(gradient).all() and not gradient[1].any()
  assert not gradient[0, 1, 2] and gradient[0, 0].all()
