"""compose: the union, in any order."""

import itertools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from jax.sharding import PartitionSpec as P

from tl_jax import leaves, rng, tree
from tl_jax.transfer import (
  bitfit,
  compose,
  diff,
  full,
  ia3,
  last,
  lora,
  norms,
  probe,
  subset,
)

KEY = jax.random.key(1)


def toy_params(width=4, layers=3):
  shapes = {
    'embedding/tokens': (7, width),
    'head/kernel': (width, 2),
    'head/bias': (2,),
    'final_norm/scale': (width,),
  }
  for i in range(layers):
    shapes |= {
      f'layers/{i}/attention/{part}/kernel': (width, width)
      for part in ('query', 'value')
    }
    shapes |= {
      f'layers/{i}/attention/query/bias': (width,),
      f'layers/{i}/mlp_norm/scale': (width,),
    }
  return tree.unflatten(
    {
      name: jax.random.normal(rng.stream(0, name), shape)
      for name, shape in shapes.items()
    }
  )


PARTITIONS = {
  'probe': probe(),
  'bitfit': bitfit(),
  'bitfit without head': bitfit(head=None),
  'norms': norms(),
  'last': last(1),
  'last two': last(2, head=None),
}
EDITS = {
  'lora': lora(rank=2),
  'lora of kernels': lora(r'.*/kernel', rank=2, head=None),
  'lora with head': lora(rank=2, head=r'head/.*'),
}


def identical(first, second):
  return jax.tree.structure(first) == jax.tree.structure(second) and all(
    np.asarray(one).tobytes() == np.asarray(other).tobytes()
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
  )


@settings(max_examples=25)
@given(st.sampled_from(sorted(PARTITIONS)), st.sampled_from(sorted(EDITS)))
def test_a_partition_and_an_edit_commute(partition, edit):
  params, methods = toy_params(), (PARTITIONS[partition], EDITS[edit])
  one, other = compose(*methods), compose(*reversed(methods))
  assert identical(one.init(KEY, params), other.init(KEY, params))
  assert identical(
    one.merge(*one.init(KEY, params)), other.merge(*other.init(KEY, params))
  )
  assert identical(one.fuse(*one.init(KEY, params)), params)
  axes = jax.tree.map(lambda leaf: P(*['embed', 'heads'][: leaf.ndim]), params)
  assert one.axes(axes) == other.axes(axes)
  assert jax.tree.structure(one.axes(axes)) == jax.tree.structure(one.init(KEY, params))


@pytest.mark.parametrize(
  'names', list(itertools.permutations(['bitfit', 'norms', 'last']))
)
def test_partitions_train_their_union_in_any_order(names):
  params, methods = toy_params(), [PARTITIONS[name] for name in names]
  trainable, frozen = compose(*methods).init(KEY, params)
  union = set().union(
    *(tree.flatten(method.init(KEY, params)[0]) for method in methods)
  )
  assert tree.flatten(trainable).keys() == union
  assert tree.flatten(frozen).keys() == tree.flatten(params).keys() - union


def test_a_partition_beside_an_edit_trains_the_sum():
  params = toy_params()
  alone = tree.count(lora(rank=2, head=None).init(KEY, params)[0])
  trainable, _ = compose(lora(rank=2, head=None), bitfit()).init(KEY, params)
  assert tree.count(trainable) == alone + tree.count(bitfit().init(KEY, params)[0])
  assert trainable['layers']['0']['attention']['query']['kernel'].base is None


def test_where_an_edited_leaf_is_trained_in_full_the_edit_is_dropped():
  params = toy_params()
  trainable, frozen = compose(lora(rank=2), last(1)).init(KEY, params)
  for i in range(3):
    assert leaves.is_structured(
      trainable['layers'][str(i)]['attention']['query']['kernel']
    ) == (i < 2)
  assert frozen['layers']['2']['attention']['query']['kernel'] is None


@pytest.mark.parametrize(
  'edit',
  [lora(rank=2), diff(), ia3(inputs='.*query/kernel'), subset(count=9)],
  ids=['lora', 'diff', 'ia3', 'subset'],
)
def test_an_edit_of_which_nothing_is_left_is_refused(edit):
  said = f'^{edit.edits}: other methods train in full all that it edits'
  for methods in (
    (edit, full()),
    (full(), edit),
    (norms(), edit, last(3)),
    (compose(edit, norms()), full()),
  ):
    with pytest.raises(ValueError, match=said):
      compose(*methods).init(KEY, toy_params())


def test_two_edits_of_different_leaves():
  params = toy_params()
  both = compose(
    lora(r'.*/query/kernel', rank=1), lora(r'.*/value/kernel', rank=3, alpha=6)
  )
  merged = both.merge(*both.init(KEY, params))
  attention = merged['layers']['1']['attention']
  assert (
    attention['query']['kernel'].b.shape == (1, 4)
    and attention['value']['kernel'].scale == 2.0
  )
  assert identical(both.fuse(*both.init(KEY, params)), params)


def test_the_same_leaf_draws_the_same_alone_and_in_company():
  alone, _ = lora(rank=2, head=None).init(KEY, toy_params())
  company, _ = compose(norms(), lora(rank=2, head=None)).init(KEY, toy_params())
  first = lambda trainable: trainable['layers']['0']['attention']['query']['kernel'].a
  assert (first(alone) == first(company)).all()


def test_a_composition_composes():
  params = toy_params()
  nested, flat = (
    compose(compose(bitfit(), lora(rank=2)), norms()),
    compose(bitfit(), lora(rank=2), norms()),
  )
  assert identical(nested.init(KEY, params), flat.init(KEY, params))
  assert identical(compose(norms()).init(KEY, params), norms().init(KEY, params))


def test_penalties_and_positions_add_and_every_merge_is_called():
  shift = norms()._replace(
    merge=lambda trainable, frozen, *, key=None, step=None: jax.tree.map(
      lambda leaf: leaf + jax.random.uniform(key) + step,
      tree.combine(trainable, frozen),
    ),
    penalty=lambda trainable, frozen: jnp.float32(tree.count(trainable)),
    reserved_positions=3,
  )
  double = bitfit()._replace(
    merge=lambda trainable, frozen, *, key=None, step=None: jax.tree.map(
      lambda leaf: 2 * leaf, tree.combine(trainable, frozen)
    ),
    penalty=lambda trainable, frozen: jnp.float32(0.5),
    reserved_positions=4,
  )
  params = toy_params()
  both = compose(shift, double)
  trainable, frozen = both.init(KEY, params)
  assert (
    both.reserved_positions == 7
    and float(both.penalty(trainable, frozen)) == tree.count(trainable) + 0.5
  )
  merged = both.merge(trainable, frozen, key=KEY, step=5)
  change = tree.flatten(merged)['head/bias'] / 2 - params['head']['bias']
  np.testing.assert_allclose(change, change[0], rtol=1e-5)
  assert 5 < float(change[0]) < 6


def test_nothing_to_compose_is_refused():
  with pytest.raises(ValueError, match='at least one method'):
    compose()
