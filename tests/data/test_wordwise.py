"""Words that are encoded once: the ids are those of whole texts, whatever is in them."""

import json
import random

import numpy as np
import pytest

from tl_jax.data import tokenizers, wordwise
from tl_jax.data.builders import EMBEDDED
from tl_jax.data.sources import load

# What breaks rules about words: white space of all kinds, marks that join what is before
# them, signs that become several, controls, half characters, what spells special pieces.
PARTS = [
  *" \n\t\r '.,!-_aAbcsdISTt<=03#[]",
  *'éßİΩσςŉ漢字가ᄀᆨー▁ﬁ½´¨',
  *'\u0301\u0338\u0308\u200d\uff9e\u0d4e\ufeff\u00ad\ufffd',
  *'\u00a0\u3000\u2028\x0b\x0c\x1c\x85\x00\ud83d\U0001f3fb\U0001f44d',
  *("'s", "don't", "'ll", ' \n ', '  ', '[SEP]', '</s>', '<pad>', 'ab', 'the'),
]


@pytest.fixture(scope='module')
def texts():
  assert 'vader_movie' in EMBEDDED
  return load('vader_movie', 'test').column('text')[:700]


@pytest.fixture(scope='module')
def families(texts):
  from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

  wordpiece = tokenizers.train(texts, size=1500)
  pairs = tokenizers.train(texts, 'bpe', size=1500)
  found = {
    'wordpiece': wordpiece,
    'wordpiece-cased': tokenizers.train(texts, size=1500, lowercase=False),
    'byte-pairs': pairs,
  }
  # As SmolLM's: each digit by itself, and composed characters.
  digits = Tokenizer.from_str(pairs.backend.to_str())
  digits.normalizer = normalizers.NFC()
  splitters = [pre_tokenizers.Digits(individual_digits=True)]
  splitters.append(pre_tokenizers.ByteLevel(add_prefix_space=False))
  digits.pre_tokenizer = pre_tokenizers.Sequence(splitters)
  found['digits'] = tokenizers.wrap(digits)
  # As T5's, with the pieces of the other.
  marked = [piece.replace('##', '') for piece in wordpiece.pieces]
  scores = {f'▁{piece}': -9.0 for piece in marked} | dict.fromkeys(marked, -10.0)
  unigram = Tokenizer(models.Unigram([('<unk>', 0.0), *scores.items()], unk_id=0))
  unigram.normalizer = normalizers.NFKC()
  splitters = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
  unigram.pre_tokenizer = pre_tokenizers.Sequence(splitters)
  found['unigram'] = tokenizers.wrap(unigram)
  return found


FAMILIES = ('wordpiece', 'wordpiece-cased', 'byte-pairs', 'digits', 'unigram')


def assert_same(tokenizer, texts):
  encoder = wordwise.Encoder(tokenizer)
  # In two parts: the second meets words that are known.
  for part in (texts[::2], texts[1::2], texts[::2]):
    ids, lengths = encoder.encode(part)
    found = np.split(ids, np.cumsum(lengths)[:-1])
    wanted = tokenizer.encode_batch(part, special=False)
    for text, one, other in zip(part, found, wanted, strict=True):
      assert one.tolist() == other, repr(text)


@pytest.mark.parametrize('family', FAMILIES)
def test_real_texts_have_the_ids_of_whole_texts(families, texts, family):
  assert wordwise.pattern_of(families[family].reader)
  assert_same(families[family], [*texts, '', ' ', '\n', ' a', 'a ', ' \n a'])


@pytest.mark.parametrize('family', FAMILIES)
def test_so_have_texts_that_break_rules(families, family):
  drawn = random.Random(family)
  texts = []
  for _ in range(3000):
    texts.append(''.join(drawn.choices(PARTS, k=drawn.randint(1, 12))))
  assert_same(families[family], texts)


@pytest.mark.parametrize('family', FAMILIES)
def test_so_has_every_character_beside_letters_spaces_and_signs(families, family):
  codes = range(0, 0x3100, 3 if family == 'wordpiece' else 7)
  for form in ('a{}b', 'a {}b', 'a{} b', '.{}a', 'a{}.', 'a\n{}'):
    assert_same(families[family], [form.format(chr(code)) for code in codes])


def changed(tokenizer, change):
  """The tokenizer whose backend `change` has altered, in its state."""
  from tokenizers import Tokenizer

  state = json.loads(tokenizer.backend.to_str())
  change(state)
  return tokenizers.wrap(Tokenizer.from_str(json.dumps(state)))


def drop_out(state):
  state['model']['dropout'] = 0.5


def prefix(state):
  state['pre_tokenizer']['add_prefix_space'] = True


def look_for_token(state):
  state['added_tokens'][0]['special'] = False


def replace_spaces(state):
  state['normalizer'] = dict(type='Replace', pattern=dict(String=' '), content='x')


def split_otherwise(state):
  state['pre_tokenizer'] = dict(
    type='Split', pattern=dict(Regex='b c'), behavior='Isolated', invert=False
  )


@pytest.mark.parametrize(
  'change', [drop_out, prefix, look_for_token, replace_spaces, split_otherwise]
)
def test_other_kinds_are_given_whole_texts(families, change):
  tokenizer = changed(families['byte-pairs'], change)
  assert wordwise.pattern_of(tokenizer.reader) is None
  if change is not drop_out:
    assert_same(tokenizer, ['ab cd', 'b c<pad> b c', 'a', ''])


def test_a_tokenizer_that_finds_special_pieces_is_given_whole_texts(families):
  import dataclasses

  parsing = dataclasses.replace(families['wordpiece'], parse_special=True)
  ids, _ = wordwise.encoder_of(parsing).encode(['the [MASK] a'])
  assert parsing.mask in ids
  # The one that does not is not taken for it.
  ids, _ = wordwise.encoder_of(families['wordpiece']).encode(['the [MASK] a'])
  assert parsing.mask not in ids


def test_no_text_has_no_ids(families):
  for tokenizer in families.values():
    ids, lengths = wordwise.Encoder(tokenizer).encode([])
    assert ids.dtype == np.int32 and not len(ids) and not len(lengths)


def test_words_are_forgotten_in_time(families, texts, monkeypatch):
  monkeypatch.setattr(wordwise, 'MOST', 500)
  tokenizer = families['wordpiece']
  encoder = wordwise.Encoder(tokenizer)
  for text in texts[:100]:
    assert encoder.encode([text])[0].tolist() == tokenizer.encode(text, special=False)
    assert encoder._characters < 500 + 2000
