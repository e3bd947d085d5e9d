"""Merging against small cases done by hand, and against published formulas written out
in numpy.
"""

import pathlib
import sys

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from tl_jax import leaves, tree
from tl_jax.transfer import merging

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from merged import agree, by_leaf, random_trees, values  # noqa: E402

EVERY = (
  'soup',
  'ties',
  'dare',
  'slerp',
  'fisher',
  'apply_task_vectors',
  'analogy',
  'regmean',
)


def merged_by(name, base, first, second):
  """The result of any of the functions on two trees."""
  call = {
    'soup': lambda: merging.soup([first, second]),
    'ties': lambda: merging.ties(base, [first, second], density=0.5),
    'dare': lambda: merging.dare(0, base, [first, second], drop=0.5),
    'slerp': lambda: merging.slerp(first, second, 0.3),
    'fisher': lambda: merging.fisher(
      [first, second], [jax.tree.map(jnp.abs, base)] * 2
    ),
    'apply_task_vectors': lambda: merging.apply_task_vectors(
      base, [merging.task_vector(each, base) for each in (first, second)], 0.4
    ),
    'analogy': lambda: merging.analogy(first, second, base),
    'regmean': lambda: merging.regmean(
      [first, second], [{'layers/0/kernel': np.eye(4, dtype=np.float32)}] * 2
    ),
  }
  return call[name]()


# By hand.


def test_soup_by_hand():
  assert merging.soup([values(1, 2), values(3, 6)])['w'].tolist() == [2, 4]
  assert merging.soup([values(1, 2), values(3, 6)], [3, 1])['w'].tolist() == [1.5, 3]


def test_slerp_by_hand():
  middle = merging.slerp(values(2, 0), values(0, 4), 0.5)['w']
  np.testing.assert_allclose(middle, [2**0.5, 8**0.5], rtol=1e-6)
  assert merging.slerp(values(1, 1), values(3, 3), 0.25)['w'].tolist() == [1.5, 1.5]
  assert merging.slerp(values(0, 0), values(2, 4), 0.5)['w'].tolist() == [1, 2]


def test_greedy_soup_takes_what_does_not_hurt():
  """Recipe 1 on one number: the score is how near the mean is to 10."""
  trees = [values(4), values(9), values(30), values(12)]
  seen = []

  def score(candidate):
    seen.append(float(candidate['w'][0]))
    return -abs(seen[-1] - 10)

  best, chosen = merging.greedy_soup(trees, score)
  # 9 first, then 12 (mean 10.5), then 4 (mean 8.33: no), then 30 (mean 17: no).
  assert chosen == (1, 3) and best['w'].tolist() == [10.5]
  assert seen == pytest.approx([4, 9, 30, 12, 10.5, 25 / 3, 17])


# On random tensors, by the published formulas.


@pytest.mark.parametrize('t', [0.0, 0.2, 0.5, 1.0])
def test_slerp_is_mergekits_formula(t):
  def expected(name, first, second):
    cosine = np.sum(first / np.linalg.norm(first) * second / np.linalg.norm(second))
    if abs(cosine) > 0.9995:
      return (1 - t) * first + t * second
    angle = np.arccos(cosine)
    return (np.sin(angle - angle * t) * first + np.sin(angle * t) * second) / np.sin(
      angle
    )

  first, second, near = random_trees(3, seed=3)
  near = jax.tree.map(lambda leaf, other: leaf + 1e-3 * other, first, near)
  for other in (second, near):
    agree(merging.slerp(first, other, t), by_leaf(expected, first, other))


# Laws.


numbers = st.lists(st.floats(-100, 100, width=32), min_size=6, max_size=6)


@given(numbers, numbers, st.floats(0, 1))
@settings(max_examples=40)
def test_what_is_merged_with_itself_stays(one, other, t):
  first, base = values(*one), values(*other)
  for found in (
    merging.soup([first] * 3),
    merging.slerp(first, first, t),
    merging.fisher([first] * 2, [base] * 2),
    merging.ties(base, [first] * 2, density=1),
    merging.dare(0, base, [first], drop=0),
    merging.apply_task_vectors(base, [merging.task_vector(first, base)]),
    merging.analogy(base, first, base),
  ):
    np.testing.assert_allclose(found['w'], first['w'], rtol=1e-4, atol=1e-4)


