"""Trees to the host and back."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax.checkpoint import arrays
from tl_jax.checkpoint.record import CheckpointError


def test_the_copies_are_copies():
  source = np.zeros(3)
  device = jnp.zeros(40_000)
  _, copies = arrays.take({'a': source, 'b': device})
  source[:] = 1
  jax.jit(lambda x: x + 1, donate_argnums=0)(device).block_until_ready()
  assert not copies['small'].any() and not copies['b'].any()


def test_a_donated_leaf_is_named():
  device = jnp.zeros(3)
  device.delete()
  with pytest.raises(ValueError, match="leaf 'a/b' was donated"):
    arrays.take({'a': {'b': device}})


@pytest.mark.parametrize('value', ['text', object(), np.array(['a'])])
def test_a_leaf_that_is_no_array_is_named(value):
  with pytest.raises(ValueError, match="leaf 'a' is no array"):
    arrays.take({'a': value})


def test_two_leaves_of_one_name_are_refused():
  with pytest.raises(ValueError, match="'a/b'"):
    arrays.take({'a': {'b': 1}, 'a/b': 2})


def test_no_name_becomes_a_path():
  big = np.zeros(20_000)
  names = [
    '../../a',
    '/a',
    'a\0b',
    'a\nb',
    'x' * 10_000,
    'X' * 10_000,
    '.',
    '..',
    'small',
    'a.b',
    'A.B',
    'ünï',
  ]
  leaves, copies = arrays.take({'top': dict.fromkeys(names, big), 'small': big})
  folders = [leaf['folder'] for leaf in leaves.values()]
  assert len(leaves) == len(names) + 1 and len(
    {folder.lower() for folder in folders}
  ) == len(folders)
  assert set(folders) == set(copies) and 'small' not in folders
  assert all(
    len(folder) < 200 and folder.isascii() and '/' not in folder and folder[0] != '.'
    for folder in folders
  )


class Pair(NamedTuple):
  first: object
  second: object


SAVED = {
  'a/first': {'shape': [2, 3], 'dtype': 'float32'},
  'a/second': {'shape': [], 'dtype': 'int64'},
  'b': {'shape': [], 'dtype': 'key<fry>'},
}


def asked(first=None, second=0):
  return {'a': Pair(jnp.zeros((2, 3)) if first is None else first, second)}


def test_what_fits_is_matched_by_name():
  assert arrays.match(SAVED, asked(), 'x') == ['a/first', 'a/second']
  assert arrays.match(SAVED, {'b': jax.random.key(0), 'a': None}, 'x') == ['b']
  assert arrays.match(
    SAVED, asked(jax.ShapeDtypeStruct((2, 3), jnp.bfloat16)), 'x', cast=True
  )


@pytest.mark.parametrize(
  ('like', 'message'),
  [
    (
      asked(jnp.zeros((2, 4))),
      r"x: leaf 'a/first' has the shape \(2, 3\), asked for \(2, 4\)",
    ),
    (asked(jnp.zeros(6)), r'shape \(2, 3\), asked for \(6,\)'),
    (asked(jnp.zeros((2, 3), jnp.bfloat16)), 'dtype float32, asked for bfloat16'),
    (asked(jnp.zeros((2, 3), jnp.int32)), 'dtype float32, asked for int32'),
    (asked(second=True), 'dtype int64, asked for bool'),
    (asked(second=np.int32(1)), 'dtype int64, asked for int32'),
    ({'a': {'frist': 1}}, "no leaf 'a/frist'; nearest: 'a/first'"),
    ({'b': jax.random.key(0, impl='rbg')}, 'dtype key<fry>, asked for key<rbg>'),
    ({'b': 0}, 'dtype key<fry>, asked for int'),
    ({f'x{index}': 1 for index in range(9)}, 'and 5 more leaves'),
  ],
)
def test_what_does_not_fit_is_named_in_one_line(like, message):
  with pytest.raises(CheckpointError, match=message) as caught:
    arrays.match(SAVED, like, 'x')
  assert '\n' not in str(caught.value)


def test_a_cast_is_between_floats_only():
  with pytest.raises(CheckpointError, match='asked for int32'):
    arrays.match(SAVED, asked(jnp.zeros((2, 3), jnp.int32)), 'x', cast=True)
