"""The rows of a user's file, whatever its format, each with the place where it stands.

>>> import tempfile
>>> path = pathlib.Path(tempfile.mkdtemp()) / 'a.tsv'
>>> _ = path.write_text('text\\tlabel\\ngood film\\tpos\\n')
>>> [(line, row) for _, line, row in rows(path, ('text',))]
[(2, {'text': 'good film', 'label': 'pos'})]
"""

import contextlib
import io
import json
import os
import pathlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tl_jax.config.disguises import START_BYTES, require_content, stands_in
from tl_jax.data import conll, lines, passages, separated
from tl_jax.data.folders import ending, files_in, split_of
from tl_jax.files import unique_keys

# What parts the cells of a row, unless it is given or the header shows something else.
DELIMITERS = {'.csv': ',', '.tsv': '\t'}
# Rows of a Parquet file that are decoded together.
BATCH = 1024


def is_separated(path) -> bool:
  """May a character part the cells of a file, or of any file in a folder?"""
  files = [path]
  if os.path.isdir(path):
    files = files_in(path)
  endings = set(map(ending, files))
  return not endings.isdisjoint((*DELIMITERS, '.txt'))


def ignore(told: str) -> None:
  """Nobody is told."""


def rows(
  path: pathlib.Path,
  wanted: Sequence[str] = (),
  tell: Callable = ignore,
  keep_blank: bool = False,
  delimiter: str = '',
) -> Iterator[tuple[pathlib.Path, int, dict]]:
  """(file, line, row) for every row of a file, or of what is below a folder: for every
  .txt file, or else every row of its tables.

  The line is that on which the row begins, counted from 1; of a Parquet file it is the
  number of the row. Where a format names its columns before the first row, the `wanted`
  ones must be among them. `tell` is called with a line for each thing about the file
  that was found out and that its name does not say. With `keep_blank` nothing that is
  empty is left out: rows of empty cells are rows, and every line of a .txt file is a
  text. A `delimiter` is the character that parts the cells of .csv, .tsv and .txt
  files; with it the last of these are tables, too. `conll.LINES` says that a word
  stands on every line of a .txt or .tsv file. Raises ValueError `file:line:
  reason` for the first row that cannot be read.
  """
  if path.is_dir():
    yield from _rows_of_folder(path, wanted, tell, keep_blank, delimiter)
    return
  # A packed file may turn out to be cut off only after many rows.
  try:
    for line, row in _rows_of_file(path, wanted, tell, keep_blank, delimiter):
      yield path, line, row
  except (OSError, EOFError, zlib.error) as error:
    raise ValueError(f'{path}: {lines.why_not_whole(path, error)}') from error


def _rows_of_folder(
  path: pathlib.Path,
  wanted: Sequence[str],
  tell: Callable,
  keep_blank: bool,
  delimiter: str,
) -> Iterator[tuple[pathlib.Path, int, dict]]:
  """(file, 1, row) for every .txt file below a folder: each is one text. Without any,
  or with a delimiter, (file, line, row) for every row of its tables.

  A single .txt file is read as a file of texts, or there would be nothing to test on.
  """
  found = files_in(path)
  if found and (delimiter or ending(found[0]) != '.txt'):
    yield from _rows_of_tables(path, found, wanted, tell, keep_blank, delimiter)
    return
  if len(found) == 1:
    yield from rows(found[0], wanted, tell, keep_blank)
    return
  tell(f'{len(found)} files, each of them one text')
  for file in found:
    own = [row['text'] for _, _, row in rows(file, (), tell, keep_blank=True)]
    yield file, 1, {'text': '\n'.join(own).strip('\n')}


def _rows_of_tables(
  folder: pathlib.Path,
  files: Sequence[pathlib.Path],
  wanted: Sequence[str],
  tell: Callable,
  keep_blank: bool,
  delimiter: str,
) -> Iterator[tuple[pathlib.Path, int, dict]]:
  """(file, line, row) of one file after the other; their names may say the split."""
  splits = [split_of(file.relative_to(folder)) for file in files]
  said = '; their names say the splits' if any(splits) else ''
  tell(f'{len(files)} files{said}')
  for file, split in zip(files, splits, strict=True):
    of_file = {'split': split} if split else {}
    for place, line, row in rows(file, wanted, tell, keep_blank, delimiter):
      # What a row says itself holds.
      yield place, line, of_file | row


