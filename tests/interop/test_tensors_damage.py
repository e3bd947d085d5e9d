"""What every damage of a file of safetensors says, and what is never opened."""

import json
import pathlib
import pickle
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from tensor_files import ONE, SHARDS, measured, on_linux, refused, write  # noqa: E402

from tl_jax.interop import tensors  # noqa: E402
from tl_jax.interop.tensors import open_tensors, save_tensors  # noqa: E402


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
      ['Git LFS', '`git lfs pull`'],
    ),
    (b'<!DOCTYPE html>\n<html>404</html>', ['not safetensors, but an HTML page']),
    (b'Entry not found', ["a text file that begins with 'Entry not found'"]),
    (b'Not found', ['9 bytes', "begins with 'Not found'"]),
    (b'GGUF' + bytes(99), ['not safetensors, but a GGUF file']),
  ],
  ids=str,
)
def test_files_that_are_something_else(tmp_path, content, words):
  path = tmp_path / 'model.safetensors'
  path.write_bytes(content)
  refused(tmp_path, str(path), *words)


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
      'not safetensors, but'
      if name.endswith('.safetensors')
      else 'convert it with save_pretrained(safe_serialization=True)'
    )
    refused(path, name, 'refused', 'can run code', advice)
  assert not canary.exists()
  pickle.loads(pickle.dumps(Canary(canary))).close()  # noqa: S301 - the canary works
  assert canary.exists()


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
