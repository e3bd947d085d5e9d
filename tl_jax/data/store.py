"""Folders that are written once: cache roots, locks, and commits by rename.

>>> import tempfile
>>> root = pathlib.Path(tempfile.mkdtemp())
>>> def write(folder):
...   _ = (folder / 'a.txt').write_text('text')
>>> (commit(root / 'set', write) / 'a.txt').read_text()
'text'
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import math
import os
import pathlib
import secrets
import shutil
import tempfile
from collections.abc import Callable

from tl_jax import files

MANIFEST = 'manifest.json'
# Bytes of a folder whose checksums are verified before every use: a second or two.
CHECKED = 2**30
_LOG = logging.getLogger(__name__)


def cache_root() -> pathlib.Path:
  """The folder of prepared sets.

  It is $TL_JAX_DATA, or $XDG_CACHE_HOME/tl_jax/datasets, or ~/.cache/tl_jax/datasets.
  Where that cannot be written it is a folder of this user below the temporary
  directory.
  """
  given = os.environ.get('TL_JAX_DATA')
  home = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
  root = pathlib.Path(given) if given else pathlib.Path(home) / 'tl_jax' / 'datasets'
  try:
    root.mkdir(parents=True, exist_ok=True)
  except OSError:
    return _private_folder()
  return root.absolute() if is_writable(root) else _private_folder()


def is_writable(folder: pathlib.Path) -> bool:
  """Can files be made in a folder?

  Only writing proves it: permissions do not tell of a disk that is mounted for reading
  only.
  """
  try:
    with tempfile.TemporaryFile(dir=folder):
      return True
  except OSError:
    return False


def _private_folder() -> pathlib.Path:
  """A folder below the temporary directory that belongs to this user alone.

  It is the same one every time if possible.
  """
  folder = pathlib.Path(tempfile.gettempdir()) / f'tl_jax_datasets_{os.getuid()}'
  with contextlib.suppress(FileExistsError):
    folder.mkdir(mode=0o700)
  # Everyone may write to the temporary directory, so anyone may have made this folder,
  # and put files there that we would trust.
  status = folder.lstat()
  real = folder.is_dir() and not folder.is_symlink()
  writable_by_others = status.st_mode & 0o022
  if real and status.st_uid == os.getuid() and not writable_by_others:
    return folder
  return pathlib.Path(tempfile.mkdtemp(prefix='tl_jax_datasets_'))


@contextlib.contextmanager
def locked(path):
  """Holds the file `path` exclusively.

  The kernel gives it up when the owner dies, however it dies.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  with open(path, 'a') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    yield


def digest(*parts) -> str:
  """Hexadecimal sha256 of JSON values: the key of whatever was made from them."""
  text = json.dumps(parts, sort_keys=True, ensure_ascii=True)
  return hashlib.sha256(text.encode()).hexdigest()


def damage(folder, most: float = math.inf) -> str | None:
  """The first file of a committed folder that is missing or not what was committed.

  None when all are whole. The checksums of `most` bytes are verified, those of small
  files first; of the other files it is the sizes.
  """
  folder = pathlib.Path(folder)
  try:
    recorded = json.loads((folder / MANIFEST).read_text())
    checksums = dict(recorded['files'])
    sizes = dict(recorded.get('sizes', {}))
  except (OSError, ValueError, KeyError, TypeError):
    return MANIFEST
  verified = 0
  # A folder without sizes is of an earlier version: all its checksums are verified.
  for name in sorted(checksums, key=lambda name: sizes.get(name, 0)):
    path = folder / name
    if not path.is_file():
      return name
    size = path.stat().st_size
    if size != sizes.get(name, size):
      return name
    verified += sizes.get(name, 0)
    if verified <= most and files.digest(path)[1] != checksums[name]:
      return name
  return None


def commit(folder, write: Callable[[pathlib.Path], None]) -> pathlib.Path:
  """The folder that `write` fills, made once.

  It is safe with several processes, and with a kill at any time. `write` fills a
  temporary folder, a manifest with the checksum of every file is added last, and the
  folder is renamed. A folder whose files differ from their manifest is set aside and
  made again, with a warning in the log that names the file. Of a folder of more than
  `CHECKED` bytes, whose checksums would take minutes, most files are known by their
  sizes alone.
  """
  folder = pathlib.Path(folder)
  # Without the lock: a committed folder never changes.
  if folder.is_dir() and not damage(folder, CHECKED):
    return folder
  with locked(folder.with_name(f'.{folder.name}.lock')):
    # Another process may have made or mended it while this one waited.
    if folder.is_dir():
      broken = damage(folder, CHECKED)
      if not broken:
        return folder
      _LOG.warning(
        '%s: the file %s is damaged; the folder is made again', folder, broken
      )
      _set_aside(folder)
    # Whoever left these is dead: its lock is ours now.
    for left in folder.parent.glob(f'.{folder.name}.partial.*'):
      shutil.rmtree(left, ignore_errors=True)
    mark = f'{os.getpid()}.{secrets.token_hex(4)}'
    temporary = folder.with_name(f'.{folder.name}.partial.{mark}')
    temporary.mkdir(parents=True)
    try:
      write(temporary)
      _seal(temporary)
      os.replace(temporary, folder)
      files.flush(folder.parent)
    finally:
      shutil.rmtree(temporary, ignore_errors=True)
  return folder


def _seal(folder: pathlib.Path) -> None:
  """Writes the manifest of a folder, and flushes every file before it."""
  paths = [path for path in folder.rglob('*') if path.is_file()]
  names = sorted(str(path.relative_to(folder)) for path in paths)
  checksums, sizes = {}, {}
  # A manifest that is on the disk must not speak of files that are not.
  for name in names:
    sizes[name], checksums[name] = files.digest(folder / name, durable=True)
  manifest = {'files': checksums, 'sizes': sizes}
  text = json.dumps(manifest, indent=1, sort_keys=True) + '\n'
  files.write_atomically(folder / MANIFEST, text.encode())


def _set_aside(folder: pathlib.Path) -> None:
  """Takes a damaged folder out of the way by one rename, then deletes it."""
  aside = folder.with_name(f'.{folder.name}.partial.damaged.{secrets.token_hex(4)}')
  os.replace(folder, aside)
  shutil.rmtree(aside, ignore_errors=True)