def _rows_of_file(
  path: pathlib.Path,
  wanted: Sequence[str],
  tell: Callable,
  keep_blank: bool,
  delimiter: str,
) -> Iterator[tuple[int, dict]]:
  """(line, row) for every row of a file of any format."""
  form = ending(path)
  is_text = form == '.txt' and not delimiter
  _require_no_other(path, is_text)
  is_open = form in ('.txt', '.tsv') and delimiter == conll.LINES
  if is_open or form in conll.ENDINGS:
    return conll.rows(path, tell)
  if is_text:
    return _line_rows(path, tell) if keep_blank else _text_rows(path, tell)
  if form in (*DELIMITERS, '.txt'):
    usual = DELIMITERS.get(form, delimiter)
    return separated.rows(
      path,
      usual,
      wanted,
      tell,
      keep_blank,
      delimiter,
    )
  if form == '.parquet':
    return _parquet_rows(path, wanted)
  return _json_rows(path, tell)


def _require_no_other(path: pathlib.Path, is_text: bool) -> None:
  """Raises ValueError for a file that stands in the place of the one that is meant."""
  if lines.is_packed(path):
    # What stands in the place of a packed file is not packed.
    with open(path, 'rb') as file:
      require_content(path, file.read(START_BYTES))
  first = lines.start(path)
  found = stands_in(first)
  # A text may well be a page of HTML; a table never is.
  if found and not (is_text and first.lstrip().startswith(b'<')):
    raise ValueError(f'{path}: {found}')


def classes(path: pathlib.Path) -> dict[str, tuple[str, ...]]:
  """The class names of each column whose numbers stand for classes, as a file says.

  Parquet files of `datasets` carry them in the metadata of their schema. Others say
  nothing.
  """
  if path.is_dir():
    return _classes_of_folder(files_in(path))
  if ending(path) != '.parquet':
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
    names = _names_in(feature)
    if names:
      found[name] = names
  return found


def _names_in(feature: Any) -> tuple[str, ...]:
  """The class names of a feature, or of the list that it is; () for none."""
  if isinstance(feature, list) and len(feature) == 1:
    (feature,) = feature
  if not isinstance(feature, dict):
    return ()
  inner = feature.get('feature')
  # A list of classes says of what it is a list.
  if isinstance(inner, dict):
    return _names_in(inner)
  names = feature.get('names')
  return tuple(names) if isinstance(names, list) else ()


def _classes_of_folder(files: Sequence[pathlib.Path]) -> dict[str, tuple[str, ...]]:
  """The class names that all files have. Raises ValueError where two differ."""
  # A number would be another class in the next file.
  for file in files[1:]:
    if classes(file) != classes(files[0]):
      raise ValueError(f'{file}: names its classes otherwise than {files[0]} does')
  return classes(files[0])


def _line_rows(path, tell: Callable) -> Iterator[tuple[int, dict]]:
  """Every line as a text, an empty one as an empty text."""
  for number, line in lines.read(path, tell):
    yield number, {'text': line.rstrip('\r\n')}


def _text_rows(path, tell: Callable):
  """Texts with empty lines between them; without empty lines, every line is a text."""
  stripped = [(number, line.rstrip()) for number, line in lines.read(path, tell)]
  filled = [place for place, (_, line) in enumerate(stripped) if line.strip()]
  if not filled:
    return
  inner = stripped[filled[0] : filled[-1] + 1]
  if len(inner) == len(filled):
    tell('each line is one text; an empty line between texts would let them be longer')
    for number, line in inner:
      yield number, {'text': line}
  else:
    tell('texts are parted by empty lines')
    yield from _blocks(inner)


def _blocks(numbered: list[tuple[int, str]]) -> Iterator[tuple[int, dict]]:
  """(line of the beginning, row) of every run of lines that are not empty."""
  start = 0
  block: list[str] = []
  # One more empty line ends the last block.
  for number, line in [*numbered, (0, '')]:
    if line.strip():
      if not block:
        start = number
      block.append(line)
    elif block:
      yield start, {'text': '\n'.join(block)}
      block = []


