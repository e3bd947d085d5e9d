"""Task vectors, TIES and DARE: by hand, and the published formulas in numpy."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import tree
from tl_jax.transfer import merging

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from merged import agree, by_leaf, random_trees, values  # noqa: E402

# By hand.


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
