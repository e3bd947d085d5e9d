"""What a file of a folder holds, up to a bounded size: bytes, a text, a JSON object.

>>> import tempfile
>>> path = pathlib.Path(tempfile.mkdtemp()) / 'config.json'
>>> _ = path.write_text('{"model_type": "bert"}')
>>> read_object(path)
{'model_type': 'bert'}
"""

import json
import pathlib

from tl_jax.config.disguises import not_json, require_content

# Of a file that may hold a vocabulary, and of one that holds settings alone.
MOST_BYTES = 100_000_000
MOST_BYTES_OF_SETTINGS = MOST_BYTES // 10


def read_bytes(path: pathlib.Path, most: int = MOST_BYTES) -> bytes:
  """The bytes of a file.

  Raises ValueError that names it if there are more than `most`, or if something else
  stands in its place.
  """
  data = _read_bounded(path, most)
  # A vocabulary of lines would be made of a Git LFS pointer without a word.
  require_content(path, data)
  return data


def _read_bounded(path: pathlib.Path, most: int) -> bytes:
  with open(path, 'rb') as file:
    # One byte more tells a file that is too large without reading all of it.
    data = file.read(most + 1)
  if len(data) > most:
    raise ValueError(f'{path}: more than {most} bytes')
  return data


def read_text(path: pathlib.Path, most: int = MOST_BYTES) -> str:
  """The text of a file, without a byte-order mark. Raises ValueError that names it if
  it is not UTF-8.
  """
  try:
    # Editors of Windows put a byte-order mark in front.
    return read_bytes(path, most).decode('utf-8-sig')
  except UnicodeDecodeError as error:
    raise ValueError(f'{path}: not UTF-8: {error}') from error


def read_object(path: pathlib.Path, most: int = MOST_BYTES_OF_SETTINGS) -> dict:
  """The JSON object of a file, after a byte-order mark or not.

  Raises ValueError that names the file and says what it is instead.
  """
  content = _read_bounded(path, most)
  try:
    found = json.loads(content.decode('utf-8-sig'))
  # A file of nothing but brackets is nested too deep for the parser.
  except (ValueError, RecursionError) as error:
    raise ValueError(f'{path}: {not_json(content, error)}') from error
  if not isinstance(found, dict):
    raise ValueError(f'{path}: not a JSON object')
  return found


def find_object(path: pathlib.Path) -> dict:
  """The JSON object of a file; {} where there is no such file."""
  return read_object(path) if path.is_file() else {}
