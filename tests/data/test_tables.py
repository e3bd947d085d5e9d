"""JSON and Parquet as strangers write them, and what is wrong with them in one line."""

import json

import pytest

from tl_jax.data import files

GOOD = b'{"text": "fine"}\n'


def write(folder, name, content):
  path = folder / name
  path.write_bytes(content)
  return path


@pytest.mark.parametrize('name', ['a.jsonl', 'a.json'])
@pytest.mark.parametrize(
  'content, reason',
  [
    (b'{"text": "a" "label": 1}', "Expecting ',' delimiter at column 14"),
    (b'{"text": "a}', 'the line ends inside of an object'),
    (b'{"text": "a"', 'the line ends inside of an object; each object stands on one'),
    (b'{\n"text": "a"\n}', 'the line ends inside of an object'),
    (b'{"text": "a"}{"text": "b"}', 'more after the object; each object stands on a'),
    (b'{"text": "a"},', 'more after the object'),
    (b'{"text": "a", "text": "b"}', "the key 'text' stands twice"),
  ],
)
def test_a_broken_line_is_named_once(tmp_path, name, content, reason):
  with pytest.raises(ValueError) as caught:
    files.load(write(tmp_path, name, GOOD + content + b'\n'))
  message = str(caught.value)
  assert f'{name}:2: not JSON: {reason}' in message
  assert 'line 1' not in message and '\n' not in message and 'char' not in message


def test_lines_that_are_one_array_are_read_as_that(tmp_path):
  rows = [{'text': 'one'}, {'text': 'two'}]
  path = write(tmp_path, 'a.jsonl', json.dumps(rows, indent=1).encode())
  assert [example['text'] for example in files.load(path, 'all')] == ['one', 'two']
  path = write(tmp_path, 'a.jsonl', b'["one", "pos"]\n["two", "neg"]\n')
  with pytest.raises(
    ValueError, match='a.jsonl:1: a JSON object is needed, this is a '
  ):
    files.load(path)


def test_the_line_inside_of_an_object_of_an_array_is_named(tmp_path):
  path = write(tmp_path, 'a.json', b'[\n {\n  "text": "a",\n  "text" "b"\n }\n]')
  with pytest.raises(ValueError, match="a.json:4: not JSON: Expecting ':' delimiter"):
    files.load(path)


@pytest.mark.parametrize(
  'name, content, message',
  [
    ('a.json', b'', 'a.json: the file is empty'),
    ('a.json', b'[]', 'a.json: no example; there is nothing in it'),
    ('a.jsonl', b'\n', 'a.jsonl: no example; there is nothing in it'),
    ('a.parquet', b'', 'a.parquet: the file is empty'),
    ('a.txt', b'', 'a.txt: the file is empty'),
    ('a.json', b'{"text": {"0": "a"}}', 'a.json:1: an object of whole columns; an'),
    (
      'a.json',
      b'{"data": [{"text": "a"}]}',
      'a.json:1: text: missing; the line has da',
    ),
  ],
)
def test_what_holds_no_example_is_said(tmp_path, name, content, message):
  with pytest.raises(ValueError, match=message):
    files.load(write(tmp_path, name, content))


@pytest.mark.parametrize('ending', ['csv', 'tsv', 'jsonl', 'json', 'parquet', 'txt'])
def test_what_stands_in_the_place_of_a_file_is_named(tmp_path, ending):
  pointer = b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n'
  with pytest.raises(ValueError, match=f'a.{ending}: a Git LFS pointer'):
    files.load(write(tmp_path, f'a.{ending}', pointer))
  path = write(tmp_path, f'a.{ending}', b'<!DOCTYPE html>\n<p>Not found</p>\n')
  if ending == 'txt':
    assert len(files.load(path, 'all')) == 2
  else:
    with pytest.raises(ValueError, match=f'a.{ending}: an HTML page'):
      files.load(path)


@pytest.mark.parametrize(
  'ending', ['csv.gz', 'jsonl.gz', 'txt.gz', 'CSV.GZ', 'jsonl.zst']
)
def test_so_is_what_stands_in_the_place_of_a_packed_file(tmp_path, ending):
  path = tmp_path / f'a.{ending}'
  path.write_bytes(b'version https://git-lfs.github.com/spec/v1\nsize 9\n')
  with pytest.raises(ValueError, match=f'a.{ending}: a Git LFS pointer'):
    files.load(path)
  path.write_bytes(b'<!DOCTYPE html>\n<p>Not found</p>\n')
  with pytest.raises(ValueError, match=f'a.{ending}: an HTML page'):
    files.load(path)


def test_a_text_that_is_missing_is_an_empty_one(tmp_path):
  path = write(tmp_path, 'a.jsonl', GOOD + b'{"text": null}\n{"text": NaN}\n')
  source = files.load(path, 'all')
  assert (len(source), source.skipped) == (1, {'empty text': 2})
  path = write(tmp_path, 'a.jsonl', b'{"title": "A", "body": null}\n')
  source = files.load(path, 'all', files.Columns(text=('title', 'body')))
  assert source[0]['text'] == 'title: A\nbody: '


def test_parquet_has_columns_like_any_other(tmp_path):
  pyarrow = pytest.importorskip('pyarrow')
  from pyarrow import parquet

  path = tmp_path / 'a.parquet'
  parquet.write_table(pyarrow.table({'text': ['a', None], 'label': ['x', 'y']}), path)
  assert files.load(path, 'all').skipped == {'empty text': 1}
  with pytest.raises(
    ValueError, match='a.parquet:1: mail: no such column; it has text'
  ):
    files.load(path, 'all', files.Columns(text=('mail',)))
  twice = pyarrow.table([['a'], ['b']], names=['text', 'text'])
  parquet.write_table(twice, path)
  with pytest.raises(ValueError, match='a.parquet:1: a column is named twice: text'):
    files.load(path)
