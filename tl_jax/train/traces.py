"""What a refused start leaves behind: nothing.

>>> import tempfile
>>> path = pathlib.Path(tempfile.mkdtemp()) / 'new' / 'run'
>>> before = Before.of(path)
>>> path.mkdir(parents=True)
>>> _ = (path / 'config.json').write_text('{}')
>>> before.bring_back()
>>> before.drop_empty_folders()
>>> path.parent.exists()
False
"""

import contextlib
import os
import pathlib
import shutil
from typing import NamedTuple

from tl_jax import files
from tl_jax.checkpoint.lock import NAME as LOCK
from tl_jax.checkpoint.workdir import CHECKPOINTS, METRICS
from tl_jax.train import results

# What a start may write over is small: configs, seconds, a tokenizer. Larger files are
# those of training, and are only added to.
LARGEST = 2**24


class Before(NamedTuple):
  """A workdir as a start found it.

  missing: the folders that were not there, the innermost first: the workdir and those
    above it.
  names: what the workdir held.
  contents: the small files among them, by name.
  progress: how far training had come.
  """

  path: pathlib.Path
  missing: tuple[pathlib.Path, ...]
  names: frozenset[str]
  contents: dict[str, bytes]
  progress: tuple

  @classmethod
  def of(cls, path: str | os.PathLike) -> 'Before':
    """The workdir at a path, which need not be there."""
    path = pathlib.Path(os.path.abspath(os.path.expanduser(path)))
    missing = tuple(
      folder for folder in (path, *path.parents) if not os.path.lexists(folder)
    )
    names, contents = frozenset(), {}
    # What cannot be read is no workdir; whoever opens it says so.
    with contextlib.suppress(OSError, ValueError):
      names = frozenset(os.listdir(path))
      contents = _small_files(path)
    return cls(path, missing, names, contents, _progress(path))

  def bring_back(self) -> None:
    """Makes the workdir what it was, unless training has come further since.

    The lock stays: while this deletes, no other run may come in.
    """
    if _progress(self.path) != self.progress or not self.path.is_dir():
      return
    for entry in self.path.iterdir():
      if entry.name not in self.names and entry.name != LOCK:
        _delete(entry)
    for name, content in self.contents.items():
      target = self.path / name
      if not target.is_file() or target.read_bytes() != content:
        # A crash in between must not leave a part of what was whole.
        files.write_atomically(target, content)

  def drop_empty_folders(self) -> None:
    """Deletes the workdir and the folders above it where they are new and empty."""
    for folder in self.missing:
      try:
        folder.rmdir()
      except OSError:
        # It holds something, so that those above it do, too.
        return


def _small_files(path: pathlib.Path) -> dict[str, bytes]:
  """The contents of the small files in a folder, but for that of the lock."""
  found = {}
  for entry in path.iterdir():
    if entry.name != LOCK and entry.is_file() and entry.stat().st_size <= LARGEST:
      found[entry.name] = entry.read_bytes()
  return found


def _progress(path: pathlib.Path) -> tuple:
  """What training leaves: the logged bytes, the committed steps, a result."""
  metrics, checkpoints = path / METRICS, path / CHECKPOINTS
  logged = metrics.stat().st_size if metrics.is_file() else 0
  steps = ()
  if checkpoints.is_dir():
    steps = tuple(sorted(filter(str.isdecimal, os.listdir(checkpoints))))
  return logged, steps, (path / results.FILE).is_file()


def _delete(entry: pathlib.Path) -> None:
  """Deletes a file or a folder; of a link, the link alone."""
  if entry.is_dir() and not entry.is_symlink():
    shutil.rmtree(entry, ignore_errors=True)
  else:
    entry.unlink(missing_ok=True)
