"""Files of the user: read right, or refused with file, line and field."""

import gzip
import json

import pytest

from tl_jax.data import files, sources


def write(folder, name, content):
  path = folder / name
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  return path


@pytest.mark.parametrize(
  'name, content',
  [
    (
      'a.csv',
      '\ufefftext,label\r\n"one, two",pos\r\n"line\nbreak", neg \r\n   ,pos\r\n',
    ),
    ('a.tsv', 'label\ttext\npos\tone, two\nneg\t"line\nbreak"\npos\t \n'),
    (
      'a.jsonl',
      '\ufeff{"text": "one, two", "label": "pos"}\r\n\n{"text": "line\\nbreak", "label": "neg"}\n'
      '{"text": "", "label": "pos"}',
    ),
  ],
)
def test_forms_agree(tmp_path, name, content):
  path = write(tmp_path, name, content)
  found = []
  for split in ('train', 'test'):
    try:
      source = sources.load(str(path), split)
    except ValueError as error:
      assert f"no split '{split}'" in str(error)
      continue
    assert source.skipped == {'empty text': 1}
    found += [(example['text'], example['label']) for example in source]
  assert sorted(found) == [('line\nbreak', 'neg'), ('one, two', 'pos')]


def test_split_by_text_keeps_duplicates_together_and_is_about_a_fifth(tmp_path):
  lines = [
    json.dumps(
      {'text': f'Text {i % 400}' if i < 400 else f'text  {i % 400}', 'label': 0}
    )
    for i in range(800)
  ]
  path = write(tmp_path, 'a.jsonl', '\n'.join(lines))
  train, test = (sources.load(str(path), split) for split in ('train', 'test'))
  normal = [
    {' '.join(example['text'].casefold().split()) for example in source}
    for source in (train, test)
  ]
  assert (
    not normal[0] & normal[1]
    and len(train) + len(test) == 800
    and 0.1 < len(test) / 800 < 0.3
  )
  assert train.manifest != test.manifest


def test_split_column_and_slices(tmp_path):
  rows = ''.join(
    f'text {i},{i},{"valid" if i % 5 == 0 else "train"}\n' for i in range(10)
  )
  path = write(tmp_path, 'a.csv', 'text,label,split\n' + rows)
  assert [example['label'] for example in files.load(path, 'valid')] == ['0', '5']
  assert [
    example['label'] for example in files.load(path, 'train[:25%]+valid[1:]')
  ] == ['1', '2', '5']
  assert [example['label'] for example in files.load(path, 'train[-2:]')] == ['8', '9']
  assert 'split' not in files.load(path, 'train')[0]
  for split, message in (
    ('test', 'it has train, valid'),
    ('train[5:5]', 'has no examples'),
  ):
    with pytest.raises(ValueError, match=message):
      files.load(path, split)


RECORDS = [
  {'text': 'one, two', 'label': 'pos', 'split': 'train'},
  {'text': 'line\nbreak', 'label': 'neg', 'split': 'train'},
  {'text': 'three', 'label': 'pos', 'split': 'test'},
]


def as_bytes(ending):
  """The records in the format of a file's ending."""
  plain = ending.lower().removesuffix('.gz')
  if plain == '.parquet':
    import io

    import pyarrow
    from pyarrow import parquet

    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(RECORDS), buffer)
    content = buffer.getvalue()
  elif plain in ('.csv', '.tsv'):
    between = '\t' if plain == '.tsv' else ','
    quoted = [[f'"{value}"' for value in record.values()] for record in RECORDS]
    lines = [between.join(row) for row in [['text', 'label', 'split'], *quoted]]
    content = ('\n'.join(lines) + '\n').encode()
  elif plain == '.json':
    content = json.dumps(RECORDS, indent=2).encode()
  else:
    content = '\n'.join(map(json.dumps, RECORDS)).encode()
  return gzip.compress(content) if ending.lower().endswith('.gz') else content


@pytest.mark.parametrize(
  'ending',
  [
    '.csv',
    '.CSV',
    '.csv.gz',
    '.tsv',
    '.Tsv.GZ',
    '.jsonl',
    '.JSONL',
    '.jsonl.gz',
    '.json',
    '.JSON',
    '.json.gz',
    '.parquet',
    '.PARQUET',
    '.parquet.gz',
  ],
)
def test_every_ending_reads_the_same_examples(tmp_path, ending):
  path = write(tmp_path, f'my.set+of, files{ending}', as_bytes(ending))
  wanted = [(record['text'], record['label']) for record in RECORDS]
  found = [(example['text'], example['label']) for example in sources.load(path, 'all')]
  assert found == wanted
  assert [example['text'] for example in sources.load(path, 'test')] == ['three']


