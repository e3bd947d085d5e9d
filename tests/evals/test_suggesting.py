"""Texts to label next: uncertain ones, and not of one kind."""

import numpy as np
import pytest

from tl_jax.evals.suggesting import suggest


def test_the_uncertain_are_wanted_and_copies_are_not():
  generator = np.random.default_rng(0)
  sure = generator.normal(size=(50, 4))
  kinds = np.repeat(np.eye(4)[:3] * 5, 5, axis=0)
  features = np.concatenate([sure, kinds])
  chances = np.concatenate(
    [np.tile([0.99, 0.01], (50, 1)), np.tile([0.5, 0.5], (15, 1))]
  )
  chosen = suggest(features, chances, 3)
  # One of each kind, of five copies.
  assert sorted((chosen - 50) // 5) == [0, 1, 2]


def test_where_all_are_equally_uncertain_they_are_far_apart():
  features = np.array([[0.0], [0.1], [0.2], [9.9], [10.0]])
  chances = np.full((5, 2), 0.5)
  chosen = suggest(features, chances, 2)
  assert abs(features[chosen[0]] - features[chosen[1]]) > 9


def test_all_of_them_are_an_order():
  generator = np.random.default_rng(0)
  features, chances = generator.normal(size=(9, 2)), generator.random((9, 3))
  assert sorted(suggest(features, chances, 9)) == list(range(9))
  for count in (0, 10):
    with pytest.raises(ValueError, match='of 9 texts'):
      suggest(features, chances, count)
