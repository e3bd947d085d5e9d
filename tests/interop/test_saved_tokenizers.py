"""Tokenizers of Hugging Face folders, written: what is kept, what is dropped, and the
class under which transformers makes the same.
"""

import json
import os
import pathlib
import sys

import jax
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import folders  # noqa: E402

from tl_jax import interop, models  # noqa: E402
from tl_jax.data import tokenizers  # noqa: E402
from tl_jax.interop.tokenizers import load_tokenizer, save_tokenizer  # noqa: E402

CONFIG = 'tokenizer_config.json'


def said(folder):
  return json.loads((folder / CONFIG).read_text(encoding='utf-8'))


@pytest.mark.parametrize('name', list(folders.FOLDERS))
def test_what_is_saved_is_opened_the_same(name, tmp_path):
  tokenizer = load_tokenizer(folders.FOLDERS[name](tmp_path / name))
  save_tokenizer(tmp_path / 'saved', tokenizer)
  again = load_tokenizer(tmp_path / 'saved')
  assert again == tokenizer and again.encode_batch(
    folders.TEXTS
  ) == tokenizer.encode_batch(folders.TEXTS)
  assert [again.encode_pair(text, 'a') for text in folders.TEXTS] == [
    tokenizer.encode_pair(text, 'a') for text in folders.TEXTS
  ]
  save_tokenizer(tmp_path / 'twice', again)
  for file in ('tokenizer.json', CONFIG, 'special_tokens_map.json'):
    assert (tmp_path / 'twice' / file).read_bytes() == (
      tmp_path / 'saved' / file
    ).read_bytes()


def test_settings_hold_against_a_tokenizer_json(tmp_path):
  save_tokenizer(
    tmp_path / 'bert', load_tokenizer(folders.FOLDERS['bert'](tmp_path / 'words'))
  )
  folders.write(
    tmp_path / 'bert',
    tokenizer_config__json={**said(tmp_path / 'bert'), 'do_lower_case': False},
  )
  assert (
    load_tokenizer(tmp_path / 'bert').backend.normalizer.normalize_str('Ab') == 'Ab'
  )
  save_tokenizer(
    tmp_path / 'gpt2', load_tokenizer(folders.FOLDERS['gpt2'](tmp_path / 'pairs'))
  )
  plain = load_tokenizer(tmp_path / 'gpt2')
  folders.write(
    tmp_path / 'gpt2',
    tokenizer_config__json={**said(tmp_path / 'gpt2'), 'add_prefix_space': True},
  )
  assert (
    load_tokenizer(tmp_path / 'gpt2').encode('the')
    == plain.encode(' the')
    != plain.encode('the')
  )


def test_chat_templates_are_kept_and_never_run(tmp_path):
  template = '{{ ().__class__.__base__.__subclasses__() }}{% include "/etc/passwd" %}\n'
  folder = folders.bert(tmp_path / 'a', chat_template=template)
  assert load_tokenizer(folder).chat_template == template
  several = [
    {'name': 'default', 'template': 'x'},
    {'name': 'tool_use', 'template': template},
  ]
  assert load_tokenizer(
    folders.bert(tmp_path / 'b', chat_template=several)
  ).chat_template == {'default': 'x', 'tool_use': template}
  folders.write(folder, chat_template__jinja='from a file')
  assert load_tokenizer(folder).chat_template == 'from a file'
  folders.write(folder / 'additional_chat_templates', rag__jinja='rag')
  tokenizer = load_tokenizer(folder)
  assert tokenizer.chat_template == {'default': 'from a file', 'rag': 'rag'}
  # Files of another template would go before the one that is written.
  plain = load_tokenizer(folders.bert(tmp_path / 'c'))
  save_tokenizer(folder, plain)
  assert load_tokenizer(folder).chat_template is None and plain.chat_template is None
  for kept in ('one\n', 'line\r\nends', 'half \ud800', {'default': 'x', 'y': 'z'}):
    save_tokenizer(folder, tokenizers.wrap(plain.backend, chat_template=kept))
    assert load_tokenizer(folder).chat_template == kept