def test_a_json_file_may_have_an_object_per_line_and_names_the_line_of_an_array(
  tmp_path,
):
  lines = write(tmp_path, 'a.json', '{"text": "a"}\n{"text": "b"}\n')
  assert [example['text'] for example in files.load(lines, 'all')] == ['a', 'b']
  for content, message in (
    ('[\n{"text": "a"},\n{"text": 3}]', r'a.json:3: text: .3. \(int\)'),
    ('[\n{"text": "a"},\n\n{"text": ]', 'a.json:4: not JSON'),
    ('[{"text": "a"}\n{"text": "b"}]', 'a.json:1: not JSON: no , or ]'),
    ('[{"text": "a"}', 'no , or ] after'),
    ('[{"text": "a"}] 1', 'more after the array'),
    ('[1]', 'a JSON object is needed'),
  ):
    with pytest.raises(ValueError, match=message):
      files.load(write(tmp_path, 'a.json', content), 'all')


@pytest.mark.parametrize(
  'name, content, message',
  [
    ('a.csv.gz', b'text\na\n', 'a.csv.gz: not a whole gzip file'),
    (
      'a.csv.gz',
      gzip.compress(b'text\n' + bytes(range(32, 90)) * 99)[:-9],
      'not a whole gzip file',
    ),
    ('a.parquet', b'PAR1 but not really', 'a.parquet: not Parquet'),
    ('a.xlsx', b'text', 'the ending is none of .csv, .tsv'),
  ],
)
def test_a_file_of_another_format_than_it_says_is_named(
  tmp_path, name, content, message
):
  with pytest.raises(ValueError, match=message) as caught:
    files.load(write(tmp_path, name, content))
  assert '\n' not in str(caught.value)


def test_plain_text_is_told_apart_by_empty_lines_or_else_by_lines(tmp_path):
  lines = write(tmp_path, 'lines.txt', '\ufeffone\ntwo \nthree\n\n')
  assert [example['text'] for example in files.load(lines, 'all')] == [
    'one',
    'two',
    'three',
  ]
  book = write(tmp_path, 'book.TXT', '\none\ntwo\n\n \nthree\n')
  assert [example['text'] for example in files.load(book, 'all')] == [
    'one\ntwo',
    'three',
  ]
  with pytest.raises(ValueError, match='none.txt: no example; there is nothing in it'):
    files.load(write(tmp_path, 'none.txt', '\n \n'))


def test_each_file_of_a_folder_is_one_text(tmp_path):
  folder = tmp_path / 'a.corpus'
  (folder / 'deep').mkdir(parents=True)
  write(folder, 'b.txt', 'b1\nb2\n')
  write(folder / 'deep', 'a.txt.gz', gzip.compress(b'deep'))
  write(folder, 'a.txt', 'a1')
  write(folder, 'notes.md', 'left out')
  source = sources.load(str(folder), 'all')
  assert [example['text'] for example in source] == ['a1', 'b1\nb2', 'deep']
  assert set(source.files) == {
    str(folder / name) for name in ('a.txt', 'b.txt', 'deep/a.txt.gz')
  }
  assert source.places[1] == (folder / 'b.txt', 1)
  assert source.told == ('3 files, each of them one text',)
  before = source.manifest
  write(folder, 'b.txt', 'b1\nb3\n')
  assert sources.load(str(folder), 'all').manifest != before


def test_columns_of_other_names_and_several(tmp_path):
  path = write(tmp_path, 'a.csv', 'title,body,good,bad\nA,b,1,0\nC,d,0,false\n')
  read = lambda **how: files.load(path, 'all', files.Columns(**how))
  assert [example['text'] for example in read(text=('body',))] == ['b', 'd']
  assert read(text=('title', 'body'))[0]['text'] == 'title: A\nbody: b'
  assert [
    example['label'] for example in read(text=('body',), label=('good', 'bad'))
  ] == [['good'], []]
  assert read(text=('body',)).manifest != read(text=('title',)).manifest
  for how, message in (
    (
      dict(text=('boddy',)),
      'a.csv:1: boddy: no such column; it has title, body, good, bad',
    ),
    (
      dict(text=('body',), labelled=True),
      'a.csv:1: label: no such column; it has title',
    ),
    (
      dict(text=('body',), label=('title', 'good')),
      'a.csv:2: title: .A. .*each holds 0 or 1',
    ),
  ):
    with pytest.raises(ValueError, match=message):
      read(**how)


