"""Lines of files: every line end, and encodings that are not UTF-8 by name."""

import gzip

import pytest

from tl_jax.data import files, lines

MAC = {
  'a.csv': b'text,label\rone,pos\r"two\rlines",neg\r',
  'a.tsv': b'label\ttext\rpos\tone\rneg\t"two\rlines"\r',
  'a.jsonl': b'{"text": "one", "label": "pos"}\r{"text": "two\\nlines", "label": "neg"}\r',
  'a.json': b'[{"text": "one", "label": "pos"},\r{"text": "two\\nlines", "label": "neg"}]',
  'a.txt': b'one\r\rtwo\rlines\r',
}


def write(folder, name, content):
  path = folder / name
  path.write_bytes(gzip.compress(content) if name.endswith('.gz') else content)
  return path


@pytest.mark.parametrize('name', MAC)
@pytest.mark.parametrize('packed', ['', '.gz'])
def test_lines_of_old_macs_are_read_and_told(tmp_path, name, packed):
  path = write(tmp_path, name + packed, MAC[name])
  source = files.load(path, 'all')
  assert [example['text'] for example in source] == ['one', 'two\nlines']
  assert source.told[0] == 'lines end with \\r, as on old Macs'


def test_excel_on_a_mac_puts_a_line_feed_into_a_cell(tmp_path):
  path = write(tmp_path, 'a.csv', b'text,label\r"two\nlines",neg\rone,pos\r')
  source = files.load(path, 'all')
  assert [example['text'] for example in source] == ['two\nlines', 'one']
  assert [line for _, line in source.places] == [2, 3]


def test_a_broken_line_of_an_old_mac_is_named(tmp_path):
  path = write(tmp_path, 'a.jsonl', b'{"text": "one"}\r{"text": \r')
  with pytest.raises(ValueError, match='a.jsonl:2: not JSON'):
    files.load(path)


def test_a_carriage_return_among_other_line_ends_is_kept_or_named(tmp_path):
  path = write(tmp_path, 'a.txt', b'10 %\r20 %\r\ndone\n')
  assert [line for _, line in lines.read(path, [].append)] == [
    '10 %\r20 %\r\n',
    'done\n',
  ]
  path = write(tmp_path, 'a.csv', b'text,label\none\rtwo,pos\n')
  with pytest.raises(ValueError, match=r'a.csv:2: a carriage return, \\r, in the mid'):
    files.load(path)


@pytest.mark.parametrize(
  'name, content, message',
  [
    ('a.csv', 'text,label\none,pos\n'.encode('utf-16'), 'a.csv: UTF-16, not UTF-8'),
    ('a.csv', 'text,label\none,pos\n'.encode('utf-16-be'), 'a.csv: UTF-16, not UTF-8'),
    ('a.jsonl', '{"text": "one"}\n'.encode('utf-16-le'), 'a.jsonl: UTF-16, not UTF-8'),
    ('a.json', '[{"text": "one"}]'.encode('utf-16'), 'a.json: UTF-16, not UTF-8'),
    ('a.txt', 'one\n'.encode('utf-16'), 'a.txt: UTF-16, not UTF-8'),
    ('a.tsv.gz', 'text\tlabel\n'.encode('utf-16'), 'a.tsv.gz: UTF-16, not UTF-8'),
    ('a.csv', 'text,label\nschön,gut\n'.encode('cp1252'), 'a.csv:2: byte 3: not UTF-8'),
    ('a.csv', gzip.compress(b'text\none\n'), 'a.csv: packed with gzip; its name must'),
    ('a.csv', b'PK\x03\x04\x14\x00', 'a.csv: a zip file or an Excel workbook'),
    ('a.json', b'PAR1\x15\x04', 'a.json: Parquet; its name must'),
  ],
)
def test_what_is_no_text_in_utf_8_is_named(tmp_path, name, content, message):
  with pytest.raises(ValueError, match=message) as caught:
    files.load(write(tmp_path, name, content))
  assert '\n' not in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_a_name_or_a_text(tmp_path):
  path = write(tmp_path, 'a.csv', b'\xef\xbb\xbf"text";"label"\r\n"one";"pos"\r\n')
  assert files.load(path, 'all')[0] == {'text': 'one', 'label': 'pos'}
  path = write(tmp_path, 'a.json', b'\xef\xbb\xbf[{"text": "one"}]')
  assert files.load(path, 'all')[0] == {'text': 'one'}
