"""LoRA: what it draws, what it counts, and that it works on anybody's parameters."""

import math

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import PartitionSpec as P

from tl_jax import leaves, tree
from tl_jax.leaves import LowRank
from tl_jax.transfer import dora, lora

KEY = jax.random.key(3)


def encoder_shapes(layers, width, **more):
  linear = lambda size_in, size_out: {
    'kernel': jax.ShapeDtypeStruct((size_in, size_out), jnp.float32),
    'bias': jax.ShapeDtypeStruct((size_out,), jnp.float32),
  }
  block = {
    'attention': {
      part: linear(width, width) for part in ('query', 'key', 'value', 'out')
    },
    'mlp': {'in': linear(width, 4 * width), 'out': linear(4 * width, width)},
  }
  return {'layers': {str(i): block for i in range(layers)}, **more}


def trained(method, shapes):
  return tree.count(jax.eval_shape(method.init, jax.random.key(0), shapes)[0])


def test_trained_parameters_are_those_of_the_papers():
  base, medium = encoder_shapes(12, 768), encoder_shapes(24, 1024)
  assert trained(lora(rank=8), base) == 294_912
  assert trained(lora(rank=4), medium) == 393_216
  assert trained(lora(rank=16), encoder_shapes(48, 1536)) == 4_718_592
  head = {
    'kernel': jax.ShapeDtypeStruct((768, 2), jnp.float32),
    'bias': jax.ShapeDtypeStruct((2,), jnp.float32),
  }
  assert trained(lora(rank=8), {**base, 'head': head}) == 294_912 + 768 * 2 + 2
  assert trained(lora(rank=8, head=None), {**base, 'head': head}) == 294_912
  assert (
    trained(lora(r'.*/kernel', rank=8), {**base, 'head': head})
    == 12 * 8 * (4 * 2 + 2 * 5) * 768 + 768 * 2 + 2
  )


@pytest.mark.parametrize('init', ['kaiming', 'gaussian'])
def test_a_is_drawn_as_it_says_and_b_is_zero(init):
  w = jnp.ones((256, 128))
  trainable, frozen = lora('w', rank=64, init=init).init(jax.random.key(0), {'w': w})
  leaf = trainable['w']
  assert (
    leaf.a.shape == (256, 64)
    and leaf.b.shape == (64, 128)
    and not leaf.b.any()
    and leaf.base is None
  )
  assert (
    frozen['w'].base is w
    and frozen['w'].a is None
    and leaf.scale == frozen['w'].scale == 1.0
  )
  bound = 1 / math.sqrt(256)
  deviation = bound / math.sqrt(3) if init == 'kaiming' else 1 / 64
  assert (
    abs(float(leaf.a.std()) / deviation - 1) < 0.02
    and abs(float(leaf.a.mean())) < 0.03 * deviation
  )
  assert (float(jnp.abs(leaf.a).max()) <= bound) == (init == 'kaiming')


def test_scale_is_alpha_over_rank_and_one_by_default():
  scale = lambda **options: (
    lora('w', **options).init(jax.random.key(0), {'w': jnp.ones((2, 2))})[0]['w'].scale
  )
  assert (scale(rank=4), scale(rank=4, alpha=8), scale(rank=8, alpha=4)) == (
    1.0,
    2.0,
    0.5,
  )


def test_a_leafs_draw_depends_on_its_name_alone():
  params = {'x': jnp.ones((6, 5)), 'y': jnp.ones((6, 5))}
  draw = lambda params: lora('[xyz]', rank=2).init(jax.random.key(3), params)[0]
  both, more = draw(params), draw({'a': jnp.ones(3), **params, 'z': jnp.ones((6, 5))})
  assert (both['x'].a == more['x'].a).all() and (both['y'].a == more['y'].a).all()
  assert (both['x'].a != both['y'].a).all() and (more['z'].a != both['y'].a).all()


def test_layers_of_a_stack_have_their_own_factors():
  params = {'layers': {'query': {'kernel': jnp.ones((3, 6, 5))}}}
  trainable, frozen = lora(rank=2).init(jax.random.key(0), params)
  leaf = trainable['layers']['query']['kernel']
  assert (
    leaf.a.shape == (3, 6, 2)
    and leaf.b.shape == (3, 2, 5)
    and (leaf.a[0] != leaf.a[1]).all()
  )
  assert (lora(rank=2).fuse(trainable, frozen)['layers']['query']['kernel'] == 1).all()


