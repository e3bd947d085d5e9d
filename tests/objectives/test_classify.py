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
