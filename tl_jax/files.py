"""Files that survive a crash: strict JSON, atomic replacement, flushing and hashing.

>>> decode(encode({'loss': float('nan'), 'step': 3}))
{'loss': None, 'step': 3}
"""

import collections
import hashlib
import json
import math
import os
import re
import shutil
import stat
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

# Of a JSON file. What is larger is no file of ours: it must not fill the memory.
MOST_BYTES = 64 << 20
# Bytes that are hashed at a time.
_BLOCK = 1 << 20
# They wait for the disk more than they compute.
_THREADS = 8


def clean(value: Any, path: str = '') -> Any:
  """The value as strict JSON holds it.

  Arrays and tuples become lists, and numbers that are not finite become None. `path`
  says where the value stands. Raises ValueError that names the path of a value JSON
  cannot hold.
  """
  # bool before int: in Python True is an int, and would become 1.
  if value is None or isinstance(value, bool | str):
    return value
  if isinstance(value, int | float):
    return _clean_number(value)
  if isinstance(value, dict):
    return _clean_dict(value, path)
  if isinstance(value, list | tuple):
    return [clean(child, f'{path}[{index}]') for index, child in enumerate(value)]
  if isinstance(value, os.PathLike):
    return os.fspath(value)
  # Arrays of numpy, jax and torch; their content is looked at as any other.
  if getattr(value, 'dtype', None) is not None and hasattr(value, 'tolist'):
    return clean(value.tolist(), path)
  kind = type(value).__name__
  raise ValueError(f'JSON cannot hold {_where(path)!r} of type {kind}')


def _where(path: str) -> str:
  """A path for a message."""
  return path.lstrip('.') or 'the value'


def _clean_number(value: float) -> float | None:
  """A plain number of a number, or of a subclass; None where it is not finite."""
  if isinstance(value, int):
    return int(value)
  return float(value) if math.isfinite(value) else None


def _clean_dict(value: dict, path: str) -> dict[str, Any]:
  found = {}
  for key, child in value.items():
    found[_key(key, path)] = clean(child, f'{path}.{key}')
  return found


def _key(key, path: str) -> str:
  """A key as a string. Raises ValueError for anything but texts and whole numbers."""
  if isinstance(key, str):
    return key
  if isinstance(key, int) and not isinstance(key, bool):
    return str(key)
  where = _where(path)
  raise ValueError(f'JSON cannot hold the key {key!r} of {where!r}: keys are strings')


def encode(value: Any, indent: int | None = None) -> str:
  """Strict JSON text of `clean(value)`: the same value always gives the same text."""
  separators = (',', ':') if indent is None else (',', ': ')
  return json.dumps(
    clean(value), allow_nan=False, sort_keys=True, indent=indent, separators=separators
  )


def decode(text: str | bytes) -> Any:
  """The value of strict JSON.

  Raises ValueError for NaN, Infinity, doubled keys and endless nesting.
  """
  try:
    return json.loads(text, object_pairs_hook=unique_keys, parse_constant=_refuse)
  except RecursionError as error:
    raise ValueError('nested too deeply') from error


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """The object of these pairs. Raises ValueError for a key that stands twice.

  The parser would take the last one and say nothing.
  """
  value = dict(pairs)
  if len(value) != len(pairs):
    counts = collections.Counter(key for key, _ in pairs)
    ((twice, _),) = counts.most_common(1)
    raise ValueError(f'the key {twice[:80]!r} stands twice')
  return value


def _refuse(constant: str):
  raise ValueError(f'{constant} is not JSON')


def require_local(path: str | os.PathLike, what: str) -> str:
  """The path as text. Raises ValueError for the address of a bucket, such as gs://b.

  `pathlib.Path('gs://b')` has lost one of the two slashes, which would make it a
  folder `gs:`; a drive of Windows has a single letter and is a path.
  """
  text = os.fspath(path)
  if re.match(r'[A-Za-z][A-Za-z0-9+.-]+:/', text):
    raise ValueError(f'{what} {text!r}: not a local path; mount the bucket as a folder')
  return text


def read_bounded(path: Path, most: int = MOST_BYTES) -> bytes:
  """The bytes of a regular file of at most `most` bytes.

  Raises ValueError for any other file, and FileNotFoundError if there is none.
  """
  # Asked of the open file, which cannot be exchanged between the question and the read.
  with open(path, 'rb') as file:
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode) or status.st_size > most:
      raise ValueError(f'{path.name} is not a regular file of at most {most} bytes')
    return file.read(most + 1)


def find_json(path: Path) -> dict | None:
  """The dict in a JSON file; None where there is no file, or no whole dict in it."""
  if not path.is_file():
    return None
  try:
    value = decode(read_bounded(path))
  # A file may also be deleted after the question.
  except (FileNotFoundError, ValueError):
    return None
  return value if isinstance(value, dict) else None


def write_atomically(path: Path, content: bytes) -> None:
  """Replaces the file at once.

  A reader, or a crash, sees the old content or the new one, never a part.
  """
  temporary = path.with_name(f'.{path.name[:80]}.{uuid.uuid4().hex[:12]}.tmp')
  try:
    with open(temporary, 'xb') as file:
      file.write(content)
      file.flush()
      # Before the rename: else a power cut could leave the new name on an empty file.
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except BaseException:
    temporary.unlink(missing_ok=True)
    raise
  flush(path.parent)


def flush(path: Path) -> None:
  """Waits until the file, or the list of names of a folder, is on the disk."""
  handle = os.open(path, os.O_RDONLY)
  try:
    os.fsync(handle)
  finally:
    os.close(handle)


def digest(path: Path, durable: bool = False) -> tuple[int, str]:
  """(bytes, SHA-256) of a file; `durable` flushes it to the disk as well."""
  with open(path, 'rb') as file:
    if durable:
      os.fsync(file.fileno())
    checksum, size = hashlib.sha256(), 0
    while block := file.read(_BLOCK):
      checksum.update(block)
      size += len(block)
  return size, checksum.hexdigest()


def walk(folder: Path) -> tuple[list[Path], list[Path]]:
  """(files, folders with the root last) below a folder.

  Symbolic links count as files and are not followed.
  """
  names = []
  folders = []
  for root, below, here in os.walk(folder, topdown=False, followlinks=False):
    names += [Path(root, name) for name in here]
    # os.walk lists links to folders among the folders.
    inner = [Path(root, name) for name in below]
    names += [path for path in inner if path.is_symlink()]
    folders.append(Path(root))
  return sorted(names), folders


def in_parallel(function, items) -> list:
  """`[function(item) for item in items]`, in a few threads that wait for the disk."""
  items = list(items)
  if len(items) < 2:
    return [function(item) for item in items]
  with ThreadPoolExecutor(_THREADS) as pool:
    return list(pool.map(function, items))


def move_aside(path: Path, folder: Path) -> Path:
  """Renames `path` into `folder`, under a free name, and returns the new path."""
  # Through a link the step would leave this file system, or come to lie anywhere.
  if folder.is_symlink():
    folder.unlink()
  folder.mkdir(exist_ok=True)
  target = folder / f'{path.name}-{uuid.uuid4().hex[:8]}'
  os.rename(path, target)
  flush(path.parent)
  return target


def purge(folder: Path) -> None:
  """Deletes a folder and all in it; of a symbolic link only the link itself."""
  if folder.is_symlink() or folder.is_file():
    folder.unlink()
  elif folder.exists():
    shutil.rmtree(folder)