@pytest.mark.parametrize(
  'dtype, wide',
  [('bfloat16', 'float32'), ('float16', 'float32'), ('float32', 'float32')],
)
def test_factors_are_at_least_single_precision_and_the_fused_matrix_keeps_its_dtype(
  dtype, wide
):
  params = {'w': jnp.ones((6, 5), dtype)}
  trainable, frozen = lora('w', rank=2).init(jax.random.key(0), params)
  assert {leaf.dtype for leaf in jax.tree.leaves(trainable)} == {jnp.dtype(wide)}
  assert lora('w').fuse(trainable, frozen)['w'].dtype == dtype


@pytest.mark.parametrize(
  'params, what',
  [
    (
      {'w': jnp.ones(3)},
      r"'w' is not a floating-point matrix: shape \(3,\), dtype float32",
    ),
    ({'w': 1.0}, r"'w' is not a floating-point matrix: shape \(\)"),
    ({'w': jnp.ones((2, 2), jnp.int8)}, "'w' is not a floating-point matrix: .*int8"),
  ],
)
def test_what_is_no_matrix_is_named(params, what):
  with pytest.raises(ValueError, match=what):
    lora('w').init(jax.random.key(0), params)


@pytest.mark.parametrize(
  'options, what',
  [
    ({'rank': 0}, 'rank is 0'),
    ({'rank': 1.5}, 'rank is 1.5'),
    ({'alpha': 0}, 'alpha is 0'),
    ({'alpha': -1}, 'alpha is -1'),
    ({'alpha': math.inf}, 'alpha is inf'),
    ({'alpha': math.nan}, 'alpha is nan'),
    ({'init': 'kaimin'}, "init: unknown name 'kaimin'; nearest: 'kaiming'"),
  ],
)
def test_options_out_of_range_are_named(options, what):
  with pytest.raises(ValueError, match=what):
    lora(**options)


def test_axes_split_between_the_factors():
  axes = {
    'w': P('embed', 'heads'),
    's': P('layers', 'embed', 'mlp'),
    'r': P(),
    'h': P('embed', None),
    'v': P('embed'),
  }
  trainable, frozen = lora('[wsr]', rank=2).axes(axes)
  assert trainable['w'] == LowRank(None, P('embed', None), P(None, 'heads'), 1.0)
  assert trainable['s'] == LowRank(
    None, P('layers', 'embed', None), P('layers', None, 'mlp'), 1.0
  )
  assert trainable['r'] == LowRank(None, P(None, None), P(None, None), 1.0)
  assert frozen['w'] == LowRank(P('embed', 'heads'), None, None, 1.0) and frozen[
    'v'
  ] == P('embed')


def five_lines(params, loss_fn, pattern=r'.*/kernel'):
  method = lora(pattern, rank=4)
  trainable, frozen = method.init(jax.random.key(1), params)
  grads = jax.grad(lambda t: loss_fn(method.merge(t, frozen)))(trainable)
  trainable = jax.tree.map(lambda t, g: t - 0.05 * g, trainable, grads)
  grads = jax.grad(lambda t: loss_fn(method.merge(t, frozen)))(trainable)
  return (
    method.fuse(trainable, frozen),
    trainable,
    grads,
    loss_fn(method.merge(trainable, frozen)),
  )


class Foreign(nn.Module):
  """Somebody's model, which knows nothing of us."""

  @nn.compact
  def __call__(self, x):
    x = nn.LayerNorm()(nn.relu(nn.Dense(16)(x)))
    x = x + nn.Dense(16, use_bias=False)(x)
    return nn.Dense(3, name='classifier')(x)


