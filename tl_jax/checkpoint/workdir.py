"""The files of a run: its lock, its config, its metrics, its results; a reader needs no
lock and writes nothing.

>>> import tempfile
>>> with Workdir(tempfile.mkdtemp()) as workdir:
...   workdir.append_metrics({'step': 1, 'loss': float('inf')})
...   workdir.metrics()
[{'loss': None, 'step': 1}]
"""

import hashlib
import logging
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tl_jax.checkpoint import files
from tl_jax.checkpoint.lock import Lock

CONFIG, METRICS, EVALUATIONS, CHECKPOINTS = (
  'config.json',
  'metrics.jsonl',
  'evaluations.jsonl',
  'checkpoints',
)
_LOG = logging.getLogger(__name__)
_MOST_BYTES = 64 << 20
_MOST_LISTED = 6


def config_hash(config: Any) -> str:
  """16 hexadecimal digits that any change of the config changes; the order of keys is
  no change.
  """
  return hashlib.sha256(files.encode(config).encode()).hexdigest()[:16]


class Workdir:
  """A folder that one writer at a time owns; any number may read it.

  Args:
    path: a local folder, made if it is missing (only when writing).
    write: takes the lock; False reads only, also from a folder that cannot be written.
  Raises ValueError that names a path which cannot be a workdir, WorkdirBusy if another
  live run has it.
  """

  def __init__(self, path: str | os.PathLike, *, write: bool = True):
    text = files.require_local(path, 'workdir')
    if not text or '\0' in text:
      raise ValueError(f'workdir {text!r}: not a path')
    self.path = Path(os.path.abspath(os.path.expanduser(text)))
    self._lock = None
    try:
      self._open(write)
    except OSError as error:
      raise ValueError(f'workdir {text!r}: {_reason(self.path, error)}') from error

  def _open(self, write: bool) -> None:
    if not write:
      if not self.path.is_dir():
        os.listdir(self.path)
      return
    self.path.mkdir(parents=True, exist_ok=True)
    self._lock = Lock(self.path)
    try:
      self._drop_half_lines()
    except BaseException:
      self.close()
      raise

  def __enter__(self) -> 'Workdir':
    return self

  def __exit__(self, *_) -> None:
    self.close()

  def close(self) -> None:
    """Gives the lock back; a second call does nothing."""
    if self._lock is not None:
      self._lock.release()
      self._lock = None

  @property
  def checkpoints(self) -> Path:
    return self.path / CHECKPOINTS

  def _owned(self, name: str) -> Path:
    if self._lock is None:
      raise ValueError(f'{self.path / name}: this workdir is open for reading only')
    self._lock.require()
    return self._named(name)

  def _named(self, name: str) -> Path:
    if Path(name).name != name or name in ('', '.', '..') or '\0' in name:
      raise ValueError(f'{name!r} is not the name of a file in {self.path}')
    return self.path / name

  def write_json(self, name: str, value: Any) -> None:
    """Replaces a JSON file at once, keys sorted, non-finite numbers as null."""
    path = self._owned(name)
    content = files.encode(value, indent=2) + '\n'
    try:
      files.write_atomically(path, content.encode())
    except OSError as error:
      raise OSError(error.errno, f'{path} was not written: {error.strerror}') from error

  def read_json(self, name: str) -> Any:
    """The value of a JSON file; ValueError that names it if it is missing, too large or
    not strict JSON.
    """
    path = self._named(name)
    try:
      return files.decode(files.read_bounded(path, _MOST_BYTES))
    except OSError as error:
      raise ValueError(f'{path}: {_reason(path, error)}') from error
    except ValueError as error:
      raise ValueError(f'{path}: {" ".join(str(error).split())[:300]}') from error

  def bind_config(
    self, config: Any, allowed: Iterable[str] = (), usual: Any = None
  ) -> str:
    """Writes config.json with its hash, or checks that the run that is resumed had the
    same config; returns the hash.

    Args:
      config: nested dicts of what JSON can hold.
      allowed: regular expressions of dotted keys that may differ, such as `log\\..*`;
        config.json then takes the new values.
      usual: what a key means where a config does not have it.
    Raises ValueError with the keys that differ, old and new.
    """
    config = files.clean(config)
    if (self.path / CONFIG).exists():
      before = self.read_json(CONFIG)
      if not isinstance(before, dict) or 'config' not in before:
        raise ValueError(f'{self.path / CONFIG}: it is not the config of a run')
      where = f'{self.path / CONFIG}: the run there has another config'
      require_same(before['config'], config, where, allowed, usual)
      if not compare(before['config'], config, usual):
        return before.get('hash') or config_hash(config)
    self.write_json(CONFIG, {'config': config, 'hash': config_hash(config)})
    return config_hash(config)

  def append_metrics(self, row: dict[str, Any]) -> None:
    """Appends one line to metrics.jsonl, as a whole or not at all; non-finite numbers
    become null.
    """
    self._append(METRICS, row)

  def append_evaluation(self, row: dict[str, Any]) -> None:
    """Appends one line to evaluations.jsonl: what a held-out set said while the run was
    training.
    """
    self._append(EVALUATIONS, row)

  def _append(self, name: str, row: dict[str, Any]) -> None:
    path = self._owned(name)
    line = (files.encode(row) + '\n').encode()
    try:
      handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
      try:
        size = os.fstat(handle).st_size
        try:
          while line:
            line = line[os.write(handle, line) :]
        except OSError:
          os.ftruncate(handle, size)
          raise
      finally:
        os.close(handle)
    except OSError as error:
      raise OSError(error.errno, f'{path} was not written: {error.strerror}') from error

  def metrics(self) -> list[dict]:
    """The rows of metrics.jsonl; a half last line, that a crash left or a writer is at,
    is not a row.
    """
    return [row for _, row in self._read_rows(METRICS)]

  def _read_rows(self, name: str) -> list[tuple[bytes, dict]]:
    path = self.path / name
    try:
      lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
      return []
    rows = []
    for number, line in enumerate(lines, 1):
      if not line.endswith(b'\n'):
        break
      try:
        row = files.decode(line)
        if not isinstance(row, dict):
          raise ValueError('not an object')
      except ValueError as error:
        raise ValueError(
          f'{path}, line {number}: {" ".join(str(error).split())[:200]}'
        ) from error
      rows.append((line, row))
    return rows

  def truncate_metrics(self, step: int | None) -> None:
    """Drops the rows after `step` (all of them for None), so that a resumed run neither
    repeats nor skips one.
    """
    for name in (METRICS, EVALUATIONS):
      path = self._owned(name)
      rows = self._read_rows(name)
      kept = [
        line for line, row in rows if step is not None and row.get('step', 0) <= step
      ]
      if rows and len(kept) < len(rows):
        files.write_atomically(path, b''.join(kept))
        _LOG.info(
          '%s: dropped %d rows after step %s', path, len(rows) - len(kept), step
        )

  def _drop_half_lines(self) -> None:
    for path in (self.path / METRICS, self.path / EVALUATIONS):
      if not path.exists():
        continue
      with open(path, 'r+b') as file:
        content = file.read()
        end = content.rfind(b'\n') + 1
        if end < len(content):
          file.truncate(end)


