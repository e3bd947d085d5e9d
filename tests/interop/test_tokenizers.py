"""Tokenizers of Hugging Face folders: every kind of file, every way to say a role,
there and back; damaged files.
"""

import json
import os
import pathlib
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import folders  # noqa: E402

from tl_jax.data import tokenizers  # noqa: E402
from tl_jax.interop.tokenizers import load_tokenizer, save_tokenizer  # noqa: E402

TOKEN = {'single_word': False, 'lstrip': False, 'rstrip': False, 'normalized': False}
CONFIG = 'tokenizer_config.json'


@pytest.fixture(params=list(folders.FOLDERS))
def folder(request, tmp_path):
  return folders.FOLDERS[request.param](tmp_path / request.param)


def named(tokenizer, ids):
  return [tokenizer.pieces[i] for i in ids]


def said(folder):
  return json.loads((folder / CONFIG).read_text(encoding='utf-8'))


@pytest.mark.parametrize(
  ('name', 'file'),
  [('unigram', 'spiece.model'), ('bpe', 'tokenizer.model'), ('own', 'tokenizer.model')],
)
def test_a_sentencepiece_model_gives_the_ids_of_its_library(name, file, tmp_path):
  folders.model_file(tmp_path, name, file)
  tokenizer = load_tokenizer(tmp_path)
  for text, expected in zip(folders.TEXTS, folders.EXPECTED[name], strict=True):
    # T5's own splitting takes the sign of a space in a text for a space.
    if (name, text) != ('unigram', '▁a ▁'):
      assert tokenizer.encode(text, special=False) == expected, text
      assert tokenizer.decode(expected, special=True) == tokenizer.decode(
        tokenizer.encode(text, special=False), special=True
      )
  for text in ('hello  there', ' a\tb\n', 'ŒUVRE 😀 中文') if name != 'unigram' else ():
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize('name', ['bert', 'gpt2-prefix', 't5'])
def test_byte_order_marks_are_dropped(name, tmp_path):
  """Of every text file of a folder: vocabularies, what is said about them, templates;
  written by others and by us.
  """
  folder = folders.FOLDERS[name](tmp_path / 'plain')
  folders.write(
    folder,
    special_tokens_map__json={'mask_token': '[MASK]'},
    chat_template__jinja='{{ messages }}',
    config__json={'model_type': name.split('-')[0]},
    added_tokens__json={},
  )
  plain = load_tokenizer(folder)
  again = tmp_path / 'saved'
  again.mkdir()
  save_tokenizer(again, plain)
  for path in (folder, again):
    for file in path.iterdir():
      if file.suffix in ('.txt', '.json', '.jinja'):
        file.write_bytes(b'\xef\xbb\xbf' + file.read_bytes())
    marked = load_tokenizer(path)
    assert (
      marked.digest == plain.digest
      and marked.chat_template == plain.chat_template == '{{ messages }}'
    )
    assert (marked.pad, marked.eos, marked.mask) == (plain.pad, plain.eos, plain.mask)
  assert tokenizers.load(again).digest == plain.digest


