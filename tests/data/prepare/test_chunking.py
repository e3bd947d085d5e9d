"""Work is shared out whole: every chunk is filtered once, by whoever it may be."""

import json

import pytest

from tl_jax.data.prepare import Corpus, chunking, prepare
from tl_jax.data.prepare.chunking import Part


@pytest.mark.parametrize(
  'parts, tasks', [(1, 1), (1, 3), (2, 3), (3, 2), (5, 5), (2, 7)]
)
def test_every_chunk_has_one_task(parts, tasks):
  known = [Part('a', number, str(number)) for number in range(parts)]
  done = []
  for rank in range(tasks):
    for part, place, readers in chunking.share(known, rank, tasks):
      done += [(part.number, chunk) for chunk in range(place, 20, readers)]
  assert sorted(done) == [(part, chunk) for part in range(parts) for chunk in range(20)]


def test_a_part_is_read_by_one_task_where_there_are_enough_of_them():
  known = [Part('a', number, str(number)) for number in range(7)]
  readers = [own[2] for rank in range(3) for own in chunking.share(known, rank, 3)]
  assert readers == [1] * 7


@pytest.fixture
def folder(tmp_path):
  (tmp_path / 'web').mkdir()
  for name in 'abc':
    rows = [dict(text=f'{name} {number}.') for number in range(7)]
    text = '\n'.join(map(json.dumps, rows))
    (tmp_path / 'web' / f'{name}.jsonl').write_text(text)
  return tmp_path


@pytest.mark.parametrize('tasks', [1, 2, 5])
def test_chunks_are_the_same_whoever_makes_them(folder, tasks):
  corpus = Corpus({'web': str(folder / 'web')}, steps=('exact',), chunk=2)
  chunking.filter_share(corpus, folder / 'one', 0, 1, print)
  # One after the other, the last one first.
  for rank in reversed(range(tasks)):
    assert chunking.chunks_of(corpus, folder / 'several') is None
    chunking.filter_share(corpus, folder / 'several', rank, tasks, print)
  pairs = zip(
    chunking.chunks_of(corpus, folder / 'one'),
    chunking.chunks_of(corpus, folder / 'several'),
    strict=True,
  )
  for one, other in pairs:
    assert one.path.read_bytes() == other.path.read_bytes()
    assert len(one.read().texts) in (1, 2)


def test_a_chunk_that_is_gone_is_made_again(folder):
  corpus = Corpus({'web': str(folder / 'web')}, steps=('exact',), chunk=2)
  chunking.filter_share(corpus, folder / 'out', 0, 1, print)
  lost = chunking.chunks_of(corpus, folder / 'out')[5].path
  content = lost.read_bytes()
  lost.unlink()
  assert chunking.chunks_of(corpus, folder / 'out') is None
  chunking.filter_share(corpus, folder / 'out', 0, 1, print)
  assert lost.read_bytes() == content


def test_documents_of_a_folder_are_named_by_its_files(folder):
  corpus = Corpus({'web': str(folder / 'web')}, steps=(), output='parquet')
  found = prepare(corpus, folder / 'out')
  assert found['kept'] == 21 and list(found['files']) == ['part-00000.parquet']
