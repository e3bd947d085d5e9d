"""What a message says of a path that is not there."""

import pathlib

import pytest

from tl_jax import config


@pytest.fixture
def here(tmp_path, monkeypatch):
  """A current folder with a file, and a folder with a file."""
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'reviews.csv').touch()
  (tmp_path / 'texts').mkdir()
  (tmp_path / 'texts' / 'letters.jsonl').touch()


@pytest.mark.parametrize(
  ('path', 'near'),
  [
    ('review.csv', ['reviews.csv']),
    ('./review.csv', ['reviews.csv']),
    ('textz/', ['texts/']),
    ('texts/letter.jsonl', ['texts/letters.jsonl']),
    # The first part that is not there.
    ('text/letters.jsonl', ['texts/']),
    # What is there is no typing error.
    ('texts', []),
    ('something_else', []),
    ('', []),
    ('a\0b', []),
  ],
)
def test_what_is_near_is_written_as_the_path_is(here, path, near):
  assert config.near_paths(path) == near


def test_an_absolute_path_has_absolute_ones_beside_it(here):
  path = pathlib.Path.cwd() / 'review.csv'
  near = path.with_name('reviews.csv')
  assert config.beside(path) == f"; nearest: '{near}'"
