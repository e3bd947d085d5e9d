"""Safetensors: what comes back, what other readers see, what is on the disk."""

import functools
import json
import os
import pathlib
import re
import sys

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from tensor_files import ONE, SHARDS, measured, on_linux, refused, same, write  # noqa: E402

from tl_jax.interop import tensor_writing, tensors  # noqa: E402
from tl_jax.interop.tensors import Lazy, open_tensors, save_tensors  # noqa: E402

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
  monkeypatch.setattr(tensor_writing, '_BLOCK', 64)
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


@on_linux
def test_one_tensor_at_a_time_is_in_memory(tmp_path):
  megabytes, _, said = measured(
    tmp_path,
    """
def run():
  make = lambda: np.ones((2048, 2048), np.float32).T
  lazy = [(f't{i}', Lazy((2048, 2048), 'float32', make)) for i in range(8)]
  save_tensors('a', lazy, shard_bytes=70_000_000)
  opened = open_tensors('a')
  sums = [float(opened.read(name).sum()) for name in opened.names]
  return sum(sums) == 8 * 2048 ** 2""",
  )
  assert said.strip() == 'True' and megabytes < 60
