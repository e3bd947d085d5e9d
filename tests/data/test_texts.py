"""Every row of a file has its text, an empty one too, and none is read twice."""

import gzip
import json

import pytest

from tl_jax.data import texts
from tl_jax.data.pairs import Pair

ROWS = [
  dict(title='a', text='good, film'),
  dict(title='', text=''),
  dict(title='c', text=' '),
]
CSV = 'title,text\na,"good, film"\n,\n\nc, \n'
FORMS = {
  'a.csv': CSV,
  'a.tsv': 'title\ttext\na\tgood, film\n\t\n\nc\t \n',
  'a.jsonl': ''.join(json.dumps(row) + '\n' for row in ROWS) + '\n',
  'a.json': json.dumps(ROWS),
  'a.txt': 'good, film\n\n \n',
}


@pytest.mark.parametrize('name', [*FORMS, 'a.parquet'])
@pytest.mark.parametrize('packed', [False, True])
def test_an_empty_text_keeps_its_place(tmp_path, name, packed):
  path = tmp_path / name
  if name == 'a.parquet':
    pyarrow = pytest.importorskip('pyarrow')
    parquet = pytest.importorskip('pyarrow.parquet')
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
  else:
    path.write_text(FORMS[name])
  if packed:
    content = path.read_bytes()
    path = tmp_path / f'{name}.gz'
    path.write_bytes(gzip.compress(content))
  assert list(texts.read(path)) == ['good, film', '', ' ']
  assert texts.count(path) == 3


def test_several_columns_make_one_text(tmp_path):
  path = tmp_path / 'a.csv'
  path.write_text(CSV)
  found = list(texts.read(path, ('title', 'text')))
  assert found == ['title: a\ntext: good, film', '', 'title: c\ntext:  ']


def test_two_columns_are_a_pair_and_three_are_one_text(tmp_path):
  path = tmp_path / 'a.jsonl'
  path.write_text(json.dumps(dict(a='one \ud83d', b=None, c='three')))
  (two,) = texts.read(path, ('a', 'b'))
  assert isinstance(two, Pair) and (two.first, two.second) == ('one ?', '')
  assert two == 'a: one ?\nb: '
  (three,) = texts.read(path, ('a', 'b', 'c'))
  assert type(three) is str and three == 'a: one ?\nb: \nc: three'


def test_rows_are_read_as_they_are_asked_for(tmp_path):
  path = tmp_path / 'a.csv'
  path.write_text('text\none\n"two\n')
  found = texts.read(path)
  assert next(found) == 'one'
  with pytest.raises(ValueError, match='a.csv:3: a quote is opened'):
    next(found)
  with pytest.raises(ValueError, match='a.csv:3: a quote is opened'):
    texts.count(path)


@pytest.mark.parametrize(
  ('content', 'message'),
  [('id,body\n1,a\n', 'a.csv:1: text: no such column; it has id, body'), ('', 'empty')],
)
def test_what_cannot_be_read_is_named(tmp_path, content, message):
  path = tmp_path / 'a.csv'
  path.write_text(content)
  with pytest.raises(ValueError, match=message):
    texts.count(path)
