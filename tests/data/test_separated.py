"""CSV files as strangers write them: any delimiter, any damage."""

import pytest

from tl_jax.data import files

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
