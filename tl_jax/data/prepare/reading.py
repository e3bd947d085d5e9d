"""The documents of a source, one after the other, with the place of each.

>>> import tempfile
>>> path = pathlib.Path(tempfile.mkdtemp()) / 'a.jsonl'
>>> _ = path.write_text('{"text": "One."}\\n{"text": "Two."}\\n')
>>> [text for _, text in documents(str(path))]
['One.', 'Two.']

Files are read row by row: memory does not grow with them.
"""

import itertools
import os
import pathlib
from collections.abc import Iterator

from tl_jax.config import ConfigError
from tl_jax.data import cells, files, folders, separated, sources, store, tables

Document = tuple[str, str]


def documents(source: str, column: str = '', directory: str = '') -> Iterator[Document]:
  """(place, text) of every document: `file:line`, or of a set `name:number`.

  column: that of the texts. Raises ValueError `file:line: column: ...` for a row without
  a text, and what `tables.rows` raises.
  """
  name = column or 'text'
  if not os.path.exists(source):
    found = sources.load(source, 'train', directory or None)
    for number, example in enumerate(found):
      yield f'{source}:{number}', _text(source, number, example, name)
    return
  path = pathlib.Path(source)
  # Every line of a file of texts may be empty: who counts documents counts it.
  for file, line, row in tables.rows(path, (name,)):
    yield f'{file.name}:{line}', _text(file, line, row, name)


def _text(file, line: int, row: dict, name: str) -> str:
  return cells.text_in(file, line, row, name)


def parts(source: str) -> list[str]:
  """The files of rows of a folder; else the source itself, which is read as a whole."""
  if not os.path.isdir(source):
    return [source]
  inside = folders.files_in(source)
  # Each file of text is one document.
  if not inside or folders.ending(inside[0]) == '.txt':
    return [source]
  return [str(path) for path in inside]


def chunks(found: Iterator[Document], size: int) -> Iterator[list[Document]]:
  """So many documents at a time."""
  while some := list(itertools.islice(found, size)):
    yield some


def texts(source: str, column: str = '', directory: str = '') -> list[str]:
  """All texts of a source, which is small."""
  return [text for _, text in documents(source, column, directory)]


def digest(source: str, directory: str = '') -> str:
  """What changes with the content of a source."""
  if not os.path.exists(source):
    return sources.load(source, 'train', directory or None).manifest
  path = pathlib.Path(source)
  inside = folders.files_in(path) if path.is_dir() else [path]
  sums = [files.digest(file)[1] for file in inside]
  return store.digest('corpus', sums)


def require(key: str, source: str, column: str = '', directory: str = '') -> None:
  """Raises ConfigError for a source that is not there, or has no text.

  key: that of the config which names it.
  """
  try:
    sources.require(source, directory or None)
    if os.path.isfile(source) and not os.path.getsize(source):
      raise ValueError(f'{source}: the file is empty')
    if not _has_text(source, column, directory):
      raise ValueError(f'{source}: has no text')
  except separated.NoColumn as error:
    hint = 'column=NAME in the config names that of all texts'
    raise ConfigError(f'config.{key}: {error}; {hint}') from error
  except ValueError as error:
    raise ConfigError(f'config.{key}: {error}') from error


def _has_text(source: str, column: str, directory: str) -> bool:
  """Has any document a text?

  The first row of every file is read, so that what no file may be is said at once.
  """
  found = False
  for part in parts(source):
    for _, text in documents(part, column, directory):
      found = found or bool(text.strip())
      if found:
        break
  return found
