"""Safetensors: what comes back, what other readers see, what every damage costs, and
what is never opened.
"""

import functools
import json
import os
import pickle
import re
import subprocess
import sys
import time

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tl_jax.interop import tensors
from tl_jax.interop.tensors import Lazy, open_tensors, save_tensors

ONE = {'dtype': 'F32', 'shape': [1], 'data_offsets': [0, 4]}
on_linux = pytest.mark.skipif(
  not os.access('/proc/self/clear_refs', os.W_OK), reason='memory as Linux tells it'
)
SHARDS = {f'layer.{i}': np.full((2, i), i, np.float32) for i in range(1, 6)}
NAMES = st.text(st.characters(exclude_categories=['Cs']), max_size=12).filter(
  lambda name: name != '__metadata__'
)
KINDS = (
  '?',
  'u1',
  'i1',
  '<i2',
  '<u2',
  '<f2',
  '<i4',
  '<u4',
  '<f4',
  '<c8',
  '<f8',
  '<i8',
  '<u8',
  '>f4',
)
ARRAYS = hnp.arrays(
  st.sampled_from(KINDS),
  hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)


def write(path, header, data=b''):
  text = header if isinstance(header, bytes) else json.dumps(header).encode()
  path.write_bytes(len(text).to_bytes(8, 'little') + text + data)
  return path


def refused(path, *words, **options):
  start = time.process_time()
  with pytest.raises(ValueError) as caught:
    open_tensors(path, **options)
  message = str(caught.value)
  assert time.process_time() - start < 2
  assert '\n' not in message and len(message) < 700 and message.isprintable(), message
  assert all(word in message for word in words), message


def same(found, wanted):
  wanted = np.asarray(wanted, wanted.dtype.newbyteorder('<'))
  return (
    found.dtype == wanted.dtype
    and found.shape == wanted.shape
    and found.tobytes() == wanted.tobytes()
  )


def test_every_dtype_comes_back_as_a_view_that_cannot_be_written(tmp_path):
  arrays = {
    f'a.{code}': np.arange(6).reshape(2, 3).astype(dtype)
    for code, dtype in tensors.TYPES.items()
  }
  assert save_tensors(tmp_path, arrays) == [tmp_path / 'model.safetensors']
  opened = open_tensors(tmp_path)
  assert opened.names == tuple(sorted(arrays)) and opened.metadata == {'format': 'pt'}
  for name, array in arrays.items():
    found = opened.read(name)
    assert (
      same(found, array)
      and opened.shape(name) == (2, 3)
      and opened.dtype(name) == array.dtype
    )
    assert (
      isinstance(found, np.memmap)
      and not found.flags.writeable
      and not found.flags.owndata
    )
    assert found.flags.aligned and np.shares_memory(found, opened.read(name))


@settings(max_examples=60)
@given(
  st.dictionaries(NAMES, ARRAYS, max_size=5),
  st.sampled_from([1, 40, 10**9]),
  st.dictionaries(NAMES, st.text(st.characters(exclude_categories=['Cs'])), max_size=2),
)
def test_what_is_saved_is_read(tmp_path_factory, arrays, shard_bytes, metadata):
  folder = tmp_path_factory.mktemp('law')
  files = save_tensors(
    folder, arrays.items(), shard_bytes=shard_bytes, metadata=metadata
  )
  assert sorted(files) == sorted(folder.iterdir())
  opened = open_tensors(folder)
  assert opened.metadata == metadata and opened.names == tuple(sorted(arrays))
  assert all(same(opened.read(name), array) for name, array in arrays.items())


def test_order_in_memory_does_not_matter(tmp_path, monkeypatch):
  monkeypatch.setattr(tensors, '_BLOCK', 64)
  base = np.arange(120, dtype=np.float32).reshape(4, 5, 6)
  arrays = {
    't': base.T,
    'step': base[::2, ::-1],
    'big': base.T.astype('>f4'),
    'jax': jnp.arange(3, dtype='bfloat16'),
    'scalar': np.float64(3),
    'empty': np.zeros((3, 0), np.float32).T,
    'column': base.reshape(-1)[::7],
  }
  save_tensors(tmp_path, arrays)
  assert all(
    same(open_tensors(tmp_path).read(name), array) for name, array in arrays.items()
  )


