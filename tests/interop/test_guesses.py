"""Folders whose config.json names no class, or the wrong one: opened under the head
that the tensors fit, and said.
"""

import json
import pathlib
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import cases  # noqa: E402

from tl_jax import interop, tree  # noqa: E402

HEADS = {
  'bert-ForMaskedLM': 'masked',
  'bert-ForSequenceClassification': 'classifier',
  'bert-ForTokenClassification': 'token',
  'bert-ForQuestionAnswering': 'span',
  'bert-Model': 'none',
  'roberta-ForSequenceClassification': 'classifier',
  'distilbert-ForMaskedLM': 'masked',
  'electra-ForPreTraining': 'replaced',
  'gpt2-LMHeadModel': 'causal',
  'gpt2-Model': 'none',
  'gpt2-ForSequenceClassification': 'classifier',
  'llama-ForCausalLM': 'causal',
  'llama-ForTokenClassification': 'token',
  't5-ForConditionalGeneration': 'causal',
  'bart-ForConditionalGeneration': 'causal',
  'bart-ForSequenceClassification': 'classifier',
}


def folder_of(case, folder, **config):
  found = cases.fixture(case)
  said = {**found['config'], **config}
  said = {key: value for key, value in said.items() if value is not None}
  cases.materialise(folder, said, found['shapes'], found['gain'])
  return folder


def same(one, other):
  first, second = tree.flatten(one.params), tree.flatten(other.params)
  assert first.keys() == second.keys()
  return all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize('case', HEADS)
def test_without_a_class_the_tensors_say_the_head(case, tmp_path, caplog):
  known = interop.load(folder_of(case, tmp_path / 'known'))
  caplog.clear()
  loaded = interop.load(folder_of(case, tmp_path / 'silent', architectures=None))
  assert loaded.arch == known.arch and loaded.arch.head == HEADS[case]
  assert same(loaded, known)
  told = [record.getMessage() for record in caplog.records]
  if HEADS[case] == 'none':
    assert not told
  else:
    assert len(told) == 1 and str(tmp_path) in told[0] and repr(HEADS[case]) in told[0]
    assert f'`tl-jax import {tmp_path / "silent"} NEW --head=H`' in told[0]
  interop.save(tmp_path / 'again', loaded)
  named = json.loads((tmp_path / 'again' / 'config.json').read_text())['architectures']
  assert named == cases.fixture(case)['config']['architectures']


def test_the_class_of_the_body_over_a_masked_model_opens_as_that(tmp_path, caplog):
  folder = folder_of('bert-ForMaskedLM', tmp_path, architectures=['BertModel'])
  assert interop.load(folder).arch.head == 'masked'
  assert "'masked'" in caplog.text
  caplog.clear()
  alone = interop.load(folder, head='none')
  assert alone.arch.head == 'none' and not caplog.text
  assert any(name.startswith('cls.') for name in alone.unused)


def test_a_head_that_is_asked_for_opens_a_class_that_is_not_known(tmp_path):
  folder = folder_of(
    'bert-ForMaskedLM', tmp_path, architectures=['BertForNextSentencePrediction']
  )
  with pytest.raises(ValueError, match='BertForNextSentencePrediction.*--head'):
    interop.load(folder)
  loaded = interop.load(folder, head='masked')
  assert loaded.arch.head == 'masked'
  interop.save(tmp_path / 'again', loaded)
  assert interop.load(tmp_path / 'again').arch == loaded.arch
  with pytest.raises(ValueError, match="a bert has no 'causal'; nearest"):
    interop.load(folder, head='causal')


@pytest.mark.parametrize(
  'cls', ['BertEncoderModel', 'T5EncoderModel', 'GemmaForSequenceClassification']
)
def test_a_hint_names_classes_of_the_same_family(cls, tmp_path):
  folder = folder_of('bert-ForMaskedLM', tmp_path, architectures=[cls])
  with pytest.raises(ValueError, match='nearest: ') as error:
    interop.load(folder)
  hint = str(error.value).partition('nearest: ')[2].partition(';')[0]
  assert all(name.strip(" '").startswith('Bert') for name in hint.split(','))


def test_tensors_that_fit_no_head_are_named(tmp_path):
  folder = folder_of('bert-ForMaskedLM', tmp_path, architectures=None, hidden_size=48)
  with pytest.raises(ValueError, match='has shape'):
    interop.load(folder)


def test_the_head_can_be_said_on_the_command_line(tmp_path, capsys, caplog):
  from tl_jax.cli.main import main

  folder = folder_of('bert-ForMaskedLM', tmp_path / 'folder', architectures=['Mine'])
  assert main(['import', str(folder), str(tmp_path / 'no')]) == 2
  assert '--head' in capsys.readouterr().err and not (tmp_path / 'no').exists()
  for verb, head in (('import', 'masked'), ('export', 'none')):
    assert main([verb, str(folder), str(tmp_path / verb), f'--head={head}']) == 0
    # So every verb opens it, and nothing is left to guess.
    assert interop.load(tmp_path / verb).arch.head == head
    assert not caplog.records
  text = ['generate', f'--model={folder}', '--head=masked', '--prompt=a']
  assert main(text) == 2  # it is opened, and is no model that writes
