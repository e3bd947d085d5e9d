"""Where answers begin and end."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import objectives
from tl_jax.models import Outputs

SEGMENTS = jnp.array([[1, 1, 1, 2, 2, 2, 2, 0], [1, 1, 1, 1, 1, 0, 0, 0]])
EXAMPLES = jnp.array([[1, 2], [1, 0]])
LABELS = jnp.array([[[0, 2], [4, 4]], [[3, 4], [0, 0]]])
LOGITS = jax.random.normal(jax.random.key(0), (2, 8, 2))


def loss_of(logits, segments=SEGMENTS, examples=EXAMPLES, labels=LABELS, **settings):
  def forward(batch, key=None, train=False):
    del batch, key, train
    return Outputs(None, logits)

  objective = objectives.extract(**settings)
  batch = dict(segments=segments, examples=examples, labels=labels)
  terms, means = objective.loss(forward, batch, None)
  assert float(objective.weights(batch)['extract']) == float(means['accuracy'].weight)
  return float(terms['extract'].sum), float(means['accuracy'].sum)


def by_hand(smoothing=0.0):
  """One example after the other, each by itself."""
  total = 0.0
  for row, first, end, places in (
    (0, 0, 3, (0, 2)),
    (0, 3, 7, (4, 4)),
    (1, 0, 5, (3, 4)),
  ):
    for side, place in enumerate(places):
      logs = np.asarray(jax.nn.log_softmax(LOGITS[row, first:end, side]))
      chosen = (1 - smoothing) * logs[place - first] + smoothing * logs.mean()
      total -= chosen / 2
  return total


@pytest.mark.parametrize('smoothing', [0.0, 0.2])
def test_the_loss_is_over_the_tokens_of_each_example(smoothing):
  found, _ = loss_of(LOGITS, smoothing=smoothing)
  np.testing.assert_allclose(found, by_hand(smoothing), rtol=1e-5)


def test_other_examples_and_padding_change_nothing():
  other = LOGITS.at[0, 7].add(50.0).at[1, 5:].add(50.0)
  np.testing.assert_allclose(loss_of(other)[0], by_hand(), rtol=1e-5)


def test_both_ends_must_be_right():
  right = jnp.full((2, 8, 2), -3.0)
  for row, first, last in ((0, 0, 2), (0, 4, 4), (1, 3, 4)):
    right = right.at[row, first, 0].set(3.0).at[row, last, 1].set(3.0)
  assert loss_of(right)[1] == 3.0
  assert loss_of(right.at[1, 4, 1].set(-4.0))[1] == 2.0


def test_another_head_is_named():
  with pytest.raises(ValueError, match='the model needs the head for spans'):
    loss_of(LOGITS[..., :1])