def test_the_reference_library_reads_and_writes_the_same_bytes(tmp_path):
  safetensors, library = (
    pytest.importorskip('safetensors'),
    pytest.importorskip('safetensors.numpy'),
  )
  rng = np.random.default_rng(0)
  arrays = {
    f'{kind}/{i}': rng.integers(0, 9, (i, 3)).astype(kind)
    for i in range(3)
    for kind in (
      'bool',
      'u1',
      'i1',
      'i2',
      'u2',
      'f2',
      'i4',
      'u4',
      'f4',
      'f8',
      'i8',
      'u8',
      'c8',
    )
  }
  arrays |= {
    'ß/../\n"\\\0': np.float32(1),
    'half': rng.normal(size=5).astype(ml_dtypes.bfloat16),
  }
  (ours,) = save_tensors(tmp_path / 'ours', arrays)
  theirs = tmp_path / 'theirs.safetensors'
  library.save_file(
    {name: np.asarray(array) for name, array in arrays.items()},
    theirs,
    metadata={'format': 'pt'},
  )
  assert ours.read_bytes() == theirs.read_bytes()
  with safetensors.safe_open(ours, 'np') as file:
    assert sorted(file.keys()) == sorted(arrays) and file.metadata() == {'format': 'pt'}
    assert all(same(file.get_tensor(name), array) for name, array in arrays.items())
  opened = open_tensors(theirs)
  assert all(same(opened.read(name), array) for name, array in arrays.items())


@settings(max_examples=400)
@given(st.data())
def test_no_damage_is_accepted_that_the_reference_library_refuses(
  tmp_path_factory, data
):
  safetensors = pytest.importorskip('safetensors')
  path = tmp_path_factory.getbasetemp() / 'damaged.safetensors'
  whole = {
    'a': {'dtype': 'F16', 'shape': [2, 1], 'data_offsets': [0, 4]},
    '__metadata__': {'format': 'pt'},
    'b': {'dtype': 'U8', 'shape': [0], 'data_offsets': [4, 4]},
  }
  content = bytearray(write(path, whole, b'1234').read_bytes())
  for _ in range(data.draw(st.integers(1, 3))):
    at = data.draw(st.integers(0, len(content) - 1))
    content[at : at + data.draw(st.integers(0, 3))] = data.draw(
      st.binary(max_size=2)
      | st.sampled_from(
        [
          b'{',
          b'}',
          b'"',
          b',',
          b'\\',
          b'[',
          b']',
          b' ',
          b'-',
          b'0',
          b'9',
          b'\\u0041',
          b'1.0',
          b'true',
          b'"a"',
          b':',
        ]
      )
    )
    content = content or bytearray(1)
  path.write_bytes(content)
  try:
    opened = open_tensors(path)
  except ValueError as error:
    assert str(error).startswith(str(path)) and '\n' not in str(error)
    return
  with safetensors.safe_open(path, 'np') as file:
    assert (
      sorted(file.keys()) == list(opened.names)
      and (file.metadata() or {}) == opened.metadata
    )
    assert all(
      file.get_slice(name).get_shape() == list(opened.read(name).shape)
      for name in opened.names
    )


@pytest.mark.parametrize(
  ('changes', 'word'),
  [
    *(
      ({'data_offsets': wrong}, 'data_offsets')
      for wrong in (
        [-4, 0],
        [4, 0],
        [0, 2**64 + 4],
        [2**64, 2**64 + 4],
        [0, 5],
        [0],
        [],
        [0, 4, 4],
        [0, 4.0],
        [False, 4],
        None,
      )
    ),
    *(
      ({'shape': wrong}, 'shape')
      for wrong in (
        [True],
        [1.0],
        ['1'],
        [[1]],
        [-1],
        [-1, -1],
        [1] * 65,
        1,
        None,
        {'b': 1},
        [2],
        [0],
      )
    ),
    *(
      ({'dtype': wrong}, 'dtype') for wrong in ('F4', 'O', 'f32', '', None, 3, ['F32'])
    ),
    ({'shape': [2**32, 2**32]}, 'larger than any'),
    ({'more': 1}, 'more'),
    ({'data_offsets': [0, 3]}, 'do not match'),
    ({'shape': [0, 2**62, 2**62], 'data_offsets': [0, 0]}, 'larger than any'),
  ],
  ids=lambda value: str(value)[:60],
)
def test_damaged_descriptions_are_refused(tmp_path, changes, word):
  path = write(tmp_path / 'model.safetensors', {'a': ONE | changes}, b'1234')
  refused(tmp_path, str(path), "tensor 'a'", word)


