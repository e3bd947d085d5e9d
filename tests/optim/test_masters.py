"""Weights in bfloat16 beside float32 masters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tl_jax import tree
from tl_jax.optim import (
  OPTIMIZERS,
  OptimConfig,
  ScheduleConfig,
  ema_params,
  make_optimizer,
  read_weights,
)
from tl_jax.optim.masters import MasterState

FLAT = ScheduleConfig(name='constant', steps=5)


def parameters():
  random = np.random.default_rng(0)
  kernel = jnp.asarray(random.normal(size=(4, 3)), jnp.float32)
  return {'dense': {'kernel': kernel, 'bias': jnp.ones(3)}}


def train(config, params, steps=8):
  """(weights, state) after steps whose gradients are bfloat16 numbers."""
  tx = make_optimizer(config, FLAT)
  state = tx.init(params)
  weights = read_weights(params, state)
  for step in range(steps):
    random = np.random.default_rng(step)

    def draw(leaf, random=random):
      return jnp.asarray(random.normal(size=leaf.shape), jnp.bfloat16)

    gradients = jax.tree.map(draw, params)
    if not config.master_weights:
      gradients = jax.tree.map(lambda g: g.astype(jnp.float32), gradients)
    updates, state = tx.update(gradients, state, weights)
    weights = read_weights(optax.apply_updates(weights, updates), state)
  return weights, state


def masters_of(state):
  is_master = lambda node: isinstance(node, MasterState)
  nodes = jax.tree.leaves(state, is_leaf=is_master)
  return next(node for node in nodes if is_master(node)).masters


def same(first, second):
  first, second = tree.flatten(first), tree.flatten(second)
  assert first.keys() == second.keys()
  for name, leaf in first.items():
    assert np.asarray(leaf).tobytes() == np.asarray(second[name]).tobytes(), name


@pytest.mark.parametrize('name', OPTIMIZERS)
def test_masters_are_trained_as_float32_weights_are(name):
  config = dict(name=name, lr=0.003, decay=0.1, ema=0.9)
  plain, plain_state = train(OptimConfig(**config), parameters())
  weights, state = train(OptimConfig(**config, master_weights=True), parameters())
  same(masters_of(state), plain)
  same(ema_params(state), ema_params(plain_state))
  same(weights, jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), plain))


def test_steps_that_are_too_small_for_bfloat16_add_up():
  config = OptimConfig(name='sgd', b1=0.0, lr=1e-3, clip=None, master_weights=True)
  tx = make_optimizer(config, FLAT)
  params = {'bias': jnp.ones(1)}
  state = tx.init(params)
  weights = read_weights(params, state)
  gradients = {'bias': jnp.ones(1, jnp.bfloat16)}
  seen = []
  for _ in range(8):
    updates, state = tx.update(gradients, state, weights)
    weights = read_weights(optax.apply_updates(weights, updates), state)
    seen.append(float(weights['bias'][0]))
  assert seen[0] == 1.0 and seen[-1] == pytest.approx(0.992, abs=0.004)
  assert float(masters_of(state)['bias'][0]) == pytest.approx(0.992, abs=1e-6)


def test_frozen_leaves_have_no_master_and_keep_their_dtype():
  config = OptimConfig(groups=((r'.*bias', None),), master_weights=True)
  weights, state = train(config, parameters())
  assert list(tree.flatten(masters_of(state))) == ['dense/kernel']
  assert weights['dense']['kernel'].dtype == jnp.bfloat16
  same(weights['dense']['bias'], parameters()['dense']['bias'])


def test_without_masters_weights_are_what_they_were():
  params = parameters()
  tx = make_optimizer(OptimConfig(), FLAT)
  assert read_weights(params, tx.init(params)) is params
