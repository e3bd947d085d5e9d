"""What each way of transferring promises beyond the laws of all: where it starts, what
it trains, what it holds.
"""

import itertools
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import tree
from tl_jax.transfer import (
  METHODS,
  adapter,
  bitfit,
  compose,
  diff,
  dora,
  ewc,
  full,
  ia3,
  l2sp,
  last,
  lora,
  mixout,
  norms,
  prefix,
  prior_decay,
  probe,
  prompt,
  qlora,
  quantized,
  rdrop,
  subset,
  unfreeze,
)

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from lawful import KEY, moved, plain_tree, real, run_steps  # noqa: E402

# Every method with what fits each kind of model; the tolerance of its first function
# against the pre-trained one.
KINDS = ('encoder', 'decoder', 'encoder-decoder')
EXACT = {
  'full': full,
  'bitfit': lambda: bitfit(pattern=r'.*(bias|scale)'),
  'norms': norms,
  'last': lambda: last(1),
  'subset': lambda: subset(count=200),
  'lora': lambda: lora(rank=2),
  'lora of tables': lambda: lora((r'embedding/tokens', r'.*/query/kernel'), rank=2),
  'ia3': ia3,
  'diff': diff,
  'l2sp': l2sp,
  'mixout': mixout,
  'prior_decay': prior_decay,
  'ewc': ewc,
  'unfreeze': unfreeze,
  'rdrop': rdrop,
  'houlsby': lambda: adapter(size=4),
  'pfeiffer': lambda: adapter(kind='pfeiffer', size=4),
  'parallel': lambda: adapter(kind='parallel', size=4),
  'lora with dropout': lambda: lora(rank=2, dropout=0.2),
}
# One of each mechanism; of what does not depend on the names of leaves alone, some on
# other kinds of models as well.
QUICK = {
  'encoder': (
    'full',
    'bitfit',
    'subset',
    'lora',
    'lora of tables',
    'dora',
    'qlora',
    'ia3',
    'diff',
    'houlsby',
    'parallel',
    'prefix',
    'prefix network',
    'mixout',
  ),
  'decoder': ('lora',),
  'encoder-decoder': ('lora', 'houlsby', 'prefix'),
}
NEAR = {
  'dora': lambda: dora(rank=2),
  'pissa': lambda: lora(rank=2, alpha=4, init='pissa', stabilized=True),
}


def every_kind(methods, quick=QUICK):
  return pytest.mark.parametrize(
    'kind, name',
    [
      pytest.param(
        kind, name, marks=[] if name in quick.get(kind, ()) else pytest.mark.slow
      )
      for kind in KINDS
      for name in methods
    ],
  )


@every_kind(EXACT | NEAR, dict(encoder=QUICK['encoder']))
def test_the_start_is_the_pre_trained_function(kind, name):
  model, params, batch = real(kind)
  method = (EXACT | NEAR)[name]()
  trainable, frozen = method.init(KEY, params)
  wanted = model.apply(params, batch).logits
  for own in (method.merge(trainable, frozen), method.fuse(trainable, frozen)):
    found = model.apply(own, batch).logits
    # A layer with an adapter in it is another program, whose sums may be in another
    # order.
    tolerance = (
      2e-5
      if name in NEAR
      else 1e-6
      if name in ('houlsby', 'pfeiffer', 'parallel')
      else 0
    )
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance)
  fused = tree.flatten(method.fuse(trainable, frozen))
  for leaf_name, leaf in tree.flatten(params).items():
    tolerance = 0 if name in EXACT else 1e-6
    np.testing.assert_allclose(fused[leaf_name], leaf, rtol=0, atol=tolerance)


TRAINED = (
  EXACT
  | NEAR
  | {
    'prompt': lambda: prompt(3),
    'prefix': lambda: prefix(3),
    'qlora': lambda: qlora(kind='nf4'),
    'qlora in bfloat16': lambda: qlora(kind='bfloat16'),
    'prefix network': lambda: prefix(3, network=5),
  }
)


@every_kind(TRAINED)
def test_merged_and_fused_agree_and_axes_mirror_the_trees(kind, name):
  model, params, batch = real(kind)
  method = TRAINED[name]()
  trainable, frozen = method.init(KEY, params)
  for tree_, axes in zip((trainable, frozen), method.axes(model.axes), strict=True):
    assert jax.tree.structure(tree_) == jax.tree.structure(axes)
  trainable = moved(trainable)
  merged = method.merge(trainable, frozen)
  assert jax.tree.structure(method.merge(merged, None)) == jax.tree.structure(merged)
  fused = method.fuse(trainable, frozen)
  first = model.apply(merged, batch).logits
  np.testing.assert_allclose(
    first, model.apply(fused, batch).logits, atol=1e-5 * float(jnp.abs(first).max() + 1)
  )
  assert not np.allclose(first, model.apply(params, batch).logits, atol=1e-3)


PARTITIONS = {
  'probe': probe,
  'bitfit': bitfit,
  'norms': norms,
  'last': lambda: last(1),
  'full': full,
}
EDITS = {
  'lora': lambda: lora(rank=2),
  'dora': lambda: dora(r'.*query/kernel', rank=2),
  'ia3': ia3,
  'subset': lambda: subset(r'.*query/kernel', count=6),
  'diff': lambda: diff(r'.*out/kernel'),
  'quantized': lambda: quantized(r'.*out/kernel'),
}
CLASHES = {
  ('lora', 'dora'),
  ('lora', 'ia3'),
  ('lora', 'subset'),
  ('dora', 'subset'),
  ('ia3', 'diff'),
}
CLASHES |= {(other, one) for one, other in CLASHES} | {
  ('ia3', 'quantized'),
  ('diff', 'quantized'),
}
# a partition takes what the other would hold in few bits
TAKES = {('full', 'quantized'), ('last', 'quantized')}


