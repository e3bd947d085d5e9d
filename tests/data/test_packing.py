"""Laws of packing."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tl_jax.data import packing, subsets
from tl_jax.data.tokens import TokenList

sets = st.lists(st.integers(0, 24), min_size=0, max_size=60)


@given(sets, st.integers(24, 40), st.sampled_from([None, 1, 3]), st.integers(1, 20))
def test_every_example_is_in_one_row_and_fits(
  lengths, row_length, examples_per_row, window
):
  order = subsets.permutation(len(lengths), 5)
  plan = packing.plan(lengths, row_length, order, examples_per_row, window=window)
  rows = [plan[row] for row in range(plan.rows)]
  assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
  for row in rows:
    assert 0 < len(row) <= (examples_per_row or len(lengths))
    assert sum(lengths[i] for i in row) <= row_length


@given(sets, sets)
def test_two_sides_both_fit(first, second):
  count = min(len(first), len(second))
  plan = packing.plan(
    first[:count], 24, None, 5, second=second[:count], second_length=30
  )
  assert sorted(plan.members.tolist()) == list(range(count))
  for row in plan:
    assert (
      sum(first[i] for i in row) <= 24
      and sum(second[i] for i in row) <= 30
      and len(row) <= 5
    )


@given(sets)
def test_a_row_gives_back_its_examples(lengths):
  tokens = [np.arange(1, size + 1) + 100 * i for i, size in enumerate(lengths)]
  for members in packing.plan(lengths, 30):
    row = packing.fill(members, tokens, 30, pad=7)
    for segment, member in enumerate(members, 1):
      here = row['segments'] == segment
      assert row['tokens'][here].tolist() == tokens[member].tolist()
      assert row['positions'][here].tolist() == list(range(lengths[member]))
    assert (row['tokens'][row['segments'] == 0] == 7).all()


def test_window_leaves_little_room_and_is_quick():
  lengths = np.clip(
    np.exp(np.random.default_rng(0).normal(3, 0.6, 100_000)).astype(int) + 2, 1, 128
  )
  started = time.process_time()
  plan = packing.plan(lengths, 128, subsets.permutation(len(lengths), 0))
  assert time.process_time() - started < 3  # 0.3 s when the machine is idle
  assert lengths.sum() / (plan.rows * 128) > 0.98


def test_an_order_is_kept_without_packing():
  plan = packing.plan([3, 2, 1], 3, [2, 0], pack=False)
  assert [row.tolist() for row in plan] == [[2], [0]]


def test_a_longer_example_is_named():
  with pytest.raises(ValueError, match='example 1 has 9 tokens, a row holds 8'):
    packing.plan([3, 9], 8)
  with pytest.raises(ValueError, match='example 0 has 3 target tokens'):
    packing.plan([3], 8, second=[3], second_length=2)


def test_labels_stand_where_their_examples_do():
  row = packing.fill_labels(
    [4, 2], np.arange(5, dtype=np.int32) * 10, np.arange(5, dtype=np.int32) + 100, 3
  )
  assert row['examples'].tolist() == [1, 2, 0]
  assert row['labels'].tolist() == [40, 20, 0]
  assert row['identifiers'].tolist() == [104, 102, -1]
  several = packing.fill_labels(
    [1], np.ones((5, 2), np.float32), np.arange(5, dtype=np.int32), 3
  )
  assert several['labels'].shape == (3, 2) and several['labels'].dtype == np.float32
  with pytest.raises(ValueError, match='2 examples in a row, which has at most 1'):
    packing.fill_labels([0, 1], np.zeros(2, np.int32), np.arange(2), 1)


def test_padding_is_told_by_segments_whatever_its_id():
  """A tokenizer may pad with its end of a text, which stands in texts, too."""
  tokens = TokenList([np.array([5, 0]), np.array([0, 0, 6])])
  row = packing.fill([1, 0], tokens, 8, pad=0)
  assert row['tokens'].tolist() == [0, 0, 6, 5, 0, 0, 0, 0]
  assert row['segments'].tolist() == [1, 1, 1, 2, 2, 0, 0, 0]
