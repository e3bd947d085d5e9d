"""Texts to label next: uncertain ones, and not of one kind."""

import numpy as np
import pytest

from tl_jax.evals.suggesting import suggest


def test_the_uncertain_are_wanted_and_not_of_one_kind():
  generator = np.random.default_rng(0)
  sure = generator.normal(size=(50, 4))
  kinds = np.repeat(np.eye(4)[:3] * 5, 5, axis=0)
  kinds = kinds + generator.normal(scale=0.1, size=kinds.shape)
  features = np.concatenate([sure, kinds])
  chances = np.concatenate(
    [np.tile([0.99, 0.01], (50, 1)), np.tile([0.5, 0.5], (15, 1))]
  )
  chosen = suggest(features, chances, 3, doubtful=5)
  assert sorted((chosen - 50) // 5) == [0, 1, 2]
  # Without a choice, only doubt counts.
  assert (suggest(features, chances, 15, doubtful=1) >= 50).all()


def test_the_middle_of_a_group_stands_for_it():
  features = np.array([[0.0], [1.0], [2.0], [50.0], [51.0], [52.0]])
  chosen = suggest(features, np.full((6, 2), 0.5), 2)
  assert sorted(chosen) == [1, 4]


def test_the_most_doubtful_stands_first():
  features = np.array([[0.0], [9.0], [18.0]])
  chances = np.array([[0.6, 0.4, 0.0], [0.5, 0.5, 0.0], [0.4, 0.3, 0.3]])
  # By the two likeliest classes, however many others there are.
  assert suggest(features, chances, 3).tolist() == [1, 2, 0]


def test_copies_leave_room_for_others():
  features = np.array([[1.0]] * 4 + [[2.0]])
  chosen = suggest(features, np.full((5, 2), 0.5), 4)
  assert len(set(chosen.tolist())) == 4


def test_all_of_them_are_an_order():
  generator = np.random.default_rng(0)
  features, chances = generator.normal(size=(9, 2)), generator.random((9, 3))
  assert sorted(suggest(features, chances, 9)) == list(range(9))
  for count in (0, 10):
    with pytest.raises(ValueError, match='of 9 texts'):
      suggest(features, chances, count)