@pytest.mark.parametrize('wrap', [dict, flax.core.freeze])
def test_the_five_lines_on_a_foreign_flax_model(wrap):
  model, x = Foreign(), jax.random.normal(jax.random.key(2), (8, 5))
  params = wrap(model.init(jax.random.key(0), x))
  loss_fn = lambda params: jnp.mean(jnp.square(model.apply(params, x) - 1))
  fused, trainable, grads, loss = five_lines(params, loss_fn)
  assert jax.tree.structure(fused) == jax.tree.structure(params)
  assert {name.rpartition('/')[0] for name in tree.flatten(trainable)} == {
    f'params/{layer}/kernel' for layer in ('Dense_0', 'Dense_1', 'classifier')
  }
  assert all(float(jnp.abs(grad).max()) > 0 for grad in jax.tree.leaves(grads))
  assert jax.tree.structure(grads) == jax.tree.structure(trainable)
  np.testing.assert_allclose(loss, loss_fn(fused), rtol=1e-5)
  assert float(loss) < float(loss_fn(params))
  assert (
    fused['params']['classifier']['bias'] == params['params']['classifier']['bias']
  ).all()


@pytest.mark.slow
def test_the_five_lines_on_plain_containers():
  x = jax.random.normal(jax.random.key(2), (8, 5))
  keys = jax.random.split(jax.random.key(0), 3)
  params = {
    'layers': [
      {'kernel': jax.random.normal(keys[0], (5, 6))},
      (jax.random.normal(keys[1], (6, 4)), None),
    ],
    'kernel': np.ones((4, 2), np.float32),
  }

  def loss_fn(params):
    hidden = jnp.tanh(x @ params['layers'][0]['kernel']) @ params['layers'][1][0]
    return jnp.mean(jnp.square(jnp.einsum('bi,io->bo', hidden, params['kernel']) - 1))

  for pattern, hits in ((r'.*/kernel', 1), (r'.*/(kernel|0)', 2), (r'.*', 3)):
    fused, trainable, grads, loss = five_lines(params, loss_fn, pattern)
    assert len(jax.tree.leaves(trainable)) == 2 * hits
    assert all(float(jnp.abs(grad).max()) > 0 for grad in jax.tree.leaves(grads))
    np.testing.assert_allclose(loss, loss_fn(fused), rtol=1e-5)


def test_the_five_lines_on_one_array():
  params, x = jnp.ones((5, 4)), jnp.ones((2, 5))
  fused, trainable, grads, loss = five_lines(
    params, lambda w: jnp.sum((x @ w) ** 2), ''
  )
  assert (
    fused.shape == (5, 4)
    and isinstance(trainable, LowRank)
    and not leaves.is_structured(fused)
  )


def moved(trainable):
  """A tree that some training might have led to."""
  return jax.tree.map(
    lambda leaf: leaf + 0.1 * jax.random.normal(KEY, leaf.shape), trainable
  )


def test_pissa_trains_the_principal_directions():
  w = jax.random.normal(KEY, (8, 5))
  trainable, frozen = lora('w', rank=2, alpha=6, init='pissa', head=None).init(
    KEY, {'w': w}
  )
  leaf = trainable['w']
  left, values, right = np.linalg.svd(np.asarray(w), full_matrices=False)
  np.testing.assert_allclose(
    leaf.scale * leaf.a @ leaf.b, (left[:, :2] * values[:2]) @ right[:2], atol=1e-5
  )
  assert float(jnp.linalg.norm(frozen['w'].base)) < float(jnp.linalg.norm(w))


def test_dora_keeps_the_norm_out_of_the_gradient():
  w, x = jax.random.normal(KEY, (6, 4)), jax.random.normal(jax.random.key(9), (3, 6))
  trainable, frozen = dora('w', rank=2, head=None).init(KEY, {'w': w})
  trainable = moved(trainable)
  method = dora('w', rank=2, head=None)

  def by_hand(leaf):
    v = w + leaf['w'].scale * leaf['w'].a @ leaf['w'].b
    return (
      x @ (v * leaf['w'].magnitude / jax.lax.stop_gradient(jnp.linalg.norm(v, axis=0)))
    ).sum()

  ours = jax.grad(lambda leaf: leaves.matmul(x, method.merge(leaf, frozen)['w']).sum())(
    trainable
  )
  for one, other in zip(
    jax.tree.leaves(ours), jax.tree.leaves(jax.grad(by_hand)(trainable)), strict=True
  ):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
