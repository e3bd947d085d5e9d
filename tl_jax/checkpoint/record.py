"""The commit record of a step, `commit.json`: which leaves, which files, which bytes.

A folder with a record is a step, and a folder without one is none.

>>> import tempfile
>>> load_record(Path(tempfile.mkdtemp())) is None
True
"""

import hashlib
import os
from pathlib import Path
from typing import Any

from tl_jax import files

FORMAT = 1
NAME = 'commit.json'
# Folders within a step: of all arrays, and of the bundle of small ones below it.
ARRAYS = 'arrays'
SMALL = 'small'
# What is larger is no record: a damaged disk must not fill the memory.
_MOST_BYTES = 64 << 20


class CheckpointError(ValueError):
  """What was asked of the checkpoints cannot be done.

  The message names the step, file or leaf.
  """


class DamagedStep(CheckpointError):
  """A step whose files are not what was committed."""


def make_record(
  folder: Path,
  step: int,
  leaves: dict[str, dict],
  meta: Any,
  time: float,
  versions: dict,
) -> dict:
  """The record of the files below `folder`, which it hashes and flushes to the disk.

  Args:
    leaves: by name, what `arrays.take` and `arrays.seal` say of each: shape, dtype, and
      folder or None; `impl` of a random key; start, bytes and sha256 in the bundle.
    meta: anything strict JSON can hold.
  """
  found, folders = files.walk(folder)
  sums = files.in_parallel(lambda path: files.digest(path, durable=True), found)
  # The names of files are on the disk only once their folders are.
  files.in_parallel(files.flush, folders)
  owner = {}
  for name, leaf in leaves.items():
    if leaf['folder'] not in (None, SMALL):
      owner[f'{ARRAYS}/{leaf["folder"]}'] = name
  entries = {name: {**leaf, 'files': {}} for name, leaf in leaves.items()}
  # Files that belong to no single leaf: those of orbax itself, and the bundle.
  shared: dict[str, list] = {}
  total = 0
  for path, (size, checksum) in zip(found, sums, strict=True):
    relative = path.relative_to(folder).as_posix()
    name = owner.get('/'.join(relative.split('/')[:2]))
    holder = shared if name is None else entries[name]['files']
    holder[relative] = [size, checksum]
    total += size
  record = {
    'format': FORMAT,
    'step': step,
    'time': round(time, 3),
    'bytes': total,
    'versions': versions,
    'leaves': entries,
    'files': shared,
    'meta': meta,
  }
  return {**record, 'digest': _digest(record)}


def _digest(record: dict) -> str:
  """The checksum of a record, of everything in it but this checksum itself."""
  content = {key: value for key, value in record.items() if key != 'digest'}
  return hashlib.sha256(files.encode(content).encode()).hexdigest()


def write_record(folder: Path, record: dict) -> None:
  """Writes the record into the folder of its step.

  It is the last file of the step, and on the disk before this returns.
  """
  files.write_atomically(folder / NAME, files.encode(record).encode())


def load_record(folder: Path) -> dict | None:
  """The record of a step folder, or None where there is none.

  Raises DamagedStep if it is not what was written, and CheckpointError for a format of
  another version.
  """
  path = folder / NAME
  try:
    content = files.read_bounded(path, _MOST_BYTES)
    record = files.decode(content)
    if not isinstance(record, dict) or 'format' not in record:
      raise ValueError('it is not a commit record')
  except (FileNotFoundError, NotADirectoryError):
    return None
  except OSError as error:
    raise DamagedStep(f'{path}: {error.strerror}') from error
  except ValueError as error:
    raise DamagedStep(f'{path}: {_one_line(error)}') from error
  # One canonical text per record, so that no bit of the file is beyond the checksum.
  canonical = files.encode(record).encode()
  if canonical != content or record.get('digest') != _digest(record):
    raise DamagedStep(f'{path}: its checksum does not match')
  if record['format'] != FORMAT:
    raise CheckpointError(
      f'{path}: format {record["format"]}; this tl_jax reads format {FORMAT}: use the '
      'tl_jax that wrote it'
    )
  # A folder that was renamed or copied by hand. Of `7-ab12` in quarantine the step is
  # 7.
  if str(record['step']) != folder.name.split('-')[0]:
    raise DamagedStep(f'{path}: it is the record of step {record["step"]}')
  return record


