"""Moments in 8 bits: the code of the paper, what is encoded, and what may not happen."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tl_jax import layers, tree
from tl_jax.optim import OptimConfig, ScheduleConfig, make_optimizer, read_weights
from tl_jax.optim.blockwise import BLOCK, Encoded, block_of, decode, encode, in_blocks


def dynamic_code(signed):
  """The 256 values as the authors' code lists them: decade by decade, then sorted."""
  values = [0.0, 1.0]
  for decade in range(7):
    count = 2**decade if signed else 2 ** (decade + 1)
    edges = np.linspace(0.1, 1, count + 1)
    middles = (edges[1:] + edges[:-1]) / 2 * 10.0 ** (decade - 6)
    values += [*middles, *-middles] if signed else [*middles]
  return np.sort(values)


@pytest.mark.parametrize('signed', [True, False])
def test_every_code_has_the_value_of_the_paper_and_is_its_own_nearest(signed):
  codes = jnp.tile(jnp.arange(256, dtype=jnp.uint8), (16, 1))
  values = decode(codes, jnp.ones((16, 1)), signed)
  np.testing.assert_allclose(values[0], dynamic_code(signed), rtol=1e-6)
  again, scales = encode(values, signed)
  assert (again == codes).all() and (scales == 1).all()


@pytest.mark.parametrize('signed', [True, False])
def test_values_get_the_nearest_code_of_their_block(signed):
  random = np.random.default_rng(0)
  shape = (16, 2 * BLOCK)
  values = random.normal(size=shape) * 10.0 ** random.uniform(-7, 0, shape)
  values = values.astype(np.float32) if signed else np.abs(values).astype(np.float32)
  codes, scales = encode(jnp.asarray(values), signed)
  largest = np.abs(values).reshape(16, 2, BLOCK).max(-1)
  np.testing.assert_array_equal(scales, largest)
  shares = values / largest.repeat(BLOCK, -1)
  table = dynamic_code(signed)
  nearest = np.abs(shares[..., None] - table).argmin(-1)
  if not signed:
    # The one exception: what is not 0 does not become 0.
    nearest = np.where(shares > 0, np.maximum(nearest, 1), nearest)
  np.testing.assert_array_equal(codes, nearest)


@pytest.mark.parametrize(
  'shape, expected',
  [
    ((768, 3072), (1, 256)),
    ((3072, 384), (1, 192)),
    # 50257 is 29 * 1733: no blocks along it.
    ((768, 50257), (0, 256)),
    ((12, 768, 768), (2, 256)),
    ((3072,), None),
    ((16, 255), None),
    ((61, 67), None),
  ],
)
def test_blocks_fill_an_axis_and_small_leaves_have_none(shape, expected):
  assert block_of(shape) == expected


def test_a_second_moment_that_is_small_in_its_block_makes_no_huge_update():
  # One weight has had gradients 10^-5 of its neighbour's: their squares are 10^-10.
  gradients = jnp.zeros((16, 256)).at[:, 0].set(1.0).at[:, 1].set(1e-5)
  tx = in_blocks(optax.scale_by_adam())
  state = tx.init(gradients)
  for _ in range(5):
    updates, state = tx.update(gradients, state, gradients)
  assert 0 < float(updates[0, 1]) <= 1.01
  assert float(updates[0, 0]) == pytest.approx(1.0, abs=0.02)


def test_a_gradient_that_is_no_number_stays_one():
  gradients = jnp.ones((16, 256)).at[3, 5].set(jnp.nan)
  tx = in_blocks(optax.scale_by_adam())
  _, state = tx.update(gradients, tx.init(gradients), gradients)
  updates, _ = tx.update(jnp.ones((16, 256)), state, gradients)
  assert jnp.isnan(updates[3]).all() and jnp.isfinite(updates[:3]).all()


@pytest.mark.parametrize(
  'name, kept', [('adamw', 2), ('bert_adam', 2), ('lion', 1), ('sgd', 1)]
)
def test_every_moment_of_a_large_leaf_is_encoded_and_no_small_one(name, kept):
  params = {'kernel': jnp.ones((32, 256)), 'bias': jnp.ones(256)}
  config = OptimConfig(name=name, moment_dtype='uint8')
  tx = make_optimizer(config, ScheduleConfig(steps=5))
  state = tx.init(params)
  is_encoded = lambda node: isinstance(node, Encoded)
  nodes = jax.tree.leaves(state, is_leaf=is_encoded)
  encoded = [node for node in nodes if is_encoded(node)]
  assert len(encoded) == kept
  for node in encoded:
    assert node.codes['kernel'].dtype == jnp.uint8
    assert node.codes['bias'].dtype == jnp.float32


def test_stacked_layers_through_vmap_are_as_the_layers_alone():
  # Alone, a layer is too small to be encoded; a stack as one leaf would not be.
  layers = jax.random.normal(jax.random.key(0), (3, 16, 128))
  tx = in_blocks(optax.scale_by_adam())
  stacked = jax.vmap(tx.init)(layers)
  stacked, _ = jax.vmap(tx.update)(layers, stacked, layers)
  for layer, found in zip(layers, stacked, strict=True):
    alone, _ = tx.update(layer, tx.init(layer), layer)
    np.testing.assert_allclose(found, alone, rtol=1e-6)


def test_layers_that_are_held_together_are_updated_as_each_alone():
  random = np.random.default_rng(0)
  # Two layers of the smaller kernel would be large enough to be encoded.
  shapes = dict(large=(32, 128), small=(16, 128), bias=(128,))

  def draw():
    layer = lambda: {
      name: jnp.asarray(random.normal(size=shape), jnp.float32)
      for name, shape in shapes.items()
    }
    return dict(layers={'0': layer(), '1': layer()})

  def plan_of(named):
    plan = {}
    for name in tree.flatten(named):
      place = layers.place_of(name)
      if place is not None and place.index == 0:
        plan[name] = place.names(2)
    return plan

  config = OptimConfig(moment_dtype='uint8', master_weights=True)
  tx = make_optimizer(config, ScheduleConfig(name='constant', steps=5))
  named = draw()
  state = tx.init(named)
  held = layers.hold(named, plan_of(named))
  held_state = layers.hold(state, plan_of(state))
  update = jax.jit(tx.update)
  for _ in range(3):
    gradients = draw()
    _, state = update(gradients, state, named)
    together = layers.hold(gradients, plan_of(gradients))
    _, held_state = update(together, held_state, held)
  assert layers.is_held(held_state)
  found = tree.flatten(layers.unstacked(held_state))
  for name, leaf in tree.flatten(state).items():
    np.testing.assert_allclose(found[name], leaf, rtol=1e-5, atol=1e-7, err_msg=name)
  weights = read_weights(held, held_state)
  expected = tree.flatten(read_weights(named, state))
  for name, leaf in tree.flatten(layers.unstacked(weights)).items():
    assert leaf.dtype == jnp.bfloat16
    np.testing.assert_array_equal(leaf, expected[name], err_msg=name)
