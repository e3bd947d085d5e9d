"""Which leaves the partitions train."""

import jax
import jax.numpy as jnp
import pytest

from tl_jax import tree
from tl_jax.transfer import bitfit, full, last, norms, probe


def named(*names):
  return tree.unflatten({name: jnp.ones(2) for name in names})


def trained(method, params):
  trainable, frozen = method.init(None, params)
  assert (
    tree.flatten(frozen).keys()
    == tree.flatten(params).keys() - tree.flatten(trainable).keys()
  )
  return set(tree.flatten(trainable))


BODY = (
  'embedding/norm/scale',
  'embedding/norm/bias',
  'embedding/tokens',
  'final_norm/scale',
  'layers/0/mlp/in/kernel',
  'layers/0/mlp/in/bias',
  'layers/0/mlp_norm/scale',
  'layers/0/mlp_norm/bias',
  'pooler/kernel',
)
HEADS = ('head/kernel', 'head/bias', 'head/norm/scale', 'head/pooler/kernel')


def test_each_trains_its_leaves_and_the_head():
  params = named(*BODY, *HEADS)
  assert trained(full(), params) == {*BODY, *HEADS}
  assert trained(probe(), params) == set(HEADS)
  assert trained(bitfit(), params) - {*HEADS} == {
    name for name in BODY if name.endswith('bias')
  }
  assert trained(norms(), params) - {*HEADS} == {
    name for name in BODY if 'norm/' in name
  }
  assert trained(bitfit(), params) >= set(HEADS) and trained(norms(), params) >= set(
    HEADS
  )


def test_what_the_head_is_can_be_said():
  params = named(*BODY, *HEADS, 'classifier/kernel', 'classifier/bias')
  assert trained(probe(r'classifier/.*'), params) == {
    'classifier/kernel',
    'classifier/bias',
  }
  assert trained(bitfit(head=r'head/(?!pooler).*'), params) == {
    *(name for name in (*BODY, 'classifier/bias') if name.endswith('bias')),
    *HEADS[:3],
  }
  assert 'head/kernel' not in trained(bitfit(head=None), params)


def test_a_body_without_a_head_has_biases_and_norms_but_no_probe():
  params = named(*BODY)
  assert all(name.endswith('bias') for name in trained(bitfit(), params))
  with pytest.raises(
    ValueError, match='probe: the pattern .* matches no parameter; nearest: '
  ):
    probe().init(None, params)


def layered(*stacks, layers=12):
  return named(
    *(f'{stack}layers/{i}/mlp/in/kernel' for stack in stacks for i in range(layers)),
    *(f'{stack}final_norm/scale' for stack in stacks),
    'embedding/tokens',
    'head/kernel',
  )


def test_last_counts_layers_as_numbers():
  assert trained(last(3), layered('')) == {
    'layers/9/mlp/in/kernel',
    'layers/10/mlp/in/kernel',
    'layers/11/mlp/in/kernel',
    'final_norm/scale',
    'head/kernel',
  }
  assert len(trained(last(12), layered(''))) == 14


def test_last_takes_the_end_of_either_stack():
  assert trained(last(1), layered('encoder/', 'decoder/', layers=2)) == {
    'encoder/layers/1/mlp/in/kernel',
    'decoder/layers/1/mlp/in/kernel',
    'encoder/final_norm/scale',
    'decoder/final_norm/scale',
    'head/kernel',
  }


def test_last_takes_the_pooler_that_stands_behind_the_layers():
  assert trained(last(1), named(*BODY, *HEADS)) == {
    *HEADS,
    'pooler/kernel',
    'final_norm/scale',
    *(name for name in BODY if name.startswith('layers/0')),
  }


def test_last_and_norms_know_foreign_names():
  params = {
    'Block_0': {'LayerNorm_0': {'scale': 1.0}},
    'Block_1': {'LayerNorm_0': {'scale': 1.0}, 'Dense': [1.0]},
  }
  assert trained(last(1, layers=r'Block_(?P<index>\d+)/.*'), params) == {
    'Block_1/LayerNorm_0/scale',
    'Block_1/Dense/0',
  }
  assert trained(norms(), params) == {
    'Block_0/LayerNorm_0/scale',
    'Block_1/LayerNorm_0/scale',
  }
  with pytest.raises(ValueError, match='has no group'):
    last(1, layers=r'Block_(\d+)/.*')
  with pytest.raises(ValueError, match='last: the pattern .* matches no parameter'):
    last(1).init(None, params)


def test_layers_of_a_list_and_holes_keep_their_structure():
  params = {
    'layers': [{'kernel': 1.0, 'bias': None}, {'kernel': 2.0, 'bias': 3.0}],
    'empty': {},
  }
  trainable, frozen = last(1).init(None, params)
  assert trainable == {
    'layers': [{'kernel': None, 'bias': None}, {'kernel': 2.0, 'bias': 3.0}],
    'empty': {},
  }
  assert last(1).merge(trainable, frozen) == params
  assert jax.tree.structure(last(1).merge(trainable, frozen)) == jax.tree.structure(
    params
  )
