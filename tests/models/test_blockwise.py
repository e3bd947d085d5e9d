"""Attention in blocks is attention of whole products, forward and backward."""

import attending
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import models, parallel
from tl_jax.models import backbone, blocks, blockwise
from tl_jax.models.operands import gather
from tl_jax.models.relative import PositionBias


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch):
  """Blocks of 32 in rows of a hundred, so that every row has several."""
  monkeypatch.setattr(blockwise, 'block_length', lambda length, heads: min(32, length))


def in_blocks(case, cap=0.0, prefix=0, rate=0.0, key=None):
  sight = case.sight._replace(prefix=prefix)

  def attend(query, keys, values, bias=None):
    operands = gather(query, keys, values, sight, bias, key)
    return blockwise.attend(operands, causal=sight.causal, cap=cap, rate=rate)

  return attend


@pytest.mark.parametrize(
  'causal, window, cap, dtype',
  [
    (True, 0, 0.0, 'float32'),
    (True, 20, 5.0, 'float32'),
    (False, 30, 0.0, 'float32'),
    (True, 0, 0.0, 'bfloat16'),
  ],
)
def test_blocks_are_whole_products(causal, window, cap, dtype):
  case = attending.draw(2, 100, 2, 2, 8, causal=causal, window=window, dtype=dtype)
  wanted = attending.results(attending.whole(case, cap), case)
  found = attending.results(in_blocks(case, cap), case)
  attending.require_equal(found, wanted, 1e-5 if dtype == 'float32' else 5e-2)


def test_a_bias_and_its_gradient():
  case = attending.draw(2, 100, 2, 2, 8, causal=False)
  bias = jnp.asarray(np.random.default_rng(1).normal(size=(1, 2, 2, 100, 100)))
  bias = bias.astype(jnp.float32)
  wanted = attending.results(attending.whole(case), case, bias)
  found = attending.results(in_blocks(case), case, bias)
  # A query that is padding sees nothing, whatever its bias.
  attending.require_equal(found, wanted)


def test_every_query_sees_the_keys_of_a_prefix():
  case = attending.draw(2, 90, 2, 2, 8, causal=True, window=20)
  more = np.random.default_rng(1).normal(size=(2, 2, 2, 7, 8))
  own, other = jnp.asarray(more, jnp.float32)
  case = case._replace(
    keys=jnp.concatenate([own, case.keys], 2),
    values=jnp.concatenate([other, case.values], 2),
  )
  wanted = attending.results(attending.whole(case, prefix=7), case)
  found = attending.results(in_blocks(case, prefix=7), case)
  attending.require_equal(found, wanted)
  # The prefix is seen beyond the window, too.
  assert np.abs(found[2][1, :, :7]).min() > 0


def test_the_gradient_of_dropout_is_that_of_what_was_dropped():
  case = attending.draw(1, 70, 1, 1, 4, causal=True)
  attend = in_blocks(case, rate=0.3, key=jax.random.key(0))
  arrays = case.query, case.keys, case.values
  loss = jax.jit(lambda *arrays: (attend(*arrays) * case.pull).sum())
  made = jax.jit(jax.grad(lambda *arrays: loss(*arrays), (0, 1, 2)))(*arrays)
  draw = np.random.default_rng(2)
  for index, gradient in enumerate(made):
    step = jnp.asarray(draw.normal(size=gradient.shape), jnp.float32)
    moved = [list(arrays), list(arrays)]
    moved[0][index] = arrays[index] + 1e-2 * step
    moved[1][index] = arrays[index] - 1e-2 * step
    slope = (loss(*moved[0]) - loss(*moved[1])) / 2e-2
    np.testing.assert_allclose((gradient * step).sum(), slope, rtol=2e-2, atol=2e-2)


def test_dropout_keeps_the_mean_and_differs_from_block_to_block():
  case = attending.draw(1, 128, 1, 1, 4, causal=False)
  ones = jnp.ones_like(case.values)
  case = case._replace(values=ones, query=jnp.zeros_like(case.query))
  arrays = case.query, case.keys, case.values
  out = in_blocks(case, rate=0.5, key=jax.random.key(1))(*arrays)
  seen = np.asarray(out[0, :, 0, 0, 0])[: 128 - 25]
  assert 0.9 < seen.mean() < 1.1
  # The first queries of two blocks of one text.
  assert len(np.unique(seen)) > 20


def test_only_long_rows_go_in_blocks(monkeypatch):
  shape = dict(rows=2, queries=64, heads=3, keys=64)
  assert not blockwise.is_long(**shape)
  pairs = 4 * 2 * 3 * 64 * 64
  monkeypatch.setattr(blockwise, 'MOST', pairs - 1)
  monkeypatch.setattr(blockwise, 'LONG', dict(cpu=64))
  assert blockwise.is_long(**shape)
  assert not blockwise.is_long(**shape | dict(keys=63))
  monkeypatch.setattr(blockwise, 'MOST', pairs)
  assert not blockwise.is_long(**shape)


FAMILIES = {
  'decoder': ('tiny-gpt', 'causal', {}),
  'encoder': ('tiny', 'masked', {}),
  'encoder-decoder': ('tiny-t5', 'causal', {}),
  'a table of each layer': ('tiny-t5', 'causal', dict(positions='relative_by_layer')),
}


def small(family, **fields):
  name, head, more = FAMILIES[family]
  sizes = dict(vocabulary=50, layers=2, width=16, heads=2, head_dim=8, mlp=16)
  return models.arch(name, head=head, **sizes | more | fields)


@pytest.mark.parametrize('family', FAMILIES)
def test_a_model_in_blocks_is_the_model(family, monkeypatch):
  model = models.build(small(family))
  params = model.init(jax.random.key(0))
  tokens = jnp.asarray(np.random.default_rng(0).integers(1, 50, (2, 70)))
  segments = jnp.ones_like(tokens).at[:, 40:].set(2).at[0, 60:].set(0)
  batch = dict(tokens=tokens, segments=segments)
  if model.arch.kind == 'encoder-decoder':
    batch |= dict(decoder_tokens=tokens, decoder_segments=segments)

  def run(params):
    logits = model.apply(params, batch).logits
    shown = jnp.where(segments[..., None] > 0, logits, 0)
    return jnp.square(shown).mean(), shown

  wanted = jax.jit(jax.value_and_grad(run, has_aux=True))(params)
  for room in (blockwise, backbone, blocks):
    monkeypatch.setattr(room, 'is_long', lambda *shape: True)
  # Layers that were traced would be found again.
  jax.clear_caches()
  # No bias of all pairs is made, either.
  monkeypatch.setattr(PositionBias, 'dense', None)
  found = jax.jit(jax.value_and_grad(lambda p: run(p), has_aux=True))(params)
  for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
    np.testing.assert_allclose(one, other, atol=2e-5, rtol=1e-4)


def test_no_array_of_all_pairs_is_kept():
  case = attending.draw(1, 512, 2, 2, 8, causal=True)
  attend = in_blocks(case)
  loss = lambda *arrays: (attend(*arrays) * case.pull).sum()
  step = jax.jit(jax.grad(loss, (0, 1, 2)))
  text = step.lower(case.query, case.keys, case.values).as_text()
  assert '32x32' in text
  assert '512x512' not in text


def test_one_device_has_no_mesh_to_spread_over():
  assert parallel.activation_spec((2, 2), 'batch') is None
