"""Laws of structured leaves, in our product and in everybody else's."""

import dataclasses
import doctest

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from jax.sharding import PartitionSpec

from tl_jax import leaves
from tl_jax.leaves import LowRank

FLOATS = hnp.arrays(
  np.float32,
  (5, 3),
  elements=st.floats(-(2**60), 2**60, width=32, allow_subnormal=False),
)


def low_rank(
  seed=0, stack=(), size_in=6, size_out=5, rank=2, dtype=jnp.float32, scale=0.5
):
  draw = lambda *shape: np.random.default_rng([seed, *shape]).normal(size=shape)
  return LowRank(
    jnp.asarray(draw(*stack, size_in, size_out), dtype),
    jnp.asarray(draw(*stack, size_in, rank), jnp.float32),
    jnp.asarray(draw(*stack, rank, size_out), jnp.float32),
    scale,
  )


def rows(*shape, dtype=jnp.float32):
  return jnp.asarray(np.random.default_rng(9).normal(size=shape), dtype)


def expected(x, w):
  exact = lambda a: np.asarray(a, np.float64)
  return exact(x) @ (exact(w.base) + w.scale * exact(w.a) @ exact(w.b))


def assert_close(actual, wanted, tolerance=1e-5):
  np.testing.assert_allclose(
    np.asarray(actual, np.float64), wanted, rtol=tolerance, atol=tolerance
  )


def intermediate_shapes(jaxpr):
  """The shape of every value that a jaxpr computes, those of its inner jaxprs included."""
  for equation in jaxpr.eqns:
    for inner in jax.extend.core.jaxprs_in_params(equation.params):
      yield from intermediate_shapes(inner)
    yield from (variable.aval.shape for variable in equation.outvars)


def test_examples_of_the_module():
  assert doctest.testmod(leaves) == (0, 3)


@settings(max_examples=20)
@given(FLOATS, st.floats(-4, 4, width=32), st.integers(0, 9))
def test_a_zero_factor_changes_no_bit(base, scale, seed):
  a = rows(5, 2) * (seed - 4.5)
  w = LowRank(base, a, jnp.zeros((2, 3)), scale)
  for fused in (leaves.fuse({'w': w})['w'], jax.jit(leaves.fuse)({'w': w})['w']):
    assert fused.dtype == base.dtype and np.asarray(fused).tobytes() == base.tobytes()


@settings(max_examples=10)
@given(
  st.integers(0, 99),
  st.integers(1, 7),
  st.integers(1, 7),
  st.integers(1, 4),
  st.sampled_from([(), (3,), (2, 3)]),
)
def test_the_factored_product_is_the_dense_product(
  seed, size_in, size_out, rank, stack
):
  w = low_rank(seed, stack, size_in, size_out, rank)
  x = rows(*stack, 4, size_in)
  assert_close(leaves.matmul(x, w), expected(x, w))
  assert_close(leaves.matmul(x, leaves.fuse(w)), expected(x, w))


FOREIGN = {
  'x @ w': lambda x, w: x @ w,
  'dot': lambda x, w: jnp.dot(x, w),
  'matmul': lambda x, w: jnp.matmul(x, w),
  'einsum': lambda x, w: jnp.einsum('bi,io->bo', x, w),
  'tensordot': lambda x, w: jnp.tensordot(x, w, 1),
  'asarray': lambda x, w: x @ jnp.asarray(w),
  'dot_general': lambda x, w: jax.lax.dot_general(
    x, jnp.asarray(w), (((1,), (0,)), ((), ()))
  ),
  'w.T @ x.T': lambda x, w: (w.T @ x.T).T,
  'w @ eye': lambda x, w: x @ (w @ jnp.eye(5)),
  'astype': lambda x, w: x @ w.astype(x.dtype),
  'reshape': lambda x, w: x @ w.reshape(2, 15).reshape((6, 5)),
  'getitem': lambda x, w: jnp.concatenate([x @ w[:, :2], x @ w[:, 2:]], -1),
  'sum': lambda x, w: jnp.sum(x[:, :, None] * w, 1),
}


@pytest.mark.parametrize('how', FOREIGN)
def test_foreign_products_are_right(how):
  w, x = low_rank(), rows(4, 6)
  assert_close(FOREIGN[how](x, w), expected(x, w))
  assert_close(jax.jit(FOREIGN[how])(x, w), expected(x, w))
  gradient = jax.grad(lambda w: jnp.sum(FOREIGN[how](x, w) ** 2))(w)
  wanted = jax.grad(lambda w: jnp.sum(leaves.matmul(x, w) ** 2))(w)
  jax.tree.map(lambda one, other: assert_close(one, other, 1e-4), gradient, wanted)


