"""The same documents are left out as by datatrove, with its own word tokenizer."""

import difflib

import pytest

from tl_jax import data
from tl_jax.data.prepare import batch, quality, repetition
from tl_jax.data.prepare.quality import C4, FineWeb, Gopher
from tl_jax.data.prepare.repetition import Repetition

filters = pytest.importorskip('datatrove.pipeline.filters')
pytest.importorskip('spacy')


@pytest.fixture(scope='module')
def texts():
  found = []
  for name in ('austen', 'debian', 'vader_nyt'):
    own = [example['text'] for example in data.load(name, 'test')]
    found += own[:250]
    # Repeated and listed, so that every rule has something to leave out.
    for place, text in enumerate(own[250:310]):
      lines = text.replace('. ', '.\n').split('\n')
      found.append('\n'.join(lines[:4] * (2 + place % 4)))
  return found


def theirs(rule, texts):
  """Which documents a filter of datatrove leaves out."""
  from datatrove.data import Document

  found = []
  for place, text in enumerate(texts):
    document = Document(text=text, id=str(place))
    found.append(rule.filter(document) is not True)
  return found


def agreement(reasons, expected):
  assert any(expected) and not all(expected)
  same = [bool(reason) == gone for reason, gone in zip(reasons, expected, strict=True)]
  return sum(same) / len(same)


def test_repetition(texts):
  found = repetition.reasons(batch.of(texts), Repetition())
  assert agreement(found, theirs(filters.GopherRepetitionFilter(), texts)) >= 0.99


def test_fineweb(texts):
  found = quality.fineweb(batch.of(texts), FineWeb())
  assert agreement(found, theirs(filters.FineWebQualityFilter(), texts)) >= 0.99


def test_c4(texts):
  found = [quality.clean(text, C4())[1] for text in texts]
  assert agreement(found, theirs(filters.C4QualityFilter(), texts)) >= 0.98


def test_gopher(texts):
  found = quality.gopher(batch.of(texts), Gopher(least_words=10))
  rule = filters.GopherQualityFilter(min_doc_words=10)
  assert agreement(found, theirs(rule, texts)) >= 0.98


def test_words(texts):
  from datatrove.utils.text import split_into_words

  some = texts[:60]
  found = [word for text in some for word in batch.split(text)]
  expected = [word for text in some for word in split_into_words(text)]
  matcher = difflib.SequenceMatcher(None, found, expected, autojunk=False)
  same = sum(block.size for block in matcher.get_matching_blocks())
  # The rest: `do n't` and `don 't`, and rarer ones.
  assert same >= 0.99 * len(expected)
