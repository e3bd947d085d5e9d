"""Sources: embedded sets, public names, and what is said of a wrong one."""

import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from tl_jax.data import builders, sources, store, subsets
from tl_jax.data.classes import GENRES, NOVELS

ROOT = pathlib.Path(__file__).resolve().parents[2]
COUNTS = {
  'vader_movie': (8065, 2007),
  'vader_movie/rating': (8494, 2111),
  'vader_amazon': (2415, 570),
  'vader_tweets': (2731, 701),
  'vader_nyt': (2381, 589),
  'austen': (5349, 1473),
}


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  return tmp_path_factory.mktemp('datasets')


def test_package_descriptions_split_by_source_package(root):
  train, test = (sources.load('debian', split, root) for split in ('train', 'test'))
  assert (len(train), len(test)) == (2596, 655)
  assert not {*train.column('source')} & {*test.column('source')}
  assert {*train.column('label')} == {*test.column('label')} == set(range(12))
  assert (
    train.classes['label'][0] == 'games'
    and min(len(text.split()) for text in train.column('text')) >= 15
  )


def test_descriptions_without_synopsis_are_of_one_side(root):
  pair = [sources.load('debian/synopsis', split, root) for split in ('train', 'test')]
  assert [len(source) for source in pair] == [2523, 635]
  train, test = ({*source.column('text')} for source in pair)
  assert not train & test
  whole = {
    example['id']: example['text'] for example in sources.load('debian', 'test', root)
  }
  for example in pair[1]:
    assert whole[example['id']] == f'{example["synopsis"]}. {example["text"]}'


def test_the_pages_of_the_help_are_of_one_side(root):
  pair = [sources.load('help_sample', split, root) for split in ('train', 'test')]
  assert [len(source) for source in pair] == [4366, 1416]
  train, test = (
    {example['id'].partition('#')[0] for example in source} for source in pair
  )
  assert not train & test
  words = [example['en'].split() + example['de'].split() for example in pair[1]]
  assert all(8 <= len(each) <= 120 for each in words)


@pytest.mark.parametrize(
  'name',
  ['vader_movie', 'vader_movie/rating', 'vader_amazon', 'vader_tweets', 'vader_nyt'],
)
def test_rated_sets(root, name):
  train, test = (sources.load(name, split, root) for split in ('train', 'test'))
  assert (len(train), len(test)) == COUNTS[name]
  pair = [list(source) for source in (train, test)]
  texts = [
    {subsets.fingerprint(example['text']) for example in split} for split in pair
  ]
  assert not texts[0] & texts[1]
  example = train[0]
  assert (
    isinstance(example['text'], str)
    and isinstance(example['rating'], float)
    and isinstance(example['id'], str)
  )
  assert len({example['id'] for split in pair for example in split}) == sum(
    COUNTS[name]
  )
  if '/' not in name:
    assert train.classes['label'] == ('negative', 'positive')
    assert all(
      (e['rating'] > 0) == e['label'] and abs(e['rating']) >= 0.5 for e in pair[1]
    )


def test_literary_sets_do_not_share_blocks_or_long_quotations(root):
  for name, field, classes in (
    ('austen', 'work', tuple(NOVELS.values())),
    ('shakespeare', 'genre', GENRES),
  ):
    train, test = (sources.load(name, split, root) for split in ('train', 'test'))
    pair = [list(source) for source in (train, test)]
    for split in pair:
      assert train.classes['label'] == classes
      found = {(example['label'], example[field]) for example in split}
      assert found == set(enumerate(classes))
    blocks = [{example['id'].rsplit('/', 1)[0] for example in split} for split in pair]
    assert (
      not blocks[0] & blocks[1] and 0.1 < len(test) / (len(train) + len(test)) < 0.3
    )
    runs = [
      {
        hash(tuple(words[i : i + 12]))
        for example in split
        for words in [re.findall('[a-z]+', example['text'].lower())]
        for i in range(len(words) - 11)
      }
      for split in pair
    ]
    assert not runs[0] & runs[1]
    sizes = np.array([len(example['text'].split()) for example in pair[0]])
    assert np.percentile(sizes, 5) >= 60 and sizes.max() <= 160
    assert not any(
      re.search(r'[\[\]<>{}]|Gutenberg|CHAPTER', example['text']) for example in pair[1]
    )