@pytest.mark.parametrize(
  ('name', 'single', 'pair', 'types'),
  [
    ('bert', '[CLS] A [SEP]', '[CLS] A [SEP] B [SEP]', '00011'),
    ('gpt2', 'A', 'A B', '01'),
    ('gpt2-prefix', '<|endoftext|> A', '<|endoftext|> A <|endoftext|> B', '0011'),
    ('roberta', '<s> A </s>', '<s> A </s> </s> B </s>', '000000'),
    ('bart', '<s> A </s>', '<s> A </s> </s> B </s>', '000000'),
    ('t5', 'A </s>', 'A </s> B </s>', '0000'),
    ('albert', '[CLS] A [SEP]', '[CLS] A [SEP] B [SEP]', '00011'),
    ('xlm-roberta', '<s> A </s>', '<s> A </s> </s> B </s>', '000000'),
    ('camembert', '<s> A </s>', '<s> A </s> </s> B </s>', '000000'),
    ('mpnet', '<s> A </s>', '<s> A </s> </s> B </s>', '000000'),
    ('deberta-v2', '[CLS] A [SEP]', '[CLS] A [SEP] B [SEP]', '00011'),
    ('llama', '<s> A', '<s> A <s> B', '0011'),
    ('gemma', '<bos> A', '<bos> A <bos> B', '0011'),
  ],
)
def test_every_family_frames_its_texts(name, single, pair, types, tmp_path):
  tokenizer = load_tokenizer(folders.FOLDERS[name](tmp_path))
  spell = lambda slots: ' '.join(
    slot if isinstance(slot, str) else tokenizer.pieces[slot] for slot in slots
  )
  assert spell([*tokenizer.prefix, 'A', *tokenizer.suffix]) == single
  assert spell(slot for slot, _ in tokenizer.pair) == pair
  assert ''.join(str(kind) for _, kind in tokenizer.pair) == types
  a, b = tokenizer.encode_batch(['the of', 'and'], special=False)
  ids, kinds = tokenizer.encode_pair('the of', 'and')
  parts = {'A': a, 'B': b}
  assert ids == [i for slot, _ in tokenizer.pair for i in parts.get(slot, [slot])]
  assert kinds == [
    kind for slot, kind in tokenizer.pair for _ in parts.get(slot, [slot])
  ]


def test_what_is_saved_is_opened_the_same(folder, tmp_path):
  tokenizer = load_tokenizer(folder)
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


def test_special_pieces_in_a_text_are_text(folder):
  tokenizer = load_tokenizer(folder)
  hidden = set(tokenizer.special_ids) - {tokenizer.unk}
  assert len(hidden) >= 1
  for text in [
    *named(tokenizer, hidden),
    'a</s>b',
    '[CLS] <s> <pad>[SEP][MASK]',
    '<extra_id_0>',
    '<|endoftext|>',
  ]:
    assert not hidden & set(tokenizer.encode(text, special=False)), text


@given(
  st.sampled_from(['bert', 'roberta', 't5', 'albert', 'llama', 'gemma']),
  st.text(st.characters(exclude_categories=('Cs',)), max_size=40),
)
def test_any_text_has_ids_and_bytes_come_back(name, text):
  tokenizer = opened(name)
  ids = tokenizer.encode(text)
  assert all(0 <= i < tokenizer.vocabulary_size for i in ids)
  assert ids[: len(tokenizer.prefix)] == list(tokenizer.prefix)
  if name in ('roberta', 'llama', 'gemma') and '▁' not in text:
    assert tokenizer.decode(ids) == text


OPENED = {}


def opened(name):
  if name not in OPENED:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
      OPENED[name] = load_tokenizer(folders.FOLDERS[name](pathlib.Path(folder)))
  return OPENED[name]


def test_a_long_word_takes_no_time(folder):
  tokenizer = load_tokenizer(folder)
  start = time.perf_counter()
  ids = tokenizer.encode('x' * 200_000, special=False)
  assert ids and time.perf_counter() - start < 20


def test_bert_is_told_about_case_accents_and_chinese(tmp_path):
  bert = lambda name, **config: load_tokenizer(folders.bert(tmp_path / name, **config))
  decode = lambda tokenizer, text: tokenizer.backend.normalizer.normalize_str(text)
  assert (
    decode(bert('a'), 'CAFÉ 中文')
    == decode(bert('b', strip_accents=None), 'CAFÉ 中文')
    == 'cafe  中  文 '
  )
  assert decode(bert('c', do_lower_case=False), 'CAFÉ 中文') == 'CAFÉ  中  文 '
  assert (
    decode(bert('d', strip_accents=False, tokenize_chinese_chars=False), 'CAFÉ 中文')
    == 'café 中文'
  )
  assert decode(bert('e', do_lower_case=False, strip_accents=True), 'CAFÉ') == 'CAFE'


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


def test_padding_and_truncation_of_a_file_are_off(tmp_path):
  backend = load_tokenizer(folders.FOLDERS['bert'](tmp_path / 'words')).backend
  backend.enable_padding(length=128, direction='left')
  backend.enable_truncation(4)
  folders.write(tmp_path / 'file', tokenizer__json=backend.to_str())
  tokenizer = load_tokenizer(tmp_path / 'file')
  assert (
    4 < len(tokenizer.encode('the of and to in a is')) < 20
    and tokenizer.padding_side == 'left'
  )
  folders.write(tmp_path / 'file', tokenizer_config__json={'padding_side': 'right'})
  assert load_tokenizer(tmp_path / 'file').padding_side == 'right'


