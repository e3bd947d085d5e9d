"""The forms of products against plain ones in float32, and what they do not compute."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax.leaves import products

SHAPES = {  # x, y, transposed
  'weight': ((2, 3, 32), (32, 48), False),
  'table': ((2, 3, 32), (48, 32), True),
  'vector': ((32,), (32, 48), False),
  'heads': ((2, 4, 16, 32), (2, 4, 32, 24), False),
  'scores': ((2, 4, 16, 32), (2, 4, 24, 32), True),
  'odd': ((5, 7), (7, 11), False),
}


def draw(seed, shape, dtype=jnp.bfloat16):
  # Few bits, so that products of bfloat16 numbers are exact and only sums are rounded.
  return jnp.asarray(np.random.default_rng(seed).integers(-8, 9, shape), dtype)


def plain(x, y, transposed):
  return jnp.matmul(
    x.astype(jnp.float32),
    (jnp.swapaxes(y, -1, -2) if transposed else y).astype(jnp.float32),
  )


@pytest.mark.parametrize('platform', ['here', 'tpu'])
@pytest.mark.parametrize('weight', [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize('name', SHAPES)
def test_values_and_gradients_are_the_plain_ones(name, weight, platform, monkeypatch):
  first, second, transposed = SHAPES[name]
  x, y = draw(0, first), draw(1, second, weight)
  if platform == 'tpu':
    monkeypatch.setattr(
      jax.lax, 'platform_dependent', lambda *args, cpu, default: default(*args)
    )
  made, back = jax.vjp(
    lambda x, y: products.multiply(x, y, transposed, jnp.float32), x, y
  )
  wanted, theirs = jax.vjp(lambda x, y: plain(x, y, transposed), x, y)
  np.testing.assert_array_equal(made, wanted)
  pull = draw(2, made.shape, jnp.float32)
  for mine, other, operand in zip(back(pull), theirs(pull), (x, y), strict=True):
    assert mine.dtype == other.dtype == operand.dtype
    np.testing.assert_allclose(
      mine.astype(np.float32), other.astype(np.float32), rtol=1e-2
    )


@pytest.mark.parametrize('platform', ['here', 'tpu'])
@pytest.mark.parametrize(
  'first, second',
  [
    ((2, 3, 32), (32, 48)),
    ((2, 3, 48), (48, 32)),
    ((32,), (32, 16)),
    ((5, 7), (7, 11)),
  ],
)
def test_float32_products_are_the_plain_ones_both_ways(
  first, second, platform, monkeypatch
):
  x, w = draw(0, first, jnp.float32), draw(1, second, jnp.float32)
  if platform == 'tpu':
    monkeypatch.setattr(
      jax.lax, 'platform_dependent', lambda *args, cpu, default: default(*args)
    )
  steps = draw(2, first, jnp.float32), draw(3, second, jnp.float32)
  made, back = jax.vjp(products.multiply_wide, x, w)
  wanted, theirs = jax.vjp(jnp.matmul, x, w)
  pull = draw(4, made.shape, jnp.float32)
  found = made, *back(pull), jax.jvp(products.multiply_wide, (x, w), steps)[1]
  jax.tree.map(
    np.testing.assert_array_equal,
    found,
    (wanted, *theirs(pull), jax.jvp(jnp.matmul, (x, w), steps)[1]),
  )


def test_a_held_float32_weight_costs_no_product_of_its_own():
  x, w = draw(0, (64, 32), jnp.float32), draw(1, (32, 48), jnp.float32)
  flops = lambda number: (
    jax.jit(
      jax.grad(lambda *both: jnp.square(products.multiply_wide(*both)).sum(), number)
    )
    .lower(x, w)
    .compile()
    .cost_analysis()['flops']
  )
  product = 2 * x.size * 48
  assert (
    2 * product
    <= flops((0,))
    < 2.1 * product
    < 3 * product
    <= flops((0, 1))
    < 3.1 * product
  )


@pytest.mark.parametrize('platform', ['here', 'tpu'])
@pytest.mark.parametrize('shape', [(1, 32), (2, 4, 32), (40, 32), (32,)])
def test_a_table_on_either_side_of_its_product(shape, platform, monkeypatch):
  if platform == 'tpu':
    monkeypatch.setattr(
      jax.lax, 'platform_dependent', lambda *args, cpu, default: default(*args)
    )
  x, table = draw(0, shape, jnp.float32), draw(1, (48, 32), jnp.float32)
  made, back = jax.vjp(products.multiply_table, x, table)
  wanted, theirs = jax.vjp(lambda x, table: plain(x, table, True), x, table)
  pull = draw(2, wanted.shape, jnp.float32)
  for mine, other in zip((made, *back(pull)), (wanted, *theirs(pull)), strict=True):
    np.testing.assert_array_equal(mine, other)


def test_members_have_weights_of_their_own():
  x, w = draw(0, (3, 4, 32)), draw(1, (3, 32, 8), jnp.float32)
  gradient = jax.grad(lambda w, x: products.multiply(x, w, False, jnp.float32).sum())
  alone = jnp.stack([gradient(*member) for member in zip(w, x, strict=True)])
  np.testing.assert_array_equal(jax.vmap(gradient)(w, x), alone)


@pytest.mark.parametrize('trained, count', [((0,), 2), ((1,), 2), ((0, 1), 3)])
def test_only_gradients_that_are_asked_for_are_computed(trained, count):
  x, w = draw(0, (4, 32)), draw(1, (32, 8), jnp.float32)
  loss = lambda x, w: products.multiply(x, w, False, jnp.float32).sum()
  text = (
    jax.jit(jax.value_and_grad(loss, trained))
    .trace(x, w)
    .lower(lowering_platforms=('tpu',))
    .as_text()
  )
  assert text.count('stablehlo.dot_general') == count


def test_on_other_platforms_nothing_is_turned():
  x, w = draw(0, (4, 32)), draw(1, (32, 8), jnp.float32)
  step = jax.jit(jax.grad(lambda w: products.multiply(x, w).astype(jnp.float32).sum()))
  lowered = lambda platform: (
    step.trace(w).lower(lowering_platforms=(platform,)).as_text()
  )
  assert 'stablehlo.transpose' in lowered('cpu')
  assert 'stablehlo.transpose' not in lowered('tpu')


@pytest.mark.parametrize(
  'name', ['transposed result', 'gradient of a transposed weight', 'narrow']
)
def test_what_is_transposed_after_a_product_still_has_a_kernel(name):
  x, w = draw(0, (32, 96)), draw(1, (96, 64), jnp.float32)
  total = lambda x, w: products.multiply(x, w, False, jnp.float32).sum()
  run = {
    'transposed result': lambda x, w: products.multiply(x, w, False, jnp.float32).T,
    'gradient of a transposed weight': lambda x, w: jax.grad(lambda v: total(x, v.T))(
      w.T
    ),
    'narrow': lambda x, w: jax.grad(lambda v: total(x, v))(w[:, :8]),
  }[name]
  wide = lambda x: x.astype(jnp.float32)
  wanted = {
    'transposed result': lambda: plain(x, w, False).T,
    'gradient of a transposed weight': lambda: jnp.tile(wide(x).sum(0), (64, 1)),
    'narrow': lambda: jnp.tile(wide(x).sum(0)[:, None], (1, 8)),
  }[name]()
  np.testing.assert_array_equal(jax.jit(run)(x, w), wanted)


def test_a_bias_gets_the_sum_of_the_gradient_in_float32():
  y, bias = draw(0, (7, 5, 6)), draw(1, (6,), jnp.float32)
  pull = draw(2, y.shape)
  made, back = jax.vjp(products.add_bias, y, bias)
  np.testing.assert_array_equal(made, y + bias.astype(jnp.bfloat16))
  np.testing.assert_array_equal(back(pull)[1], pull.astype(jnp.float32).sum((0, 1)))


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_copies_are_transposes(dtype):
  x = draw(0, (3, 20, 6, 5), dtype)
  np.testing.assert_array_equal(products.copy_transposed(x), jnp.swapaxes(x, -1, -2))
  np.testing.assert_array_equal(products.copy_swapped(x), jnp.swapaxes(x, 1, 2))


@pytest.mark.parametrize('platform', ['cpu', 'default'])
def test_sums_of_columns(platform, monkeypatch):
  monkeypatch.setattr(
    jax.lax, 'platform_dependent', lambda *args, **forms: forms[platform](*args)
  )
  x = draw(0, (3, 20, 6, 5), jnp.bfloat16)
  np.testing.assert_array_equal(
    products.column_sums(x), x.astype(jnp.float32).sum((0, 1, 2))
  )