def test_neither_side_of_a_split_by_hash_is_empty(tmp_path):
  for count in (2, 3, 4):
    path = write(
      tmp_path, 'a.txt', '\n'.join(f'text {number}' for number in range(count))
    )
    train, test = (files.load(path, split) for split in ('train', 'test'))
    assert len(train) + len(test) == count and train.divided
    path = write(
      tmp_path,
      'b.txt',
      '\n'.join(f'text {number}' for number in reversed(range(count))),
    )
    assert {example['text'] for example in files.load(path, 'test')} == {
      example['text'] for example in test
    }


def test_what_has_no_second_text_and_what_is_a_folder_is_said(tmp_path):
  path = write(tmp_path, 'a.txt', 'one\none\n')
  missing = {'train', 'test'} - set(files.read(path, files.Columns()).splits)
  with pytest.raises(ValueError, match='where all texts are equal'):
    files.load(path, missing.pop())
  (tmp_path / 'b.csv').mkdir()
  with pytest.raises(ValueError, match='b.csv: an empty folder'):
    files.load(tmp_path / 'b.csv')


def test_a_changed_file_is_read_again(tmp_path):
  path = write(tmp_path, 'a.txt', 'one')
  assert files.load(path, 'all')[0]['text'] == 'one'
  write(tmp_path, 'a.txt', 'two')
  assert files.load(path, 'all')[0]['text'] == 'two'


GOOD = '{"text": "fine", "label": 1}\n'


@pytest.mark.parametrize(
  'content, message',
  [
    (GOOD + '{"text": 3, "label": 1}\n', r'a.jsonl:2: text: .3. \(int\)'),
    (GOOD + '{"label": 1}\n', 'a.jsonl:2: text: missing; the line has label'),
    (GOOD + '{"text": "a", "label": {"x": 1}}\n', 'a.jsonl:2: label: '),
    (GOOD + '{"text": "a"\n', 'a.jsonl:2: not JSON'),
    (GOOD + '[1]\n', 'a.jsonl:2: a JSON object is needed, this is a list'),
    (
      GOOD + '{"text": "a", "text": "b"}\n',
      "a.jsonl:2: not JSON: the key 'text' stands twice",
    ),
    ('{"text": "a", "split": "nan"}\n', "a.jsonl:1: split: 'nan'"),
    (GOOD + '[' * 100_000 + '\n', 'a.jsonl:2: not JSON'),
    (
      GOOD + '{"text": "a", "label": 1, "split": "test"}\n',
      'a.jsonl:2: split: given on some',
    ),
    (GOOD.encode() + b'{"text": "\xff"}\n', 'a.jsonl:2: byte 10: not UTF-8'),
    ('\n\n', 'a.jsonl: no example; there is nothing in it'),
    ('', 'a.jsonl: the file is empty'),
    ('{"text": " "}\n', r'a.jsonl: no example with a text \(1 empty\)'),
  ],
)
def test_malformed_json_lines(tmp_path, content, message):
  path = write(tmp_path, 'a.jsonl', content)
  with pytest.raises(ValueError, match=message) as caught:
    files.load(path)
  assert '\n' not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
  'content, message',
  [
    ('text,label\na,b,c\n', 'a.csv:2: 3 fields, the header has 2'),
    ('text,label\n"a\nb",1\nc\n', 'a.csv:4: 1 fields'),
    ('body,label\na,b\n', 'a.csv:1: text: no such column; it has body, label'),
    ('text,text\na,b\n', 'a.csv:1: a column is named twice: text'),
  ],
)
def test_malformed_csv(tmp_path, content, message):
  with pytest.raises(ValueError, match=message):
    files.load(write(tmp_path, 'a.csv', content))


def test_odd_text_survives(tmp_path):
  odd = ['a\u0000b', '\u202eright to left', 'e\u0301', '\U0001f468\u200d\U0001f469']
  rows = [json.dumps({'text': text, 'label': 1, 'split': 'train'}) for text in odd] + [
    '{"text": "\\ud800 alone", "label": 1, "split": "train"}'
  ]
  found = [
    example['text']
    for example in files.load(write(tmp_path, 'a.jsonl', '\n'.join(rows)))
  ]
  assert found == [*odd, '? alone']


def test_half_of_a_character_is_no_label(tmp_path):
  row = '{"text": "a", "label": "\\ud83d", "split": "train"}\n'
  with pytest.raises(ValueError, match=r'a\.jsonl:1: label: '):
    files.load(write(tmp_path, 'a.jsonl', row))


def test_the_file_is_part_of_the_manifest(tmp_path):
  path = write(tmp_path, 'a.jsonl', '{"text": "a", "split": "train"}\n')
  before = files.load(path).manifest
  write(tmp_path, 'a.jsonl', '{"text": "b", "split": "train"}\n')
  assert files.load(path).manifest != before
  with pytest.raises(ValueError, match='no such file'):
    files.load(tmp_path / 'b.csv')
