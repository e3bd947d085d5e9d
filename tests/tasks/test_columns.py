"""Columns of a user's file that are not there, whatever its format."""

import re

import pytest

from tl_jax import tasks
from tl_jax.config import ConfigError


@pytest.mark.parametrize(
  ('how', 'column', 'key'),
  [
    (dict(), 'text', 'text'),
    (dict(text='Body'), 'label', 'label'),
    (dict(text='Body', target='Title'), 'Title', 'target'),
  ],
)
@pytest.mark.parametrize('name', ['a.csv', 'a.parquet', 'a.jsonl'])
def test_a_column_that_is_not_there_is_refused_with_its_key(
  tmp_path, how, column, key, name
):
  path = tmp_path / name
  if name == 'a.csv':
    path.write_text('Body,Kind\na,b\nc,d\n')
  elif name == 'a.jsonl':
    path.write_text('{"Body": "a", "Kind": "b"}\n{"Body": "c", "Kind": "d"}\n')
  else:
    pyarrow = pytest.importorskip('pyarrow')
    parquet = pytest.importorskip('pyarrow.parquet')
    parquet.write_table(pyarrow.table(dict(Body=['a', 'c'], Kind=['b', 'd'])), path)
  wrong = 'no such column; it has'
  if name == 'a.jsonl':
    wrong = 'missing; the line has'
  said = f'{column}: {wrong} Body, Kind; {key}=COLUMN names it'
  with pytest.raises(ConfigError, match=re.escape(said)):
    tasks.find(str(path), how=tasks.own.Reading(**how))
