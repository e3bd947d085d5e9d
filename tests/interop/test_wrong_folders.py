"""Folders that cannot be opened are refused in one line that names the key or the tensor,
and what a killed save left behind does no harm.
"""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import cases  # noqa: E402

from tl_jax import interop  # noqa: E402
from tl_jax.interop.tensors import open_tensors, save_tensors  # noqa: E402


def changed(tmp_path, case='bert-ForMaskedLM', config=None, tensors=None):
  """The folder of a case with a config or a set of tensors that was tampered with."""
  found = cases.fixture(case)
  shapes = dict(found['shapes'])
  cases.materialise(
    tmp_path, found['config'] | (config or {}), {**shapes, **(tensors or {})}
  )
  if tensors:
    keep = {
      name: shape for name, shape in {**shapes, **tensors}.items() if shape is not None
    }
    save_tensors(
      tmp_path,
      {name: cases.weights(name, tuple(shape)) for name, shape in keep.items()},
    )
  return tmp_path


@pytest.mark.parametrize(
  ('config', 'said'),
  [
    (dict(model_type='brt'), "'bert'"),
    (
      dict(architectures=['BertForNextSentencePrediction']),
      'BertForNextSentencePrediction',
    ),
    (dict(hidden_act='mish'), 'hidden_act'),
    (dict(position_embedding_type='relative_key'), 'position_embedding_type'),
    (dict(quantization_config=dict(bits=4)), 'quantization_config'),
    (dict(hidden_size='wide'), 'width'),
    (dict(num_attention_heads=0), 'heads'),
    (dict(hidden_size=None, num_attention_heads=7), 'heads'),
  ],
)
def test_a_config_that_cannot_be_computed_is_named(tmp_path, config, said):
  with pytest.raises(ValueError, match=said) as error:
    interop.load(changed(tmp_path, config=config))
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  ('tensors', 'said'),
  [
    ({'cls.predictions.bias': (60,)}, 'cls.predictions.bias.*60'),
    ({'bert.surplus.weight': (2, 2)}, 'bert.surplus.weight'),
  ],
)
def test_wrong_and_surplus_tensors_are_named(tmp_path, tensors, said):
  with pytest.raises(ValueError, match=said):
    interop.load(changed(tmp_path, tensors=tensors))


# What a clone without Git LFS, and a server that asks for a login, leave.
STAND_INS = {
  'git lfs pull': 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n',
  'an HTML page': '<!doctype html>\n<html><title>Sign in</title></html>\n',
}


@pytest.mark.parametrize('said', STAND_INS)
@pytest.mark.parametrize(
  'name',
  [
    'config.json',
    'generation_config.json',
    'model.safetensors',
    'model.safetensors.index.json',
    'pytorch_model.bin',
    'tokenizer.json',
    'tokenizer_config.json',
    'vocab.txt',
    'spiece.model',
  ],
)
def test_what_stands_in_the_place_of_a_file_is_named(tmp_path, name, said):
  folder = changed(tmp_path)
  if name in ('model.safetensors.index.json', 'pytorch_model.bin'):
    (folder / 'model.safetensors').unlink()
  if name == 'tokenizer_config.json':
    (folder / 'vocab.txt').write_text('[UNK]\n')
  (folder / name).write_text(STAND_INS[said])
  with pytest.raises(ValueError, match=f'{name}.*{said}') as error:
    interop.load(folder)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize('said', STAND_INS)
def test_what_stands_in_the_place_of_a_gguf_file_is_named(tmp_path, said):
  pytest.importorskip('gguf')
  path = tmp_path / 'model.gguf'
  path.write_text(STAND_INS[said])
  with pytest.raises(ValueError, match=f'model.gguf: not a GGUF file, but .*{said}'):
    interop.load(path)


def test_a_missing_tensor_is_named(tmp_path):
  found = cases.fixture('bert-ForMaskedLM')
  shapes = {
    name: shape
    for name, shape in found['shapes'].items()
    if name != 'cls.predictions.bias'
  }
  cases.materialise(tmp_path, found['config'], shapes)
  with pytest.raises(ValueError, match=r"'cls.predictions.bias' is missing"):
    interop.load(tmp_path)


def test_code_named_in_a_config_is_not_imported(tmp_path, monkeypatch):
  canary = tmp_path / 'canary_module.py'
  canary.write_text('raise SystemExit("imported")')
  monkeypatch.syspath_prepend(tmp_path)
  code = dict(auto_map={'AutoModel': 'canary_module.Model'}, _target_='canary_module')
  folder = changed(tmp_path / 'model', config=code)
  assert interop.load(folder).arch.head == 'masked'
  assert 'canary_module' not in sys.modules


KILLED = """
import os, sys
import numpy as np
from tl_jax.interop.tensors import Lazy, save_tensors
die = Lazy((2,), np.float32, lambda: os._exit(9))
save_tensors(sys.argv[1], {'first': np.ones(2, np.float32), 'second': die}, shard_bytes=8)
"""


@pytest.mark.parametrize('shard_bytes', [8, 100])
def test_the_next_save_removes_what_a_killed_one_left(tmp_path, shard_bytes):
  (tmp_path / '.mine.tmp').touch()
  root = str(pathlib.Path(__file__).resolve().parents[2])
  done = subprocess.run(
    [sys.executable, '-c', KILLED, tmp_path],
    env={**os.environ, 'PYTHONPATH': root},
    check=False,
  )
  assert done.returncode == 9 and len(list(tmp_path.glob('.model*'))) == 2
  save_tensors(
    tmp_path, {name: np.ones(2, np.float32) for name in 'abc'}, shard_bytes=shard_bytes
  )
  assert [path.name for path in tmp_path.glob('.*')] == ['.mine.tmp']
  assert open_tensors(tmp_path).names == ('a', 'b', 'c')