@pytest.mark.parametrize(
  ('config', 'more', 'roles'),
  [
    ({}, {}, {'bos': '<s>', 'pad': '<pad>'}),
    (
      {'bos_token': 'the', 'pad_token': {'content': 'of', **TOKEN}},
      {},
      {'bos': 'the', 'pad': 'of'},
    ),
    (
      {'bos_token': None, 'pad_token': None},
      {},
      {'bos': None, 'pad': '</s>', 'eos': '</s>'},
    ),
    (
      {'bos_token': 'the'},
      {'special_tokens_map__json': {'bos_token': 'of', 'eos_token': 'to'}},
      {'bos': 'of', 'eos': 'to'},
    ),
    (
      {'bos_token': 'the', 'added_tokens_decoder': {}},
      {'special_tokens_map__json': {'bos_token': 'of', 'eos_token': 'to'}},
      {'bos': 'the', 'eos': 'to'},
    ),
    (
      {'cls_token': '<new>', 'sep_token': '<newer>'},
      {},
      {'cls': '<new>', 'sep': '<newer>'},
    ),
    (
      {'pad_token': '<p>'},
      {'added_tokens__json': {'<p>': 1, 'zebra': 0}},
      {'pad': '<p>'},
    ),
  ],
)
def test_roles_are_as_the_folder_says(config, more, roles, tmp_path):
  pieces = [*dict.fromkeys([*folders.trained('bpe')[0], 'the', 'of', 'to'])]
  size = len(pieces)
  state = json.loads(
    tokenizers.train(folders.CORPUS, 'bpe', 420, sentinels=0).backend.to_str()
  )
  state['model'] |= {
    'vocab': {piece: i for i, piece in enumerate(pieces)},
    'merges': [],
  }
  if 'added_tokens__json' in more:
    more = {
      'added_tokens__json': {
        piece: size + i for piece, i in more['added_tokens__json'].items()
      }
    }
  folders.write(tmp_path, tokenizer__json=state, tokenizer_config__json=config, **more)
  tokenizer = load_tokenizer(tmp_path)
  for role, piece in roles.items():
    i = getattr(tokenizer, role)
    assert piece == (None if i is None else tokenizer.pieces[i]), role
    assert i is None or i in tokenizer.special_ids
  if 'added_tokens__json' in more:
    assert (
      tokenizer.pieces[size:] == ['zebra', '<p>'] and size not in tokenizer.special_ids
    )
    assert tokenizer.encode('azebra', special=False)[-1] == size
  save_tokenizer(tmp_path / 'saved', tokenizer)
  assert load_tokenizer(tmp_path / 'saved') == tokenizer


def test_t5_has_its_sentinels_after_the_pieces(tmp_path):
  tokenizer = load_tokenizer(folders.FOLDERS['t5'](tmp_path / 'a'))
  assert tokenizer.vocabulary_size == 189 + 7 and tokenizer.sentinels == tuple(
    range(195, 188, -1)
  )
  assert (
    load_tokenizer(folders.FOLDERS['t5-100'](tmp_path / 'b')).vocabulary_size == 289
  )
  assert (tokenizer.pad, tokenizer.eos, tokenizer.unk) == (0, 1, 2)


def test_xlm_roberta_numbers_its_pieces_anew(tmp_path):
  tokenizer = load_tokenizer(folders.FOLDERS['xlm-roberta'](tmp_path))
  assert (
    tokenizer.pieces[:6] == ['<s>', '<pad>', '</s>', '<unk>', '▁', 'a']
    and tokenizer.pieces[-1] == '<mask>'
  )
  assert (tokenizer.bos, tokenizer.pad, tokenizer.eos, tokenizer.unk) == (0, 1, 2, 3)
  assert tokenizer.mask == tokenizer.vocabulary_size - 1
  assert named(tokenizer, tokenizer.encode('the the,')) == [
    '<s>',
    '▁the',
    '▁the',
    ',',
    '</s>',
  ]


