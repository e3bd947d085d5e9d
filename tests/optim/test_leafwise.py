"""Leaf by leaf, a transformation makes what it makes of the whole tree; clipping is
that of optax.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tl_jax import leaves
from tl_jax.optim import OptimConfig, ScheduleConfig, make_optimizer
from tl_jax.optim.leafwise import clip_by_global_norm, leaf_by_leaf
from tl_jax.optim.optimizers import OPTIMIZERS


def draw(shape, seed: int, scale: float = 1.0):
  return jnp.asarray(
    scale * np.random.default_rng(seed).standard_normal(shape, np.float32)
  )


def params(seed: int, scale: float = 1.0) -> dict:
  """Leaves that are alike, a structured one, a hole, and matrices that Adafactor
  factors.
  """
  low_rank = leaves.LowRank(
    draw((6, 4), seed), draw((6, 2), seed + 1), draw((2, 4), seed + 2), 0.5
  )
  return dict(
    a=dict(kernel=draw((130, 140), seed, scale), bias=draw((5,), seed + 3, scale)),
    b=dict(kernel=draw((130, 140), seed + 4, scale), bias=draw((5,), seed + 5, scale)),
    low_rank=jax.tree.map(lambda leaf: scale * leaf, low_rank),
    hole=None,
  )


@pytest.mark.parametrize('name', OPTIMIZERS)
def test_leaf_by_leaf_is_the_whole(name):
  whole, single, given = OPTIMIZERS[name](), leaf_by_leaf(OPTIMIZERS[name]()), params(0)
  state, other = whole.init(given), single.init(given)
  for step in range(3):
    gradients = params(10 * step + 10)
    expected, state = jax.jit(whole.update)(gradients, state, given)
    found, other = jax.jit(single.update)(gradients, other, given)
    assert jax.tree.structure((found, other)) == jax.tree.structure((expected, state))
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-6, atol=1e-7),
      (found, other),
      (expected, state),
    )


def test_one_leaf_and_none():
  for given in (jnp.ones(3), dict(hole=None)):
    tx = leaf_by_leaf(OPTIMIZERS['adamw']())
    state = tx.init(given)
    updates, after = tx.update(given, state, given)
    assert jax.tree.structure((updates, after)) == jax.tree.structure((given, state))
    assert int(after.count) == 1


def test_missing_parameters_are_named():
  tx = make_optimizer(OptimConfig(), ScheduleConfig(name='constant', steps=3))
  with pytest.raises(ValueError, match='params: the decay needs the parameters'):
    tx.update(params(0), tx.init(params(0)))


def test_leaves_that_are_alike_are_traced_once():
  traced = []
  tx = leaf_by_leaf(
    optax.stateless(lambda updates, params: traced.append(updates) or updates)
  )
  given = dict(
    zip('abcd', [jnp.ones(3), jnp.ones(3), jnp.ones(3), jnp.ones(2)], strict=True)
  )
  jax.make_jaxpr(lambda updates: tx.update(updates, tx.init(given), given))(given)
  assert [leaf.shape for leaf in traced] == [(3,), (2,)]


@pytest.mark.parametrize('scale', [1e-3, 1.0, 1e3])
def test_clipping_is_that_of_optax(scale):
  gradients, limit = params(0, scale), 1.0
  ours, theirs = (
    jax.jit(clip(limit).update)(gradients, optax.EmptyState())[0]
    for clip in (clip_by_global_norm, optax.clip_by_global_norm)
  )
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), ours, theirs)
  if float(optax.tree.norm(gradients)) < limit:
    jax.tree.map(np.testing.assert_array_equal, ours, gradients)
  else:
    assert float(optax.tree.norm(ours)) == pytest.approx(limit, rel=1e-5)


@pytest.mark.parametrize('wrong', [np.nan, np.inf])
def test_a_gradient_that_is_no_number_is_not_hidden(wrong):
  gradients = dict(bad=jnp.array([1.0, wrong]), good=jnp.ones(2))
  clipped, _ = clip_by_global_norm(1.0).update(gradients, optax.EmptyState())
  expected, _ = optax.clip_by_global_norm(1.0).update(gradients, optax.EmptyState())
  jax.tree.map(np.testing.assert_array_equal, clipped, expected)
  assert np.isnan(clipped['bad']).any()
