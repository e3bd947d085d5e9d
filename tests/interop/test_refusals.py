"""Folders whose numbers cannot be right are refused by name: NaN in weights, ids
without a row.
"""

import json
import pathlib
import sys

import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import cases  # noqa: E402
import folders  # noqa: E402

from tl_jax import interop, parallel  # noqa: E402
from tl_jax.cli.main import main  # noqa: E402
from tl_jax.interop.tensors import open_tensors, require_finite, save_tensors  # noqa: E402

TABLE = 'bert.embeddings.word_embeddings.weight'


def damaged(folder, value, *, name=TABLE, dtype=np.float32, shard_bytes=10**9):
  """The folder of a small BERT with one number replaced."""
  found = cases.fixture('bert-ForMaskedLM')
  cases.materialise(folder, found['config'], found['shapes'])
  file = open_tensors(folder)
  held = {each: np.array(file.read(each)).astype(dtype) for each in file.names}
  held[name].flat[-2] = value
  save_tensors(folder, held, shard_bytes=shard_bytes)
  return folder


@pytest.mark.parametrize('value', [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('dtype', [np.float32, np.float16, jnp.bfloat16])
def test_a_weight_that_is_no_number_is_named(tmp_path, value, dtype):
  with pytest.raises(ValueError, match=rf'{tmp_path}: tensor .{TABLE}.*\[60, 22\]'):
    interop.load(damaged(tmp_path, value, dtype=dtype))


@pytest.mark.parametrize('shard_bytes', [4000, 10**9])
def test_it_is_named_in_a_shard_and_on_a_mesh(tmp_path, shard_bytes):
  name = 'bert.encoder.layer.2.output.dense.weight'
  folder = damaged(tmp_path, np.nan, name=name, shard_bytes=shard_bytes)
  mesh = parallel.make_mesh(parallel.MeshShape())
  for more in ({}, dict(mesh=mesh), dict(dtype='bfloat16')):
    with pytest.raises(ValueError, match=name):
      interop.load(folder, **more)


def test_import_refuses_it_with_status_2_and_writes_nothing(tmp_path, capsys):
  folder = damaged(tmp_path / 'from', np.nan)
  assert main(['import', str(folder), str(tmp_path / 'to')]) == 2
  assert TABLE in capsys.readouterr().err
  assert not (tmp_path / 'to').exists()


@pytest.mark.parametrize('dtype', [np.float32, np.float64, np.float16, jnp.bfloat16])
def test_every_finite_number_is_a_weight(dtype):
  kind = jnp.finfo(dtype)
  edges = [kind.max, kind.min, kind.tiny, -0.0, 0.0, float(kind.smallest_subnormal)]
  require_finite('edges', np.array(edges, dtype))
  require_finite('none', np.zeros((0, 3), dtype))
  require_finite('whole', np.arange(3))


def test_the_last_number_of_many_blocks_is_looked_at():
  many = np.ones((3, 70_000), np.float32)
  require_finite('many', many)
  many[2, -1] = np.nan
  with pytest.raises(ValueError, match=r'\[2, 69999\]'):
    require_finite('many', many)


def with_pieces(folder, rows, added=()):
  """A BERT with so many rows in its table, and a tokenizer with some more words."""
  found = cases.fixture('bert-Model')
  config = found['config'] | dict(vocab_size=rows)
  shapes = found['shapes'] | {'embeddings.word_embeddings.weight': (rows, 24)}
  cases.materialise(folder, config, shapes)
  folders.bert(folder)
  if added:
    ids = len(folders.trained('wordpiece')[0])
    (folder / 'added_tokens.json').write_text(
      json.dumps({word: ids + i for i, word in enumerate(added)})
    )
  return folder


def test_ids_beyond_the_table_are_refused_with_the_largest(tmp_path):
  count = len(folders.trained('wordpiece')[0])
  folder = with_pieces(tmp_path, count, ['covid', 'booster'])
  with pytest.raises(ValueError, match=f'{count + 1}.*booster.*vocab_size is {count}'):
    interop.load(folder)


@pytest.mark.parametrize('more', [2, 100])
def test_a_padded_table_is_fine(tmp_path, more):
  count = len(folders.trained('wordpiece')[0])
  loaded = interop.load(with_pieces(tmp_path, count + more, ['covid', 'booster']))
  assert loaded.tokenizer.vocabulary_size == count + 2


def test_a_placeholder_for_pictures_needs_no_row(tmp_path):
  count = len(folders.trained('wordpiece')[0])
  loaded = interop.load(with_pieces(tmp_path, count, ['<image_soft_token>']))
  assert loaded.arch.vocabulary == count
