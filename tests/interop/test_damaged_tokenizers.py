"""Tokenizers of Hugging Face folders that are damaged: one line says what is wrong."""

import pathlib
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import folders  # noqa: E402

from tl_jax.interop.tokenizers import load_tokenizer  # noqa: E402

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
