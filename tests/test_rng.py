"""Laws of the named random streams."""

import doctest

import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from hypothesis import given, settings

from tl_jax import rng

NAMES = st.text(max_size=12)


def bits(key):
  return tuple(np.ravel(jax.random.key_data(key)).tolist())


def test_examples_of_the_module():
  assert doctest.testmod(rng) == (0, 3)


@settings(max_examples=30)
@given(st.integers(-(2**63), 2**63 - 1), NAMES, st.none() | st.integers(0, 2**32 - 1))
def test_a_stream_is_a_function_of_its_arguments(seed, name, step):
  assert bits(rng.stream(seed, name, step)) == bits(rng.stream(seed, name, step))


@settings(max_examples=30)
@given(
  st.sets(
    st.tuples(st.integers(0, 9), NAMES, st.integers(0, 9)), min_size=2, max_size=4
  )
)
def test_streams_of_different_arguments_differ(triples):
  assert len({bits(rng.stream(*triple)) for triple in triples}) == len(triples)


@pytest.mark.parametrize('seed', [2**32, 2**40, 2**63 - 1, -1])
def test_no_bit_of_a_seed_is_lost(seed):
  assert bits(rng.stream(seed, 'a')) != bits(rng.stream(seed & 0xFFFFFFFF, 'a'))


def test_a_seed_may_be_a_numpy_integer_or_a_key():
  wanted = bits(rng.stream(3, 'a', 1))
  assert bits(rng.stream(np.int64(3), 'a', 1)) == wanted
  assert bits(rng.stream(jax.random.key(3), 'a', 1)) == wanted


def test_the_step_may_be_traced():
  traced = jax.jit(lambda step: rng.stream(0, 'dropout', step))(5)
  assert bits(traced) == bits(rng.stream(0, 'dropout', 5))
