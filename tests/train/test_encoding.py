"""Vectors that are kept: found again by all that changes them, and by nothing else."""

import concurrent.futures
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

import tl_jax
from tl_jax import models, parallel
from tl_jax.data.pairs import Pair
from tl_jax.train import encoding
from tl_jax.train.answering import open_settings, open_subject, vectors
from tl_jax.train.encoding import encode, key_of

TEXTS = ['a film of the year', 'nobody came', 'a cat', 'the end']


@pytest.fixture
def opened(monkeypatch):
  """How often a model was opened."""
  count = []
  plain = encoding.open_subject

  def counted(*arguments):
    count.append(arguments)
    return plain(*arguments)

  monkeypatch.setattr(encoding, 'open_subject', counted)
  return count


def test_a_second_time_no_model_is_opened(pretrained, tmp_path, opened):
  first = encode(str(pretrained), TEXTS, tmp_path)
  second = encode(str(pretrained), TEXTS, tmp_path)
  assert first.vectors.shape[0] == 4 and first.seconds > 0 and second.seconds == 0
  np.testing.assert_array_equal(first.vectors, second.vectors)
  assert len(opened) == 1
  # A vector is of its text alone.
  other = encode(str(pretrained), TEXTS[::-1], tmp_path)
  np.testing.assert_allclose(other.vectors[::-1], first.vectors, atol=1e-5)
  assert len(opened) == 2


@pytest.mark.parametrize('said', [dict(modes=models.POOLS), dict(layers=True)])
def test_texts_in_one_row_have_the_vectors_of_texts_alone(pretrained, said):
  """However they are pooled, and after every layer."""
  settings, step = open_settings(pretrained)
  subject = open_subject(pretrained, settings, step, '', None)
  mesh = parallel.make_mesh(parallel.MeshShape())
  with jax.set_mesh(mesh):
    width, run = vectors(subject, mesh, batch=2, **said)
    (packed,) = run(TEXTS, lambda answered, cut: None)
    alone = [next(run([text], lambda answered, cut: None)) for text in TEXTS]
  assert packed.shape == (len(TEXTS), width)
  np.testing.assert_allclose(packed, np.concatenate(alone), atol=1e-5)
  assert np.ptp(packed, axis=0).max() > 1e-2


def test_half_a_file_is_never_read(pretrained, tmp_path, opened):
  wanted = encode(str(pretrained), TEXTS, tmp_path).vectors
  (kept,) = tmp_path.iterdir()
  whole = kept.read_bytes()
  for content in (whole[:-9], whole[:60], b''):
    kept.write_bytes(content)
    found = encode(str(pretrained), TEXTS, tmp_path).vectors
    np.testing.assert_allclose(found, wanted, atol=1e-6)
  assert kept.read_bytes() == whole and len(opened) == 4


def test_several_at_once_lose_nothing(pretrained, tmp_path):
  with concurrent.futures.ThreadPoolExecutor(3) as pool:
    runs = [pool.submit(encode, str(pretrained), TEXTS, tmp_path) for _ in range(3)]
  found = [run.result().vectors for run in runs]
  np.testing.assert_allclose(found[0], found[1], atol=1e-6)
  assert [path.suffix for path in tmp_path.iterdir()] == ['.npy']


# Says that it is ready and waits, so that all of them begin at once.
PROCESS = """
import pathlib
import sys
from tl_jax.train.encoding import encode
model, folder, *texts = sys.argv[1:]
folder = pathlib.Path(folder)
print('ready', flush=True)
sys.stdin.readline()
encode(model, texts, folder)
encode(model, texts[:2], folder)
"""


@pytest.mark.slow
def test_processes_that_write_at_once_lose_nothing(pretrained, tmp_path):
  command = [sys.executable, '-c', PROCESS, str(pretrained), str(tmp_path), *TEXTS]
  pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
  processes = [subprocess.Popen(command, **pipes) for _ in range(3)]
  for process in processes:
    assert process.stdout.readline() == 'ready\n'
  for process in processes:
    process.stdin.write('\n')
    process.stdin.flush()
  for process in processes:
    process.communicate()
  assert [process.returncode for process in processes] == [0, 0, 0]
  assert [path.suffix for path in tmp_path.iterdir()] == ['.npy', '.npy']
  # Both sets of texts are there whole: no model is asked again.
  for texts in (TEXTS, TEXTS[:2]):
    found = encode(str(pretrained), texts, tmp_path)
    assert found.seconds == 0 and np.isfinite(found.vectors).all()


def test_whatever_changes_a_vector_changes_its_key():
  keys = [
    key_of('model', ['a', 'b'], dtype=''),
    key_of('other', ['a', 'b'], dtype=''),
    key_of('model', ['b', 'a'], dtype=''),
    key_of('model', ['a', 'b', ''], dtype=''),
    key_of('model', ['a\nb'], dtype=''),
    key_of('model', [Pair('a', 'b')], dtype=''),
    key_of('model', ['a', 'b'], dtype='bfloat16'),
  ]
  assert len(set(keys)) == len(keys)


def test_all_layers_cost_one_pass(pretrained, tmp_path, opened):
  found = encode(str(pretrained), TEXTS, tmp_path, layers=True).vectors
  again = encode(str(pretrained), TEXTS, tmp_path, layers=True)
  assert len(opened) == 1 and again.seconds == 0
  np.testing.assert_array_equal(again.vectors, found)
  # One layer behind the embedding; the last are those that the model itself gives.
  assert found.shape[1] == 2
  last = encode(str(pretrained), TEXTS, tmp_path).vectors
  np.testing.assert_allclose(found[:, -1], last, atol=1e-5)
  assert np.abs(found[:, 0] - last).max() > 0.01
  first_token = encode(str(pretrained), TEXTS, tmp_path, pooling='cls').vectors
  mean = encode(str(pretrained), TEXTS, tmp_path, pooling='mean').vectors
  assert np.abs(first_token - mean).max() > 0.01
  assert len(opened) == 4


def test_another_tokenizer_of_the_same_weights_is_another_model(pretrained, tmp_path):
  folder = tmp_path / 'model'
  tl_jax.save(folder, tl_jax.load(pretrained))
  encode(str(folder), TEXTS, tmp_path / 'v')
  path = folder / 'tokenizer_config.json'
  said = json.loads(path.read_text())
  path.write_text(json.dumps(said | dict(model_max_length=4)))
  encode(str(folder), TEXTS, tmp_path / 'v')
  assert len(list((tmp_path / 'v').iterdir())) == 2


def test_what_is_no_model_is_named(tmp_path):
  with pytest.raises(ValueError, match='--init: .*nobody: no such folder'):
    encode(str(tmp_path / 'nobody'), TEXTS, tmp_path)
