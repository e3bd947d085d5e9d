"""Documents of sentences, kept as tokens: where they begin, and that they are kept."""

import numpy as np
import pytest

from tl_jax.data import cuts, documents, sources, tokenizers
from tl_jax.data.segment_pairs import Rules, SegmentPairs

TEXTS = ['One is here. Two is there. Three.', 'Four is a word.', 'Five. Six is one.']


@pytest.fixture(scope='module')
def tokenizer():
  return tokenizers.train(TEXTS, kind='wordpiece', size=120)


def source(texts=TEXTS, manifest='known'):
  return sources.Source('a', 'train', [dict(text=text) for text in texts], manifest)


def test_documents_have_the_lengths_of_their_sentences(tokenizer, tmp_path):
  found = documents.read(source(), tokenizer, tmp_path, 'split')
  assert len(found) == 3 and found.longest == 3
  for number, sentences in enumerate((TEXTS[0].split('. '), TEXTS[1:2])):
    texts = [text.rstrip('.') + '.' for text in sentences]
    expected = tokenizer.encode_batch(texts, special=False)
    assert found[number] == list(map(len, expected))
    assert found.whole(number).tolist() == sum(map(list, expected), [])


def test_a_document_without_a_token_is_none(tokenizer, tmp_path):
  # Nothing is left of a control character.
  texts = ['\x01', TEXTS[0], '', '\x01', TEXTS[1], '\x01']
  found = documents.read(source(texts), tokenizer, tmp_path, 'split')
  assert [len(found[number]) for number in range(len(found))] == [3, 1]


def test_what_is_kept_is_not_read_again(tokenizer, tmp_path):
  first = documents.read(source(), tokenizer, tmp_path, 'split')

  class Unread:
    """A source of the same content that nobody may read."""

    name, manifest = 'a', 'known'

  again = documents.read(Unread(), tokenizer, tmp_path, 'split')
  assert np.array_equal(first.bounds, again.bounds)
  with pytest.raises(TypeError, match='not iterable'):
    documents.read(Unread(), tokenizer, tmp_path, 'lines')


def test_many_documents_are_cut_when_they_are_read(tokenizer, tmp_path, monkeypatch):
  monkeypatch.setattr(cuts, 'SIZE', 2)
  how = dict(manner='split', duplicates=2)
  arguments = source(), tokenizer, tmp_path, Rules(16)
  lazy = documents.encode(*arguments, **how)
  whole = documents.encode(*arguments, **how, whole=True)
  assert isinstance(lazy, cuts.Cuts) and isinstance(whole, SegmentPairs)
  assert lazy.key == whole.key and lazy.counts == whole.counts
  members = lazy.members(range(len(lazy)))
  assert [lazy[i].tolist() for i in members] == [row.tolist() for row in whole]
