"""R-Drop reads outputs as the objective says."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import objectives, rng
from tl_jax.transfer import rdrop

KEY = jax.random.key(11)
KINDS = {
  'single_label': (jnp.array([0, 2]), ()),
  'multi_label': (jnp.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]), ()),
  'regression': (jnp.array([[0.1, 2.0, 3.0], [0.0, 1.0, 1.0]]), ()),
  'several tasks': (jnp.array([0, 2]), ((0, 2), (2, 3))),
}


@pytest.mark.parametrize('name', KINDS)
def test_rdrop_reads_outputs_as_the_objective_says(name):
  labels, groups = KINDS[name]
  kind = 'single_label' if groups else name
  objective = rdrop(0.5).objective(
    objectives.classify(labels=3, kind=kind, groups=groups)
  )
  outputs = {
    part: jax.random.normal(rng.stream(KEY, f'{part}-pass'), (2, 3))
    for part in ('first', 'second')
  }

  def forward(batch, *, key, train):
    del batch, train
    return types.SimpleNamespace(logits=jax.random.normal(key, (2, 3)))

  term = objective.loss(forward, dict(labels=labels), KEY)[0]['agreement']
  np.testing.assert_allclose(
    term.sum, apart(name, *map(np.asarray, outputs.values())), rtol=1e-5
  )
  assert float(term.sum) > 0 and term.coefficient == 0.5
  assert float(objective.weights(dict(labels=labels))['agreement']) == 2.0


def apart(name, first, second):
  """By hand: the sum over both examples of how far two outputs (2, 3) are apart."""
  if name == 'regression':
    return np.square(first - second).mean(-1).sum()
  if name == 'multi_label':
    p, q = (1 / (1 + np.exp(-one)) for one in (first, second))
    return (kl(p, q) + kl(1 - p, 1 - q) + kl(q, p) + kl(1 - q, 1 - p)) / 2
  own = [slice(0, 2), slice(2, 3)] if name == 'several tasks' else [slice(0, 3)] * 2
  total = 0.0
  for row, group in enumerate(own):
    p, q = (
      np.exp(one[row, group]) / np.exp(one[row, group]).sum() for one in (first, second)
    )
    total += (kl(p, q) + kl(q, p)) / 2
  return total


def kl(p, q):
  return (p * np.log(p / q)).sum()


def test_rdrop_needs_an_objective_that_predicts():
  with pytest.raises(
    ValueError, match='^rdrop: the objective does not predict anything of an example'
  ):
    rdrop().objective(objectives.causal()._replace(prediction=None))