def require_same(
  before: Any, after: Any, where: str, allowed: Iterable[str] = (), usual: Any = None
) -> None:
  """Raises ValueError, `where` with the keys in which two configs differ, old and new.

  allowed: regular expressions of dotted keys that may differ. usual: what a key means
  where a config does not have it, as one that was written before there was such a key.
  """
  patterns = [re.compile(pattern) for pattern in allowed]
  refused = [
    line
    for key, line in compare(before, after, usual).items()
    if not any(pattern.fullmatch(key) for pattern in patterns)
  ]
  if not refused:
    return
  listed = '; '.join(refused[:_MOST_LISTED])
  if len(refused) > _MOST_LISTED:
    listed += f'; and {len(refused) - _MOST_LISTED} more'
  raise ValueError(f'{where}: {listed}; take another workdir, or the old values')


def compare(before: Any, after: Any, usual: Any = None) -> dict[str, str]:
  """Dotted key -> `key: old -> new` for every leaf in which two configs differ.

  usual: what a key means where a config does not have it.
  """
  old, new = dict(_leaves(before)), dict(_leaves(after))
  meant = dict(_leaves(files.clean(usual or {})))
  return {
    key: f'{key}: {old.get(key, "absent")} -> {new.get(key, "absent")}'
    for key in sorted(old.keys() | new.keys())
    if old.get(key, meant.get(key)) != new.get(key, meant.get(key))
  }


def _leaves(value: Any, path: str = '') -> Iterator[tuple[str, str]]:
  if isinstance(value, dict) and (value or not path):
    for key, child in value.items():
      yield from _leaves(child, f'{path}.{key}' if path else key)
  else:
    # 1 and 1.0 are the same setting.
    value = int(value) if isinstance(value, float) and value.is_integer() else value
    yield path, files.encode(value)


def _reason(path: Path, error: OSError) -> str:
  for part in [*reversed(path.parents), path]:
    if os.path.islink(part) and not os.path.exists(part):
      return f'{part} is a dangling link'
    if os.path.lexists(part) and not os.path.isdir(part) and part != path:
      return f'{part} is not a folder'
  if os.path.isfile(path) and isinstance(error, FileExistsError | NotADirectoryError):
    return 'it is a file, not a folder'
  return error.strerror or str(error)