def test_every_pair_trains_the_union_and_starts_at_the_same_place():
  params, tried = plain_tree(), 0
  everything = PARTITIONS | EDITS
  for one, other in itertools.permutations(everything, 2):
    if (one, other) in CLASHES:
      with pytest.raises(ValueError, match='two methods edit it'):
        compose(everything[one](), everything[other]()).init(KEY, params)
      continue
    if (other, one) in TAKES:
      with pytest.raises(ValueError, match='is quantised and cannot be trained'):
        compose(everything[one](), everything[other]()).init(KEY, params)
      continue
    method = compose(everything[one](), everything[other]())
    if 'full' in (one, other) and {one, other} & EDITS.keys() - {'quantized'}:
      with pytest.raises(
        ValueError, match='other methods train in full all that it edits'
      ):
        method.init(KEY, params)
      continue
    trainable, frozen = method.init(KEY, params)
    parts = [everything[name]().init(KEY, params)[0] for name in (one, other)]
    wanted = set().union(*map(tree.flatten, parts))
    whole = {
      name
      for part in parts
      for name in tree.flatten(part)
      if name in tree.flatten(params)
    }
    wanted = {
      name for name in wanted if not any(name.startswith(f'{leaf}/') for leaf in whole)
    }
    assert set(tree.flatten(trainable)) == wanted, (one, other)
    fused, plain = tree.flatten(method.fuse(trainable, frozen)), tree.flatten(params)
    assert fused.keys() == plain.keys()
    for name in plain:
      atol = 0.02 if 'quantized' in (one, other) else 1e-6
      np.testing.assert_allclose(
        fused[name], plain[name], atol=atol, rtol=0, err_msg=f'{one}, {other}: {name}'
      )
    tried += 1
  assert tried > 80


@pytest.mark.parametrize(
  'name',
  [
    pytest.param(
      name, marks=[] if name in ('lora', 'adapter', 'prefix') else pytest.mark.slow
    )
    for name in METHODS
    if name not in ('qlora', 'last')
  ],
)
def test_ten_steps_leave_what_is_held_to_the_bit_and_move_what_is_trained(name):
  options = {
    'prompt': dict(length=3),
    'prefix': dict(length=3),
    'adapter': dict(size=4),
    'unfreeze': dict(every=1),
  }
  first, *_, final = run_steps(METHODS[name](**options.get(name, {})))
  for one, other in zip(
    jax.tree.leaves(first.frozen), jax.tree.leaves(final.frozen), strict=True
  ):
    assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
  still = [
    leaf_name
    for leaf_name, leaf in tree.flatten(first.trainable).items()
    if np.array_equal(leaf, tree.flatten(final.trainable)[leaf_name])
  ]
  assert not still, still
  trained = {leaf_name for leaf_name in tree.flatten(first.trainable)}
  moments = [
    node
    for node in jax.tree.leaves(
      final.opt_state,
      is_leaf=lambda node: isinstance(node, tuple) and hasattr(node, 'mu'),
    )
    if hasattr(node, 'mu')
  ]
  assert all(set(tree.flatten(node.mu)) == trained for node in moments) and moments


@pytest.mark.slow
@pytest.mark.parametrize('name', ['lora', 'dora', 'ia3', 'houlsby'])
def test_a_strong_pull_keeps_what_a_model_multiplies_by_near_its_start(name):
  params = tree.flatten(real('encoder')[1])
  far = {}
  for strength in (0.0, 100.0):
    method = compose(EXACT.get(name, NEAR.get(name))(), l2sp(strength))
    final = run_steps(method)[-1]
    fused = tree.flatten(method.fuse(final.trainable, final.frozen))
    body = [leaf for leaf in params if not leaf.startswith(('head/', 'pooler/'))]
    far[strength] = sum(
      float(np.square(fused[leaf] - params[leaf]).sum()) for leaf in body
    )
  assert 0 < far[100.0] < far[0.0] / 4


@pytest.mark.parametrize(
  'part', [lambda: prompt(2), lambda: prefix(2), lambda: adapter(size=2)]
)
def test_parts_and_edits_compose_in_either_order(part):
  model, params, batch = real('encoder')
  one, other = (
    compose(*methods) for methods in ((lora(rank=2), part()), (part(), lora(rank=2)))
  )
  logits = [
    model.apply(method.merge(*method.init(KEY, params)), batch).logits
    for method in (one, other)
  ]
  np.testing.assert_array_equal(*logits)
  assert set(tree.flatten(one.init(KEY, params)[0])) == set(
    tree.flatten(other.init(KEY, params)[0])
  )
  assert jax.tree.structure(one.axes(model.axes)) == jax.tree.structure(
    one.init(KEY, params)
  )


def test_a_mismatch_is_named():
  params = plain_tree()
  for method, what in (
    (lora(r'nothing'), 'matches no parameter'),
    (adapter(), 'matches no parameter'),
    (prefix(), None),
    (prompt(), "'embedding/tokens' does not exist"),
  ):
    if what is None:
      continue
    with pytest.raises(ValueError, match=what):
      method.init(KEY, {'w': jnp.ones(2)} if what == 'matches no parameter' else params)
  with pytest.raises(ValueError, match='both trees have a leaf at .*prefix'):
    compose(prefix(2), prefix(3)).init(KEY, params)
  with pytest.raises(ValueError, match='compose this one first'):
    compose(last(1), prefix(2)).init(KEY, params)
  with pytest.raises(ValueError, match='go together'):
    prompt(init='text')
