"""Laws of names, partition and combine."""

import doctest

import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from hypothesis import given

from tl_jax import leaves, tree

KEYS = st.sampled_from(['a', 'b', 'kernel', 'bias', '0'])
TREES = st.recursive(
  st.integers() | st.none(),
  lambda children: (
    st.dictionaries(KEYS, children, max_size=3)
    | st.lists(children, max_size=3)
    | st.tuples(children, children)
  ),
  max_leaves=8,
)
DICTS = st.recursive(
  st.integers(),
  lambda children: st.dictionaries(KEYS, children, min_size=1, max_size=3),
  max_leaves=8,
)


def is_hole(node):
  return node is None


def test_examples_of_the_module():
  assert doctest.testmod(tree) == (0, 3)


@given(TREES, st.data())
def test_combine_undoes_partition_in_either_order(whole, data):
  chosen = {name for name in tree.flatten(whole) if data.draw(st.booleans())}
  first, second = tree.partition(whole, chosen.__contains__)
  assert tree.flatten(first).keys() == chosen
  assert tree.flatten(second).keys() == tree.flatten(whole).keys() - chosen
  assert tree.combine(first, second) == whole
  assert tree.combine(second, first) == whole


@given(TREES)
def test_one_hole_stands_for_any_tree(whole):
  assert tree.combine(whole, None) == whole
  assert tree.combine(None, whole) == whole


@given(TREES, st.data())
def test_a_hole_may_stand_for_a_subtree_on_either_side(whole, data):
  """Every subtree without a leaf may be cut down to one hole without changing what
  combine gives.
  """
  chosen = {name for name in tree.flatten(whole) if data.draw(st.booleans())}
  parts = [
    jax.tree.map(
      lambda node: node if jax.tree.leaves(node) else None,
      part,
      is_leaf=lambda node: not jax.tree.leaves(node),
    )
    for part in tree.partition(whole, chosen.__contains__)
  ]
  expected = jax.tree.leaves(whole)
  assert jax.tree.leaves(tree.combine(*parts)) == expected
  assert jax.tree.leaves(tree.combine(*reversed(parts))) == expected


def test_structured_leaves_fill_each_others_holes():
  trained = {'x': leaves.LowRank(None, 1, 2), 'y': None, 'z': None}
  held = {
    'x': leaves.LowRank(3, None, None),
    'y': leaves.LowRank(4, 5, 6),
    'z': [7, {}],
  }
  expected = {'x': leaves.LowRank(3, 1, 2), 'y': leaves.LowRank(4, 5, 6), 'z': [7, {}]}
  assert tree.combine(trained, held) == expected
  assert tree.combine(held, trained) == expected
  assert tree.combine({'x': None}, {'x': held['x']}) == {'x': held['x']}
  assert tree.combine({'x': 1}, {'x': leaves.LowRank(None, None, None)}) == {'x': 1}


@pytest.mark.parametrize(
  'first, second, message',
  [
    ({'a': {'b': 1}}, {'a': {'b': 2}}, "both trees have a leaf at 'a/b'"),
    ({'a': {'b': 1}}, {'a': 2}, "both trees have a leaf at 'a'"),
    ({'a': {'b': 1}}, {'a': {'c': 2}}, "differ at 'a'"),
    ([1, None], [None], "differ at ''"),
    (
      {'a': leaves.LowRank(None, 1, 2, 1.0)},
      {'a': leaves.LowRank(3, None, None, 2.0)},
      "differ at 'a'",
    ),
  ],
)
def test_combine_refuses_two_leaves_at_one_place(first, second, message):
  for one, other in ((first, second), (second, first)):
    with pytest.raises(ValueError, match=message) as caught:
      tree.combine(one, other)
    assert '\n' not in str(caught.value)


@given(DICTS.filter(lambda whole: isinstance(whole, dict)))
def test_unflatten_undoes_flatten(whole):
  assert tree.unflatten(tree.flatten(whole)) == whole


@pytest.mark.parametrize('names', [['a', 'a/b'], ['a/b', 'a'], ['a/b/c', 'a/b']])
def test_unflatten_refuses_a_leaf_inside_a_leaf(names):
  with pytest.raises(ValueError, match='inside it'):
    tree.unflatten(dict.fromkeys(names, 1))


def test_flatten_refuses_two_leaves_of_one_name():
  with pytest.raises(ValueError, match="'a/b'"):
    tree.flatten({'a/b': 1, 'a': {'b': 2}})


def test_map_named_gives_the_name_first():
  assert tree.map_named(
    lambda name, x, y: (name, x + y), {'a': [1, 2]}, {'a': [3, 4]}
  ) == {'a': [('a/0', 4), ('a/1', 6)]}


def test_matcher_matches_whole_names():
  accepts = tree.matcher(r'.*/kernel', 'bias')
  assert [
    accepts(name) for name in ('a/kernel', 'kernel', 'a/kernel/b', 'bias', 'a/bias')
  ] == [True, False, False, True, False]
  assert not tree.matcher()('anything')


@pytest.mark.parametrize('pattern', ['*', '(', 3])
def test_what_is_no_regular_expression_is_said_in_one_line(pattern):
  with pytest.raises(ValueError, match='is not a regular expression') as caught:
    tree.matcher(pattern)
  assert '\n' not in str(caught.value)


def test_a_pattern_that_matches_nothing_names_the_nearest():
  names = [
    f'layers/{i}/{block}'
    for i in range(12)
    for block in ('attention/query/kernel', 'attention/query/bias', 'mlp/in/kernel')
  ]
  tree.require_match([r'.*/(query|value)/kernel', r'layers/1[01]/.*'], names, 'lora')
  with pytest.raises(
    ValueError,
    match=r"^lora: the pattern '\.\*/qurey/kernel' .* nearest: 'query/kernel'",
  ):
    tree.require_match([r'.*/(query|value)/kernel', r'.*/qurey/kernel'], names, 'lora')
  with pytest.raises(ValueError, match='nearest: none'):
    tree.require_match(['a'], [], 'lora')


def test_count_is_of_scalars():
  assert tree.count({'a': np.zeros((2, 3)), 'b': [None, 1.0]}) == 7
