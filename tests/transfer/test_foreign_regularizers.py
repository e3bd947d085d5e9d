"""Regularizers on params and methods of somebody else."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tl_jax import leaves, tree
from tl_jax.transfer import (
  TransferMethod,
  compose,
  ewc,
  full,
  l2sp,
  lora,
  mixout,
  quantized,
  reinitialize,
  subset,
  unfreeze,
  with_fisher,
)

KEY = jax.random.key(11)


def noise(name, leaf):
  draw = np.random.default_rng(zlib.crc32(name.encode())).normal(size=np.shape(leaf))
  return jnp.asarray(draw, jnp.float32)


def moved(trainable):
  """A tree that some training might have led to: every trained leaf is elsewhere."""
  return tree.map_named(
    lambda name, leaf: leaf + 0.3 * noise(f'moved/{name}', leaf), trainable
  )


def test_a_leaf_that_a_method_puts_in_without_saying_so_is_refused():
  def init(key, params, axes=None):
    return params | dict(extra=jnp.ones(3)), jax.tree.map(
      lambda leaf: None, params | dict(extra=None)
    )

  silent = TransferMethod(init, *full()[1:5])
  with pytest.raises(
    ValueError, match="^'extra' is trained and is no leaf of the params"
  ):
    compose(silent, l2sp()).init(KEY, dict(w=jnp.ones(2)))
  said = silent._replace(inserts=lambda name: name == 'extra')
  trainable, frozen = compose(said, l2sp(new=2.0)).init(KEY, dict(w=jnp.ones(2)))
  assert float(compose(said, l2sp(new=2.0)).penalty(trainable, frozen)) == 3.0


def test_a_head_that_is_pre_trained_is_pulled_like_the_rest():
  params = {'head': {'kernel': jnp.ones((2, 2))}}
  for method in (l2sp(2.0, head=None), ewc(strength=2.0, head=None)):
    trainable, frozen = method.init(KEY, params)
    assert float(method.penalty(trainable, frozen)) == 0.0
    assert (
      float(method.penalty(jax.tree.map(lambda leaf: leaf + 1, trainable), frozen))
      == 4.0
    )


def foreign_tree():
  """Params of somebody else: lists, tuples and other names."""
  block = lambda index: {
    'w': noise(f'{index}/w', np.zeros((3, 3))),
    'b': noise(f'{index}/b', np.zeros(3)),
  }
  return {'blocks': [block(0), block(1)], 'out': (noise('out', np.zeros((3, 2))),)}


BLOCKS = r'blocks/(?P<index>\d+)/.*'


LOW_RANK = lora(r'blocks/.*/w', rank=1, head=None)
SPARSE = subset(r'blocks/.*/w', count=4, head=None)


@pytest.mark.parametrize(
  'method',
  [l2sp(), compose(LOW_RANK, ewc()), compose(SPARSE, l2sp())],
  ids=['l2sp', 'lora+ewc', 'subset+l2sp'],
)
def test_every_trained_leaf_of_a_foreign_tree_is_pulled(method):
  trainable, frozen = method.init(KEY, foreign_tree())
  assert float(method.penalty(trainable, frozen)) == 0.0
  slopes = jax.grad(method.penalty)(moved(trainable), frozen)
  assert all(np.any(leaf) for leaf in jax.tree.leaves(slopes))


@pytest.mark.parametrize('plain', [full(), LOW_RANK], ids=['full', 'lora'])
def test_matrices_of_a_foreign_tree_are_mixed(plain):
  method = compose(plain, mixout(pattern='blocks.*w'))
  trainable, frozen = method.init(KEY, foreign_tree())
  other = moved(trainable)
  plain, mixed = (
    leaves.fuse(method.merge(other, frozen, key=key)) for key in (None, KEY)
  )
  assert not np.array_equal(plain['blocks'][0]['w'], mixed['blocks'][0]['w'])
  assert np.array_equal(plain['out'][0], mixed['out'][0])


def test_the_top_layer_of_a_foreign_tree_starts_afresh():
  params = foreign_tree()
  fresh, _ = reinitialize(1, pattern=BLOCKS).init(KEY, params)
  below, top = fresh['blocks']
  assert not np.array_equal(top['w'], params['blocks'][1]['w'])
  assert not top['b'].any()
  assert np.array_equal(below['w'], params['blocks'][0]['w'])


def test_params_may_be_one_array():
  method = l2sp(2.0)
  _, frozen = method.init(None, jnp.ones(3))
  assert float(method.penalty(jnp.zeros(3), frozen)) == 3.0


@pytest.mark.parametrize(
  'method, said',
  [
    (mixout(), "mixout: no pre-trained matrix that '.*kernel' matches"),
    (unfreeze(), 'unfreeze: nothing that is trained belongs to a layer'),
    (reinitialize(), 'reinitialize: the pattern .* matches no parameter'),
    (compose(quantized(r'blocks/.*/w'), l2sp()), 'l2sp: nothing is trained'),
    (ewc({'elsewhere': jnp.ones(2)}), 'ewc: fisher has none of the trained leaves'),
    (
      ewc({'out': (jnp.ones(1),)}),
      r"ewc: fisher of 'out/0' has shape \(1,\), the leaf \(3, 2\)",
    ),
  ],
)
def test_a_regularizer_that_finds_nothing_in_a_foreign_tree_says_so(method, said):
  with pytest.raises(ValueError, match=f'^{said}'):
    method.init(KEY, foreign_tree())


def test_a_vector_of_unknown_use_is_not_started_afresh():
  params = {'blocks': [{'w': jnp.ones((2, 2)), 'tempo': jnp.ones(2)}]}
  with pytest.raises(ValueError, match="^reinitialize: 'blocks/0/tempo' is a vector"):
    reinitialize(1, pattern=BLOCKS).init(KEY, params)
  with pytest.raises(ValueError, match='^unfreeze: the pattern .* has no group'):
    unfreeze(pattern=r'blocks/\d+/.*')


def test_what_is_no_weight_is_neither_started_afresh_nor_pulled():
  params = {
    'blocks': [
      {'w': jnp.ones((2, 2)), 'calls': jnp.array(3), 'key': KEY, 'act': jnp.tanh}
    ]
  }
  method = compose(
    reinitialize(1, pattern=BLOCKS), l2sp(new=2.0), unfreeze(pattern=BLOCKS)
  )
  trainable, frozen = method.init(KEY, params)
  merged = method.merge(trainable, frozen)['blocks'][0]
  assert merged['act'] is jnp.tanh and int(merged['calls']) == 3
  wanted = float(jnp.square(merged['w']).sum())
  assert 0 < wanted < 0.1 and float(method.penalty(trainable, frozen)) == pytest.approx(
    wanted
  )


def test_a_state_owns_what_it_weighs_by():
  fisher = {'w': jnp.ones(2)}
  method = compose(ewc(fisher), ewc(fisher))
  state = method.init(KEY, {'w': jnp.ones(2)})
  jax.jit(lambda state: jax.tree.map(jnp.negative, state), donate_argnums=0)(state)
  assert float(fisher['w'].sum()) == 2.0
  awaiting = ewc().init(KEY, {'w': jnp.ones(2)})[1]
  with pytest.raises(ValueError, match="^ewc: fisher of 'w' has shape"):
    with_fisher(awaiting, {'w': jnp.ones(3)})
  with pytest.raises(ValueError, match='^ewc: fisher has none of the trained leaves'):
    with_fisher(awaiting, {'v': jnp.ones(2)})


def test_without_a_head_the_top_layer_learns_from_the_first_step():
  method = unfreeze(1, pattern=BLOCKS)
  trainable, _ = method.init(KEY, foreign_tree())
  tx = method.optimizer(optax.sgd(1.0))
  updates, _ = tx.update(
    jax.tree.map(jnp.ones_like, trainable), tx.init(trainable), trainable
  )
  moves = {name for name, leaf in tree.flatten(updates).items() if np.any(leaf)}
  assert moves == {'blocks/1/w', 'blocks/1/b'}