@pytest.mark.parametrize(
  ('header', 'data', 'words'),
  [
    ({'a': ONE}, b'', ["'a'", 'data_offsets', '0 bytes of data']),
    ({'a': ONE}, b'12345', ['trailing bytes']),
    ({}, b'1', ['trailing bytes']),
    ({'a': ONE, 'b': ONE}, b'1234', ["'b'", 'overlaps']),
    ({'a': ONE, 'b': ONE | {'data_offsets': [2, 6]}}, b'123456', ["'b'", 'overlaps']),
    ({'a': ONE, 'b': ONE | {'data_offsets': [5, 9]}}, b'123456789', ["'b'", 'hole']),
    ({'a': ONE | {'data_offsets': [4, 8]}}, b'12345678', ["'a'", 'hole']),
    (
      {'a': ONE, 'e': {'dtype': 'U8', 'shape': [0], 'data_offsets': [2, 2]}},
      b'1234',
      ["'e'", 'overlaps'],
    ),
    ({'a': {'dtype': 'F32', 'shape': [1]}}, b'1234', ["'a'", 'data_offsets']),
    ({'a': 3}, b'', ["'a'"]),
    ({'__metadata__': {'a': 1}}, b'', ['__metadata__']),
    ({'__metadata__': []}, b'', ['__metadata__']),
    ([ONE], b'1234', ['no JSON object']),
    (b'"a"', b'', ['no JSON object']),
    (b'  {}', b'', ['no JSON object']),
    (b'{"a":%s,"a":%s}', b'1234', ["'a'", 'twice']),
    (b'{"a":%s,"\\u0061":%s}', b'1234', ["'a'", 'twice']),
    (
      b'{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
      b'1234',
      ["'a'", "'dtype' stands twice"],
    ),
    (b'{"__metadata__":{},"__metadata__":{}}', b'', ['__metadata__', 'twice']),
    (b'{"__metadata__":{"k":"","k":""}}', b'', ["'k' stands twice"]),
    (b'{"\xff":%s}', b'1234', ['utf-8']),
    (b'{"\\ud800":%s}', b'1234', ['surrogates']),
    (b'{"__metadata__":{"k":"\\udc80"}}', b'', ['surrogates']),
    (b'{"a":%s,}', b'1234', ['no name']),
    (b'{"a":%s} x', b'1234', ['goes on']),
    (b'{"a":%s', b'1234', ['breaks off']),
    *(
      (
        b'{"a":{"dtype":"F32","shape":[' + wrong + b'],"data_offsets":[0,4]}}',
        b'1234',
        ["'a'"],
      )
      for wrong in (
        b'01',
        b'NaN',
        b'+1',
        b'1e0',
        b'1,',
        b'1 1',
        b'1' * 5000,
        b'[' * 30_000,
        b'1' * 10**6,
      )
    ),
    (b'{"a":' + b'[' * 10**6, b'', ["'a'"]),
    (b'{"a":' * 10**6, b'', ["'a'"]),
    (b'{"' + b'\\n' * 10**6, b'', ['no name']),
    (b'{' + b' ' * 10**6 + b'"', b'', ['no name']),
    (b'{"__metadata__":{"a":' + b'[' * 900_000 + b'}}', b'', ['deeply']),
  ],
  ids=lambda value: str(value)[:60],
)
def test_damaged_headers_are_refused(tmp_path, header, data, words):
  header = (
    header.replace(b'%s', json.dumps(ONE).encode())
    if isinstance(header, bytes)
    else header
  )
  path = write(tmp_path / 'model.safetensors', header, data)
  refused(tmp_path, str(path), *words)
  refused(path, str(path), *words)


