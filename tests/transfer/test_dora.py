"""PiSSA's start and DoRA's gradient, by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import leaves
from tl_jax.transfer import dora, lora

KEY = jax.random.key(3)


def moved(trainable):
  """A tree that some training might have led to."""
  return jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(KEY, leaf.shape), trainable)


def test_pissa_trains_the_principal_directions():
  w = jax.random.normal(KEY, (8, 5))
  trainable, frozen = lora('w', rank=2, alpha=6, init='pissa', head=None).init(KEY, {'w': w})
  leaf = trainable['w']
  left, values, right = np.linalg.svd(np.asarray(w), full_matrices=False)
  np.testing.assert_allclose(leaf.scale * leaf.a @ leaf.b, (left[:, :2] * values[:2]) @ right[:2], atol=1e-5)
  assert float(jnp.linalg.norm(frozen['w'].base)) < float(jnp.linalg.norm(w))


def test_dora_keeps_the_norm_out_of_the_gradient():
  w, x = jax.random.normal(KEY, (6, 4)), jax.random.normal(jax.random.key(9), (3, 6))
  trainable, frozen = dora('w', rank=2, head=None).init(KEY, {'w': w})
  trainable = moved(trainable)
  method = dora('w', rank=2, head=None)

  def by_hand(leaf):
    v = w + leaf['w'].scale * leaf['w'].a @ leaf['w'].b
    return (x @ (v * leaf['w'].magnitude / jax.lax.stop_gradient(jnp.linalg.norm(v, axis=0)))).sum()

  ours = jax.grad(lambda leaf: leaves.matmul(x, method.merge(leaf, frozen)['w']).sum())(trainable)
  for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(jax.grad(by_hand)(trainable)), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
