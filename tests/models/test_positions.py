"""Ways to say where a token stands that have others for their special case."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import leaves
from tl_jax.models import arch, build, decoder, sinusoids

T5 = arch(
  'tiny-t5',
  vocabulary=40,
  layers=2,
  width=16,
  heads=2,
  head_dim=8,
  mlp=16,
  head='causal',
)
UMT5 = dataclasses.replace(T5, positions='relative_by_layer')
BATCH = dict(
  tokens=jnp.array([[5, 6, 7, 8, 9, 0], [9, 8, 7, 0, 0, 0]]),
  segments=jnp.array([[1, 1, 1, 2, 2, 0], [1, 1, 1, 0, 0, 0]]),
  decoder_tokens=jnp.array([[3, 5, 6, 3, 7], [3, 9, 9, 8, 7]]),
  decoder_segments=jnp.array([[1, 1, 1, 2, 2], [1, 1, 1, 1, 1]]),
)


def in_every_layer(params):
  """The parameters of T5 as those of UMT5, whose layers have a table each."""
  for stack in ('encoder', 'decoder'):
    part = dict(params[stack])
    table = part.pop('relative')
    part['layers'] = {
      i: layer | dict(relative=table) for i, layer in part['layers'].items()
    }
    params = params | {stack: part}
  return params


def with_prefix(params, count=2):
  """Keys and values before all others, in every layer of the decoder."""
  draw = np.random.default_rng(1)
  layers = {}
  for i, layer in params['decoder']['layers'].items():
    keys, values = (jnp.array(draw.normal(size=(count, 16)), jnp.float32) for _ in 'kv')
    attention = layer['attention'] | dict(prefix=leaves.Prefix(keys, values))
    layers[i] = layer | dict(attention=attention)
  return params | dict(decoder=params['decoder'] | dict(layers=layers))


def made():
  params = build(T5).init(jax.random.key(0))
  return jax.tree.map(lambda leaf: 3 * leaf, params)


def test_tables_of_layers_that_are_one_table_are_that_of_the_stack():
  params = with_prefix(made())
  shared = jax.jit(build(T5).apply)(params, BATCH).logits
  apart = jax.jit(build(UMT5).apply)(in_every_layer(params), BATCH).logits
  np.testing.assert_allclose(apart, shared, atol=1e-5)


def test_the_table_of_one_layer_counts():
  params = in_every_layer(made())
  layers = params['decoder']['layers']
  table = dict(kernel=layers['1']['relative']['kernel'].at[0].add(2.0))
  layers = layers | {'1': layers['1'] | dict(relative=table)}
  moved = params | dict(decoder=params['decoder'] | dict(layers=layers))
  read = jax.jit(build(UMT5).apply)
  before, after = (read(each, BATCH).logits for each in (params, moved))
  assert np.abs(after - before).max() > 1e-2


def test_a_cache_reads_the_tables_of_layers():
  params = with_prefix(in_every_layer(made()))
  one = {name: value[1:] for name, value in BATCH.items()}
  whole = jax.jit(build(UMT5).apply)(params, one).logits
  prefill = jax.jit(decoder(UMT5).prefill, static_argnames='capacity')
  step = jax.jit(decoder(UMT5).step)
  begun = one | {
    name: one[name][:, :3] for name in ('decoder_tokens', 'decoder_segments')
  }
  logits, cache = prefill(params, begun, capacity=5)
  np.testing.assert_allclose(logits, whole[:, 2], atol=1e-4)
  for column in (3, 4):
    logits, cache = step(params, cache, one['decoder_tokens'][:, column])
    np.testing.assert_allclose(logits, whole[:, column], atol=1e-4)


def test_sines_of_positions():
  table = sinusoids(600, 6)
  assert table.shape == (600, 6) and table.dtype == np.float32
  np.testing.assert_array_equal(table[0], [0, 0, 0, 1, 1, 1])
  for column in range(3):
    angle = 599 * 10000.0 ** (-2 * column / 6)
    np.testing.assert_allclose(table[599, column], np.sin(angle), atol=1e-6)
    np.testing.assert_allclose(table[599, column + 3], np.cos(angle), atol=1e-6)


def test_sines_stand_where_tokens_do():
  small = dict(vocabulary=40, layers=1, width=16, heads=2, mlp=16, types=0)
  waves = build(arch('tiny', **small, positions='sinusoidal', max_positions=8))
  learned = build(arch('tiny', **small, max_positions=8))
  params = waves.init(jax.random.key(0))
  assert 'positions' not in params['embedding']
  table = dict(positions=jnp.array(sinusoids(8, 16)))
  same = params | dict(embedding=params['embedding'] | table)
  batch = dict(tokens=jnp.array([[5, 6, 7]]), positions=jnp.array([[0, 3, 7]]))
  np.testing.assert_allclose(
    waves.apply(params, batch).hidden, learned.apply(same, batch).hidden, atol=1e-6
  )
  with pytest.raises(ValueError, match='8 positions'):
    waves.apply(params, batch | dict(positions=jnp.array([[0, 3, 8]])))
