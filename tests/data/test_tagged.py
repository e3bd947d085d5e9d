"""Words as tokens, and windows of long sentences."""

import numpy as np
import pytest

from tl_jax.data import pipeline, tagged, tokenizers
from tl_jax.data.words import Words

TEXTS = ['low lower lowest', 'new newer newest', "don't stop (now)"] * 3


@pytest.fixture(scope='module', params=['wordpiece', 'bpe'])
def tokenizer(request):
  return tokenizers.train(TEXTS, kind=request.param, size=400, least=1)


def test_every_token_has_its_word(tokenizer):
  text = Words(["don't", 'stop', '(', 'lowest', 'xyz', ')'])
  (pieces,) = tagged.pieces_of([text], tokenizer)
  assert pieces.ids.tolist() == tokenizer.encode(text, special=False)
  assert sorted(set(pieces.words.tolist())) == list(range(6))
  for number, word in enumerate(text.words):
    own = tokenizer.decode(pieces.ids[pieces.words == number])
    assert own.replace(' ', '') == word or '[UNK]' in word or number == 4


def test_a_word_without_a_token_has_that_of_unknown_words():
  tokenizer = tokenizers.train(TEXTS, size=120)
  text = Words(['low', '\u200b\x01', 'new'])
  (pieces,) = tagged.pieces_of([text], tokenizer)
  assert pieces.words.tolist() == [0, 1, 2]
  assert pieces.ids[1] == tokenizer.unk


@pytest.mark.parametrize('room', [1, 2, 3, 5, 8, 13])
def test_windows_tag_every_word_once_and_fit(room):
  generator = np.random.default_rng(room)
  for count in (1, 2, 7, 40):
    sizes = generator.integers(1, 5, count)
    words = np.repeat(np.arange(count), sizes)
    found = tagged.parts(words, room)
    seen = []
    for start, stop, first, last in found:
      own = words[start:stop]
      # Only a word that fits nowhere is longer than its window.
      assert stop - start <= room or len(set(own.tolist())) == 1
      assert set(range(first, last)) <= set(own.tolist())
      # Whole words stand around those that are tagged.
      assert start == 0 or words[start - 1] != words[start]
      seen += range(first, last)
    assert seen == list(range(count))


def test_words_in_the_middle_see_both_sides():
  words = np.arange(100)
  for start, stop, first, last in tagged.parts(words, 20)[1:-1]:
    assert stop - start == 20 and last - first == 10
    assert first > start and last < stop


def test_a_row_has_its_tags_at_first_tokens(tokenizer):
  texts = [Words(['lowest', 'new']), Words(['stop'])]
  tags = np.array([4, 5, 6], np.int32)
  tokens = tagged.windows(texts, tokenizer, 64, tags)
  layout = pipeline.Layout(64, examples_per_row=4)
  row = layout.fill(pipeline.Examples(tokens), [1, 0])
  at = np.flatnonzero(row['labels'] >= 0)
  assert row['labels'][at].tolist() == [6, 4, 5]
  assert row['identifiers'][at].tolist() == [2, 0, 1]
  assert (row['identifiers'] >= 0).sum() == 3 and row['segments'][at].tolist() == [
    1,
    2,
    2,
  ]
  firsts = [tokenizer.encode(text, special=False)[0] for text in ('stop', 'lowest')]
  assert row['tokens'][at[:2]].tolist() == firsts


def test_a_long_sentence_becomes_several_windows(tokenizer):
  texts = [Words(['new'] * 3), Words(['low'] * 60), Words(['stop'])]
  found = tagged.windows(texts, tokenizer, 16)
  assert len(found) > 3 and set(found.index.tolist()) == {0, 1, 2}
  assert found.lengths.max() <= 16
  assert np.concatenate(found.numbers).tolist() == list(range(64))
  with pytest.raises(ValueError, match='leaves no room'):
    tagged.windows(texts, tokenizer, len(tokenizer.prefix) + len(tokenizer.suffix))