def _json_rows(path, tell: Callable):
  """The objects of one array, or, where a file begins otherwise, an object per line."""
  if lines.start(path).lstrip().startswith(b'['):
    text = ''.join(line for _, line in lines.read(path, tell))
    yield from _array_rows(path, text)
    return
  document = None
  if ending(path) == '.json':
    document = _nested(path)
  if document is None:
    yield from _json_lines(path, tell)
    return
  try:
    yield from enumerate(passages.nested_rows(document), 1)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error


def _nested(path) -> dict | None:
  """The only object of a file of questions on passages, as SQuAD's; else None."""
  text = ''.join(line for _, line in lines.read(path, ignore))
  try:
    document = json.loads(text, object_pairs_hook=unique_keys)
  except (ValueError, RecursionError):
    # It has several objects, or none; who reads them says what is wrong.
    return None
  return document if passages.is_nested(document) else None


def _json_lines(path, tell: Callable):
  """An object per line; empty lines are left out."""
  for number, line in lines.read(path, tell):
    if line.strip():
      yield number, _object(path, number, line)


def _object(path, number: int, line: str) -> dict:
  """The object that a line holds. Raises ValueError for anything else."""
  try:
    row = json.loads(line, object_pairs_hook=unique_keys)
  except (ValueError, RecursionError) as error:
    reason = why_not_json(error)
    # The two ways in which objects do not stand on lines of their own.
    if getattr(error, 'pos', 0) >= len(line.rstrip()):
      reason = 'the line ends inside of an object; each object stands on one line'
    elif reason.startswith('Extra data'):
      reason = 'more after the object; each object stands on a line of its own'
    raise ValueError(f'{path}:{number}: not JSON: {reason}') from error
  return _require_object(path, number, row)


def why_not_json(error: Exception) -> str:
  """Why a text is not JSON, in a few words, without a line."""
  if isinstance(error, RecursionError):
    return 'nested too deeply'
  if isinstance(error, json.JSONDecodeError):
    # The decoder counts lines from where it began.
    return f'{error.msg.removesuffix(" at")} at column {error.colno}'
  return ' '.join(str(error).split())[:120]


def _require_object(path, number: int, row) -> dict:
  if not isinstance(row, dict):
    kind = type(row).__name__
    raise ValueError(f'{path}:{number}: a JSON object is needed, this is a {kind}')
  if row and all(isinstance(value, dict) for value in row.values()):
    raise ValueError(
      f'{path}:{number}: an object of whole columns; an object for each row is needed, '
      'as pandas writes it with orient="records"'
    )
  return row


def _array_rows(path, text: str) -> Iterator[tuple[int, dict]]:
  """(line, object) of every object of a JSON array.

  The array is read object by object rather than at once, so that each has its line.
  """
  decoder = json.JSONDecoder(object_pairs_hook=unique_keys)
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
      # An object may have lines: the decoder knows in which of them it stopped.
      line = getattr(error, 'lineno', number)
      raise ValueError(f'{path}:{line}: not JSON: {why_not_json(error)}') from error
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


@contextlib.contextmanager
def _parquet(path):
  """An open Parquet file. Raises ValueError that names the path."""
  import pyarrow
  from pyarrow import parquet

  try:
    # Parquet is read from its end, so what is packed goes into memory first.
    if lines.is_packed(path):
      yield parquet.ParquetFile(io.BytesIO(_unpacked(path)))
    else:
      with parquet.ParquetFile(os.fspath(path)) as file:
        yield file
  except pyarrow.ArrowException as error:
    reason = ' '.join(str(error).split())[:120]
    raise ValueError(f'{path}: not Parquet: {reason}') from error


def _unpacked(path) -> bytes:
  """The content of a packed file. Raises ValueError for a bomb."""
  most = lines.most_bytes(path)
  with lines.open_bytes(path) as file:
    content = file.read(most + 1)
  if len(content) > most:
    raise ValueError(f'{path}: {lines.bomb(most)}')
  return content


def _parquet_rows(path, wanted: Sequence[str]):
  """(number, row) for every row of a Parquet file."""
  number = 0
  with _parquet(path) as file:
    names = file.schema_arrow.names
    separated.require_different(f'{path}:1', names)
    for name in wanted:
      if name not in names:
        there = ', '.join(names)
        said = f'{path}:1: {name}: no such column; it has {there}'
        raise separated.NoColumn(said, name)
    for batch in file.iter_batches(batch_size=BATCH):
      for row in batch.to_pylist():
        number += 1
        yield number, row
