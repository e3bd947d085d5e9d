"""The commit record of a step, `commit.json`: which leaves, which files, which bytes.
It decides what a step is.

>>> import tempfile
>>> load_record(Path(tempfile.mkdtemp())) is None
True
"""

import hashlib
import os
from pathlib import Path
from typing import Any

from tl_jax.checkpoint import files

FORMAT = 1
NAME = 'commit.json'
ARRAYS, SMALL = 'arrays', 'small'
_MOST_BYTES = 64 << 20


class CheckpointError(ValueError):
  """What was asked of the checkpoints cannot be done; the message names the step, file
  or leaf.
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
  """The record of the files below `folder`, which are hashed and flushed to the disk on
  the way.

  Args:
    leaves: name -> {shape, dtype, folder or None; impl for a random key; start, bytes,
    sha256 in the folder `small`}.
    meta: anything strict JSON can hold.
  """
  found, folders = files.walk(folder)
  sums = files.in_parallel(lambda path: files.digest(path, durable=True), found)
  files.in_parallel(files.flush, folders)
  sums = {
    path.relative_to(folder).as_posix(): list(entry)
    for path, entry in zip(found, sums, strict=True)
  }
  owner = {
    f'{ARRAYS}/{leaf["folder"]}': name
    for name, leaf in leaves.items()
    if leaf['folder'] not in (None, SMALL)
  }
  entries = {name: {**leaf, 'files': {}} for name, leaf in leaves.items()}
  shared = {}
  for path, entry in sums.items():
    name = owner.get('/'.join(path.split('/')[:2]))
    (shared if name is None else entries[name]['files'])[path] = entry
  record = {
    'format': FORMAT,
    'step': step,
    'time': round(time, 3),
    'bytes': sum(size for size, _ in sums.values()),
    'versions': versions,
    'leaves': entries,
    'files': shared,
    'meta': meta,
  }
  return {**record, 'digest': _digest(record)}


def _digest(record: dict) -> str:
  return hashlib.sha256(
    files.encode({key: record[key] for key in record if key != 'digest'}).encode()
  ).hexdigest()


def write_record(folder: Path, record: dict) -> None:
  """Writes the record into the folder of its step: the last file, on the disk before
  this returns.
  """
  files.write_atomically(folder / NAME, files.encode(record).encode())


def load_record(folder: Path) -> dict | None:
  """The record of a step folder, or None where there is none; DamagedStep if it is not
  what was written.
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
  if files.encode(record).encode() != content or record.get('digest') != _digest(
    record
  ):
    raise DamagedStep(f'{path}: its checksum does not match')
  if record['format'] != FORMAT:
    raise CheckpointError(
      f'{path}: format {record["format"]}; this tl_jax reads format {FORMAT}: use the tl_jax that wrote it'
    )
  if str(record['step']) != folder.name.split('-')[0]:
    raise DamagedStep(f'{path}: it is the record of step {record["step"]}')
  return record


def find_problems(folder: Path, record: dict, names=None) -> list[str]:
  """One line per file that is not what was committed, naming leaf and file; empty means
  good.

  `names` limits the check to the files that these leaves need.
  """
  names = record['leaves'] if names is None else names
  expected = {
    path: (f'leaf {name!r}', entry)
    for name in names
    for path, entry in record['leaves'][name]['files'].items()
  }
  small = {
    name: leaf for name, leaf in record['leaves'].items() if leaf['folder'] == SMALL
  }
  bundle = f'{ARRAYS}/{SMALL}/'
  for path, entry in record['files'].items():
    if not path.startswith(bundle):
      expected[path] = 'every leaf', entry
    elif any(name in small for name in names):
      expected[path] = _list_leaves(list(small)), entry
  results = files.in_parallel(
    lambda item: _check_file(folder / item[0], *item[1]), expected.items()
  )
  problems = dict(zip(expected, results, strict=True))
  chunk = f'{bundle}0'
  if problems.get(chunk):
    problems[chunk] = (
      _name_small(folder / chunk, small, record['files'][chunk][0]) or problems[chunk]
    )
  return [problem for problem in problems.values() if problem] + _find_strangers(
    folder, record
  )


def _list_leaves(names: list[str]) -> str:
  return f'leaf {names[0]!r}' + (
    f' and {len(names) - 1} more leaves' if len(names) > 1 else ''
  )


def _name_small(path: Path, small: dict[str, dict], size: int) -> str | None:
  """Which of the small leaves in one file are damaged, if the file is there in full."""
  try:
    content = path.read_bytes()
  except OSError:
    return None
  damaged = [
    name
    for name, leaf in small.items()
    if leaf['sha256']
    != hashlib.sha256(
      content[leaf['start'] : leaf['start'] + leaf['bytes']]
    ).hexdigest()
  ]
  return (
    f'{_list_leaves(damaged)}: {path} does not match its checksum'
    if damaged and len(content) == size
    else None
  )


def _check_file(path: Path, owner: str, entry) -> str | None:
  size, checksum = entry
  try:
    if path.is_symlink() or not path.is_file():
      return f'{owner}: {path} is missing'
    if path.stat().st_size != size:
      return f'{owner}: {path} has {path.stat().st_size} bytes, {size} were committed'
    if files.digest(path)[1] != checksum:
      return f'{owner}: {path} does not match its checksum'
  except OSError as error:
    return f'{owner}: {path} cannot be read: {error.strerror}'
  return None


def _find_strangers(folder: Path, record: dict) -> list[str]:
  """Files among the chunks of a leaf that were not committed: a reader might take them
  for data.
  """
  problems = []
  for name, leaf in record['leaves'].items():
    place = folder / ARRAYS / leaf['folder'] if leaf['files'] else None
    known = {path.rsplit('/', 1)[1] for path in leaf['files']}
    for entry in os.listdir(place) if place and place.is_dir() else ():
      if entry not in known and (entry == '.zarray' or not entry.startswith('.')):
        problems.append(f'leaf {name!r}: {place / entry} was not committed')
  return sorted(problems)


def _one_line(error: Exception) -> str:
  return ' '.join(str(error).split())[:300]
