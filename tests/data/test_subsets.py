"""Laws of orders and subsets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tl_jax.data import subsets

TEXTS = [f'text number {i}' for i in range(60)]
LABELS = [i % 3 for i in range(60)]
KEYS = subsets.fingerprints(TEXTS)


@given(
  st.integers(1, 60),
  st.integers(1, 60),
  st.integers(0, 2**63),
  st.sampled_from(['balanced', 'stratified', 'uniform']),
)
def test_subsets_are_nested(first, second, seed, by):
  small, large = sorted((first, second))
  a, b = (subsets.subset(LABELS, count, seed, KEYS, by=by) for count in (small, large))
  assert a.tolist() == b[:small].tolist() and len(set(b.tolist())) == large


@given(
  st.permutations(range(60)),
  st.integers(0, 9),
  st.sampled_from(['balanced', 'stratified', 'uniform']),
)
def test_subsets_do_not_depend_on_the_order_of_the_file(order, seed, by):
  here = subsets.subset(LABELS, 10, seed, KEYS, by=by)
  there = subsets.subset([LABELS[i] for i in order], 10, seed, KEYS[list(order)], by=by)
  assert [TEXTS[i] for i in here] == [TEXTS[order[i]] for i in there]


@given(st.integers(0, 99), st.integers(1, 20))
def test_classes_take_turns(seed, each):
  chosen = subsets.subset(LABELS, 3 * each, seed, KEYS)
  assert np.bincount(np.array(LABELS)[chosen]).tolist() == [each] * 3


def test_proportions_are_kept():
  labels = ['rare'] * 6 + ['common'] * 54
  chosen = subsets.subset(labels, 20, 0, KEYS, by='stratified')
  assert sum(labels[i] == 'rare' for i in chosen) == 2


def test_a_class_that_is_too_small_is_named():
  with pytest.raises(ValueError, match="need 10 of class 'rare', which has 6"):
    subsets.subset(['rare'] * 6 + ['common'] * 54, 20, 0, KEYS)
  with pytest.raises(ValueError, match='61 examples asked for, 60 are there'):
    subsets.subset(LABELS, 61, 0, KEYS)
  with pytest.raises(ValueError, match='balanced'):
    subsets.subset(LABELS, 6, 0, KEYS, by='fair')


@given(st.integers(0, 300), st.integers(0, 2**63), st.integers(0, 5))
def test_an_order_has_every_place_once(count, seed, epoch):
  assert sorted(subsets.permutation(count, seed, epoch).tolist()) == list(range(count))


def test_orders_differ_by_seed_and_epoch_and_never_over_time():
  orders = {
    tuple(subsets.permutation(20, seed, epoch).tolist())
    for seed in range(5)
    for epoch in range(5)
  }
  assert len(orders) == 25
  assert subsets.permutation(8, 3, 1).tolist() == [0, 3, 2, 7, 5, 4, 1, 6]


def test_a_fingerprint_ignores_case_and_space_only():
  assert (
    subsets.fingerprint('A  b\n')
    == subsets.fingerprint('a b')
    != subsets.fingerprint('a c')
  )
  assert isinstance(subsets.fingerprint('\ud800'), int)


@given(st.integers(1, 3000), st.integers(0, 2**64), st.integers(0, 5))
def test_an_order_that_is_not_held_has_every_example_once(count, seed, epoch):
  whole = subsets.permuted(np.arange(count), count, seed, epoch)
  assert np.array_equal(np.sort(whole), np.arange(count))
  part = [count - 1, 0, count // 2]
  assert np.array_equal(subsets.permuted(part, count, seed, epoch), whole[part])


def test_an_order_that_is_not_held_is_as_good_as_a_shuffle():
  """Places and examples are unrelated, those that follow each other too, and epochs."""
  count = 365_000_000
  places = np.arange(10**8, 10**8 + 50_000)
  found = subsets.permuted(places, count, 0, 0)
  other = subsets.permuted(places, count, 0, 1)
  steps = np.diff(found) % count
  for numbers in (found, other, steps, (found - other) % count):
    # Of 100 equal parts each has 500 by chance; the sum of squares has 99 degrees.
    parts = np.histogram(numbers, 100, (0, count))[0]
    expected = len(numbers) / 100
    assert 50 < ((parts - expected) ** 2 / expected).sum() < 170


def test_enough_examples_are_spread_over_all():
  assert list(subsets.spread(7, 4)) == list(range(7))
  assert list(subsets.spread(9, 4)) == [0, 2, 4, 6, 8]
  assert len(subsets.spread(365_000_000, 100_000)) == 100_000
