"""Labels of single tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import objectives
from tl_jax.models import Outputs

LABELS = jnp.array([[-1, 2, -1, 0], [1, -1, -1, -1]])


def given(logits):
  def forward(batch, key=None, train=False):
    del batch, key, train
    return Outputs(None, logits)

  return forward


def loss_of(logits, labels=LABELS, **settings):
  objective = objectives.tags(labels=logits.shape[-1], **settings)
  terms, means = objective.loss(given(logits), {'labels': labels}, None)
  return terms['tags'].sum, means['accuracy']


def test_the_loss_is_that_of_tokens_with_a_label():
  logits = jax.random.normal(jax.random.key(0), (2, 4, 3))
  found, accuracy = loss_of(logits)
  chosen = [(0, 1, 2), (0, 3, 0), (1, 0, 1)]
  logs = np.asarray(jax.nn.log_softmax(logits))
  np.testing.assert_allclose(found, -sum(logs[place] for place in chosen), rtol=1e-5)
  right = sum(logs[row, column].argmax() == label for row, column, label in chosen)
  assert (float(accuracy.sum), float(accuracy.weight)) == (right, 3.0)
  other = logits.at[0, 0].add(5.0).at[1, 1:].set(-9.0)
  np.testing.assert_allclose(loss_of(other)[0], found, rtol=1e-6)


def test_smoothing_spreads_over_all_labels():
  logits = jax.random.normal(jax.random.key(1), (2, 4, 3))
  logs = jax.nn.log_softmax(logits)
  weight = LABELS >= 0
  even = -(logs.mean(-1) * weight).sum()
  plain, _ = loss_of(logits)
  found, _ = loss_of(logits, smoothing=0.2)
  np.testing.assert_allclose(found, 0.8 * plain + 0.2 * even, rtol=1e-5)


def test_another_head_is_refused():
  with pytest.raises(ValueError, match='needs the head for tokens'):
    loss_of(jnp.zeros((2, 3)))


def test_a_prediction_weighs_what_is_learned():
  prediction = objectives.tags(labels=3).prediction
  assert prediction.weights({'labels': LABELS}).sum() == 3
  first = jax.random.normal(jax.random.key(2), (2, 4, 3))
  far = prediction.divergence(first, first + jnp.array([0.0, 1.0, 2.0]), LABELS)
  assert far.shape == (2, 4) and (far > 0).all()
  np.testing.assert_allclose(prediction.divergence(first, first, LABELS), 0, atol=1e-6)
