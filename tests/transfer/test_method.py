"""Laws that every transfer method keeps, and what building one refuses."""

import doctest
import importlib
import subprocess
import sys

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from jax.sharding import PartitionSpec as P

from tl_jax import leaves, transfer, tree
from tl_jax.transfer import (
  bitfit,
  compose,
  full,
  last,
  lora,
  norms,
  partition_method,
  probe,
)

WIDTH, LABELS, LAYERS = 6, 3, 3


def toy_params(seed=0):
  """Named like ours, and small: three residual layers of two projections and a norm,
  then a head.
  """
  shapes = {
    'embedding/norm/scale': (WIDTH,),
    'final_norm/bias': (WIDTH,),
    'pooler/kernel': (WIDTH, WIDTH),
    'head/kernel': (WIDTH, LABELS),
    'head/bias': (LABELS,),
  }
  for i in range(LAYERS):
    for part in ('query', 'value'):
      shapes[f'layers/{i}/attention/{part}/kernel'] = (WIDTH, WIDTH)
      shapes[f'layers/{i}/attention/{part}/bias'] = (WIDTH,)
    shapes[f'layers/{i}/mlp_norm/scale'] = (WIDTH,)
  keys = jax.random.split(jax.random.key(seed), len(shapes))
  return tree.unflatten(
    {
      name: jax.random.normal(key, shape)
      for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }
  )


def toy_forward(params, x):
  x = x * params['embedding']['norm']['scale']
  for i in range(LAYERS):
    layer = params['layers'][str(i)]
    query, value = layer['attention']['query'], layer['attention']['value']
    hidden = jnp.tanh(leaves.matmul(x, query['kernel']) + query['bias'])
    x = (
      x
      + (leaves.matmul(hidden, value['kernel']) + value['bias'])
      * layer['mlp_norm']['scale']
    )
  x = jnp.tanh(
    leaves.matmul(x + params['final_norm']['bias'], params['pooler']['kernel'])
  )
  return leaves.matmul(x, params['head']['kernel']) + params['head']['bias']


def toy_axes(params):
  return jax.tree.map(
    lambda leaf: P('embed', 'heads') if leaf.ndim == 2 else P('embed'), params
  )


METHODS = {
  'full': full(),
  'probe': probe(),
  'bitfit': bitfit(),
  'norms': norms(),
  'last': last(2),
  'lora': lora(rank=2),
  'lora of everything': lora(r'.*/kernel', rank=2, alpha=3, head=None, init='gaussian'),
  'bitfit + lora': compose(bitfit(), lora(rank=2)),
  'lora + norms + last': compose(lora(rank=2), norms(), last(1)),
}
each_method = pytest.mark.parametrize('method', METHODS.values(), ids=METHODS)


def assert_same(first, second):
  """Equal trees, to the bit."""
  assert jax.tree.structure(first) == jax.tree.structure(second)
  for name, leaf in tree.flatten(first).items():
    assert (
      np.asarray(leaf).tobytes() == np.asarray(tree.flatten(second)[name]).tobytes()
    ), name


@pytest.mark.parametrize(
  'name', ['method', 'partitions', 'lora', 'composition', 'transplant', 'account', None]
)
def test_examples_of_the_modules(name):
  module = importlib.import_module('tl_jax.transfer' + (f'.{name}' if name else ''))
  found = doctest.testmod(module)
  assert found.attempted > 0 and found.failed == 0


def test_importing_the_room_loads_no_model_library():
  code = (
    'import sys, tl_jax.transfer; '
    'print(sorted({name.partition(".")[0] for name in sys.modules} & set(sys.argv[1:])))'
  )
  heavy = [
    'flax',
    'orbax',
    'tensorflow',
    'grain',
    'optax',
    'torch',
    'transformers',
    'matplotlib',
    'sklearn',
  ]
  done = subprocess.run(
    [sys.executable, '-c', code, *heavy], capture_output=True, text=True, check=True
  )
  assert done.stdout.strip() == '[]'


@each_method
def test_every_leaf_is_trained_or_held_and_none_is_both(method):
  params = toy_params()
  trainable, frozen = method.init(jax.random.key(1), params)
  assert not tree.flatten(trainable).keys() & tree.flatten(frozen).keys()
  assert len(jax.tree.leaves(trainable)) > 0
  assert_same(method.fuse(trainable, frozen), params)
  np.testing.assert_array_equal(method.penalty(trainable, frozen), 0.0)
  assert method.reserved_positions == 0


@each_method
def test_merge_depends_on_what_is_there_and_not_on_where(method):
  trainable, frozen = method.init(jax.random.key(1), toy_params())
  merged = method.merge(trainable, frozen, key=jax.random.key(2), step=3)
  assert_same(method.merge(merged, None), merged)
  assert_same(method.merge(frozen, trainable), merged)


@settings(max_examples=10)
@given(st.integers(0, 99), st.sampled_from(sorted(METHODS)))
def test_merged_and_fused_compute_the_same_whatever_was_trained(seed, name):
  method, x = METHODS[name], jax.random.normal(jax.random.key(7), (4, WIDTH))
  trainable, frozen = method.init(jax.random.key(seed), toy_params())
  trainable = jax.tree.map(
    lambda leaf: leaf + 0.3 * jax.random.normal(jax.random.key(seed), leaf.shape),
    trainable,
  )
  fused = method.fuse(trainable, frozen)
  assert not any(
    map(leaves.is_structured, jax.tree.leaves(fused, is_leaf=leaves.is_structured))
  )
  assert jax.tree.structure(fused) == jax.tree.structure(toy_params())
  np.testing.assert_allclose(
    toy_forward(method.merge(trainable, frozen), x),
    toy_forward(fused, x),
    rtol=1e-5,
    atol=2e-5,
  )