def test_settings_are_kept_and_code_is_dropped(tmp_path):
  folder = folders.bert(
    tmp_path / 'a',
    model_max_length=77,
    clean_up_tokenization_spaces=True,
    never_split=None,
    auto_map={'AutoTokenizer': ['evil.Evil', None]},
    custom_pipelines={'x': {'impl': 'evil.X'}},
    tokenizer_file='/etc/passwd',
  )
  (folder / 'evil.py').write_text('raise SystemExit("run")')
  save_tokenizer(tmp_path / 'b', load_tokenizer(folder))
  kept = said(tmp_path / 'b')
  assert kept['model_max_length'] == 77 and kept['clean_up_tokenization_spaces'] is True
  assert not {'auto_map', 'custom_pipelines', 'tokenizer_file'} & kept.keys()
  assert kept['tokenizer_class'] == 'PreTrainedTokenizerFast'  # its class was that code
  assert sorted(os.listdir(tmp_path / 'b')) == [
    'special_tokens_map.json',
    'tokenizer.json',
    CONFIG,
  ]


@pytest.mark.parametrize(
  ('name', 'expected'),
  [
    ('bert-cased', 'BertTokenizer'),
    ('gpt2-prefix', 'GPT2TokenizerFast'),
    ('bart', 'BartTokenizer'),
    ('t5', 'T5Tokenizer'),
    ('albert', 'AlbertTokenizer'),
    ('xlm-roberta', 'XLMRobertaTokenizer'),
    ('camembert', 'CamembertTokenizer'),
    ('mpnet', 'MPNetTokenizer'),
    ('gemma', 'GemmaTokenizer'),
    ('llama', 'PreTrainedTokenizerFast'),
  ],
)
def test_a_class_is_kept_where_it_means_the_same(name, expected, tmp_path):
  tokenizer = load_tokenizer(folders.FOLDERS[name](tmp_path / 'a'))
  save_tokenizer(tmp_path / 'b', tokenizer)
  assert said(tmp_path / 'b')['tokenizer_class'] == expected
  # A word longer than its class would take, say, is another tokenizer.
  state = json.loads(tokenizer.backend.to_str())
  state['normalizer'] = {'type': 'Lowercase'}
  folders.write(
    tmp_path / 'c', tokenizer__json=state, tokenizer_config__json=said(tmp_path / 'b')
  )
  save_tokenizer(tmp_path / 'd', load_tokenizer(tmp_path / 'c'))
  assert said(tmp_path / 'd')['tokenizer_class'] == 'PreTrainedTokenizerFast'


def test_a_class_that_is_not_known_is_kept(tmp_path):
  state = tokenizers.train(folders.CORPUS, 'bpe', 420).backend.to_str()
  folders.write(
    tmp_path / 'a',
    tokenizer__json=state,
    tokenizer_config__json={'tokenizer_class': 'Qwen2Tokenizer'},
  )
  save_tokenizer(tmp_path / 'b', load_tokenizer(tmp_path / 'a'))
  assert said(tmp_path / 'b')['tokenizer_class'] == 'Qwen2Tokenizer'


@pytest.mark.parametrize(
  ('family', 'head', 'is_open'),
  [
    ('tiny-gpt', 'causal', True),
    # What is classified is a whole text.
    ('tiny-gpt', 'classifier', False),
    ('tiny-t5', 'causal', False),
  ],
)
def test_what_a_decoder_goes_on_with_is_not_ended(family, head, is_open, tmp_path):
  own = tokenizers.train(['the film was good'] * 9, 'bpe', 400)
  size = dict(vocabulary=own.vocabulary_size, layers=1, width=16, heads=2, mlp=16)
  if family == 'tiny-t5':
    size |= dict(head_dim=8, output_scale=0.25)
  arch = models.arch(family, head=head, **size)
  model = models.build(arch)
  params = model.init(jax.random.key(0))
  interop.save(tmp_path, interop.Loaded(model, params, own, arch))
  again = interop.load(tmp_path).tokenizer
  ids = again.encode('a good film')
  assert (ids[-1] == own.eos) != is_open
  # The pieces, and what ends a text that is written, are the same.
  assert ids == own.encode('a good film', special=not is_open)
  assert (again.pieces, again.eos, again.pad) == (own.pieces, own.eos, own.pad)
  config = json.loads((tmp_path / 'config.json').read_text())
  # Not those of the family's first model, which has another vocabulary.
  assert (config['eos_token_id'], config['pad_token_id']) == (own.eos, own.pad)
  assert config['bos_token_id'] == own.bos