@given(numbers, numbers, numbers)
@settings(max_examples=40)
def test_the_order_of_the_sources_does_not_matter(one, two, three):
  base, *tuned = map(lambda each: values(*each), (one, two, three))
  for merge in (
    merging.soup,
    lambda trees: merging.ties(base, trees, density=0.5),
    lambda trees: merging.ties(base, trees, density=0.5, elect='count'),
  ):
    np.testing.assert_allclose(
      merge(tuned)['w'], merge(tuned[::-1])['w'], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize('name', EVERY)
def test_dtypes_integers_and_structure_are_kept_and_jit_agrees(name):
  trees = [
    dict(each, positions=jnp.arange(3), layer=[each['norm']['scale'], None])
    for each in random_trees(3, seed=6, dtype=jnp.bfloat16)
  ]
  found = merged_by(name, *trees)
  assert jax.tree.structure(found) == jax.tree.structure(trees[0])
  for key, leaf in tree.flatten(found).items():
    assert (
      leaf.dtype == tree.flatten(trees[0])[key].dtype
      and np.isfinite(np.asarray(leaf, np.float32)).all()
    ), key
  assert found['positions'].tolist() == [0, 1, 2]
  jitted = jax.jit(lambda *given: merged_by(name, *given))(*trees)
  for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(jitted), strict=True):
    np.testing.assert_allclose(
      np.asarray(one, np.float32), np.asarray(other, np.float32), rtol=0.02, atol=0.02
    )


# What is wrong.


@pytest.mark.parametrize('name', EVERY)
@pytest.mark.parametrize(
  'change, said',
  [
    (
      lambda each: each['norm'].update(scale=np.zeros(5, np.float32)),
      r"'norm/scale' is \(\d,\) in .* and \(\d,\)",
    ),
    (
      lambda each: each['norm'].update(scala=each['norm'].pop('scale')),
      "'norm/scal[ea]' is in .* but not in",
    ),
    (
      lambda each: each.update(positions=np.arange(3) + 1),
      "'positions' is not floating and differs",
    ),
  ],
)
def test_trees_that_differ_are_named_by_the_leaf(name, change, said):
  trees = [dict(each, positions=np.arange(3)) for each in random_trees(3)]
  change(trees[2])
  with pytest.raises(ValueError, match=f'^(task_vector|{name}): {said}') as caught:
    merged_by(name, *trees)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
  'call, said',
  [
    (lambda trees: merging.soup([]), 'needs at least one tree'),
    (
      lambda trees: merging.soup(trees, [1, 2, 3]),
      'weights: needs 2 numbers, one per tree, got 3',
    ),
    (lambda trees: merging.soup(trees, [1, -1]), 'weights: need another sum than 0'),
    (
      lambda trees: merging.soup(trees, [1, float('nan')]),
      'weights: must be finite, got nan',
    ),
    (
      lambda trees: merging.ties(trees[0], []),
      'needs at least one tree beside the base',
    ),
    (
      lambda trees: merging.ties(trees[0], trees, density=0),
      'density: must be above 0 and at most 1, got 0',
    ),
    (
      lambda trees: merging.ties(trees[0], trees, trim='all'),
      "trim: 'all' is not one of",
    ),
    (
      lambda trees: merging.ties(trees[0], trees, elect='sum'),
      "elect: 'sum' is not one of 'mass', 'count'",
    ),
    (
      lambda trees: merging.dare(0, trees[0], trees, drop=1),
      'drop: must be at least 0 and below 1, got 1',
    ),
    (
      lambda trees: merging.fisher(trees, trees[:1]),
      'needs 2 fishers, one per tree, got 1',
    ),
    (lambda trees: merging.fisher(trees, trees, floor=0), 'floor: must be above 0'),
    (
      lambda trees: merging.regmean(trees, [{'w': np.eye(2)}] * 2),
      "'w' is .* to be merged by inner products",
    ),
    (
      lambda trees: merging.regmean(trees, [{'x': np.eye(2)}] * 2),
      "no leaf 'x' in the trees; nearest: 'w'",
    ),
    (
      lambda trees: merging.regmean(trees, [{'w': np.eye(2)}] * 2, 'kernel'),
      "pattern 'kernel' matches no",
    ),
    (
      lambda trees: merging.greedy_soup(trees, lambda each: float('nan')),
      r'score of trees\[0\] is not a number',
    ),
  ],
)
def test_bad_arguments_are_named(call, said):
  with pytest.raises(ValueError, match=said):
    call([values(1, 2), values(3, 4)])


def test_structured_leaves_are_to_be_fused_first():
  low_rank = {'w': leaves.LowRank(jnp.eye(2), jnp.ones((2, 1)), jnp.ones((1, 2)))}
  with pytest.raises(ValueError, match="'w': fuse the tree first"):
    merging.soup([low_rank, low_rank])
