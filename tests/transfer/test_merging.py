"""Merging against small cases done by hand, and against published formulas written out
in numpy.
"""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from tl_jax import leaves, tree
from tl_jax.transfer import merging

SHAPES = {
  'embedding/tokens': (7, 4),
  'layers/0/kernel': (4, 6),
  'layers/0/bias': (6,),
  'norm/scale': (4,),
}
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


def random_trees(count, seed=0, dtype=np.float32):
  """Trees of normal values."""
  generator = np.random.default_rng(seed)
  return [
    tree.unflatten(
      {
        name: generator.normal(size=shape).astype(dtype)
        for name, shape in SHAPES.items()
      }
    )
    for _ in range(count)
  ]


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


def agree(found, expected, tolerance=1e-5):
  expected = (
    expected
    if isinstance(expected, dict) and set(expected) == set(SHAPES)
    else tree.flatten(expected)
  )
  assert list(tree.flatten(found)) == list(expected)
  for name, leaf in tree.flatten(found).items():
    np.testing.assert_allclose(
      np.asarray(leaf, np.float64),
      expected[name],
      rtol=tolerance,
      atol=tolerance,
      err_msg=name,
    )


def by_leaf(function, *trees):
  """function(name, leaf of each tree) in float64, by name."""
  return {
    name: function(
      name, *(np.asarray(tree.flatten(each)[name], np.float64) for each in trees)
    )
    for name in tree.flatten(trees[0])
  }


# By hand.


def values(*numbers):
  return {'w': jnp.array(numbers, jnp.float32)}


def test_soup_by_hand():
  assert merging.soup([values(1, 2), values(3, 6)])['w'].tolist() == [2, 4]
  assert merging.soup([values(1, 2), values(3, 6)], [3, 1])['w'].tolist() == [1.5, 3]


def test_task_vectors_by_hand():
  base, tuned = values(1, 1), values(2, 5)
  vector = merging.task_vector(tuned, base)
  assert vector['w'].tolist() == [1, 4]
  assert merging.apply_task_vectors(base, [vector, vector], [1, -0.5])[
    'w'
  ].tolist() == [1.5, 3]
  assert merging.apply_task_vectors(base, [vector], -1)['w'].tolist() == [0, -3]
  assert merging.analogy(values(1, 1), values(2, 5), values(10, 20))['w'].tolist() == [
    11,
    24,
  ]


def test_ties_by_hand():
  base = values(0, 0, 0, 10)
  tuned = [values(4, -1, 3, 10), values(2, 5, -4, 9), values(1, -3, -2, 13)]
  # Trimmed to half: (4, ., 3, .), (., 5, -4, .), (., -3, ., 3); mass 4, 2, -1, 3; means
  # 4, 5, -4, 3.
  assert merging.ties(base, tuned, density=0.5)['w'].tolist() == [4, 5, -4, 13]
  assert merging.ties(base, tuned, density=0.5, scale=0.5)['w'].tolist() == [
    2,
    2.5,
    -2,
    11.5,
  ]
  # Nothing trimmed, all of the same sign added up: mass 7, 1, -3, 2.
  assert merging.ties(base, tuned, density=1, normalize=False)['w'].tolist() == [
    7,
    5,
    -6,
    13,
  ]
  # Counted instead of weighed: the second place has two negatives of three, the fourth
  # one of each and a zero.
  assert merging.ties(base, tuned, density=1, elect='count')[
    'w'
  ].tolist() == pytest.approx([7 / 3, -2, -3, 13])


def test_ties_trims_the_whole_tree_or_each_leaf():
  base, tuned = (
    {'a': jnp.zeros(2), 'b': jnp.zeros(2)},
    {'a': jnp.array([1.0, 2.0]), 'b': jnp.array([8.0, 9.0])},
  )
  by_leaf, whole = (
    merging.ties(base, [tuned], density=0.5, trim=trim) for trim in ('leaf', 'tree')
  )
  assert by_leaf['a'].tolist() == [0, 2] and by_leaf['b'].tolist() == [0, 9]
  assert whole['a'].tolist() == [0, 0] and whole['b'].tolist() == [8, 9]


def test_where_signs_cancel_mass_keeps_the_base_and_count_takes_plus():
  base, tuned = values(1), [values(3), values(-1)]
  assert merging.ties(base, tuned, density=1)['w'].tolist() == [1]
  assert merging.ties(base, tuned, density=1, elect='count')['w'].tolist() == [3]


def test_slerp_by_hand():
  middle = merging.slerp(values(2, 0), values(0, 4), 0.5)['w']
  np.testing.assert_allclose(middle, [2**0.5, 8**0.5], rtol=1e-6)
  assert merging.slerp(values(1, 1), values(3, 3), 0.25)['w'].tolist() == [1.5, 1.5]
  assert merging.slerp(values(0, 0), values(2, 4), 0.5)['w'].tolist() == [1, 2]


def test_fisher_by_hand():
  found = merging.fisher(
    [values(1, 1, 1), values(5, 5, 5)], [values(3, 0, 1), values(1, 1, 0)], floor=1e-9
  )
  np.testing.assert_allclose(found['w'], [2, 5, 1], rtol=1e-6)
  found = merging.fisher([values(1), values(5)], [values(1), values(1)], [3, 1])
  assert found['w'].tolist() == pytest.approx([2])


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


