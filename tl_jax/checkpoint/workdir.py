"""The files of a run: its lock, its config, its metrics and its results.

>>> import tempfile
>>> with Workdir(tempfile.mkdtemp()) as workdir:
...   workdir.append_metrics({'step': 1, 'loss': float('inf')})
...   workdir.metrics()
[{'loss': None, 'step': 1}]
"""

import hashlib
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tl_jax import files
from tl_jax.checkpoint.lock import Lock
from tl_jax.config import compare, require_same

CONFIG = 'config.json'
METRICS = 'metrics.jsonl'
EVALUATIONS = 'evaluations.jsonl'
CHECKPOINTS = 'checkpoints'
_LOG = logging.getLogger(__name__)


def config_hash(config: Any) -> str:
  """16 hexadecimal digits that change with the config, not with the order of keys."""
  return hashlib.sha256(files.encode(config).encode()).hexdigest()[:16]


class Workdir:
  """A folder that one writer at a time owns.

  Any number may read it: a reader needs no lock and writes nothing.

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
    """Takes the lock and mends what a crash left; for reading only looks."""
    if not write:
      if not self.path.is_dir():
        # Raises the OSError that says why it is none.
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
    """The path of a file to write. Raises if the lock is not, or no longer, ours."""
    if self._lock is None:
      raise ValueError(f'{self.path / name}: this workdir is open for reading only')
    self._lock.require()
    return self._named(name)

  def _named(self, name: str) -> Path:
    """The path of a file. Raises ValueError for a name that leads out of the folder."""
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
    """The value of a JSON file.

    Raises ValueError that names the file if it is missing, too large or no strict JSON.
    """
    path = self._named(name)
    try:
      return files.decode(files.read_bounded(path))
    except OSError as error:
      raise ValueError(f'{path}: {_reason(path, error)}') from error
    except ValueError as error:
      reason = ' '.join(str(error).split())[:300]
      raise ValueError(f'{path}: {reason}') from error

  def bind_config(
    self, config: Any, allowed: Iterable[str] = (), usual: Any = None
  ) -> str:
    """Writes config.json with its hash, and returns the hash.

    If there is one already, it must be the same config: its run is resumed.

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
      # Written with a key less, it means the same: the hash stays that of its first
      # run.
      if not compare(before['config'], config, usual):
        return before.get('hash') or config_hash(config)
    self.write_json(CONFIG, {'config': config, 'hash': config_hash(config)})
    return config_hash(config)

  def append_metrics(self, row: dict[str, Any]) -> None:
    """Appends one line to metrics.jsonl, as a whole or not at all.

    Numbers that are not finite become null.
    """
    self._append(METRICS, row)

  def append_evaluation(self, row: dict[str, Any]) -> None:
    """Appends one line to evaluations.jsonl: held-out metrics during training."""
    self._append(EVALUATIONS, row)

  def _append(self, name: str, row: dict[str, Any]) -> None:
    path = self._owned(name)
    line = (files.encode(row) + '\n').encode()
    try:
      _append_line(path, line)
    except OSError as error:
      raise OSError(error.errno, f'{path} was not written: {error.strerror}') from error

  def metrics(self) -> list[dict]:
    """The rows of metrics.jsonl.

    A half last line, which a crash left or a writer is at, is not a row.
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
        reason = ' '.join(str(error).split())[:200]
        raise ValueError(f'{path}, line {number}: {reason}') from error
      rows.append((line, row))
    return rows

  def truncate_metrics(self, step: int | None) -> None:
    """Drops the rows after `step`, or all of them for None.

    So a resumed run neither repeats nor skips a row.
    """
    for name in (METRICS, EVALUATIONS):
      path = self._owned(name)
      rows = self._read_rows(name)
      kept = []
      if step is not None:
        kept = [line for line, row in rows if row.get('step', 0) <= step]
      dropped = len(rows) - len(kept)
      if dropped:
        files.write_atomically(path, b''.join(kept))
        _LOG.info('%s: dropped %d rows after step %s', path, dropped, step)

  def _drop_half_lines(self) -> None:
    """Cuts off half lines, to which the next row would be appended."""
    # They lack the line end that every whole line has.
    for path in (self.path / METRICS, self.path / EVALUATIONS):
      if not path.exists():
        continue
      with open(path, 'r+b') as file:
        content = file.read()
        end = content.rfind(b'\n') + 1
        if end < len(content):
          file.truncate(end)


def _append_line(path: Path, line: bytes) -> None:
  """Appends to a file; if the disk is full, the file is as it was before."""
  handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
  try:
    size = os.fstat(handle).st_size
    try:
      # The system may write a part only.
      while line:
        line = line[os.write(handle, line) :]
    except OSError:
      os.ftruncate(handle, size)
      raise
  finally:
    os.close(handle)


def _reason(path: Path, error: OSError) -> str:
  """Why a path cannot be used, in words of the path rather than of the system."""
  for part in [*reversed(path.parents), path]:
    if os.path.islink(part) and not os.path.exists(part):
      return f'{part} is a dangling link'
  for part in reversed(path.parents):
    if os.path.lexists(part) and not os.path.isdir(part):
      return f'{part} is not a folder'
  if os.path.isfile(path) and isinstance(error, FileExistsError | NotADirectoryError):
    return 'it is a file, not a folder'
  return error.strerror or str(error)
