"""Layer-wise decay of the rate: how far a parameter moves says how deep it lies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import layers, models, tree
from tl_jax.config import ConfigError, struct
from tl_jax.optim import OPTIMIZERS, OptimConfig, ScheduleConfig, make_optimizer
from tl_jax.optim.depth import Depths

FLAT = ScheduleConfig(name='constant', steps=3)


def stack(count, *, first=0):
  kernel = lambda number: jnp.full((2, 3), 1.0 + number)
  return {str(first + i): {'mlp': {'kernel': kernel(i)}} for i in range(count)}


def encoder():
  ones = jnp.ones((2, 3))
  return {
    'embedding': {'tokens': ones},
    'head': {'kernel': ones},
    'layers': stack(4),
    'pooler': {'kernel': ones},
  }


def moved(params, **chosen):
  """How far every leaf goes in a step of the same gradient for all."""
  config = OptimConfig(**dict(name='sgd', lr=0.1, clip=None) | chosen)
  tx = make_optimizer(config, FLAT)
  ones = jax.tree.map(jnp.ones_like, params)
  updates, _ = tx.update(ones, tx.init(params), params)
  return updates


def test_a_step_of_a_layer_is_decayed_as_often_as_it_lies_below_the_head():
  plain, slower = moved(encoder()), moved(encoder(), layer_decay=0.5)
  ratio = jax.tree.map(lambda a, b: float((a / b).mean()), slower, plain)
  found = tree.flatten(ratio)
  assert found.pop('head/kernel') == 1.0
  assert found == {
    'pooler/kernel': 0.5,
    'layers/3/mlp/kernel': 0.25,
    'layers/2/mlp/kernel': 0.125,
    'layers/1/mlp/kernel': 0.0625,
    'layers/0/mlp/kernel': 0.03125,
    'embedding/tokens': 0.015625,
  }


# The first state of adafactor is made of layers apart.
@pytest.mark.parametrize('name', sorted({*OPTIMIZERS} - {'adafactor'}))
def test_layers_as_one_array_move_as_layers_apart(name):
  params = encoder()
  names = tuple(f'layers/{number}/mlp/kernel' for number in range(4))
  held = layers.hold(params, {names[0]: names})
  chosen = dict(name=name, lr=0.1, decay=0.01, layer_decay=0.7)
  apart = tree.flatten(moved(params, **chosen))
  together = tree.flatten(layers.unstacked(moved(held, **chosen)))
  assert apart.keys() == together.keys()
  for own, leaf in apart.items():
    np.testing.assert_allclose(together[own], leaf, rtol=1e-6, err_msg=own)


def test_the_depths_of_electra_base_are_those_of_its_code():
  """decay ** (n + 2) for the embeddings, ** (n + 1 - i) for layer i, 1 for the task's."""
  names = tree.flatten(
    models.build(models.arch('electra-base', head='classifier')).axes
  )
  depths = Depths.of(names)
  found = {name: depths.below(name) for name in names}
  assert found['embedding/tokens'] == found['embedding/norm/bias'] == 14
  assert found['layers/0/attention/query/kernel'] == 13
  assert found['layers/11/attention/query/kernel'] == 2
  assert {value for name, value in found.items() if name.startswith('head/')} == {0}


def test_an_encoder_and_a_decoder_are_counted_side_by_side():
  names = tree.flatten(models.build(models.arch('t5-small', decoder_layers=2)).axes)
  depths = Depths.of(names)
  assert depths.below('encoder/layers/5/mlp/out/kernel') == 2
  assert depths.below('decoder/layers/1/mlp/out/kernel') == 2
  assert depths.below('encoder/layers/0/mlp/out/kernel') == 7
  assert depths.below('decoder/layers/0/mlp/out/kernel') == 3
  assert depths.below('encoder/final_norm/scale') == 1
  shared = ('embedding/tokens', 'encoder/relative/kernel', 'decoder/relative/kernel')
  assert {depths.below(name) for name in shared} == {8}


def test_what_a_method_adds_to_a_layer_learns_as_slowly_as_the_layer():
  """And what frozen layers hold counts among the layers, though it does not move."""
  small = {'layers': {'1': {'mlp': {'kernel': {'a': jnp.ones(3), 'b': jnp.ones(3)}}}}}
  config = OptimConfig(name='sgd', lr=0.1, clip=None, layer_decay=0.5)
  names = ['layers/1/mlp/kernel/a', 'layers/2/mlp/kernel/a', 'head/bias']
  tx = make_optimizer(config, FLAT, names)
  ones = jax.tree.map(jnp.ones_like, small)
  updates, _ = tx.update(ones, tx.init(small), small)
  for leaf in jax.tree.leaves(updates):
    np.testing.assert_allclose(leaf, -0.1 * 0.5**3, rtol=1e-6)


@pytest.mark.parametrize('value', [0.0, -0.5, 1.5])
def test_what_is_no_decay_is_refused(value):
  with pytest.raises(ConfigError, match='layer_decay'):
    struct(OptimConfig, dict(layer_decay=value), 'config.optim')


def test_at_one_all_learn_alike():
  plain, same = moved(encoder()), moved(encoder(), layer_decay=1.0)
  jax.tree.map(np.testing.assert_array_equal, plain, same)
