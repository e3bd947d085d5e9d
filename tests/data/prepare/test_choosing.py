"""Documents are chosen among all of them, though one chunk at a time is looked at."""

import json

import pytest

from tl_jax.data.prepare import Corpus, choosing, chunking, prepare
from tl_jax.data.prepare.settings import Classifier, Selection


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('choosing')
  kinds = ('the study of old stars', 'buy cheap shoes now', 'a study of cheap stars')
  texts = [f'{kinds[number % 3]} {number}' for number in range(90)]
  # Some stand there twice, so that chunks lose documents before they are weighed.
  rows = [dict(text=text) for text in [*texts, *texts[::4]]]
  (folder / 'web.jsonl').write_text('\n'.join(map(json.dumps, rows)))
  good = [dict(text=f'the study of stars and of {number}') for number in range(30)]
  (folder / 'good.jsonl').write_text('\n'.join(map(json.dumps, good)))
  return folder


def corpus_of(folder, chunk):
  good = str(folder / 'good.jsonl')
  return Corpus(
    {'web': str(folder / 'web.jsonl')},
    steps=('exact',),
    classifier=Classifier(good, alpha=3.0),
    selection=Selection(good),
    chunk=chunk,
  )


def test_what_is_chosen_is_the_same_whatever_the_chunks(folder, tmp_path):
  said = []
  for chunk in (7, 500):
    found = prepare(corpus_of(folder, chunk), tmp_path / str(chunk))
    said.append((found['files'], found['removed']))
  assert said[0] == said[1]
  removed = said[0][1]
  assert removed['exact'] == 23 and removed['classifier'] and removed['selection']


def test_texts_are_gone_through_chunk_by_chunk(folder, tmp_path):
  corpus = corpus_of(folder, 10)
  chunking.filter_share(corpus, tmp_path, 0, 1, print)
  chunks = chunking.chunks_of(corpus, tmp_path)
  fates = ['exact' if place % 10 == 3 else '' for place in range(113)]
  left = choosing.Left(chunks, fates)
  # As often as one wants, with what was left out nowhere among them.
  for _ in range(2):
    assert [len(texts) for texts in left] == [*[9] * 11, 3]
  assert len(left.places) == sum(map(len, left)) and 3 not in left.places
