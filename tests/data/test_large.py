"""Large corpora: the same texts in the same order as of a small file, held nowhere."""

import gzip
import json
import pathlib

import numpy as np
import pytest

from tl_jax.data import files, large, sources, tables

TEXTS = files.Columns(label=())
WORDS = [f'wörd{number} of a text\nof two lines' for number in range(60)]


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch, tmp_path):
  monkeypatch.setenv('TL_JAX_DATA', str(tmp_path / 'kept'))
  monkeypatch.setattr(large, 'LARGE', 0)


def rows(**more):
  return [dict(id=place, text=text) | more for place, text in enumerate(WORDS)]


def jsonl(folder, made):
  path = folder / 'a.jsonl.gz'
  path.write_bytes(gzip.compress('\n'.join(map(json.dumps, made)).encode()))
  return path


def as_lines(folder):
  return jsonl(folder, [*rows(), dict(text=' ', id=0)])


def with_splits(folder):
  made = rows(split='train')
  for row in made[::3]:
    row['split'] = 'held'
  return jsonl(folder, made)


def with_a_lone_surrogate(folder):
  return jsonl(folder, [*rows(), dict(text='\ud800 alone')])


def as_table(folder):
  path = folder / 'a.csv'
  lines = [f'{place};"{text}"' for place, text in enumerate(WORDS)]
  path.write_text('\n'.join(['id;text', *lines]))
  return path


def as_folder(folder):
  for place, text in enumerate(WORDS):
    (folder / f'{place}.txt').write_text(text)
  return folder


FORMS = (as_lines, with_splits, with_a_lone_surrogate, as_table, as_folder)


@pytest.mark.parametrize('form', FORMS)
def test_a_large_corpus_is_what_a_small_one_is(form, tmp_path):
  folder = tmp_path / 'own'
  folder.mkdir()
  path = form(folder)
  assert large.is_large(path, TEXTS)
  second = 'held' if form is with_splits else 'test'
  for split in ('train', second, 'all', f'train[10:50%]+{second}[:3]'):
    small = files.load(path, split, TEXTS)
    found = sources.load(str(path), split, None, TEXTS)
    texts = [example['text'] for example in small]
    assert [example['text'] for example in found] == texts
    # What is kept of a small one as tokens is found again.
    assert found.manifest == small.manifest
    for name in ('skipped', 'files', 'divided', 'others', 'told', 'name', 'split'):
      assert getattr(found, name) == getattr(small, name), name
  assert [each['text'] for each in found.gather([2, 0])] == [texts[2], texts[0]]


def test_it_is_read_once(tmp_path, monkeypatch):
  path = as_lines(tmp_path)
  first = list(large.load(path, 'train', TEXTS))

  def never(*given, **how):
    raise AssertionError('read again')

  monkeypatch.setattr(tables, 'rows', never)
  assert list(large.load(path, 'train', TEXTS)) == first
  # Another content is another corpus.
  path.write_bytes(gzip.compress(json.dumps(dict(text='new')).encode()))
  with pytest.raises(AssertionError, match='read again'):
    large.load(path, 'all', TEXTS)


def test_what_has_labels_is_never_large(tmp_path):
  path = as_lines(tmp_path)
  others = (files.Columns(), files.ROWS, files.Columns(label=(), choices=True))
  assert not any(large.is_large(path, columns) for columns in others)


@pytest.mark.parametrize('content', ['{"text": 1}', '{"text": " "}', '{}'])
def test_what_cannot_be_read_is_refused_alike(content, tmp_path):
  path = tmp_path / 'a.jsonl'
  path.write_text(f'{content}\n')
  said = []
  for load in (files.load, large.load):
    with pytest.raises(ValueError) as error:
      load(path, 'train', TEXTS)
    said.append(str(error.value))
  assert said[0] == said[1]
  assert not list(pathlib.Path(tmp_path / 'kept').glob('texts-*'))


def test_a_text_is_in_the_memory_while_it_is_asked_for(tmp_path):
  """And otherwise a part of a mapped file."""
  found = large.load(as_lines(tmp_path), 'all', TEXTS)
  assert isinstance(found.records._texts, np.memmap)
  assert found[5] == found.records[5] == dict(text=WORDS[5])
  assert found[5]['text'] is not found[5]['text']


def test_of_many_texts_fewer_are_held_out(tmp_path, monkeypatch):
  path = as_lines(tmp_path)
  many = {example['text'] for example in files.load(path, 'test', TEXTS)}
  monkeypatch.setattr(large, 'HELD', 4)
  held, rest = large.load(path, 'test', TEXTS), large.load(path, 'train', TEXTS)
  test = {example['text'] for example in held}
  train = {example['text'] for example in rest}
  assert test < many and 0 < len(test) <= len(many) / 2
  assert not test & train and len(test) + len(train) == len(WORDS)
  assert held.told == (f'{len(test)} of {len(WORDS)} texts are held out as test',)
  # Tokens of the other division are not taken for those of this one.
  assert rest.manifest != files.load(path, 'train', TEXTS).manifest
