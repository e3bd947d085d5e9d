"""Tokenizers of Hugging Face folders, read: every kind of file, every way to say a role."""

import json
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


@pytest.fixture(params=list(folders.FOLDERS))
def folder(request, tmp_path):
  return folders.FOLDERS[request.param](tmp_path / request.param)


def named(tokenizer, ids):
  return [tokenizer.pieces[i] for i in ids]


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


def test_a_folder_without_a_tokenizer_has_none(tmp_path):
  assert load_tokenizer(tmp_path) is None and load_tokenizer(tmp_path / 'none') is None
  assert (
    load_tokenizer(folders.write(tmp_path, config__json={'model_type': 'bert'})) is None
  )
