"""Scores of candidates, as they are worked out by hand."""

import numpy as np
import pytest

from tl_jax.evals.scores import SCORES, Found, calibrated, scores


def test_contextual_calibration_by_hand():
  """Zhao et al. (2021), section 5.

  Three inputs that say nothing give the labels the probabilities (.3, .1), (.2, .1) and
  (.4, .1) of all texts: their mean (.3, .1) is (3/4, 1/4) of the two. W = diag(4/3, 4).
  An input with (.2, .1), so p = (2/3, 1/3), has W p = (8/9, 4/3): the other label.
  """
  empty = np.log([[0.3, 0.1], [0.2, 0.1], [0.4, 0.1]])
  found = np.exp(calibrated(np.log([[0.2, 0.1], [0.3, 0.01]]), empty))
  assert found[0].tolist() == pytest.approx([8 / 9, 4 / 3])
  # (.3, .01) is (30/31, 1/31): still the first.
  assert found[1].tolist() == pytest.approx([40 / 31, 4 / 31])


def test_every_score_by_hand():
  sums = np.log([[0.5, 0.25], [0.25, 0.125]])
  empty = np.log([[[0.5, 0.5]], [[0.2, 0.4]]])
  found = scores(Found(sums, [1, 2], [2, 4], np.log([0.5, 0.1]), empty))
  assert tuple(found) == SCORES
  half = np.log(0.5)
  assert found['sum'].tolist() == sums.tolist()
  assert found['token'][0].tolist() == pytest.approx([half, half])
  assert found['character'][0].tolist() == pytest.approx([half / 2, half / 2])
  # P(candidate | prompt) / P(candidate | answer context): 1 and 2.5.
  assert np.exp(found['unconditional'][0]).tolist() == pytest.approx([1, 2.5])
  # Each example by its own prompts: (2/3, 1/3) / (1/2, 1/2), / (1/3, 2/3).
  calibrated_ = np.exp(found['calibrated'])
  assert calibrated_[0].tolist() == pytest.approx([4 / 3, 2 / 3])
  assert calibrated_[1].tolist() == pytest.approx([2, 1 / 2])


def test_no_probability_is_too_small():
  found = calibrated([[-2000.0, -2001.0]], [[-3000.0, -3003.0]])
  # In the logarithm (-.313, -1.313) less (-.049, -3.049).
  assert found[0].tolist() == pytest.approx([-0.264675, 1.735325], abs=1e-6)


def test_what_nobody_asked_for_is_not_there():
  assert 'calibrated' not in scores(Found([[-1.0]], [1], [1], [-1.0]))
