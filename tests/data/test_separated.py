"""CSV files as strangers write them: any delimiter, any damage."""

import gzip

import pytest

from tl_jax import data
from tl_jax.data import files, separated

LABELLED = files.Columns(labelled=True)


def write(folder, content, name='a.csv'):
  path = folder / name
  path.write_bytes(content)
  return path


@pytest.mark.parametrize(
  'name, content, parted',
  [
    ('a.csv', b'text;label\none, two;pos\nthree;neg\n', 'semicolons'),
    ('a.csv', b'text\tlabel\none, two\tpos\nthree\tneg\n', 'tabs'),
    ('a.csv', b'text|label\none, two|pos\nthree|neg\n', 'bars'),
    ('a.csv', b'"text";"label"\r\n"one, two";"pos"\r\n"three";"neg"\r\n', 'semicolons'),
    ('a.csv', b'sep=;\r\ntext;label\r\none, two;pos\r\nthree;neg\r\n', 'semicolons'),
    ('a.csv', b'id;text;label;;\n1;one, two;pos;;\n2;three;neg;;\n', 'semicolons'),
    ('a.tsv', b'text,label\n"one, two",pos\nthree,neg\n', 'commas'),
    ('a.tsv', b'text;label\none, two;pos\nthree;neg\n', 'semicolons'),
  ],
)
def test_the_delimiter_is_found_from_the_header_and_told(
  tmp_path, name, content, parted
):
  path = write(tmp_path, content, name)
  source = files.read(path, LABELLED).source('all')
  found = [(example['text'], example['label']) for example in source]
  assert found == [('one, two', 'pos'), ('three', 'neg')]
  assert source.told == (f'cells are parted by {parted}, as the header shows',)
  # The labels are not looked at where texts alone are asked for.
  texts = files.load(path, 'all', files.Columns(label=()))
  assert [example['text'] for example in texts] == ['one, two', 'three']


def test_the_usual_delimiter_is_not_told(tmp_path):
  path = write(tmp_path, b'text,label,a;b\none;two,pos,1\n')
  source = files.read(path, LABELLED).source('all')
  assert (source[0]['text'], source.told) == ('one;two', ())
  path = write(tmp_path, b'text\none; two | three\n')
  assert files.load(path, 'all')[0]['text'] == 'one; two | three'


def test_a_folder_apart_the_same_file_is_the_same_source(tmp_path):
  content = b'text;label\none;pos\n'
  (tmp_path / 'b').mkdir()
  first = files.load(write(tmp_path, content), 'all')
  second = files.load(write(tmp_path / 'b', content), 'all')
  assert first.manifest == second.manifest


@pytest.mark.parametrize(
  'content, message',
  [
    # The header is wrong.
    (b'', 'a.csv: the file is empty'),
    (b'\n \n', 'a.csv: the file is empty; a header and rows are needed'),
    (b'text,label\n', 'a.csv: no row below the header text, label'),
    (b'text,label\r\n\r\n', 'a.csv: no row below the header text, label'),
    (b'text,label,text\na,b,c\n', 'a.csv:1: a column is named twice: text'),
    (b'\n\nmail,class\na,b\n', 'a.csv:3: text: no such column; it has mail, class'),
    (b'Text;Class\na;b\n', 'text: no such column; it has Text, Class parted by semic'),
    (
      b'mail;a,class\na;b,c\n',
      'it has mail;a, class or mail, a,class parted by semicolons',
    ),
    (
      b'x;text;label;y,text,label,z\na;b;c;d,e,f,g\n',
      'a.csv:1: cells may be parted by commas or semicolons: .* text, label with either',
    ),
    (b'"text,label\na,b\n', 'a.csv:1: a quote is opened here and never closed'),
    # A row is wrong.
    (
      b'text,label\na,b\nc\n',
      'a.csv:3: 1 fields, the header has 2; they are parted by commas',
    ),
    (
      b'text;label\na;b\nc;d;e\n',
      'a.csv:3: 3 fields, the header has 2; a cell that holds a semicolon stands in',
    ),
    (b'text;label\na,b\n', 'a.csv:2: 1 fields, .* they are parted by semicolons'),
    (b'text,label\na,b\n"c,d\ne,f\n', 'a.csv:3: a quote is opened here and never clos'),
    (
      b'text,label\n"a\n""b"" c","d\ne,f\n',
      'a.csv:3: a quote is opened here and never closed',
    ),
    (b'text,label\na,b\n"c" d,e\n', 'a.csv:3: text after a closing quote; a quote'),
    (
      b'text,label\n"a,b\n"c",d\n',
      'a.csv:2: text after a closing quote on line 3; a quote',
    ),
  ],
)
def test_damage_is_named_where_it_is(tmp_path, content, message):
  with pytest.raises(ValueError, match=message) as caught:
    files.read(write(tmp_path, content), LABELLED)
  assert '\n' not in str(caught.value)