def test_passages_lose_no_word():
  text = '\n\n'.join(
    ' '.join(f'w{i}-{j}' + ('.' if j % 9 == 0 else '') for j in range(40 * i))
    for i in range(9)
  )
  found = builders.passages(text)
  assert ' '.join(found).split() == text.split() and all(
    40 <= len(piece.split()) <= 160 for piece in found
  )
  prose = builders.passages('One line, ' + 'of many words. ' * 30 + '\nAnother line.')
  assert len(prose) == 1 and prose[0].count('\n') == 1
  assert (
    builders.passages('a few words') == ['a few words']
    and builders.passages('\n \n') == []
  )


def test_random_access(root):
  source = sources.load('vader_tweets', 'test', root)
  every = list(source)
  assert (
    source[-1] == every[-1]
    and source[3:5] == every[3:5]
    and source[np.array([9, 2])] == [every[9], every[2]]
  )
  assert [e['id'] for e in sources.load('vader_tweets', 'test[:10%]', root)] == [
    e['id'] for e in every[:70]
  ]
  with pytest.raises(IndexError):
    source[len(source)]
  upper = sources.map_examples(
    source, lambda example: {'text': example['text'].upper()}, 'upper'
  )
  assert upper[0]['text'] == every[0]['text'].upper() and len(upper) == len(source)
  assert upper.manifest != source.manifest and source.column('id')[:9] == [
    example['id'] for example in every[:9]
  ]


def test_a_field_by_itself_is_that_of_the_examples(root):
  source = sources.load('vader_movie/rating', 'test', root)
  for field in source[0]:
    values = list(source.values(field))
    assert values == [example[field] for example in source]
  # A text is read without the other fields; others are read as they always were.
  assert source.records.decoder('text') and not source.records.decoder('rating')
  with pytest.raises(ValueError, match="no field 'txt'; nearest: 'text'"):
    source.column('txt')
  part = sources.load('vader_movie/rating', 'test[10:20]', root)
  assert part.column('text') == source.column('text')[10:20]


def test_damaged_preparation_is_made_again(root):
  before = list(sources.load('vader_nyt', 'test', root))
  record = next(
    path for path in root.glob('vader_nyt-polarity-*/**/*test.array_record*')
  )
  data = bytearray(record.read_bytes())
  data[len(data) // 2] ^= 1
  record.write_bytes(data)
  assert list(sources.load('vader_nyt', 'test', root)) == before


@pytest.mark.parametrize(
  'name, split, message',
  [
    ('vader_movies', 'train', "'vader_movie'"),
    ('vader_movie/ratings', 'train', "'vader_movie/rating'"),
    ('austen/x', 'train', "nearest: 'austen'"),
    ('vader_movie', 'valid', "no split 'valid'; it has test, train"),
    ('vader_movie', 'train[', 'no split'),
    ('glue/sst2', 'train', "'glue/sst2' is not prepared; it would be read from"),
    ('imdb_reviews', 'train', 'imdb_reviews'),
    ('none.csv', 'train', 'none.csv: no such file'),
  ],
)
def test_what_is_not_there_is_named(root, name, split, message):
  with pytest.raises(ValueError, match=re.escape(message)) as caught:
    sources.load(name, split, root)
  assert '\n' not in str(caught.value)


def test_cache_root(monkeypatch, tmp_path):
  monkeypatch.setenv('TL_JAX_DATA', str(tmp_path / 'a'))
  assert store.cache_root() == tmp_path / 'a'
  monkeypatch.delenv('TL_JAX_DATA')
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'b'))
  assert store.cache_root() == tmp_path / 'b' / 'tl_jax' / 'datasets'
  (tmp_path / 'file').write_text('')
  monkeypatch.setenv('TL_JAX_DATA', str(tmp_path / 'file' / 'x'))
  fallback = store.cache_root()
  assert (
    fallback.is_dir()
    and os.access(fallback, os.W_OK)
    and not fallback.stat().st_mode & 0o022
  )


def test_data_is_light():
  """The quickest of three processes: the machine may be busy."""
  program = (
    'import sys, numpy, time; started = time.process_time(); import tl_jax.data; '
    'from tl_jax.data import files, packing, pipeline, sources, store, subsets, tokenizers, tokens; '
    'spent = time.process_time() - started; '
    "print(spent, [name for name in ('jax', 'grain', 'tensorflow', 'tensorflow_datasets', 'tokenizers') "
    'if name in sys.modules])'
  )
  runs = [
    subprocess.run(
      [sys.executable, '-c', program],
      env={**os.environ, 'PYTHONPATH': str(ROOT)},
      capture_output=True,
      text=True,
      check=True,
      timeout=60,
    ).stdout
    for _ in range(3)
  ]
  assert all(run.endswith(' []\n') for run in runs), runs
  assert min(float(run.split()[0]) for run in runs) < 0.3, runs
