"""Strict JSON, atomic replacement, hashing and deletion."""

import hashlib
import json
import math
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tl_jax import files

VALUES = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
  lambda children: (
    st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3)
  ),
  max_leaves=12,
)


@given(VALUES)
def test_every_value_becomes_strict_json_and_comes_back(value):
  text = files.encode(value)
  assert (
    files.decode(text)
    == json.loads(text, parse_constant=pytest.fail)
    == files.clean(value)
  )
  assert files.encode(files.decode(text)) == text


def test_clean_takes_arrays_and_names_what_it_cannot_hold():
  assert files.clean(
    {'a': np.float32('inf'), 'b': np.arange(3), 'c': (1, np.int64(2))}
  ) == {'a': None, 'b': [0, 1, 2], 'c': [1, 2]}
  with pytest.raises(ValueError, match=r"'meta.rows\[1\]' of type object"):
    files.clean({'rows': [1, object()]}, 'meta')
  with pytest.raises(ValueError, match='keys are strings'):
    files.clean({(1, 2): 3})


@pytest.mark.parametrize(
  'text', ['NaN', '[Infinity]', '{"a": 1, "a": 2}', '{', '[' * 100_000, b'\xff']
)
def test_decode_refuses_what_is_not_strict(text):
  with pytest.raises(ValueError, match=r'.'):
    files.decode(text)


def test_a_failed_replacement_leaves_the_old_file(tmp_path, monkeypatch):
  path = tmp_path / 'a.json'
  files.write_atomically(path, b'old')

  def fail(_):
    raise OSError(5, 'Input/output error')

  monkeypatch.setattr(os, 'fsync', fail)
  with pytest.raises(OSError, match='Input/output'):
    files.write_atomically(path, b'new')
  assert path.read_bytes() == b'old' and os.listdir(tmp_path) == ['a.json']


@pytest.mark.parametrize('size', [0, 1, 1 << 20, (1 << 20) + 1])
def test_digest_is_size_and_sha256(tmp_path, size):
  content = os.urandom(size)
  (tmp_path / 'a').write_bytes(content)
  assert files.digest(tmp_path / 'a', durable=True) == (
    size,
    hashlib.sha256(content).hexdigest(),
  )


def test_deletion_does_not_follow_links(tmp_path):
  outside, trash, victim = tmp_path / 'outside', tmp_path / 'trash', tmp_path / '3'
  outside.mkdir()
  (outside / 'kept').write_text('x')
  victim.mkdir()
  (victim / 'link').symlink_to(outside)
  files.move_aside(victim, trash)
  (tmp_path / '4').symlink_to(outside)
  files.move_aside(tmp_path / '4', trash)
  files.purge(trash)
  assert not victim.exists() and not trash.exists() and (outside / 'kept').exists()
  trash.symlink_to(outside)
  (tmp_path / '5').mkdir()
  files.move_aside(tmp_path / '5', trash)
  assert os.listdir(outside) == ['kept']


def test_walk_lists_links_as_files(tmp_path):
  (tmp_path / 'a').mkdir()
  (tmp_path / 'a' / 'f').write_text('')
  (tmp_path / 'link').symlink_to('/')
  found, folders = files.walk(tmp_path)
  assert [path.name for path in found] == ['f', 'link'] and folders[-1] == tmp_path


def test_a_file_larger_than_allowed_is_not_read(tmp_path):
  (tmp_path / 'a').write_bytes(b'1' * 11)
  with pytest.raises(ValueError, match='at most 10'):
    files.read_bounded(tmp_path / 'a', 10)
  with pytest.raises((ValueError, OSError)):
    files.read_bounded(tmp_path, 10)
  assert math.isclose(files.decode('1.5'), 1.5)


def test_what_is_no_whole_dict_is_not_found(tmp_path):
  path = tmp_path / 'result.json'
  assert files.find_json(path) is None
  for text in ('{"a": 1', '[1]', '{"a": NaN}', '{"a": 1, "a": 2}'):
    path.write_text(text)
    assert files.find_json(path) is None
  path.write_text('{"a": 1}')
  assert files.find_json(path) == {'a': 1}
  assert files.find_json(tmp_path) is None


def test_the_key_that_stands_twice_is_named():
  with pytest.raises(ValueError, match="the key 'b' stands twice"):
    files.decode('{"a": 1, "b": 2, "b": 3}')
