"""Tokenizers: the same bytes from every process, and text in, text out."""

import dataclasses
import hashlib
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tl_jax.data import tokenizers

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORDS = re.findall(
  r'\S+',
  """the of and to in a is that it was for on are as with his
  they at be this from have or by one had not but
  what all were when we there can an your which their said if do will each about how up out them then she
  many some so these would other into has more her two like him see time could no make than first been its
  who now people my made over did down only way find use may water long little very after words called just
  café naïve Straße ŒUVRE привет мир 中文 字 don't e-mail "quoted" 3.14 [MASK] <extra_id_0>""",
)
TEXTS = [
  ' '.join(WORDS[(i * i + j * (i % 7 + 1)) % len(WORDS)] for j in range(i % 11 + 3))
  for i in range(1500)
]

TRAIN = """
import hashlib, sys
sys.path.insert(0, {tests!r})
from test_tokenizers import TEXTS
from tl_jax.data import tokenizers
for kind in ('wordpiece', 'bpe'):
  print(hashlib.sha256(tokenizers.train(TEXTS, kind, 450).save({folder!r} + '/' + kind).read_bytes()).hexdigest())
"""


@pytest.fixture(scope='module', params=['wordpiece', 'bpe'])
def tokenizer(request):
  return tokenizers.train(TEXTS, request.param, 450)


