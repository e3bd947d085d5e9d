"""Norm, activation, softmax and attention with gradients of their own, against what
autodiff makes of the formula.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import leaves, models
from tl_jax.models.layers import ACTIVATIONS, activate, normalize
from tl_jax.models.scores import softmax


def draw(seed, *shape):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def formula(x, scale, bias, centred, eps):
  y = x - x.mean(-1, keepdims=True) if centred else x
  y = y / jnp.sqrt(jnp.square(y).mean(-1, keepdims=True) + eps) * scale
  return y if bias is None else y + bias


@pytest.mark.parametrize(
  'centred, biased', [(True, True), (True, False), (False, False)]
)
@pytest.mark.parametrize(
  'dtype, tolerance', [(jnp.float32, 1e-5), (jnp.bfloat16, 3e-2)]
)
def test_norm(centred, biased, dtype, tolerance):
  x, pull = (draw(seed, 4, 7, 32).astype(dtype) for seed in (0, 1))
  scale, bias = draw(2, 32), draw(3, 32) if biased else None
  made, back = jax.vjp(lambda *args: normalize(*args, centred, 1e-5), x, scale, bias)
  wanted, theirs = jax.vjp(
    lambda *args: formula(*args, centred, 1e-5), x.astype(jnp.float32), scale, bias
  )
  for mine, other in zip(
    jax.tree.leaves((made, back(pull))),
    jax.tree.leaves((wanted, theirs(pull.astype(jnp.float32)))),
    strict=True,
  ):
    np.testing.assert_allclose(
      mine.astype(np.float32), other, atol=tolerance * np.abs(other).max()
    )


@pytest.mark.parametrize('name', ACTIVATIONS)
def test_activation(name):
  x = jnp.linspace(-6, 6, 101)
  np.testing.assert_array_equal(activate(name, x), ACTIVATIONS[name](x))
  grad = lambda f: jax.vmap(jax.grad(f))(x)
  np.testing.assert_allclose(
    grad(lambda x: activate(name, x)), grad(ACTIVATIONS[name]), atol=1e-6
  )
  short = x.astype(jnp.bfloat16)
  narrow = activate(name, short)
  assert narrow.dtype == jnp.bfloat16
  np.testing.assert_array_equal(
    narrow, ACTIVATIONS[name](short.astype(jnp.float32)).astype(jnp.bfloat16)
  )


@pytest.mark.parametrize(
  'dtype, tolerance', [(jnp.float32, 1e-6), (jnp.bfloat16, 1e-2)]
)
def test_softmax(dtype, tolerance):
  scores, pull = (draw(seed, 3, 5, 9) for seed in (0, 1))
  made, back = jax.vjp(lambda x: softmax(x, dtype), scores)
  wanted, theirs = jax.vjp(jax.nn.softmax, scores)
  assert made.dtype == dtype
  np.testing.assert_allclose(made.astype(np.float32), wanted, atol=tolerance)
  np.testing.assert_allclose(
    back(pull.astype(dtype))[0], theirs(pull)[0], atol=tolerance
  )


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_recomputing_all_but_products_costs_few_flops(dtype):
  batch = dict(tokens=jnp.ones((4, 32), int), segments=jnp.ones((4, 32), int))
  flops = {}
  for remat in ('none', 'dots', 'full'):
    model = models.build(
      models.arch(
        'tiny', vocabulary=50, head='none', layers=2, width=64, heads=2, mlp=256
      ),
      models.Compute(dtype=dtype, remat=remat, layers='scan'),
    )
    loss = lambda params, model=model: jnp.square(
      model.apply(params, batch).hidden.astype(jnp.float32)
    ).sum()
    compiled = (
      jax.jit(jax.grad(loss)).lower(jax.jit(model.init)(jax.random.key(0))).compile()
    )
    flops[remat] = compiled.cost_analysis()['flops']
  assert (
    1.2 * flops['none'] < flops['full']
    and flops['none'] < flops['dots'] < 1.1 * flops['none']
  ), flops


def test_a_float32_model_has_products_of_its_hessian_with_a_vector():
  model = models.build(
    models.arch('tiny', vocabulary=50, head='classifier', labels=2, layers=1)
  )
  params, batch = (
    jax.jit(model.init)(jax.random.key(0)),
    dict(tokens=jnp.arange(1, 9).reshape(1, 8)),
  )
  loss = lambda params: jnp.square(model.apply(params, batch).logits).sum()
  vector = jax.tree.map(jnp.ones_like, params)
  forward = jax.jit(lambda params: jax.jvp(jax.grad(loss), (params,), (vector,))[1])(
    params
  )
  inner = lambda params: sum(
    jnp.vdot(a, b)
    for a, b in zip(
      jax.tree.leaves(jax.grad(loss)(params)), jax.tree.leaves(vector), strict=True
    )
  )
  for one, other in zip(
    jax.tree.leaves(forward),
    jax.tree.leaves(jax.jit(jax.grad(inner))(params)),
    strict=True,
  ):
    np.testing.assert_allclose(one, other, atol=1e-3 * float(jnp.abs(one).max() + 1e-3))


@pytest.mark.parametrize(
  'family',
  [
    'bert-base',
    'gemma2-2b',
    *(pytest.param(name, marks=pytest.mark.slow) for name in ('gpt2', 't5-small')),
  ],
)
def test_a_bfloat16_model_is_the_float32_one_within_its_precision(family):
  small = dict(layers=1, width=64, heads=4, mlp=128, vocabulary=100)
  small |= dict(decoder_layers=1) if family == 't5-small' else {}
  small |= dict(kv_heads=2, head_dim=16) if family == 'gemma2-2b' else {}
  arch = models.arch(
    family, head='masked' if family == 'bert-base' else 'causal', **small
  )
  tokens = jnp.asarray(np.random.default_rng(0).integers(0, 100, (3, 24)))
  batch = dict(
    tokens=tokens, segments=jnp.ones_like(tokens).at[:, 15:].set(2).at[1, 20:].set(0)
  )
  batch |= dict(decoder_tokens=tokens[:, :8]) if family == 't5-small' else {}
  params = jax.jit(models.build(arch).init)(jax.random.key(1))

  def run(dtype):
    model = models.build(arch, models.Compute(dtype=dtype))
    loss = lambda params, batch: jnp.square(model.apply(params, batch).logits).mean()
    return jax.jit(jax.value_and_grad(loss))(params, batch)

  (loss, gradient), (narrow_loss, narrow) = run('float32'), run('bfloat16')
  np.testing.assert_allclose(narrow_loss, loss, rtol=2e-2)
  flat = lambda tree: np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
  first, second = flat(gradient), flat(narrow)
  assert np.linalg.norm(first - second) < 0.05 * np.linalg.norm(first)


@pytest.mark.parametrize('shape', [(4096,), (3, 1001), (1,), ()])
def test_dropout_keeps_its_share_and_the_mean(shape):
  x = jnp.ones(shape)
  dropped = leaves.drop(x, 0.1, jax.random.key(0))
  assert dropped.shape == shape
  assert set(np.unique(dropped)) <= {
    np.float32(0),
    np.float32(2**16 / round(0.9 * 2**16)),
  }
  if x.size > 1000:
    assert abs(float(dropped.mean()) - 1) < 0.02