def test_numpy_on_the_left_and_as_an_array():
  w, x = low_rank(), np.asarray(rows(4, 6))
  assert_close(x @ w, expected(x, w))
  assert isinstance(x @ w, jax.Array)
  assert_close(np.asarray(w), np.asarray(w.dense()))
  assert np.asarray(w, np.float16).dtype == np.float16


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
def test_a_linen_layer_takes_it_unmodified(dtype):
  layer = nn.Dense(5, dtype=dtype)
  x, w = rows(4, 6), low_rank()
  params = {'params': {'kernel': w, 'bias': jnp.zeros(5)}}
  out = layer.apply(params, x)
  assert out.dtype == dtype
  assert_close(
    out, expected(x, w), {'float32': 1e-5, 'bfloat16': 0.1, 'float16': 0.02}[dtype]
  )
  assert_close(jax.jit(layer.apply)(params, x), out, 1e-2)
  wrong = low_rank(size_in=7)
  with pytest.raises(Exception, match='kernel'):
    layer.apply({'params': {'kernel': wrong, 'bias': jnp.zeros(5)}}, x)


@pytest.mark.parametrize('base_dtype', [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize('x_dtype', [jnp.float32, jnp.bfloat16, jnp.float16])
def test_the_product_has_the_dtype_of_x_and_the_fused_leaf_that_of_the_base(
  base_dtype, x_dtype
):
  w, x = low_rank(dtype=base_dtype), rows(4, 6, dtype=x_dtype)
  out = leaves.matmul(x, w)
  assert out.dtype == x_dtype
  assert leaves.matmul(x, w.base).dtype == x_dtype
  assert_close(out, expected(x, w), 1e-5 if x_dtype == jnp.float32 else 0.2)
  assert w.dense().dtype == base_dtype == w.dtype == leaves.fuse(w).dtype


def test_rows_that_are_not_floating_take_the_dtype_of_the_matrix():
  w = low_rank()
  one_hot = jnp.eye(6, dtype=jnp.int32)
  assert_close(leaves.matmul(one_hot, w), w.dense())
  assert_close(leaves.matmul(one_hot, w.base), w.base)
  assert leaves.matmul(np.ones((2, 6)), w).dtype == jnp.float32


def test_the_sum_is_rounded_to_the_base_only_once():
  w = LowRank(
    jnp.ones((1, 1), jnp.bfloat16), jnp.full((1, 2), 2.0**-8), jnp.full((2, 1), 0.75)
  )
  assert float(w.dense()[0, 0]) == float(jnp.bfloat16(1 + 1.5 * 2.0**-8))


def test_scan_and_vmap_see_one_layer_at_a_time():
  w, x = low_rank(stack=(3,), size_out=6), rows(4, 6)
  wanted = np.asarray(x, np.float64)
  for layer in range(3):
    wanted = expected(wanted, jax.tree.map(lambda a, layer=layer: a[layer], w))
  scanned, _ = jax.jit(
    lambda x, w: jax.lax.scan(lambda x, w: (leaves.matmul(x, w), None), x, w)
  )(x, w)
  assert_close(scanned, wanted, 1e-4)
  mapped = jax.vmap(leaves.matmul, in_axes=(None, 0))(x, w)
  assert_close(mapped, expected(x, w))
  shared = LowRank(w.base[0], w.a, w.b, w.scale)
  axes = LowRank(None, 0, 0, w.scale)
  mapped = jax.vmap(leaves.matmul, in_axes=(None, axes))(x, shared)
  assert_close(mapped, expected(x, shared))


def test_no_product_of_the_factors_is_formed():
  w, x = low_rank(size_in=16, size_out=12, rank=3), rows(7, 16)
  forward = jax.make_jaxpr(leaves.matmul)(x, w)
  assert (16, 12) not in set(intermediate_shapes(forward.jaxpr))

  def loss(factors, x):
    return jnp.sum(leaves.matmul(x, LowRank(w.base, *factors, w.scale)) ** 2)

  backward = set(
    intermediate_shapes(
      jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))((w.a, w.b), x).jaxpr
    )
  )
  assert not backward & {(16, 12)} and (16, 3) in backward
  dense = jax.make_jaxpr(lambda x, w: x @ w)(x, w)
  assert (16, 12) in set(intermediate_shapes(dense.jaxpr))


def test_what_it_says_of_itself_with_and_without_holes():
  w = low_rank(stack=(3,))
  assert (w.shape, w.ndim, w.size, w.dtype) == ((3, 6, 5), 3, 90, jnp.float32)
  trained, held = LowRank(None, w.a, w.b), LowRank(w.base, None, None)
  assert (trained.shape, trained.ndim, trained.dtype) == ((3, 6, 5), 3, jnp.float32)
  assert (
    held.shape == (3, 6, 5) and 'base=None' in repr(trained) and 'a=None' in repr(held)
  )
  for leaf in (
    LowRank(None, None, None),
    LowRank(None, PartitionSpec(), PartitionSpec()),
    LowRank('x', 1, 2),
  ):
    assert not any(hasattr(leaf, name) for name in ('shape', 'ndim', 'dtype')) and repr(
      leaf
    )
  for leaf, missing in ((trained, 'base'), (held, 'a, b')):
    for use in (
      leaf.dense,
      lambda leaf=leaf: leaves.matmul(rows(4, 6), leaf),
      lambda leaf=leaf: leaves.fuse([leaf]),
    ):
      with pytest.raises(ValueError, match=f'without {missing} is no matrix'):
        use()