@pytest.mark.parametrize(
  ('content', 'words'),
  [
    (b'', ['0 bytes']),
    (b'\x02\0\0\0\0\0\0', ['7 bytes']),
    (b'\x02\0\0\0\0\0\0\0{', ['9 bytes']),
    ((3).to_bytes(8, 'little') + b'{}', ['header of 3 bytes', 'has 10']),
    (b'\xff' * 8 + b'{}', ['header of 18446744']),
    ((2**63).to_bytes(8, 'little') + b'{}', ['header']),
    (bytes(20), ['header of 0 bytes']),
    (pickle.dumps({'a': list(range(99))}), ['pickle']),
    (b'PK\3\4' + bytes(99), ['pickle']),
    (
      b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n',
      ['Git LFS'],
    ),
  ],
  ids=str,
)
def test_files_that_are_something_else(tmp_path, content, words):
  path = tmp_path / 'model.safetensors'
  path.write_bytes(content)
  refused(tmp_path, str(path), *words)


def test_names_are_only_keys(tmp_path):
  names = [
    '../../a',
    'nul\0',
    'line\nline',
    '/etc/passwd',
    '',
    'x' * 1000,
    '\N{SNOWMAN}',
  ]
  save_tensors(
    tmp_path, {name: np.int8(i) for i, name in enumerate(names)}, shard_bytes=2
  )
  opened = open_tensors(tmp_path)
  assert [int(opened.read(name)) for name in names] == list(range(7))
  assert {path.suffix for path in tmp_path.iterdir()} == {'.safetensors', '.json'}
  with pytest.raises(ValueError, match='no tensor') as caught:
    opened.read('y\0' * 5000)
  assert str(caught.value).isprintable() and len(str(caught.value)) < 4000
  with pytest.raises(ValueError, match="no tensor 'query'; nearest: 'layers.query'"):
    open_tensors(
      *save_tensors(tmp_path, {'layers.query': np.int8(1), 'other': np.int8(1)})
    ).shape('query')
  for long in ('\n' * 1001, 'x' * 10_000, '\N{SNOWMAN}' * 10**6):
    path = write(tmp_path / 'b.safetensors', {long: ONE}, b'1234')
    refused(path, str(path), '1000 characters')
    with pytest.raises(ValueError, match='1000'):
      save_tensors(tmp_path, {long: np.int8(1)})


def test_zero_sizes_and_odd_offsets(tmp_path):
  header = {
    'u': {'dtype': 'U8', 'shape': [1], 'data_offsets': [0, 1]},
    'f': ONE | {'data_offsets': [1, 5]},
    'e': {'dtype': 'BF16', 'shape': [3, 0, 2], 'data_offsets': [1, 1]},
  }
  opened = open_tensors(
    write(tmp_path / 'a.safetensors', header, b'\7' + np.float32(1.5).tobytes())
  )
  assert opened.read('f').tolist() == [1.5] and jnp.asarray(
    opened.read('f')
  ).tolist() == [1.5]
  assert (
    opened.read('e').shape == (3, 0, 2) and opened.read('e').dtype == ml_dtypes.bfloat16
  )
  assert open_tensors(write(tmp_path / 'b.safetensors', b'{ }   ')).names == ()
  flag = {'flag': {'dtype': 'BOOL', 'shape': [2], 'data_offsets': [0, 2]}}
  with pytest.raises(ValueError, match="c.safetensors: tensor 'flag' is BOOL"):
    open_tensors(write(tmp_path / 'c.safetensors', flag, b'\1\2')).read('flag')


def test_shards_are_named_and_filled_as_hugging_face_does(tmp_path):
  files = save_tensors(tmp_path, SHARDS, shard_bytes=30)
  assert [file.name[6:12] for file in files] == [
    '00001-',
    '00002-',
    '00003-',
    '00004-',
    'safete',
  ]
  index = json.loads(files[-1].read_text())
  assert index['metadata'] == {'total_size': 120} and index['weight_map'] == {
    f'layer.{i}': f'model-0000{shard}-of-00004.safetensors'
    for i, shard in enumerate((1, 1, 4, 2, 3), start=1)
  }


