"""Lines of files: every line end, and encodings that are not UTF-8 by name."""

import gzip

import pyarrow
import pytest

from tl_jax.data import files, lines

MAC = {
  'a.csv': b'text,label\rone,pos\r"two\rlines",neg\r',
  'a.tsv': b'label\ttext\rpos\tone\rneg\t"two\rlines"\r',
  'a.jsonl': b'{"text": "one", "label": "pos"}\r{"text": "two\\nlines", "label": "neg"}\r',
  'a.json': b'[{"text": "one", "label": "pos"},\r{"text": "two\\nlines", "label": "neg"}]',
  'a.txt': b'one\r\rtwo\rlines\r',
}


def packed_as(name, content):
  """The content of a file as its name says that it is packed."""
  if name.endswith('.gz'):
    return gzip.compress(content)
  if name.endswith('.zst'):
    return pyarrow.compress(content, 'zstd', asbytes=True)
  return content


def write(folder, name, content):
  path = folder / name
  path.write_bytes(packed_as(name, content))
  return path


@pytest.mark.parametrize('name', MAC)
@pytest.mark.parametrize('packed', ['', '.gz', '.zst'])
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
    (
      'a.csv',
      pyarrow.compress(b'text\none\n', 'zstd', asbytes=True),
      'a.csv: packed with zstd; its name must then end with .zst',
    ),
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


def test_a_file_of_several_frames_is_read_to_its_end(tmp_path):
  frames = [packed_as('.zst', content) for content in (b'one\ntw', b'o\n', b'three')]
  path = tmp_path / 'a.txt.zst'
  path.write_bytes(b''.join(frames))
  assert [line for _, line in lines.read(path, print)] == ['one\n', 'two\n', 'three']


@pytest.mark.parametrize('torn', [slice(None, -5), slice(None, 3), slice(4, None)])
def test_a_file_that_is_not_whole_is_named(tmp_path, torn):
  content = '\n'.join(f'text {number} of many' for number in range(999))
  path = tmp_path / 'a.txt.zst'
  path.write_bytes(packed_as('.zst', content.encode())[torn])
  with pytest.raises(ValueError, match='a.txt.zst: not a whole zstd file: '):
    files.load(path)


@pytest.mark.parametrize('ending', ['.gz', '.zst'])
@pytest.mark.parametrize('form', ['txt', 'jsonl', 'json', 'csv', 'parquet'])
def test_a_bomb_does_not_fill_the_memory(tmp_path, monkeypatch, form, ending):
  monkeypatch.setattr(lines, 'LONGEST', 2**12)
  rows = dict(jsonl=b'{"text": "a"}\n', json=b'{"text": "a"},\n')
  start = b'[' if form == 'json' else b''
  content = start + rows.get(form, b'text\n') * 2**16
  path = write(tmp_path, f'a.{form}{ending}', content)
  with pytest.raises(ValueError, match=f'a.{form}{ending}.*: unpacks to more than'):
    files.load(path)


@pytest.mark.parametrize('ending', ['.gz', '.zst'])
def test_a_text_that_packs_well_is_no_bomb(tmp_path, monkeypatch, ending):
  monkeypatch.setattr(lines, 'LONGEST', 2**12)
  texts = [f'{number} is a number, as others are' for number in range(999)]
  path = write(tmp_path, f'a.txt{ending}', '\n'.join(texts).encode())
  assert len(files.load(path, 'all')) == 999
