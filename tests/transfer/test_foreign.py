"""Modules of other libraries: flax.nnx states and modules, equinox modules, with
function leaves and without.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tl_jax import transfer, tree
from tl_jax.checkpoint import Store
from tl_jax.transfer import merging

INPUTS = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)


class Net(nnx.Module):
  """A layer with dropout, whose random key and counter are leaves as well, and a head."""

  def __init__(self, rngs):
    self.dense = nnx.Linear(4, 8, rngs=rngs)
    self.dropout = nnx.Dropout(0.1, rngs=rngs)
    self.head = nnx.Linear(8, 3, rngs=rngs)

  def __call__(self, inputs):
    return self.head(jnp.tanh(self.dense(inputs)))


def nnx_trees():
  """name -> (tree, a function from such a tree to the outputs)."""
  module = Net(nnx.Rngs(0))
  definition, state = nnx.split(module)
  _, params, rest = nnx.split(module, nnx.Param, ...)

  def of_pure(pure):
    filled = nnx.clone(params)
    nnx.replace_by_pure_dict(filled, pure)
    return nnx.merge(definition, filled, rest)(INPUTS)

  return {
    'pure': (nnx.to_pure_dict(params), of_pure),
    'params': (params, lambda held: nnx.merge(definition, held, rest)(INPUTS)),
    'state': (state, lambda held: nnx.merge(definition, held)(INPUTS)),
    'module': (module, lambda held: held(INPUTS)),
  }


def equinox_trees():
  """name -> (tree, a function from such a tree to the outputs)."""
  equinox = pytest.importorskip('equinox')
  module = equinox.nn.MLP(4, 3, 8, 1, key=jax.random.key(0))
  arrays, others = equinox.partition(module, equinox.is_array)
  return {
    'arrays': (arrays, lambda held: jax.vmap(tree.combine(held, others))(INPUTS)),
    'whole': (module, lambda held: jax.vmap(held)(INPUTS)),
  }


NNX = ('pure', 'params', 'state', 'module')
EQUINOX = ('arrays', 'whole')


def opened(kind):
  return nnx_trees()[kind] if kind in NNX else equinox_trees()[kind]


def moved(trainable):
  return jax.tree.map(lambda leaf: leaf + 0.1, trainable)


def matrices(kind):
  return r'.*/kernel' if kind in NNX else r'.*/weight'


@pytest.mark.parametrize('kind', [*NNX, *EQUINOX])
def test_lora_trains_their_matrices(kind):
  params, apply = opened(kind)
  method = transfer.lora(matrices(kind), rank=2, head=None)
  trainable, frozen = method.init(jax.random.key(1), params)
  assert np.allclose(apply(method.fuse(trainable, frozen)), apply(params), atol=1e-6)
  trained = moved(trainable)
  fused = method.fuse(trained, frozen)
  assert type(fused) is type(params)
  assert not np.allclose(apply(fused), apply(params), atol=1e-3)
  if kind == 'pure':
    # A pure dict is put back into Variables, which hold plain arrays.
    return
  merged = apply(method.merge(trained, frozen))
  assert np.allclose(merged, apply(fused), atol=1e-5)

  def loss(trainable):
    return jnp.square(apply(method.merge(trainable, frozen))).sum()

  gradients = tree.flatten(jax.grad(loss)(trained))
  assert len(gradients) == 4
  assert all(np.abs(gradient).max() > 0 for gradient in gradients.values())


@pytest.mark.parametrize('kind', [*NNX, *EQUINOX])
def test_what_has_no_gradient_is_held(kind):
  params, _ = opened(kind)
  for method in (transfer.full(), transfer.l2sp(0.5), transfer.bitfit(head=None)):
    trainable, frozen = method.init(None, params)
    assert all(
      jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(trainable)
    )
    assert type(method.merge(trainable, frozen)) is type(params)
  trainable, frozen = transfer.l2sp(0.5).init(None, params)
  count = tree.count(trainable)
  penalty = transfer.l2sp(0.5).penalty(moved(trainable), frozen)
  names = tree.flatten(trainable)
  assert set(names) == {
    name for name in names if name.endswith(('bias', 'kernel', 'weight'))
  }
  # The head is pulled to zero and not to its start, so that there is at least the
  # body's share.
  body = sum(leaf.size for name, leaf in names.items() if not name.startswith('head'))
  assert float(penalty) >= 0.25 * 0.01 * body * 0.99 and count >= body


@pytest.mark.parametrize('kind', [*NNX, 'arrays'])
def test_store_soup_and_transplant_take_them(kind, tmp_path):
  params, apply = opened(kind)
  other = jax.tree.map(lambda leaf: leaf + 1 if is_float(leaf) else leaf, params)
  middle = merging.soup([params, other])
  for name, leaf in tree.flatten(middle).items():
    if is_float(leaf):
      assert np.allclose(leaf, tree.flatten(params)[name] + 0.5, atol=1e-6)
  filled, account = transfer.transplant(other, params)
  assert account.counts['copied'] == len(tree.flatten(params))
  assert np.allclose(apply(filled), apply(other))
  store = Store(tmp_path)
  store.save(1, other)
  store.wait()
  restored = store.restore(1, params)
  assert type(restored) is type(params)
  assert np.allclose(apply(restored), apply(other))


def is_float(leaf):
  return jnp.issubdtype(leaf.dtype, jnp.floating)


class Rectified:
  """A module with an activation function among its leaves, as equinox has."""

  def __init__(self, kernel, activation):
    self.kernel, self.activation = kernel, activation


jax.tree_util.register_pytree_with_keys(
  Rectified,
  lambda held: (
    (
      (jax.tree_util.GetAttrKey('kernel'), held.kernel),
      (jax.tree_util.GetAttrKey('activation'), held.activation),
    ),
    None,
  ),
  lambda _, children: Rectified(*children),
)


def test_a_function_among_the_leaves_is_named_where_it_cannot_be(tmp_path):
  held = Rectified(jnp.ones((2, 2)), jax.nn.relu)
  message = r"'activation' is no array but .*; pass the arrays alone, as equinox"
  with pytest.raises(ValueError, match=f'soup: {message}'):
    merging.soup([held, held])
  with pytest.raises(ValueError, match=f'transplant: source: {message}'):
    transfer.transplant(held, held)
  with pytest.raises(
    ValueError, match=r"'activation' is no array.*save the arrays alone"
  ):
    Store(tmp_path).save(1, held)
  trainable, frozen = transfer.full().init(None, held)
  assert (trainable.activation, frozen.kernel) == (None, None)
  assert transfer.full().merge(trainable, frozen).activation is jax.nn.relu


def test_an_attribute_of_that_name_is_kept_inside_a_name():
  """`value` is dropped only as the last part, where nnx has it: attention has values
  too.
  """
  params = {'attention': {'value': {'kernel': jnp.ones(1)}}, 'value': jnp.ones(1)}
  assert list(tree.flatten(params)) == ['attention/value/kernel', 'value']
