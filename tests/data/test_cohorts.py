"""Laws of cohorts: a member's batches are its own, the shape is everybody's."""

import numpy as np
import pytest

from tl_jax.data import cohorts, pipeline
from tl_jax.data.tokens import TokenList

DATA = pipeline.Examples(TokenList([np.full(1 + i % 11, i + 1) for i in range(60)]), np.arange(60) % 2)
MEMBERS = [(0, range(60)), (1, range(60)), (0, range(16)), (0, [5, 9, 33])]
SHAPE = {'batch': 8, 'length': 16, 'slots': 8, 'steps': 25}


def drawn(batch):
  return sorted(batch['identifiers'][batch['examples'] > 0].tolist())


def test_every_member_has_its_examples_in_every_step():
  group = cohorts.cohort(DATA, MEMBERS, **SHAPE)
  for step in range(25):
    batch = group.batch_at(step)
    assert batch['tokens'].shape == (4, group.rows, 16)
    for number, (seed, subset) in enumerate(MEMBERS):
      mine = {name: value[number] for name, value in batch.items()}
      assert drawn(mine) == sorted(cohorts.chosen(step, 8, seed, np.array(subset)).tolist())


def test_an_epoch_of_a_member_is_its_subset():
  for _, subset in MEMBERS:
    places = np.concatenate([cohorts.chosen(step, 8, 0, np.array(subset)) for step in range(3 * len(subset))])
    for epoch in places.reshape(-1, len(subset)):
      assert sorted(epoch.tolist()) == sorted(subset)


def test_a_member_does_not_see_the_others():
  together, alone = cohorts.cohort(DATA, MEMBERS, **SHAPE), cohorts.cohort(DATA, MEMBERS[2:3], **SHAPE)
  assert alone.rows <= together.rows
  for step in (0, 7, 24):
    a, b = together.member(step, 2), alone.member(step, 0)
    for name in a:
      assert np.array_equal(a[name][:alone.rows], b[name])
      assert not a['segments'][alone.rows:].any()


def test_rows_are_as_few_as_the_fullest_step_needs():
  group = cohorts.cohort(DATA, MEMBERS, **SHAPE)
  used = max((group.member(step, m)['examples'].any(axis=1)).sum() for step in range(25) for m in range(4))
  assert used == group.rows
  assert cohorts.cohort(DATA, MEMBERS, multiple=4, **SHAPE).rows == -(-group.rows // 4) * 4


def test_what_cannot_be_is_named():
  with pytest.raises(ValueError, match='member 1 has no examples'):
    cohorts.cohort(DATA, [(0, [1]), (1, [])], **SHAPE)
  crowded = cohorts.cohort(DATA, [(0, range(60))], **{**SHAPE, 'steps': 1})
  small = cohorts.Cohort(crowded.examples, crowded.members, crowded.layout, crowded.size, 1)
  with pytest.raises(ValueError, match='1 were planned'):
    small.member(0, 0)
