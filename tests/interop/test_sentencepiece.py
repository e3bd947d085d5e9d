"""Sentencepiece model files, whole and damaged."""

import base64
import pathlib
import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import folders  # noqa: E402

from tl_jax.interop import sentencepiece  # noqa: E402

FILES = {
  name: (folders.FIXTURES / f'{name}.model').read_bytes()
  for name in ('unigram', 'bpe', 'own')
}
PIECES = [
  ('<unk>', 0.0, 2),
  ('a', -1.0, 1),
  ('b', -2.0, 1),
  ('ab', -3.0, 1),
  ('aab', -4.0, 1),
  ('ba', -3.5, 5),
]


@given(
  st.lists(
    st.tuples(
      st.integers(1, 2**20), st.one_of(st.integers(0, 2**60), st.binary(max_size=300))
    )
  )
)
def test_fields_come_back(fields):
  assert list(sentencepiece.fields(folders.message(*fields))) == fields


@given(st.binary(max_size=60))
def test_any_bytes_end_in_fields_or_a_value_error(data):
  try:
    found = list(sentencepiece.fields(data))
  except ValueError as error:
    assert '\n' not in str(error)
  else:
    assert len(found) <= len(data)


def test_what_the_files_hold():
  unigram, bpe, own = (
    sentencepiece.read(FILES[name]) for name in ('unigram', 'bpe', 'own')
  )
  assert (unigram.kind, unigram.unknown, unigram.squeeze, unigram.dummy_prefix) == (
    'unigram',
    2,
    True,
    True,
  )
  assert (
    unigram.names[:3] == ('<pad>', '</s>', '<unk>')
    and unigram.charsmap
    and not unigram.byte_fallback
  )
  assert (bpe.kind, bpe.byte_fallback, bpe.squeeze, bpe.dummy_prefix, bpe.charsmap) == (
    'bpe',
    True,
    False,
    True,
    b'',
  )
  assert (
    bpe.types.count(sentencepiece.BYTE) == 256
    and len(bpe.names) == len(bpe.scores) == len(bpe.types) == 620
  )
  assert (
    not own.dummy_prefix
    and '▁▁' in own.names
    and own.types[own.names.index('▁▁')] == sentencepiece.OWN
  )


def test_merges_come_in_the_order_of_the_scores():
  found = sentencepiece.read(folders.model(PIECES, [(3, 2)]))
  # not 'b' + 'a': unused; nor 'aa', no piece
  assert sentencepiece.merges(found) == [('a', 'b'), ('a', 'ab')]
  for left, right in sentencepiece.merges(sentencepiece.read(FILES['bpe'])):
    assert not {left, right, left + right} & {'<unk>', '<s>', '</s>', '<0x41>'}


@pytest.mark.parametrize('name', list(FILES))
def test_a_cut_file_is_an_error(name):
  data = FILES[name]
  for size in range(0, len(data) - 1, 97):
    try:
      found = sentencepiece.read(data[:size])
    except ValueError as error:
      assert str(error) and '\n' not in str(error)
    else:  # cut between two pieces: then the rest is as it was
      assert found.names == sentencepiece.read(data).names[: len(found.names)]


@given(st.data())
def test_a_flipped_byte_is_an_error_or_another_model(data):
  file = bytearray(FILES['unigram'])
  file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
  try:
    found = sentencepiece.read(bytes(file))
  except (ValueError, struct.error) as error:
    assert '\n' not in str(error)
  else:
    assert len(found.names) == len(set(found.names))


@pytest.mark.parametrize(
  ('file', 'message'),
  [
    (b'', 'no pieces'),
    (b'PK\x03\x04 a zip', 'such field|bytes, '),
    (folders.model([('a', 0.0, 1)]), '0 unknown pieces'),
    (folders.model([('a', 0.0, 2), ('a', 0.0, 1)]), "piece 1, 'a', is piece 0 again"),
    (folders.model([('a', 0.0, 2), ('', 0.0, 1)]), "piece 1, '', is empty"),
    (folders.model([('a', 0.0, 2), ('b', float('nan'), 1)]), 'score nan'),
    (folders.model([('a', 0.0, 2), ('b', 0.0, 9)]), 'type 9'),
    (folders.model(PIECES, [(3, 4)]), "model_type 'char'"),
    (folders.model(PIECES, [(3, 77)]), 'model_type 77'),
    (folders.model(PIECES, [(24, 1)]), 'suffixes'),
    (folders.model(PIECES, (), [(5, 0)]), 'not escaped'),
    (folders.model(PIECES, (), [(2, b'\xff\xff\xff\x7fabcd')]), 'charsmap'),
    (folders.model(PIECES, (), [(2, b'\4\0\0\0\xff\xff\xff\xffab\0')]), 'charsmap'),
    (folders.message((1, 7)), 'a number stands'),
    (folders.message((1, folders.message((1, b'\xff')))), 'utf-8'),
  ],
)
def test_what_is_wrong_is_said(file, message):
  with pytest.raises(ValueError, match=message):
    sentencepiece.read(file)


def test_long_pieces_do_not_take_long():
  long = folders.model([('<unk>', 0.0, 2), ('a' * 20_000, 0.0, 1)], [(3, 2)])
  with pytest.raises(ValueError, match='too long'):
    sentencepiece.merges(sentencepiece.read(long))


def test_every_damage_of_a_charsmap_that_matters_is_found():
  import tokenizers

  charsmap = sentencepiece.read(FILES['unigram']).charsmap
  sentencepiece.check_charsmap(charsmap)
  survived = 0
  for place in range(4, len(charsmap), 13):
    damaged = bytearray(charsmap)
    damaged[place] ^= 0x41
    try:
      sentencepiece.check_charsmap(bytes(damaged))
    except ValueError:
      continue
    survived += 1
    normalizer = tokenizers.normalizers.Precompiled(
      base64.b64decode(base64.b64encode(damaged))
    )
    # a panic would end the test
    assert isinstance(normalizer.normalize_str('ﬁne ① e\u0301 \t ½ x'), str)
  assert survived