def test_training_is_the_same_in_every_process(tmp_path):
  found = set()
  for number, parallel in enumerate(('true', 'false')):
    folder = tmp_path / str(number)
    program = TRAIN.format(tests=str(pathlib.Path(__file__).parent), folder=str(folder))
    environment = {
      **os.environ,
      'PYTHONPATH': str(ROOT),
      'TOKENIZERS_PARALLELISM': parallel,
      'PYTHONHASHSEED': str(number),
      'RAYON_NUM_THREADS': str(3 - number),
    }
    found.add(
      subprocess.run(
        [sys.executable, '-c', program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
      ).stdout
    )
  here = [
    hashlib.sha256(
      tokenizers.train(TEXTS[::-1], kind, 450).save(tmp_path / kind).read_bytes()
    ).hexdigest()
    for kind in ('wordpiece', 'bpe')
  ]
  # the order of the texts does not matter either
  assert found == {'\n'.join(here) + '\n'}


def test_saved_and_loaded_it_is_the_same(tokenizer, tmp_path):
  for path in (tmp_path / 'folder', tmp_path / 'file.json'):
    again = tokenizers.load(tokenizer.save(path))
    assert again == tokenizer and again.encode_batch(
      TEXTS[:50]
    ) == tokenizer.encode_batch(TEXTS[:50])
    assert (
      again.save(tmp_path / 'again').read_bytes()
      == path.with_suffix('.json').read_bytes()
      if (path.suffix)
      else True
    )
  assert not [name for name in os.listdir(tmp_path) if name.startswith('.')]


def test_roles_are_there(tokenizer):
  roles = [tokenizer.pad, tokenizer.unk, tokenizer.mask, tokenizer.bos, tokenizer.eos]
  assert None not in roles and len(set(roles)) == 5 and len(tokenizer.sentinels) == 32
  assert set(roles) | set(tokenizer.sentinels) <= set(tokenizer.special_ids)
  assert (
    tokenizer.vocabulary_size
    == len(tokenizer.pieces)
    == len(tokenizer.continues)
    <= 450
  )
  assert max(map(max, tokenizer.encode_batch(TEXTS))) < tokenizer.vocabulary_size


def test_special_pieces_in_a_text_are_text(tokenizer):
  hidden = set(tokenizer.special_ids) - {tokenizer.unk}
  for text in (
    '[MASK]',
    'a [MASK] b',
    '<mask></s><s>',
    '[CLS] [SEP] [PAD]',
    '<extra_id_3>',
    '<pad>',
  ):
    assert not hidden & set(tokenizer.encode(text, special=False)), text


def test_special_pieces_in_a_text_are_found_where_that_is_chosen(tokenizer):
  mask, gap = tokenizer.mask, tokenizer.sentinels[0]
  text = f'good {tokenizer.pieces[mask]} <extra_id_0> film'
  parts = [tokenizer.encode(word, special=False) for word in ('good ', ' ', ' film')]
  wanted = [*parts[0], mask, *parts[1], gap, *parts[2]]
  parsed = dataclasses.replace(tokenizer, parse_special=True)
  assert parsed.encode(text, special=False) == wanted
  assert tokenizer.encode(text, special=False, parse_special=True) == wanted
  assert parsed.encode(text, special=False, parse_special=False) == tokenizer.encode(
    text, special=False
  )
  ids, _ = parsed.encode_pair(text, text)
  assert ids.count(mask) == ids.count(gap) == 2
  assert tokenizer.encode_pair(text, text, parse_special=True)[0] == ids
  # They are part of the text when it comes back, too; what frames it is not.
  said = parsed.decode(parsed.encode(text))
  assert '<extra_id_0>' in said and tokenizer.pieces[mask] in said
  assert tokenizer.pieces[tokenizer.eos] not in said


def test_half_of_a_character_is_read_as_a_question_mark(tokenizer):
  half, whole = 'good film \ud83d', 'good film ?'
  assert tokenizer.encode(half) == tokenizer.encode(whole)
  assert tokenizer.encode_pair(half, half) == tokenizer.encode_pair(whole, whole)
  parsed = dict(special=False, parse_special=True)
  assert tokenizer.encode_batch([half], **parsed) == tokenizer.encode_batch(
    [whole], **parsed
  )
  assert tokenizer.encode('good \U0001f600') != tokenizer.encode('good ?')
  kind = 'wordpiece' if tokenizer.cls is not None else 'bpe'
  trained = [
    tokenizers.train([text] * 20, kind, 400, sentinels=4) for text in (half, whole)
  ]
  assert trained[0].digest == trained[1].digest


def test_ends_are_kept_when_a_text_is_cut(tokenizer):
  whole = tokenizer.encode(TEXTS[9])
  cut = tokenizer.encode(TEXTS[9], 6)
  assert (
    len(cut) == 6 and cut[-1] == whole[-1] == tokenizer.eos and cut[:5] == whole[:5]
  )
  assert tokenizer.encode(TEXTS[9], special=False) == whole[len(tokenizer.prefix) : -1]
  with pytest.raises(ValueError, match='max_length: 0'):
    tokenizer.encode('text', 0)


def test_a_pair_has_two_types(tokenizer):
  ids, types = tokenizer.encode_pair(TEXTS[9], TEXTS[10], 12)
  assert (
    len(ids) == len(types) == 12 and types == sorted(types) and set(types) == {0, 1}
  )
  assert ids.count(tokenizer.eos) == 2


def test_a_frame_is_what_the_file_says(tokenizer):
  ends = [tokenizer.eos] if tokenizer.cls is None else [tokenizer.cls, tokenizer.sep]
  assert [slot for slot, _ in tokenizer.pair if slot not in ('A', 'B')] == [
    *ends,
    ends[-1],
  ]
  assert tokenizer.pair[-2:] == (('B', 1), (ends[-1], 1)) and ('A', 0) in tokenizer.pair
  from tokenizers import processors

  backend = type(tokenizer.backend).from_str(tokenizer.backend.to_str())
  eos = tokenizer.pieces[tokenizer.eos]
  backend.post_processor = processors.TemplateProcessing(
    single='$A', pair=f'{eos} $A {eos} {eos} $B', special_tokens=[(eos, tokenizer.eos)]
  )
  framed = tokenizers.wrap(backend, {'bos': None, 'mask': 3}, padding_side='left')
  assert (
    framed.prefix,
    framed.suffix,
    framed.bos,
    framed.mask,
    framed.padding_side,
  ) == ((), (), None, 3, 'left')
  ids, types = framed.encode_pair(TEXTS[9], TEXTS[9], 13)
  assert (
    len(ids) == 13
    and [ids[place] for place in (0, 6, 7)] == [tokenizer.eos] * 3
    and types == [0] * 13
  )
  assert ids[1:6] == ids[8:] == framed.encode(TEXTS[9])[:5]


@pytest.mark.parametrize('kind', ['WordLevel', 'Unigram'])
def test_a_model_that_knows_special_pieces_does_not_find_them_in_a_text(kind):
  from tokenizers import Tokenizer, models, pre_tokenizers

  pieces = ['[UNK]', '</s>', '<pad>', *'<>/sapd[]UNK', 'a</s>']
  if kind == 'WordLevel':
    backend = Tokenizer(
      models.WordLevel({piece: i for i, piece in enumerate(pieces)}, '[UNK]')
    )
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
  else:
    backend = Tokenizer(
      models.Unigram(
        [(piece, 0.0 if i < 3 else -1.0) for i, piece in enumerate(pieces)], 0
      )
    )
  backend.add_special_tokens(['</s>', '<pad>'])
  tokenizer = tokenizers.wrap(backend)
  assert (
    tokenizer.special_ids == (0, 1, 2) and 1 in tokenizer.backend.encode('</s>').ids
  )
  for text in ('</s>', 'a </s>', '<pad> d'):
    assert not {1, 2} & set(tokenizer.encode(text, special=False)), text
  assert tokenizer.encode('a</s>', special=False) == [pieces.index('a</s>')]
  assert tokenizer.decode([3, 1], special=True).replace(' ', '') == '<</s>'


def test_empty_text(tokenizer):
  assert (
    tokenizer.encode('', special=False) == [] == tokenizer.encode(' \n', special=False)
    or tokenizer.cls is None
  )
  assert tokenizer.decode([]) == ''


@given(st.text(st.characters(exclude_categories=('Cs',)), max_size=60))
def test_bytes_come_back(text):
  tokenizer = tokenizers.train(TEXTS[:200], 'bpe', 320)
  assert tokenizer.decode(tokenizer.encode(text)) == text


def test_continuations(tokenizer):
  text = 'words unwordsly'
  ids = tokenizer.encode(text, special=False)
  pieces = [tokenizer.pieces[i] for i in ids]
  expected = [
    piece.startswith('##') if tokenizer.cls is not None else not piece.startswith('Ġ')
    for piece in pieces
  ]
  assert (
    tokenizer.continues[ids].tolist() == expected
    and any(expected)
    and not all(expected)
  )
  assert (
    not tokenizer.continues[list(tokenizer.special_ids)].any()
    and tokenizer.continues.dtype == np.bool_
  )


def test_case_is_a_choice():
  upper = tokenizers.train(['Big BIG big'] * 9, size=150, lowercase=False)
  assert upper.decode(upper.encode('Big')) == 'Big'
  lower = tokenizers.train(['Big BIG big'] * 9, size=150)
  assert lower.decode(lower.encode('BÍG')) == 'big'


@pytest.mark.parametrize(
  'arguments, message',
  [
    ({'kind': 'unigram'}, "kind: 'unigram' is not one of"),
    ({'size': 40}, 'size: 40 is too small'),
    ({'kind': 'bpe', 'size': 100}, 'size: 100 is too small'),
  ],
)
def test_what_cannot_be_trained_is_named(arguments, message):
  with pytest.raises(ValueError, match=message):
    tokenizers.train(TEXTS, **arguments)
  with pytest.raises(ValueError, match='no text'):
    tokenizers.train(
      ['', ' '], **arguments
    ) if 'kind' not in arguments else tokenizers.train([], 'bpe')


@pytest.mark.parametrize('content', ['', '{}', '{"model": 3}', 'x' * 1000])
def test_a_damaged_file_is_named(tmp_path, content):
  (tmp_path / 'tokenizer.json').write_text(content)
  with pytest.raises(ValueError, match=r'tokenizer\.json: not a tokenizer'):
    tokenizers.load(tmp_path)
  with pytest.raises(ValueError, match='no such tokenizer'):
    tokenizers.load(tmp_path / 'none')


@pytest.mark.parametrize('kind', ['wordpiece', 'bpe'])
def test_a_size_that_no_text_fills_takes_no_memory_and_changes_nothing(kind):
  texts = ['low lower lowest', 'new newer newest'] * 3
  large = tokenizers.train(texts, kind=kind, size=2**31 - 1)
  assert large == tokenizers.train(texts, kind=kind, size=50_000)