def test_blank_lines_and_columns_without_a_name_are_no_damage(tmp_path):
  content = b',text,label,split,,\n0,one,pos,train,,\n  \n1,two,neg,train,,\n\n,,,,,\n'
  path = write(tmp_path, content)
  source = files.read(path, LABELLED).source('all')
  assert [example['text'] for example in source] == ['one', 'two']


def columns_with(delimiter):
  return files.Columns(labelled=True, delimiter=delimiter)


@pytest.mark.parametrize('name', ['a.csv', 'a.tsv', 'a.txt', 'a.csv.gz'])
@pytest.mark.parametrize('delimiter', ['^', ' ', '\t', '¦'])
def test_a_given_delimiter_parts_the_cells(tmp_path, name, delimiter):
  content = 'text^label\n"one^ two, 3; 4"^pos\nthree,3^neg\n'.replace('^', delimiter)
  packed = gzip.compress if name.endswith('.gz') else bytes
  path = write(tmp_path, packed(content.encode()), name)
  source = files.read(path, columns_with(delimiter)).source('all')
  found = [(example['text'], example['label']) for example in source]
  one = 'one^ two, 3; 4'.replace('^', delimiter)
  assert found == [(one, 'pos'), ('three,3', 'neg')]
  assert source.told == ()
  read = data.texts.read(path, delimiter=delimiter)
  assert list(read) == [one, 'three,3']


def test_a_given_delimiter_decides_between_two_and_is_part_of_the_identity(tmp_path):
  path = write(tmp_path, b'x;text;label;y,text,label,z\na;b;c;d,e,f,g\n')
  sources = [files.read(path, columns_with(each)).source('all') for each in ',;']
  assert [source[0]['text'] for source in sources] == ['e', 'b']
  assert sources[0].manifest != sources[1].manifest


def test_a_folder_of_texts_is_one_of_tables_where_a_delimiter_is_given(tmp_path):
  for split in ('train', 'test'):
    content = f'text^label\n{split} a^pos\n{split} b^neg\n'
    write(tmp_path, content.encode(), f'{split}.txt')
  table = files.read(tmp_path, columns_with('^'))
  assert [row['text'] for row in table.source('test')] == ['test a', 'test b']
  assert len(files.load(tmp_path, 'all')) == 2


def test_a_row_and_a_header_that_a_given_delimiter_does_not_part(tmp_path):
  path = write(tmp_path, b'text^label\na^b^c\n')
  with pytest.raises(ValueError, match=r"a.csv:2: 3 fields, .* that holds a '\^' stan"):
    files.read(path, columns_with('^'))
  path = write(tmp_path, b'text,label\na,b\n')
  with pytest.raises(ValueError, match='a.csv:1: text: no such column; it has text,la'):
    files.read(path, columns_with('^'))


@pytest.mark.parametrize('said', ['^^', 'Tab', '\\t', '"', '\n'])
def test_what_is_no_delimiter_is_refused_with_the_choices(said):
  with pytest.raises(ValueError, match='single .* comma, semicolon, tab, bar, space'):
    separated.delimiter_of(said)


@pytest.mark.parametrize(
  ('header', 'parts'),
  [('text^label', '^'), ('id text label', ' '), ('text_label', ''), ('mail^label', '')],
)
def test_what_would_part_a_header_is_known(tmp_path, header, parts):
  path = write(tmp_path, f'{header}\na\n'.encode())
  with pytest.raises(separated.NoColumn) as caught:
    files.read(path, LABELLED)
  assert caught.value.parts == parts