def test_camembert_keeps_the_numbers_of_its_model_behind_five_others(tmp_path):
  tokenizer = load_tokenizer(folders.FOLDERS['camembert'](tmp_path))
  assert tokenizer.pieces[:8] == [
    '<s>NOTUSED',
    '<pad>',
    '</s>NOTUSED',
    '<unk>',
    '<unk>NOTUSED',
    '<s>',
    '</s>',
    '▁',
  ]
  assert (tokenizer.cls, tokenizer.pad, tokenizer.sep, tokenizer.unk) == (5, 1, 6, 3)
  assert tokenizer.mask == tokenizer.vocabulary_size - 1
  assert named(tokenizer, tokenizer.encode('the 7')) == [
    '<s>',
    '▁the',
    '▁',
    '<unk>',
    '</s>',
  ]


def test_deberta_has_its_mask_behind_the_pieces(tmp_path):
  tokenizer = load_tokenizer(folders.FOLDERS['deberta-v2'](tmp_path))
  assert (tokenizer.pad, tokenizer.cls, tokenizer.sep, tokenizer.unk) == (0, 1, 2, 3)
  assert (
    tokenizer.pieces[tokenizer.mask] == '[MASK]'
    and tokenizer.mask == tokenizer.vocabulary_size - 1
  )
  folders.write(tmp_path, tokenizer_config__json={'split_by_punct': True})
  with pytest.raises(ValueError, match='split_by_punct'):
    load_tokenizer(tmp_path)


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


def test_a_folder_without_a_tokenizer_has_none(tmp_path):
  assert load_tokenizer(tmp_path) is None and load_tokenizer(tmp_path / 'none') is None
  assert (
    load_tokenizer(folders.write(tmp_path, config__json={'model_type': 'bert'})) is None
  )


VOCABULARY = {'a': 0, 'b': 1, 'ab': 2}
MODEL = {'version': '1.0', 'model': {'type': 'BPE', 'vocab': VOCABULARY, 'merges': []}}