def find_problems(folder: Path, record: dict, names=None) -> list[str]:
  """One line per file that is not what was committed; empty means good.

  A line names leaf and file. `names` limits the check to the files that these leaves
  need.
  """
  names = record['leaves'] if names is None else names
  small = {}
  for name, leaf in record['leaves'].items():
    if leaf['folder'] == SMALL:
      small[name] = leaf
  expected = _expected_files(record, names, small)

  def check(item):
    name, facts = item
    return _check_file(folder / name, *facts)

  results = files.in_parallel(check, expected.items())
  problems = dict(zip(expected, results, strict=True))
  # Of a damaged bundle it is said which leaves are damaged, if they can be told.
  chunk = f'{ARRAYS}/{SMALL}/0'
  if problems.get(chunk):
    size, _ = record['files'][chunk]
    problems[chunk] = _name_small(folder / chunk, small, size) or problems[chunk]
  found = [problem for problem in problems.values() if problem]
  return found + _find_strangers(folder, record)


def _expected_files(record: dict, names, small: dict[str, dict]) -> dict[str, tuple]:
  """The files that these leaves need: by path (who needs it, [bytes, SHA-256]).

  `small` has the leaves of the bundle.
  """
  expected = {}
  for name in names:
    for path, entry in record['leaves'][name]['files'].items():
      expected[path] = f'leaf {name!r}', entry
  bundle_needed = any(name in small for name in names)
  for path, entry in record['files'].items():
    if not path.startswith(f'{ARRAYS}/{SMALL}/'):
      expected[path] = 'every leaf', entry
    elif bundle_needed:
      expected[path] = _list_leaves(list(small)), entry
  return expected


def _list_leaves(names: list[str]) -> str:
  """The first of several leaves, and how many there are besides."""
  listed = f'leaf {names[0]!r}'
  if len(names) > 1:
    listed += f' and {len(names) - 1} more leaves'
  return listed


def _name_small(path: Path, small: dict[str, dict], size: int) -> str | None:
  """Which of the small leaves in one file are damaged, if the file is there in full."""
  try:
    content = path.read_bytes()
  except OSError:
    return None
  if len(content) != size:
    return None
  damaged = []
  for name, leaf in small.items():
    part = content[leaf['start'] : leaf['start'] + leaf['bytes']]
    if hashlib.sha256(part).hexdigest() != leaf['sha256']:
      damaged.append(name)
  if not damaged:
    return None
  return f'{_list_leaves(damaged)}: {path} does not match its checksum'


def _check_file(path: Path, owner: str, entry) -> str | None:
  """What is wrong with a file; None for one that is what was committed."""
  size, checksum = entry
  # Cheap tests first: hashing reads the whole file.
  try:
    if path.is_symlink() or not path.is_file():
      return f'{owner}: {path} is missing'
    if path.stat().st_size != size:
      found = path.stat().st_size
      return f'{owner}: {path} has {found} bytes, {size} were committed'
    if files.digest(path)[1] != checksum:
      return f'{owner}: {path} does not match its checksum'
  except OSError as error:
    return f'{owner}: {path} cannot be read: {error.strerror}'
  return None


def _find_strangers(folder: Path, record: dict) -> list[str]:
  """Files among the chunks of a leaf that were not committed.

  A reader might take them for data.
  """
  problems = []
  for name, leaf in record['leaves'].items():
    if not leaf['files']:
      continue
    place = folder / ARRAYS / leaf['folder']
    if not place.is_dir():
      continue
    known = {path.rsplit('/', 1)[1] for path in leaf['files']}
    for entry in os.listdir(place):
      # Hidden files are of file browsers and network file systems; zarr reads but one.
      hidden = entry.startswith('.') and entry != '.zarray'
      if entry not in known and not hidden:
        problems.append(f'leaf {name!r}: {place / entry} was not committed')
  return sorted(problems)


def _one_line(error: Exception) -> str:
  """The message of an error in at most 300 characters of one line."""
  return ' '.join(str(error).split())[:300]