def test_regmean_recovers_what_every_source_knows():
  """Two sources that each saw half of the inputs, and are right there only: merged,
  they are right everywhere.
  """
  generator = np.random.default_rng(0)
  right = generator.normal(size=(4, 3))
  inputs = [np.diag([1.0, 1, 0, 0])[:2], np.diag([0.0, 0, 1, 1])[2:]]
  kernels = [right * (np.abs(rows).sum(0) > 0)[:, None] for rows in inputs]
  found = merging.regmean(
    [
      {'k': jnp.asarray(kernel), 'b': jnp.full(3, float(index))}
      for index, kernel in enumerate(kernels)
    ],
    [{'k': rows.T @ rows} for rows in inputs],
  )
  np.testing.assert_allclose(found['k'], right, rtol=1e-5)
  assert found['b'].tolist() == [0.5] * 3


# On random tensors, by the published formulas.


def magnitude(change, density):
  """mergekit's `magnitude`: the int(density * size) largest in absolute value."""
  kept = np.zeros(change.size)
  kept[
    np.argsort(-np.abs(change.ravel()), kind='stable')[: int(density * change.size)]
  ] = 1
  return change * kept.reshape(change.shape)


def consensus(changes, weights, method, normalize):
  """mergekit's `get_mask` and the disjoint sum or mean."""
  weighted = np.stack([w * change for w, change in zip(weights, changes, strict=True)])
  signs = np.sign(weighted)
  majority = np.where(
    (weighted.sum(0) if method == 'sum' else signs.sum(0)) >= 0, 1, -1
  )
  mask = signs == majority
  total = (weighted * mask).sum(0)
  if normalize:
    divisor = (np.reshape(weights, (-1, *[1] * changes[0].ndim)) * mask).sum(0)
    total = total / np.where(divisor == 0, 1, divisor)
  return total


@pytest.mark.parametrize('elect, method', [('mass', 'sum'), ('count', 'count')])
@pytest.mark.parametrize('normalize', [True, False])
@pytest.mark.parametrize('density', [0.3, 0.75, 1.0])
def test_ties_is_mergekits_formula(density, normalize, elect, method):
  base, *tuned = random_trees(4)
  weights = [0.5, 1.0, 0.8]
  found = merging.ties(
    base,
    tuned,
    density=density,
    scale=0.7,
    weights=weights,
    elect=elect,
    normalize=normalize,
  )
  agree(
    found,
    by_leaf(
      lambda name, start, *others: (
        start
        + 0.7
        * consensus(
          [magnitude(other - start, density) for other in others],
          weights,
          method,
          normalize,
        )
      ),
      base,
      *tuned,
    ),
  )


def test_ties_of_the_paper_trims_the_whole_vector():
  base, *tuned = random_trees(4, seed=1)
  flat = lambda each: np.concatenate(
    [np.ravel(leaf) for leaf in jax.tree.leaves(each)]
  ).astype(np.float64)
  changes = [magnitude(flat(each) - flat(base), 0.2) for each in tuned]
  sign = np.sign(sum(changes))
  agreeing = np.stack(
    [np.where(np.sign(change) == sign, change, 0) for change in changes]
  )
  expected = flat(base) + agreeing.sum(0) / np.maximum((agreeing != 0).sum(0), 1)
  found = merging.ties(base, tuned, density=0.2, trim='tree')
  np.testing.assert_allclose(flat(found), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('rescale', [True, False])
@pytest.mark.parametrize(
  'elect, method, normalize',
  [(None, None, False), ('mass', 'sum', False), ('mass', 'sum', True)],
)
def test_dare_is_mergekits_formula_under_a_fixed_mask(
  rescale, elect, method, normalize
):
  base, *tuned = random_trees(4, seed=2)
  masks = [tree.flatten(merging.dare_mask(5, base, 0.6, index)) for index in range(3)]
  weights = [0.5, 1.0, 0.8]

  def expected(name, start, *others):
    changes = [
      (other - start) * np.asarray(mask[name]) / (0.4 if rescale else 1)
      for other, mask in zip(others, masks, strict=True)
    ]
    added = sum(w * change for w, change in zip(weights, changes, strict=True))
    return start + 0.7 * (
      added if method is None else consensus(changes, weights, method, normalize)
    )

  found = merging.dare(
    5,
    base,
    tuned,
    drop=0.6,
    rescale=rescale,
    scale=0.7,
    weights=weights,
    elect=elect,
    normalize=normalize,
  )
  agree(found, by_leaf(expected, base, *tuned))


def test_masks_of_dare_are_independent_and_of_the_right_density():
  base = {'a': np.zeros((100, 100)), 'b': np.zeros((100, 100))}
  masks = [
    np.asarray(mask[name])
    for mask in (merging.dare_mask(0, base, 0.8, index) for index in (0, 1))
    for name in ('a', 'b')
  ]
  for index, mask in enumerate(masks):
    assert mask.mean() == pytest.approx(0.2, abs=0.02)
    for other in masks[:index]:
      assert (mask & other).mean() == pytest.approx(0.04, abs=0.01)
  same = merging.dare_mask(jax.random.key(0), {'b': base['b']}, 0.8)
  assert (np.asarray(same['b']) == masks[1]).all()


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


def test_regmean_is_equation_2():
  trees = random_trees(3, seed=4)
  generator = np.random.default_rng(5)
  grams = [rows.T @ rows for rows in generator.normal(size=(3, 9, 4))]
  shrunk = [0.9 * gram + 0.1 * np.diag(np.diag(gram)) for gram in grams]
  kernel = 'layers/0/kernel'
  found = merging.regmean(
    trees, [{kernel: gram, 'embedding/tokens': np.eye(7)} for gram in grams], '.*kernel'
  )
  agree(
    found,
    by_leaf(
      lambda name, *held: (
        np.mean(held, 0)
        if name != kernel
        else np.linalg.inv(sum(shrunk))
        @ sum(gram @ leaf for gram, leaf in zip(shrunk, held, strict=True))
      ),
      *trees,
    ),
    1e-4,
  )


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
