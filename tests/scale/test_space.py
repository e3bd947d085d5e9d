"""Search spaces: how many points, which ones, and what is no space."""

import math

import pytest

from tl_jax.config import ConfigError
from tl_jax.scale import space


def fields(found):
  return [point.fields for point in found]


def test_a_product_has_every_combination_and_the_last_field_moves_fastest():
  found = space.product({'optim.lr': [1, 2]}, seed=[3, 4])
  assert fields(found) == [
    {'optim.lr': 1, 'seed': 3},
    {'optim.lr': 1, 'seed': 4},
    {'optim.lr': 2, 'seed': 3},
    {'optim.lr': 2, 'seed': 4},
  ]


def test_zip_pairs_and_wants_equally_many():
  assert fields(space.zip(a=[1, 2], b=[3, 4])) == [{'a': 1, 'b': 3}, {'a': 2, 'b': 4}]
  with pytest.raises(ConfigError, match='a 2, b 3'):
    space.zip(a=[1, 2], b=[3, 4, 5])


def test_chain_and_plus_come_one_after_the_other():
  one, two = space.fixed(a=1), space.product(a=[2, 3])
  assert fields(space.chain(one, two)) == fields(one + two)
  assert [each['a'] for each in fields(one + two)] == [1, 2, 3]


def test_times_joins_every_point_with_its_base():
  found = space.base('A', 'B') * space.product(seed=range(2))
  assert [(point.base, point.fields['seed']) for point in found] == [
    ('A', 0),
    ('A', 1),
    ('B', 0),
    ('B', 1),
  ]


@pytest.mark.parametrize(
  ('make', 'words'),
  [
    (lambda: space.base('A') * space.base('B'), 'one base config'),
    (lambda: space.fixed(a=1) * space.fixed(a=1), 'both sides'),
    (lambda: space.product({'a': [1]}, a=[1]), 'given twice'),
    (lambda: space.product(a='text'), 'list of values'),
    (lambda: space.product(a=3), 'list of values'),
    (lambda: space.product(a=[]), 'no values'),
    (lambda: space.product({1: [2]}), 'text'),
    (lambda: space.base(), 'needs a config'),
    (lambda: space.random(0, a=[1]), '>= 1'),
    (lambda: space.log_uniform(0, 1), 'positive and rising'),
    (lambda: space.uniform(2, 1), 'rising'),
    (lambda: space.uniform('1', 2), 'number'),
    (lambda: space.uniform(0, math.inf), 'finite'),
  ],
)
def test_what_is_no_space_says_so(make, words):
  with pytest.raises(ConfigError, match=words):
    make()


def test_draws_lie_in_their_range_and_differ():
  drawn = space.random(
    500, lr=space.log_uniform(1e-5, 1e-3), decay=space.uniform(0, 0.1), rows=[8, 16]
  )
  rates = [each['lr'] for each in fields(drawn)]
  assert len(set(rates)) == 500 and min(rates) >= 1e-5 and max(rates) <= 1e-3
  # Uniform in the logarithm: half of them below the geometric mean.
  below = sum(rate < 1e-4 for rate in rates)
  assert 200 < below < 300
  decays = [each['decay'] for each in fields(drawn)]
  assert 200 < sum(decay < 0.05 for decay in decays) < 300
  assert {each['rows'] for each in fields(drawn)} == {8, 16}


def test_more_points_begin_with_the_same_and_other_fields_change_none():
  few = space.random(3, lr=space.uniform(0, 1))
  more = space.random(9, lr=space.uniform(0, 1), rows=[1, 2])
  assert [each['lr'] for each in fields(more)][:3] == [
    each['lr'] for each in fields(few)
  ]
  other = space.random(3, lr=space.uniform(0, 1), seed=1)
  assert fields(other) != fields(few)


def test_a_distribution_in_a_product_is_drawn_for_every_combination():
  found = fields(space.product(seed=range(4), lr=space.uniform(0, 1)))
  assert len({each['lr'] for each in found}) == 4