def changed(folder, change):
  path = folder / 'model.safetensors.index.json'
  index = json.loads(path.read_text())
  change(index['weight_map'])
  path.write_text(json.dumps(index))


@pytest.mark.parametrize(
  'shard',
  [
    '../model.safetensors',
    '/etc/passwd',
    'a\0.safetensors',
    'sub/a.safetensors',
    '..',
    '',
    'a\\b.safetensors',
    3,
    ['a'],
    'pytorch_model.bin',
    'a\n.safetensors',
    '.safetensors',
    '\udc80.safetensors',
  ],
  ids=ascii,
)
def test_an_index_names_plain_files_only(tmp_path, shard):
  save_tensors(folder := tmp_path / 'folder', SHARDS, shard_bytes=30)
  write(tmp_path / 'model.safetensors', {'layer.1': ONE}, b'1234')
  changed(folder, lambda where: where.update({'layer.1': shard}))
  refused(
    folder,
    'model.safetensors.index.json',
    'surrogates' if '\udc80' in str(shard) else "'layer.1'",
  )


def test_a_byte_order_mark_of_an_index_is_dropped(tmp_path):
  save_tensors(tmp_path, SHARDS, shard_bytes=30)
  index = tmp_path / 'model.safetensors.index.json'
  index.write_bytes(b'\xef\xbb\xbf' + index.read_bytes())
  assert open_tensors(tmp_path).names == tuple(sorted(SHARDS))


def test_an_index_and_its_shards_agree(tmp_path):
  save_tensors(tmp_path, SHARDS, shard_bytes=30)
  index = tmp_path / 'model.safetensors.index.json'
  good = index.read_text()
  for change, words in (
    (
      lambda where: where.update(new='model-00002-of-00004.safetensors'),
      ['00002', "'new'"],
    ),
    (lambda where: where.pop('layer.2'), ['00001', "'layer.2'", 'does not list']),
  ):
    changed(tmp_path, change)
    refused(tmp_path, *words)
    index.write_text(good)
  (tmp_path / 'model-00003-of-00004.safetensors').unlink()
  refused(tmp_path, 'model-00003-of-00004.safetensors', 'No such file')
  many = {f'n{i}': 'a.safetensors' for i in range(tensors.MOST_LISTED + 1001)}
  for text, word in (
    ('', 'line 1'),
    ('{"a":', 'line 1'),
    ('[]', 'weight_map'),
    ('{}', 'weight_map'),
    ('{"weight_map": []}', 'weight_map'),
    ('{"weight_map": {}}', 'weight_map'),
    (
      '{"weight_map": {"a": "a.safetensors", "a": "b.safetensors"}}',
      "'a' stands twice",
    ),
    ('[' * 50_000, 'deeply'),
    ('[' * 10**6, 'more'),
    (json.dumps({'weight_map': many}), 'more'),
    (' ' * (tensors.INDEX_BYTES + 1), 'bytes'),
    ('{"weight_map": {"\xff": "a"}}', 'utf-8'),
  ):
    index.write_bytes(text.encode('latin-1'))
    refused(tmp_path, 'model.safetensors.index.json', word)


def test_links_are_followed_and_pipes_are_not_waited_for(tmp_path):
  for file in save_tensors(tmp_path / 'blobs', SHARDS, shard_bytes=30):
    (tmp_path / 'snapshot').mkdir(exist_ok=True)
    file.rename(blob := tmp_path / 'blobs' / f'{hash(file.name):x}')
    (tmp_path / 'snapshot' / file.name).symlink_to(blob)
  opened = open_tensors(tmp_path / 'snapshot')
  assert all(same(opened.read(name), array) for name, array in SHARDS.items())
  blob = tmp_path / 'snapshot' / 'model-00001-of-00004.safetensors'
  blob.resolve().unlink()
  refused(tmp_path / 'snapshot', blob.name, 'No such file')
  for name, make in (
    ('pipe', os.mkfifo),
    ('folder', os.mkdir),
    ('loop', lambda path: os.symlink(path, path)),
  ):
    (tmp_path / name).mkdir()
    make(tmp_path / name / 'model.safetensors')
    refused(tmp_path / name, str(tmp_path / name / 'model.safetensors'))


