"""The rows of a user's file, whatever its format, each with the place where it stands.

>>> import tempfile
>>> path = pathlib.Path(tempfile.mkdtemp()) / 'a.tsv'
>>> _ = path.write_text('text\\tlabel\\ngood film\\tpos\\n')
>>> [(line, row) for _, line, row in rows(path, lambda file, line, columns: None)]
[(2, {'text': 'good film', 'label': 'pos'})]
"""

import contextlib
import csv
import functools
import gzip
import io
import json
import os
import pathlib
import zlib
from collections.abc import Callable, Iterator

ENDINGS = ('.csv', '.tsv', '.jsonl', '.json', '.parquet', '.txt')
# Characters of a line or field: more than a real text, less than a decompression bomb.
LONGEST = 2**28
# Rows of a Parquet file that are decoded together.
BATCH = 1024
BYTE_ORDER_MARK = b'\xef\xbb\xbf'
# Bytes that tell an array of objects from objects on lines of their own.
_START = 64


def ending(name) -> str:
  """The format that a file's name ends with, as `.csv`; '' where it names none.

  Case does not matter, and a last `.gz` is left out.
  """
  plain = str(name).lower().removesuffix('.gz')
  for known in ENDINGS:
    if plain.endswith(known):
      return known
  return ''


def texts_in(folder) -> list[pathlib.Path]:
  """The .txt files at any depth below a folder, in the order of their paths."""
  paths = (path for path in pathlib.Path(folder).rglob('*') if path.is_file())
  return sorted(path for path in paths if ending(path) == '.txt')


def rows(
  path: pathlib.Path, check: Callable
) -> Iterator[tuple[pathlib.Path, int, dict]]:
  """(file, line, row) for every row of a file, or of every .txt file below a folder.

  The line is that on which the row begins, counted from 1; of a Parquet file it is the
  number of the row. Some formats name their columns before the first row: for these
  `check(file, line, columns)` is called once. Raises ValueError `file:line: reason` for
  the first row that cannot be read.
  """
  if path.is_dir():
    for file in texts_in(path):
      yield from rows(file, check)
    return
  readers = {
    '.csv': functools.partial(_csv_rows, check=check),
    '.tsv': functools.partial(_csv_rows, check=check),
    '.parquet': functools.partial(_parquet_rows, check=check),
    '.jsonl': _json_lines,
    '.json': _json_rows,
    '.txt': _text_rows,
  }
  # A gzip file may turn out to be cut off only after many rows.
  try:
    for line, row in readers[ending(path)](path):
      yield path, line, row
  except (EOFError, zlib.error, gzip.BadGzipFile) as error:
    raise ValueError(f'{path}: not a whole gzip file: {error}') from error
  except OSError as error:
    raise ValueError(f'{path}: cannot be read: {error.strerror or error}') from error


def classes(path: pathlib.Path) -> dict[str, tuple[str, ...]]:
  """The class names of each column whose numbers stand for classes, as a file says.

  Parquet files of `datasets` carry them in the metadata of their schema. Others say
  nothing.
  """
  if path.is_dir() or ending(path) != '.parquet':
    return {}
  with _parquet(path) as file:
    metadata = file.schema_arrow.metadata or {}
  # Metadata that others wrote under this key is no reason to refuse the file.
  try:
    features = json.loads(metadata.get(b'huggingface', b'{}'))['info']['features']
  except (ValueError, KeyError, TypeError):
    return {}
  found = {}
  for name, feature in features.items():
    names = feature.get('names') if isinstance(feature, dict) else None
    if isinstance(names, list):
      found[name] = tuple(names)
  return found


def _open(path: pathlib.Path):
  """The bytes of a file, unpacked."""
  if path.name.lower().endswith('.gz'):
    return gzip.open(path, 'rb')
  return open(path, 'rb')


def _lines(path: pathlib.Path) -> Iterator[tuple[int, str]]:
  """(line number, line) of a UTF-8 file; a byte-order mark is dropped."""
  with _open(path) as file:
    number = 0
    # Bounded: a small gzip file may hold one line of many gigabytes.
    while line := file.readline(LONGEST):
      number += 1
      if len(line) == LONGEST:
        raise ValueError(f'{path}:{number}: a line of {LONGEST} bytes or more')
      if number == 1:
        line = line.removeprefix(BYTE_ORDER_MARK)
      yield number, _decoded(path, number, line)


def _decoded(path, number: int, line: bytes) -> str:
  """The text of a line. Raises ValueError that names the first wrong byte."""
  try:
    return line.decode('utf-8')
  except UnicodeDecodeError as error:
    raise ValueError(f'{path}:{number}: byte {error.start}: not UTF-8') from error


def _text_rows(path):
  """Texts with empty lines between them; without empty lines, every line is a text."""
  lines = [(number, line.rstrip()) for number, line in _lines(path)]
  filled = [place for place, (_, line) in enumerate(lines) if line.strip()]
  if not filled:
    return
  inner = lines[filled[0] : filled[-1] + 1]
  if len(inner) == len(filled):
    for number, line in inner:
      yield number, {'text': line}
  else:
    yield from _blocks(inner)


