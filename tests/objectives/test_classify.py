"""The groups of labels of tasks that share a head."""

import jax
import jax.numpy as jnp
import pytest

from tl_jax.objectives import classify


def test_a_label_competes_with_its_own_group_alone():
  logits, batch = (
    jnp.array([[1.0, 2.0, 9.0, 0.5], [7.0, 0.0, 1.0, 3.0]]),
    {'labels': jnp.array([0, 3])},
  )
  objective = classify(labels=4, groups=((0, 2), (2, 4)))
  forward = lambda logits: lambda *args, **keywords: type('Out', (), {'logits': logits})
  terms, metrics = objective.loss(forward(logits), batch, None)
  wanted = -jax.nn.log_softmax(logits[0, :2])[0] - jax.nn.log_softmax(logits[1, 2:])[1]
  assert float(terms['classify'].sum) == pytest.approx(float(wanted), rel=1e-6)
  assert float(metrics['accuracy'].sum) == 1.0
  slope = jax.grad(
    lambda logits: objective.loss(forward(logits), batch, None)[0]['classify'].sum
  )(logits)
  assert not slope[0, 2:].any() and not slope[1, :2].any() and slope[0, :2].all()


def test_a_class_weight_is_how_often_its_examples_come():
  outputs = jnp.array([[0.3, -0.2, 0.5], [1.0, 0.1, -1.0], [0.2, 0.4, 0.1]])
  labels = jnp.array([0, 1, 2])

  def mean_loss(objective, outputs, labels):
    def forward(*_, **__):
      return type('Out', (), {'logits': outputs})

    batch = {'labels': labels}
    terms, metrics = objective.loss(forward, batch, None)
    weight = objective.weights(batch)['classify']
    return terms['classify'].sum / weight, metrics['accuracy']

  def of_weighted(outputs):
    return mean_loss(classify(labels=3, class_weights=(1.0, 3.0, 2.0)), outputs, labels)

  def of_repeated(outputs):
    often = jnp.array([0, 1, 1, 1, 2, 2])
    return mean_loss(classify(labels=3), outputs[often], labels[often])

  (loss, accuracy), slope = jax.value_and_grad(of_weighted, has_aux=True)(outputs)
  (wanted, _), same_slope = jax.value_and_grad(of_repeated, has_aux=True)(outputs)
  assert float(loss) == pytest.approx(float(wanted), rel=1e-6)
  assert jnp.allclose(slope, same_slope, atol=1e-7)
  # A metric is of the examples that there are.
  assert float(accuracy.weight) == 3


@pytest.mark.parametrize('kind', ['multi_label', 'regression'])
def test_class_weights_are_of_single_labels(kind):
  with pytest.raises(ValueError, match='class_weights: only single labels'):
    classify(labels=2, kind=kind, class_weights=(1.0, 2.0))