@pytest.mark.parametrize(
  ('files', 'message'),
  [
    (
      {'tokenizer__json': '{"version": "1.0", "model"'},
      r'tokenizer\.json: not a tokenizer',
    ),
    ({'tokenizer__json': b'\xff\xfe'}, r'tokenizer\.json: not UTF-8'),
    ({'tokenizer__json': ''}, r'tokenizer\.json: not a tokenizer'),
    (
      {
        'tokenizer__json': {
          'model': {'type': 'BPE', 'vocab': {'a': 4_000_000_000}, 'merges': []}
        }
      },
      'an id of 4',
    ),
    (
      {
        'tokenizer__json': {
          **MODEL,
          'normalizer': {'type': 'Precompiled', 'precompiled_charsmap': 'AAAA'},
        }
      },
      'charsmap',
    ),
    (
      {'tokenizer__json': MODEL, 'tokenizer_config__json': '{"a": '},
      r'tokenizer_config\.json: not JSON',
    ),
    (
      {'tokenizer__json': MODEL, 'tokenizer_config__json': '[' * 100_000},
      r'tokenizer_config\.json: not JSON',
    ),
    (
      {'tokenizer__json': MODEL, 'tokenizer_config__json': []},
      r'tokenizer_config\.json: not a JSON object',
    ),
    (
      {'tokenizer__json': MODEL, 'tokenizer_config__json': {'pad_token': 7}},
      'pad_token: neither a text',
    ),
    (
      {'tokenizer__json': MODEL, 'tokenizer_config__json': '{"pad_token": "\\ud800"}'},
      'pad_token: neither a text',
    ),
    (
      {'tokenizer__json': MODEL, 'added_tokens__json': '{"\\ud800": 3}'},
      'added_tokens_decoder',
    ),
    (
      {'vocab__json': '{"\\ud800": 0}', 'merges__txt': ''},
      r'vocab\.json: not a tokenizer',
    ),
    (
      {'tokenizer__json': MODEL, 'tokenizer_config__json': {'padding_side': 'up'}},
      "padding_side: 'up'",
    ),
    (
      {'tokenizer__json': MODEL, 'tokenizer_config__json': {'chat_template': 7}},
      'chat_template: neither',
    ),
    (
      {
        'tokenizer__json': MODEL,
        'tokenizer_config__json': {'added_tokens_decoder': {'x': {}}},
      },
      'added_tokens_decoder',
    ),
    (
      {'tokenizer__json': MODEL, 'added_tokens__json': {'new': 9}},
      "'new' has id 9, but the next free one is 3",
    ),
    (
      {'tokenizer__json': MODEL, 'added_tokens__json': {'ab': 1}},
      "'ab' has id 1, but the vocabulary says 2",
    ),
    ({'vocab__txt': 'a\nb\n'}, r"vocab\.txt: no '\[UNK\]' among 2 pieces"),
    ({'vocab__txt': ''}, r'vocab\.txt: no'),
    (
      {'vocab__txt': '[UNK]\na\n'},
      r"vocab\.txt: 'cls_token|cls_token: none, and bert needs one",
    ),
    ({'vocab__json': VOCABULARY}, r'merges\.txt: missing'),
    ({'merges__txt': 'a b'}, r'vocab\.json: missing'),
    (
      {'vocab__json': {'a': 0, 'b': 0}, 'merges__txt': ''},
      r"vocab\.json: 'a' and 'b' both have id 0",
    ),
    (
      {'vocab__json': {'a': 0, 'b': 2}, 'merges__txt': ''},
      r"vocab\.json: 'b' has id 2, but 2 pieces have 0 to 1",
    ),
    (
      {'vocab__json': {'a': 0, 'b': True}, 'merges__txt': ''},
      r"vocab\.json: 'b' has id True",
    ),
    (
      {'vocab__json': '{"a": 0, "b": 1, "a": 2}', 'merges__txt': ''},
      r"vocab\.json: 'a' has id 2",
    ),
    (
      {'vocab__json': VOCABULARY, 'merges__txt': '#version: 0.2\na c\n'},
      r"merges\.txt: line 2: 'c' is not in vocab",
    ),
    (
      {'vocab__json': VOCABULARY, 'merges__txt': 'a b a\n'},
      r'merges\.txt: line 1: 3 parts',
    ),
    (
      {'vocab__json': VOCABULARY, 'merges__txt': 'b a\n'},
      r"merges\.txt: line 1: 'ba' is not in vocab",
    ),
    (
      {
        'vocab__json': VOCABULARY,
        'merges__txt': '',
        'tokenizer_config__json': {'tokenizer_class': 'CLIPTokenizer'},
      },
      'a CLIPTokenizer is read from tokenizer.json only',
    ),
    ({'spiece__model': b'not a model'}, r'spiece\.model: not a sentencepiece model'),
    (
      {'tokenizer__model': 'IQ== 0\nIg== 1\n'},
      r'tokenizer\.model: not a sentencepiece model',
    ),
    (
      {'spiece__model': folders.model(folders.unigram(*folders.ALBERT))[:-40]},
      r'spiece\.model: not a sentencepiece',
    ),
    (
      {
        'sentencepiece__bpe__model': folders.model(folders.unigram(*folders.ALBERT)),
        'config__json': {'model_type': 'xlm-roberta'},
      },
      'not as a model of XLM-RoBERTa',
    ),
  ],
)
def test_what_is_wrong_with_a_folder_is_said_in_a_line(files, message, tmp_path):
  folders.write(tmp_path, **files)
  start = time.perf_counter()
  with pytest.raises(ValueError, match=message) as caught:
    load_tokenizer(tmp_path)
  assert (
    '\n' not in str(caught.value)
    and str(tmp_path) in str(caught.value)
    and time.perf_counter() - start < 10
  )


def test_a_huge_file_is_not_read(tmp_path):
  with open(tmp_path / 'vocab.txt', 'wb') as file:
    file.truncate(10**12)  # takes no place on the disk
  with pytest.raises(ValueError, match=r'vocab\.txt: more than 100000000 bytes'):
    load_tokenizer(tmp_path)