def _blocks(lines: list[tuple[int, str]]) -> Iterator[tuple[int, dict]]:
  """(line of the beginning, row) of every run of lines that are not empty."""
  start = 0
  block: list[str] = []
  # One more empty line ends the last block.
  for number, line in [*lines, (0, '')]:
    if line.strip():
      if not block:
        start = number
      block.append(line)
    elif block:
      yield start, {'text': '\n'.join(block)}
      block = []


def _json_lines(path):
  """An object per line; empty lines are left out."""
  for number, line in _lines(path):
    if line.strip():
      yield number, _object(path, number, line)


def _object(path, number: int, line: str) -> dict:
  """The object that a line holds. Raises ValueError for anything else."""
  try:
    row = json.loads(line, object_pairs_hook=_unique)
  except (ValueError, RecursionError) as error:
    raise _not_json(path, number, error) from error
  return _require_object(path, number, row)


def _not_json(path, number: int, error: Exception) -> ValueError:
  reason = ' '.join(str(error).split())[:120]
  return ValueError(f'{path}:{number}: not JSON: {reason}')


def _require_object(path, number: int, row) -> dict:
  if not isinstance(row, dict):
    kind = type(row).__name__
    raise ValueError(f'{path}:{number}: a JSON object is needed, this is a {kind}')
  return row


def _json_rows(path):
  """The objects of one array, or, where a file begins otherwise, an object per line."""
  with _open(path) as file:
    start = file.read(_START).removeprefix(BYTE_ORDER_MARK).lstrip()
  if start.startswith(b'['):
    text = ''.join(line for _, line in _lines(path))
    yield from _array_rows(path, text)
  else:
    yield from _json_lines(path)


def _array_rows(path, text: str) -> Iterator[tuple[int, dict]]:
  """(line, object) of every object of a JSON array.

  The array is read object by object rather than at once, so that each has its line.
  """
  decoder = json.JSONDecoder(object_pairs_hook=_unique)
  position = _skip(text, text.index('[') + 1)
  number = 1
  # Up to here line ends are counted.
  counted = 0
  while text[position : position + 1] not in (']', ''):
    number += text.count('\n', counted, position)
    counted = position
    try:
      row, position = decoder.raw_decode(text, position)
    except (ValueError, RecursionError) as error:
      raise _not_json(path, number, error) from error
    yield number, _require_object(path, number, row)
    position = _skip(text, position)
    if text[position : position + 1] == ',':
      position = _skip(text, position + 1)
    elif text[position : position + 1] != ']':
      raise ValueError(f'{path}:{number}: not JSON: no , or ] after an object')
  if text[position + 1 :].strip():
    raise ValueError(f'{path}: not JSON: more after the array')
  if position >= len(text):
    raise ValueError(f'{path}: not JSON: the array has no end')


def _skip(text: str, position: int) -> int:
  """The position of the next character that is no white space."""
  while position < len(text) and text[position] in ' \t\r\n':
    position += 1
  return position


def _unique(pairs):
  """A dict of the pairs. Raises ValueError for a field that is given twice.

  The decoder would take the last one and say nothing.
  """
  row = dict(pairs)
  if len(row) != len(pairs):
    names = [name for name, _ in pairs]
    twice = next(name for name in names if names.count(name) > 1)
    raise ValueError(f'the field {twice!r} is given twice')
  return row


def _csv_rows(path, check):
  """(line, row) for every record after the header of a CSV or TSV file."""
  delimiter = '\t' if ending(path) == '.tsv' else ','
  # The library's own limit is 128 kB, shorter than many a document.
  csv.field_size_limit(LONGEST)
  lines = (line for _, line in _lines(path))
  reader = csv.reader(lines, delimiter=delimiter, strict=True)
  header = None
  # A quoted field may span lines: a record begins on the line after the one before it.
  start = 1
  try:
    for cells in reader:
      line = start
      start = reader.line_num + 1
      if not cells:
        continue
      if header is None:
        header = _header(path, line, cells)
        check(path, line, header)
        continue
      if len(cells) != len(header):
        raise ValueError(
          f'{path}:{line}: {len(cells)} fields, the header has {len(header)}'
        )
      yield line, dict(zip(header, cells, strict=True))
  except csv.Error as error:
    raise ValueError(f'{path}:{start}: {error}') from error


def _header(path, line: int, cells: list[str]) -> list[str]:
  """The names of the columns. Raises ValueError where two are equal."""
  header = [cell.strip() for cell in cells]
  if len(set(header)) != len(header):
    raise ValueError(f'{path}:{line}: a column is named twice: {", ".join(header)}')
  return header


@contextlib.contextmanager
def _parquet(path):
  """An open Parquet file. Raises ValueError that names the path."""
  import pyarrow
  from pyarrow import parquet

  try:
    # Parquet is read from its end, so what is packed goes into memory first.
    if path.name.lower().endswith('.gz'):
      with _open(path) as file:
        yield parquet.ParquetFile(io.BytesIO(file.read()))
    else:
      with parquet.ParquetFile(os.fspath(path)) as file:
        yield file
  except pyarrow.ArrowException as error:
    reason = ' '.join(str(error).split())[:120]
    raise ValueError(f'{path}: not Parquet: {reason}') from error


def _parquet_rows(path, check):
  """(number, row) for every row of a Parquet file."""
  number = 0
  with _parquet(path) as file:
    check(path, 1, file.schema_arrow.names)
    for batch in file.iter_batches(batch_size=BATCH):
      for row in batch.to_pylist():
        number += 1
        yield number, row