@each_method
def test_ten_steps_change_every_trained_leaf_and_no_bit_of_the_others(method):
  params, x = toy_params(), jax.random.normal(jax.random.key(3), (16, WIDTH))
  labels = jnp.arange(16) % LABELS
  trainable, frozen = method.init(jax.random.key(1), params)
  before = jax.tree.map(lambda leaf: np.array(leaf), (trainable, frozen))
  tx = optax.adamw(1e-2)

  def loss(trainable, frozen):
    logits = toy_forward(method.merge(trainable, frozen), x)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

  @jax.jit
  def step(trainable, frozen, state):
    value, gradient = jax.value_and_grad(loss)(trainable, frozen)
    changes, state = tx.update(gradient, state, trainable)
    return optax.apply_updates(trainable, changes), state, value

  state, losses = tx.init(trainable), []
  for _ in range(10):
    trainable, state, value = step(trainable, frozen, state)
    losses.append(float(value))
  assert losses[-1] < losses[0]
  for name, leaf in tree.flatten(trainable).items():
    assert (np.asarray(leaf) != tree.flatten(before[0])[name]).any(), name
  held = tree.flatten(method.fuse(trainable, frozen))
  touched = {
    name.removesuffix('/a').removesuffix('/b') for name in tree.flatten(trainable)
  }
  assert held.keys() - touched or method is METHODS['full']
  for name in held.keys() - touched:
    assert (
      np.asarray(held[name]).tobytes()
      == np.asarray(tree.flatten(params)[name]).tobytes()
    ), name
  assert_same(before[1], frozen)


@each_method
def test_axes_mirror_the_trees(method):
  params = toy_params()
  trees = jax.eval_shape(method.init, jax.random.key(0), params)
  axes = method.axes(toy_axes(params))
  for arrays, specs in zip(trees, axes, strict=True):
    assert jax.tree.structure(arrays) == jax.tree.structure(specs)
    jax.tree.map(
      lambda array, spec: (
        pytest.fail(f'{array} {spec}') if len(spec) > array.ndim else None
      ),
      arrays,
      specs,
    )
  with_axes = jax.eval_shape(
    lambda key, params: method.init(key, params, toy_axes(params)),
    jax.random.key(0),
    params,
  )
  assert jax.tree.structure(with_axes) == jax.tree.structure(trees)


def test_a_method_may_be_chosen_by_patterns_and_predicates():
  method = partition_method(r'head/.*', lambda name: name.endswith('scale'))
  trainable, _ = method.init(None, toy_params())
  assert sorted(tree.flatten(trainable)) == [
    'embedding/norm/scale',
    'head/bias',
    'head/kernel',
    *(f'layers/{i}/mlp_norm/scale' for i in range(LAYERS)),
  ]


@pytest.mark.parametrize(
  'method, message',
  [
    (
      partition_method(r'.*/kernal', what='mine'),
      r"mine: the pattern '\.\*/kernal' .*nearest: .*kernel'",
    ),
    (partition_method(lambda name: False), 'chooses none of the'),
    (lora(r'.*/querry/kernel'), r"lora: .*nearest: 'query/kernel'"),
    (
      lora(('.*/query/kernel', '.*/kex/kernel')),
      r"lora: the pattern '\.\*/kex/kernel'",
    ),
    (
      lora(head='classifier/.*'),
      r"lora: head: the pattern 'classifier/\.\*' matches no parameter",
    ),
    (bitfit(head='classifier/.*'), r'bitfit: head: the pattern'),
    (
      lora(r'head/kernel'),
      r'lora: every leaf that the pattern matches belongs to the head .*head=None',
    ),
    (
      compose(lora(rank=2), lora(r'.*/query/kernel')),
      "lora: 'layers/0/attention/query/kernel' is a LowRank already",
    ),
    (probe(head='classifier/.*'), 'probe: the pattern'),
    (last(4), 'last: k is 4, but must be from 1 to the number of layers, 3'),
    (last(0), 'last: k is 0'),
  ],
)
def test_what_names_nothing_is_refused_in_one_line_by_init_and_by_axes(method, message):
  params = toy_params()
  for use in (
    lambda: method.init(jax.random.key(0), params),
    lambda: method.axes(toy_axes(params)),
  ):
    with pytest.raises(ValueError, match=message) as caught:
      use()
    assert '\n' not in str(caught.value)


def test_the_table_of_methods_is_what_a_config_reaches():
  assert (
    {
      'full',
      'probe',
      'bitfit',
      'norms',
      'last',
      'lora',
      'dora',
      'ia3',
      'adapter',
      'prompt',
      'prefix',
      'unfreeze',
      'l2sp',
      'mixout',
      'ewc',
    }
    <= transfer.METHODS.keys()
    <= set(transfer.__all__)
  )
  for name, constructor in transfer.METHODS.items():
    assert constructor is getattr(transfer, name) and constructor.__doc__