class Canary(str):
  def __reduce__(self):
    return open, (str(self), 'w')


@pytest.mark.parametrize(
  'name',
  [
    'pytorch_model.bin',
    'model.pt',
    'model.pkl',
    'flax_model.msgpack',
    'tf_model.h5',
    'model.ckpt',
    'model.safetensors',
  ],
)
def test_formats_that_can_run_code_are_never_opened(tmp_path, name):
  canary, folder = tmp_path / 'canary', tmp_path / 'folder'
  folder.mkdir()
  (folder / name).write_bytes(pickle.dumps(Canary(canary)))
  (folder / 'config.json').write_text('{}')
  for path in (folder, folder / name):
    advice = (
      'header'
      if name.endswith('.safetensors')
      else 'convert it with save_pretrained(safe_serialization=True)'
    )
    refused(path, name, 'refused', 'can run code', advice)
  assert not canary.exists()
  pickle.loads(pickle.dumps(Canary(canary))).close()  # noqa: S301 - the canary works
  assert canary.exists()


def test_where_weights_are_looked_for(tmp_path):
  refused(
    tmp_path,
    str(tmp_path),
    'model.safetensors',
    'model.safetensors.index.json',
    'no weights',
  )
  save_tensors(tmp_path, {'lora': np.int8(1)}, stem='adapter_model')
  refused(tmp_path, "'adapter_model.safetensors'", 'stem')
  assert open_tensors(tmp_path, stem='adapter_model').names == ('lora',)
  save_tensors(tmp_path, SHARDS, shard_bytes=30)
  assert open_tensors(tmp_path).names == tuple(SHARDS)
  for wrong in ('none', 'model.safetensors.index.json', 'a\0.safetensors'):
    refused(tmp_path / wrong, 'neither a folder nor')
  refused(tmp_path / 'none.safetensors', 'No such file')
  for stem, word in (
    ('../model', 'stem'),
    ('', 'stem'),
    ('a\0', 'stem'),
    ('.a', 'stem'),
    ('a' * 260, 'too long'),
  ):
    refused(tmp_path, word, stem=stem)


def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path):
  for value, word in (
    (np.array(['a']), '<U1'),
    (np.array([None]), 'object'),
    (np.complex128(1), 'complex128'),
    (3.0, 'float'),
    ([1], 'list'),
    (Lazy((2,), 'f4', lambda: np.zeros(3, 'f4')), 'announced'),
    (Lazy((2,), 'f4', lambda: np.zeros(2)), 'announced'),
    (np.array(1, 'M8[s]'), 'datetime64'),
  ):
    with pytest.raises(ValueError, match=f"tensor 'bad'.*{word}"):
      save_tensors(tmp_path, [('good', np.ones(9)), ('bad', value)], shard_bytes=8)
  for pairs, options in (
    ([('a', np.ones(1)), ('a', np.ones(1))], {}),
    ([(3, np.ones(1))], {}),
    ([], {'stem': 'a/b'}),
    ([('__metadata__', np.ones(1))], {}),
    ([('\ud800', np.ones(1))], {}),
    ([], {'shard_bytes': 0}),
    ([], {'metadata': {'a': 1}}),
    ([], {'metadata': {'a': 'x' * 10**6}}),
  ):
    with pytest.raises(ValueError, match='tensor|stem|shard_bytes|metadata|surrogates'):
      save_tensors(tmp_path, pairs, **options)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('new', [30, 70, 10**9])
