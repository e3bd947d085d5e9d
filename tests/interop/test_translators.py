"""Tokenizers of mBART, Pegasus and Marian, from their sentencepiece models."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import folders  # noqa: E402

from tl_jax.interop import translators  # noqa: E402
from tl_jax.interop.tokenizers import load_tokenizer, save_tokenizer  # noqa: E402


def pieces_of(tokenizer, text):
  return [tokenizer.pieces[i] for i in tokenizer.encode(text)]


def test_mbart_has_its_languages_behind_the_pieces_and_the_source_s_behind_a_text(
  tmp_path,
):
  tokenizer = load_tokenizer(folders.FOLDERS['mbart'](tmp_path))
  assert tokenizer.pieces[:5] == ['<s>', '<pad>', '</s>', '<unk>', '▁']
  assert tokenizer.pieces[-26:] == [*translators.CODES['mbart'], '<mask>']
  assert pieces_of(tokenizer, 'the of') == ['▁the', '▁of', '</s>', 'ro_RO']
  assert tokenizer.decode(tokenizer.encode('the of')) == 'the of'


def test_mbart50_has_the_language_in_front(tmp_path):
  tokenizer = load_tokenizer(folders.FOLDERS['mbart50'](tmp_path))
  assert tokenizer.pieces[-53:] == [*translators.CODES['mbart50'], '<mask>']
  assert pieces_of(tokenizer, 'the of') == ['sl_SI', '▁the', '▁of', '</s>']


def test_a_language_that_is_not_known_is_named(tmp_path):
  folder = folders.FOLDERS['mbart'](tmp_path)
  config = {'tokenizer_class': 'MBartTokenizer', 'src_lang': 'xx_XX'}
  folders.write(folder, tokenizer_config__json=config)
  with pytest.raises(ValueError, match="src_lang: 'xx_XX' is no language of mbart"):
    load_tokenizer(folder)


def test_pegasus_has_the_pieces_of_its_pretraining_in_front(tmp_path):
  tokenizer = load_tokenizer(folders.FOLDERS['pegasus'](tmp_path))
  front = [
    '<pad>',
    '</s>',
    '<mask_1>',
    '<mask_2>',
    *(f'<unk_{i}>' for i in range(2, 9)),
    '<unk>',
  ]
  assert tokenizer.pieces[:12] == front
  assert tokenizer.unk == 11 and pieces_of(tokenizer, 'the of') == [
    '▁the',
    '▁of',
    '</s>',
  ]


def test_another_model_than_the_class_says_is_named(tmp_path):
  folder = folders.write(
    tmp_path,
    spiece__model=folders.model(folders.unigram(*folders.ALBERT)),
    tokenizer_config__json={'tokenizer_class': 'PegasusTokenizer'},
  )
  with pytest.raises(
    ValueError, match='spiece.model: begins with .* not as one of pegasus'
  ):
    load_tokenizer(folder)


def test_marian_reads_with_one_model_and_writes_both_languages(tmp_path):
  tokenizer = load_tokenizer(folders.FOLDERS['marian'](tmp_path / 'a'))
  assert tokenizer.pad == tokenizer.vocabulary_size - 1 and tokenizer.eos == 0
  assert pieces_of(tokenizer, 'the of') == ['▁the', '▁of', '</s>']
  coded = pieces_of(tokenizer, '>>de<< the of')
  assert coded == ['>>de<<', '▁the', '▁of', '</s>']
  # A word that only the target has is read in the letters of the source.
  assert pieces_of(tokenizer, 'der') == ['▁', 'd', 'er', '</s>']
  assert tokenizer.decode([tokenizer.pieces.index('▁der'), tokenizer.eos]) == 'der'
  save_tokenizer(tmp_path / 'a' / 'again', tokenizer)
  assert load_tokenizer(tmp_path / 'a' / 'again').encode(
    '>>fr<< the'
  ) == tokenizer.encode('>>fr<< the')


def test_what_marian_cannot_be_read_from_is_named(tmp_path):
  folder = folders.marian(tmp_path / 'two', separate_vocabs=True)
  with pytest.raises(ValueError, match='separate_vocabs'):
    load_tokenizer(folder)
  folder = folders.marian(tmp_path / 'none')
  (folder / 'vocab.json').unlink()
  with pytest.raises(ValueError, match='vocab.json: missing'):
    load_tokenizer(folder)