def test_base_is_its_first_array_and_scale_is_structure():
  w = low_rank()
  assert [leaf.shape for leaf in jax.tree.leaves(w)] == [(6, 5), (6, 2), (2, 5)]
  assert jax.tree.structure(w) != jax.tree.structure(low_rank(scale=0.25))


def test_fuse_and_cast_leave_alone_what_is_not_theirs():
  plain = {'kernel': rows(2, 3), 'ids': jnp.arange(3), 'hole': None}
  assert leaves.fuse(plain)['kernel'] is plain['kernel']
  cast = leaves.cast({**plain, 'w': low_rank()}, jnp.bfloat16)
  assert (
    cast['kernel'].dtype == jnp.bfloat16
    and cast['ids'].dtype == jnp.int32
    and cast['hole'] is None
  )
  assert {leaf.dtype for leaf in jax.tree.leaves(cast['w'])} == {
    jnp.dtype(jnp.bfloat16)
  }
  assert not leaves.is_structured(plain['kernel']) and leaves.is_structured(cast['w'])


def test_nested_leaves_multiply_and_fuse():
  inner = low_rank()
  outer = LowRank(inner, rows(6, 1), rows(1, 5), 2.0)
  x = rows(4, 6)
  assert_close(
    leaves.matmul(x, outer),
    np.asarray(x, np.float64) @ np.asarray(outer.dense(), np.float64),
  )
  assert isinstance(leaves.fuse([outer])[0], jax.Array) and outer.shape == (6, 5)


def edited(kind, dtype=jnp.float32):
  """A leaf of a kind at its start, and after some training."""
  base, up, down = rows(6, 5, dtype=dtype), rows(6, 2), rows(2, 5)
  size = lambda *shape: (
    np.random.default_rng([1, *shape]).normal(size=shape).astype(np.float32)
  )
  start = {
    'low rank': LowRank(base, up, down, 0.5),
    'directed': leaves.Directed(base, up, down, 1 + rows(5), 0.5),
    'scaled outputs': leaves.Scaled(base, jnp.ones(5)),
    'scaled inputs': leaves.Scaled(base, jnp.ones(6), 'in'),
    'subset': leaves.Subset(base, jnp.zeros(4), jnp.array([0, 3, 17, 29])),
    'gated': leaves.Gated(base, rows(6, 5), rows(6, 5)),
    'low rank of codes': LowRank(
      leaves.quantize(rows(6, 5), 'int8'), up, jnp.zeros((2, 5)), 2.0
    ),
    'stacked': low_rank(stack=(3,)),
  }[kind]
  held = ('base', 'index', 'key')
  trained = {
    field.name: getattr(start, field.name)
    for field in dataclasses.fields(start)
    if field.name not in held and isinstance(getattr(start, field.name), jax.Array)
  }
  now = dataclasses.replace(
    start, **{name: leaf + 0.3 * size(*leaf.shape) for name, leaf in trained.items()}
  )
  return now, start


EDITED = (
  'low rank',
  'directed',
  'scaled outputs',
  'scaled inputs',
  'subset',
  'gated',
  'low rank of codes',
  'stacked',
)


@pytest.mark.parametrize('kind', EDITED)
def test_the_change_is_the_difference_of_what_both_stand_for(kind):
  now, start = edited(kind)
  wanted = np.asarray(now.dense()) - np.asarray(start.dense())
  np.testing.assert_allclose(leaves.change(now, start), wanted, atol=1e-5)
  np.testing.assert_allclose(
    leaves.squared_change(now, start), np.square(wanted).sum(), rtol=1e-4
  )
  assert float(leaves.squared_change(start, start)) == 0.0


@pytest.mark.parametrize(
  'kind', [kind for kind in EDITED if kind not in ('low rank of codes', 'stacked')]
)
def test_a_change_too_small_for_a_narrow_base_is_none_the_less_seen(kind):
  now, start = edited(kind, jnp.bfloat16)
  small = jax.tree.map(
    lambda one, other: other + (1e-3 * (one - other)).astype(other.dtype), now, start
  )
  found = np.abs(leaves.change(small, start)).max()
  assert 1e-5 < found < 1e-2 and found != np.abs(small.dense() - start.dense()).max()


def test_the_change_of_a_plain_array_is_wide():
  one = jnp.ones(3, jnp.bfloat16)
  assert (
    leaves.change(one * 2, one).dtype == jnp.float32
    and float(leaves.squared_change(one * 2, one)) == 3.0
  )


def test_the_squared_change_of_a_low_rank_leaf_forms_no_matrix():
  now, start = (
    low_rank(seed=1, size_in=60, size_out=50),
    low_rank(size_in=60, size_out=50),
  )
  now = dataclasses.replace(now, base=start.base)
  shapes = set(
    intermediate_shapes(jax.make_jaxpr(leaves.squared_change)(now, start).jaxpr)
  )
  assert (60, 50) not in shapes and () in shapes
  wanted = np.square(np.asarray(now.dense() - start.dense())).sum()
  np.testing.assert_allclose(leaves.squared_change(now, start), wanted, rtol=1e-4)