@pytest.mark.parametrize('old', [30, 50, 10**9])
def test_older_weights_never_mix_with_newer(tmp_path, monkeypatch, old, new):
  other = {name: array + 1 for name, array in SHARDS.items()}
  states = []

  def watched(action, *arguments, **options):
    action(*arguments, **options)
    try:
      opened = open_tensors(tmp_path)
      states.append(
        [opened.read(name)[0, 0] - SHARDS[name][0, 0] for name in opened.names]
      )
    except ValueError:
      states.append(None)

  save_tensors(tmp_path, SHARDS, shard_bytes=old)
  save_tensors(tmp_path, {'mine': np.int8(1)}, stem='model-extra')
  for name in ('replace', 'unlink'):
    monkeypatch.setattr(os, name, functools.partial(watched, getattr(os, name)))
  files = save_tensors(tmp_path, other, shard_bytes=new)
  assert len(states) >= len(files) and all(
    state in (None, [0] * 5, [1] * 5) for state in states
  )
  assert states[-1] == [1] * 5 and {*tmp_path.iterdir()} == {
    *files,
    tmp_path / 'model-extra.safetensors',
  }
  opened = open_tensors(tmp_path)
  save_tensors(
    tmp_path,
    [
      (
        name,
        Lazy(
          opened.shape(name),
          opened.dtype(name),
          lambda name=name: opened.read(name) * 2,
        ),
      )
      for name in opened.names
    ],
  )
  assert all(
    same(open_tensors(tmp_path).read(name), array * 2) for name, array in other.items()
  )


def test_a_replaced_file_is_noticed_and_views_outlive_it(tmp_path):
  (path,) = save_tensors(tmp_path, {'a': np.ones(4, np.float32)})
  opened = open_tensors(tmp_path)
  view = opened.read('a')
  save_tensors(tmp_path, {'a': np.zeros(4, np.float32)})
  assert view.tolist() == opened.read('a').tolist() == [1] * 4
  del view
  with pytest.raises(ValueError, match=re.escape(f'{path}: was replaced')):
    opened.read('a')


def measured(folder, script):
  """Peak growth of a process's memory in MB, seconds of its processor, and what the
  function `run` of a script says.
  """
  script = f"""
import time, numpy as np
from tl_jax.interop.tensors import *
peak = lambda key: int(open('/proc/self/status').read().split(key)[1].split()[0]) / 1024
{script}
open('/proc/self/clear_refs', 'w').write('5')
before, start = peak('VmRSS:'), time.process_time()
said = run()
print(peak('VmHWM:') - before, time.process_time() - start, said)"""
  done = subprocess.run(
    [sys.executable, '-c', script],
    capture_output=True,
    text=True,
    timeout=120,
    check=True,
    env={**os.environ, 'PYTHONPATH': tensors.__file__.split('tl_jax')[0]},
    cwd=folder,
  )
  megabytes, seconds, said = done.stdout.split(maxsplit=2)
  return float(megabytes), float(seconds), said


@on_linux
@pytest.mark.parametrize(
  ('count', 'word'),
  [
    (tensors.MOST_TENSORS + 1, 'more than 50000 tensors'),
    *(
      pytest.param(*given, marks=pytest.mark.slow)
      for given in (
        (1_500_000, 'at most 100000000'),
        (1_380_000, 'more than 50000 tensors'),
      )
    ),
  ],
)
def test_a_header_of_very_many_tensors_costs_little(tmp_path, count, word):
  row = '"%07d":{"dtype":"U8","shape":[1],"data_offsets":[%d,%d]}'
  header = '{' + ','.join([row % (i, i, i + 1) for i in range(count)]) + '}'
  write(tmp_path / 'model.safetensors', header.encode(), bytes(count))
  megabytes, seconds, said = measured(
    tmp_path,
    """
def run():
  try:
    open_tensors('.')
  except ValueError as error:
    return error""",
  )
  assert word in said and seconds < 2 and megabytes < max(60, 2e-6 * len(header))


@on_linux
def test_one_tensor_at_a_time_is_in_memory(tmp_path):
  megabytes, _, said = measured(
    tmp_path,
    """
def run():
  make = lambda: np.ones((2048, 2048), np.float32).T
  save_tensors('a', [(f't{i}', Lazy((2048, 2048), 'float32', make)) for i in range(8)], shard_bytes=70_000_000)
  opened = open_tensors('a')
  return sum(float(opened.read(name).sum()) for name in opened.names) == 8 * 2048 ** 2""",
  )
  assert said.strip() == 'True' and megabytes < 60
