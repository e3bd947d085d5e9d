"""What an export of an adapter tells whoever opens it with peft."""

import pytest

from tl_jax import interop
from tl_jax.cli import models


@pytest.mark.parametrize(
  ('base', 'verb'),
  [('qwen.gguf', '`tl-jax import qwen.gguf BASE`'), ('QWEN.GGUF', 'import QWEN.GGUF')],
)
def test_a_gguf_file_is_no_base_of_peft(base, verb):
  line = models._of_base(base)
  assert verb in line and '--base=BASE' in line and len(line) < 200


def test_a_workdir_is_no_base_of_peft_and_a_folder_or_a_name_is(tmp_path):
  (tmp_path / 'run' / 'checkpoints').mkdir(parents=True)
  line = models._of_base(str(tmp_path / 'run'))
  assert f'`tl-jax export {tmp_path / "run"} BASE`' in line
  assert models._of_base(str(tmp_path)) == models._of_base('someone/model') == ''
  assert '--format=hf' in models._of_base('scratch')


def test_the_labels_of_an_adapter_are_for_whoever_opens_it():
  adapted = interop.Loaded(None, {}, None, None, labels=('neg', 'pos'))
  assert "id2label={0: 'neg', 1: 'pos'}" in models._of_labels(adapted)
  many = adapted._replace(labels=tuple(map(str, range(100))))
  line = models._of_labels(many)
  assert 'labels.json' in line and len(line) < 200
  assert models._of_labels(adapted._replace(labels=())) == ''
