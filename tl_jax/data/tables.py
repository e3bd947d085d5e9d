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


def ending(name) -> str:
  """The format that a file's name ends with, as `.csv`; '' where it names none.

  Case does not matter, and a last `.gz` is left out.
  """
  plain = str(name).lower().removesuffix('.gz')
  return next((known for known in ENDINGS if plain.endswith(known)), '')


def texts_in(folder) -> list[pathlib.Path]:
  """The .txt files at any depth below a folder, in the order of their paths."""
  paths = (path for path in pathlib.Path(folder).rglob('*') if path.is_file())
  return sorted(path for path in paths if ending(path) == '.txt')


def rows(
  path: pathlib.Path, check: Callable
) -> Iterator[tuple[pathlib.Path, int, dict]]:
  """(file, line, row) for every row of a file, or of every .txt file below a folder.

  The line is that on which the row begins, from 1; of a Parquet file it is the number
  of the row. `check(file, line, columns)` is called once for a format that names its
  columns before the first row. Raises ValueError `file:line: reason` for the first row
  that cannot be read.
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
  try:
    for line, row in readers[ending(path)](path):
      yield path, line, row
  except (EOFError, zlib.error, gzip.BadGzipFile) as error:
    raise ValueError(f'{path}: not a whole gzip file: {error}') from error
  except OSError as error:
    raise ValueError(f'{path}: cannot be read: {error.strerror or error}') from error


def classes(path: pathlib.Path) -> dict[str, tuple[str, ...]]:
  """The class names of the columns whose numbers stand for classes, as a file says.

  Parquet files of `datasets` carry them in the metadata of their schema; others say
  nothing.
  """
  if path.is_dir() or ending(path) != '.parquet':
    return {}
  with _parquet(path) as file:
    metadata = file.schema_arrow.metadata or {}
  try:
    features = json.loads(metadata.get(b'huggingface', b'{}'))['info']['features']
  except (ValueError, KeyError, TypeError):
    return {}
  named = {
    name: said.get('names') for name, said in features.items() if isinstance(said, dict)
  }
  return {
    name: tuple(names) for name, names in named.items() if isinstance(names, list)
  }


def _open(path: pathlib.Path):
  if path.name.lower().endswith('.gz'):
    return gzip.open(path, 'rb')
  return open(path, 'rb')


def _lines(path: pathlib.Path) -> Iterator[tuple[int, str]]:
  """(line number, line) of a UTF-8 file; a byte-order mark is dropped."""
  with _open(path) as file:
    number = 0
    while line := file.readline(LONGEST):
      number += 1
      if len(line) == LONGEST:
        raise ValueError(f'{path}:{number}: a line of {LONGEST} bytes or more')
      if number == 1:
        line = line.removeprefix(b'\xef\xbb\xbf')
      yield number, _decoded(path, number, line)


def _decoded(path, number: int, line: bytes) -> str:
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
    return
  block = []
  for number, line in [*inner, (0, '')]:
    if line.strip():
      block.append((number, line))
    elif block:
      yield block[0][0], {'text': '\n'.join(line for _, line in block)}
      block = []


def _json_lines(path):
  for number, line in _lines(path):
    if line.strip():
      yield number, _object(path, number, line)


def _object(path, number: int, line: str) -> dict:
  try:
    row = json.loads(line, object_pairs_hook=_unique)
  except (ValueError, RecursionError) as error:
    reason = ' '.join(str(error).split())[:120]
    raise ValueError(f'{path}:{number}: not JSON: {reason}') from error
  return _require_object(path, number, row)


def _require_object(path, number: int, row) -> dict:
  if not isinstance(row, dict):
    kind = type(row).__name__
    raise ValueError(f'{path}:{number}: a JSON object is needed, this is a {kind}')
  return row


def _json_rows(path):
  """The objects of one array, or, where a file begins otherwise, an object per line."""
  with _open(path) as file:
    start = file.read(64).removeprefix(b'\xef\xbb\xbf').lstrip()
  if not start.startswith(b'['):
    yield from _json_lines(path)
    return
  text = ''.join(line for _, line in _lines(path))
  decoder = json.JSONDecoder(object_pairs_hook=_unique)
  position = _skip(text, text.index('[') + 1)
  number, counted = 1, 0
  while text[position : position + 1] not in (']', ''):
    number, counted = number + text.count('\n', counted, position), position
    try:
      row, position = decoder.raw_decode(text, position)
    except (ValueError, RecursionError) as error:
      reason = ' '.join(str(error).split())[:120]
      raise ValueError(f'{path}:{number}: not JSON: {reason}') from error
    yield number, _require_object(path, number, row)
    position = _skip(text, position)
    if text[position : position + 1] == ',':
      position = _skip(text, position + 1)
    elif text[position : position + 1] != ']':
      raise ValueError(f'{path}:{number}: not JSON: no , or ] after an object')
  rest = text[position + 1 :].strip()
  if position >= len(text) or rest:
    raise ValueError(
      f'{path}: not JSON: '
      + ('more after the array' if rest else 'the array has no end')
    )


def _skip(text: str, position: int) -> int:
  """The position of the next character that is no white space."""
  while position < len(text) and text[position] in ' \t\r\n':
    position += 1
  return position


def _unique(pairs):
  row = dict(pairs)
  if len(row) != len(pairs):
    names = [name for name, _ in pairs]
    twice = next(name for name in names if names.count(name) > 1)
    raise ValueError(f'the field {twice!r} is given twice')
  return row


def _csv_rows(path, check):
  delimiter = '\t' if ending(path) == '.tsv' else ','
  csv.field_size_limit(LONGEST)
  lines = (line for _, line in _lines(path))
  reader = csv.reader(lines, delimiter=delimiter, strict=True)
  header = None
  start = 1
  try:
    for cells in reader:
      line, start = start, reader.line_num + 1
      if not cells:
        continue
      if header is None:
        header = [cell.strip() for cell in cells]
        if len(set(header)) != len(header):
          raise ValueError(
            f'{path}:{line}: a column is named twice: {", ".join(header)}'
          )
        check(path, line, header)
        continue
      if len(cells) != len(header):
        raise ValueError(
          f'{path}:{line}: {len(cells)} fields, the header has {len(header)}'
        )
      yield line, dict(zip(header, cells, strict=True))
  except csv.Error as error:
    raise ValueError(f'{path}:{start}: {error}') from error


@contextlib.contextmanager
def _parquet(path):
  """An open Parquet file. Raises ValueError that names the path."""
  import pyarrow
  from pyarrow import parquet

  try:
    if path.name.lower().endswith('.gz'):
      with _open(path) as file:
        yield parquet.ParquetFile(io.BytesIO(file.read()))
    else:
      with parquet.ParquetFile(os.fspath(path)) as file:
        yield file
  except pyarrow.ArrowException as error:
    raise ValueError(
      f'{path}: not Parquet: {" ".join(str(error).split())[:120]}'
    ) from error


def _parquet_rows(path, check):
  number = 0
  with _parquet(path) as file:
    check(path, 1, file.schema_arrow.names)
    for batch in file.iter_batches(batch_size=BATCH):
      for row in batch.to_pylist():
        number += 1
        yield number, row
