"""A file of answers, one for each text of another file: written window by window, and
gone on with where it ends.

>>> import tempfile
>>> path = pathlib.Path(tempfile.mkdtemp()) / 'labels.jsonl'
>>> with open_answers(path, {'model': 'a'}) as answers:
...   answers.add([{'label': 'good'}, {'label': 'bad'}])
>>> path.read_text().splitlines()[1]
'{"index": 1, "label": "bad"}'
>>> with open_answers(path, {'model': 'a'}) as answers:
...   answers.count
2
"""

import contextlib
import csv
import fcntl
import io
import json
import os
import pathlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from tl_jax import files
from tl_jax.checkpoint import WorkdirBusy
from tl_jax.config import ConfigError

# Beside a file of answers: what it was made from, and how far it is whole.
ORIGIN = '.origin.json'
# The ending of a file with a word on every line.
WORD_LINES = '.conll'
# Bytes of the head of a .npy file, whatever the number of its rows.
_NUMPY_HEAD = 128
# Digits of a number of an embedding, in text.
_DIGITS = 7


class Mark(NamedTuple):
  """A place up to which a file is whole: answers, bytes behind its head, and their
  checksum.
  """

  count: int
  size: int
  checksum: int


class JsonLines:
  """An object per line, with the number of its text as `index`."""

  def head(self, count: int) -> bytes:
    """What stands before the answers."""
    del count
    return b''

  def body(self, first: int, answers: Sequence[Mapping[str, Any]]) -> bytes:
    """Answers, of which the first belongs to the text with this number."""
    lines = []
    for index, answer in enumerate(answers, first):
      plain = {name: _plain(value) for name, value in answer.items()}
      line = dict(index=index, **plain)
      lines.append(json.dumps(line, ensure_ascii=False, allow_nan=False) + '\n')
    return ''.join(lines).encode()


class CommaSeparated:
  """A row per answer, with the keys of an object within it as columns of their own.

  >>> flat({'label': 'a', 'probabilities': {'a': 0.5}})
  {'label': 'a', 'probabilities.a': 0.5}
  """

  def __init__(self, columns: Sequence[str]):
    self.columns = ('index', *columns)

  def head(self, count: int) -> bytes:
    """The names of the columns."""
    del count
    return self._rows([self.columns])

  def body(self, first: int, answers: Sequence[Mapping[str, Any]]) -> bytes:
    """Answers, of which the first belongs to the text with this number."""
    rows = []
    for index, answer in enumerate(answers, first):
      cells = flat(answer)
      rows.append([index, *(cells.get(name) for name in self.columns[1:])])
    return self._rows(rows)

  def _rows(self, rows) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator='\n').writerows(rows)
    return text.getvalue().encode()


class WordLines:
  """A word and its tag on every line, and an empty line behind every sentence."""

  def head(self, count: int) -> bytes:
    """What stands before the answers."""
    del count
    return b''

  def body(self, first: int, answers: Sequence[Mapping[str, Any]]) -> bytes:
    """Answers that have `tokens` and `tags`."""
    del first
    lines = []
    for answer in answers:
      pairs = zip(answer['tokens'], answer['tags'], strict=True)
      # By a tab: a word may hold spaces.
      lines += [f'{word}\t{tag}\n' for word, tag in pairs] + ['\n']
    return ''.join(lines).encode()


class NumpyArray:
  """float32 (texts, width): the embedding of each text in the row of its number."""

  def __init__(self, width: int):
    self.width = width

  def head(self, count: int) -> bytes:
    """The head of the format, as long for every number of rows."""
    shape = dict(descr='<f4', fortran_order=False, shape=(count, self.width))
    text = io.BytesIO()
    np.lib.format.write_array_header_1_0(text, shape)
    # Its own padding depends on the digits of the number of rows.
    start = text.getvalue()[:8]
    plain = text.getvalue()[10:].rstrip()
    room = _NUMPY_HEAD - len(start) - 2
    return start + room.to_bytes(2, 'little') + plain.ljust(room - 1) + b'\n'

  def body(self, first: int, answers: Sequence[Mapping[str, Any]]) -> bytes:
    """Embeddings; NaN where there is none."""
    del first
    nothing = np.full(self.width, np.nan)
    rows = [
      nothing if answer['embedding'] is None else answer['embedding']
      for answer in answers
    ]
    return np.stack(rows).astype('<f4').tobytes()


def _plain(value):
  """A value as JSON has it; an array as a list of rounded numbers."""
  if isinstance(value, np.ndarray):
    return [round(number, _DIGITS) for number in value.astype(float).tolist()]
  return value


def flat(answer: Mapping[str, Any], before: str = '') -> dict[str, Any]:
  """An answer without objects inside: their keys stand behind a point, and several
  labels of a list have bars between them.
  """
  cells = {}
  for name, value in answer.items():
    if isinstance(value, Mapping):
      cells |= flat(value, f'{before}{name}.')
    elif isinstance(value, list):
      cells[before + name] = '|'.join(map(str, value))
    else:
      cells[before + name] = value
  return cells


class Answers:
  """An open file of answers; `count` of them are there.

  After every `add` the file is whole on the disk. If that is cut short by a crash, what
  it wrote is gone when the file is opened again, and nothing else.
  """

  def __init__(self, file: BinaryIO, path: pathlib.Path, origin: dict, form):
    self._file, self.path, self._form = file, path, form
    self._origin = origin
    self._marks = origin['marks']

  @property
  def count(self) -> int:
    """How many answers are there."""
    return self._marks[-1].count

  def add(self, answers: Sequence[Mapping[str, Any]]) -> None:
    """Writes the answers to the texts that follow."""
    last = self._marks[-1]
    body = self._form.body(last.count, answers)
    checksum = zlib.crc32(body, last.checksum)
    mark = Mark(last.count + len(answers), last.size + len(body), checksum)
    head = self._form.head(mark.count)
    self._file.seek(len(head) + last.size)
    self._file.write(body)
    # The head of an array says how many rows there are.
    self._file.seek(0)
    self._file.write(head)
    self._file.flush()
    os.fsync(self._file.fileno())
    # Only now: what is marked is on the disk.
    self._marks.append(mark)
    _write_origin(self.path, self._origin)


def require_output(path, embeddings: bool) -> None:
  """Raises ConfigError for a file that answers cannot be written to."""
  path = pathlib.Path(files.require_local(path, 'output'))
  endings = ('.jsonl', '.npy') if embeddings else ('.jsonl', '.csv', WORD_LINES)
  if path.suffix.lower() not in endings:
    what = 'embeddings' if embeddings else 'answers'
    raise ConfigError(
      f'--output: {path}: the ending {path.suffix!r} is none of '
      f'{", ".join(endings)}, as {what} are written'
    )
  if path.is_dir():
    raise ConfigError(f'--output: {path}: is a folder')
  if not path.parent.is_dir():
    raise ConfigError(f'--output: {path.parent}: no such folder')


def form_of(path, columns: Sequence[str] = (), width: int = 0):
  """The form of a file by its ending.

  columns: of a table. width: of embeddings.
  """
  suffix = pathlib.Path(path).suffix.lower()
  if suffix == '.csv':
    return CommaSeparated(columns)
  if suffix == WORD_LINES:
    if 'tags' not in columns:
      raise ConfigError(
        f'--output: {path}: a word on every line is of tags, which this model does not '
        'give; nearest: .jsonl'
      )
    return WordLines()
  return NumpyArray(width) if suffix == '.npy' else JsonLines()


def written(path, origin: Mapping[str, Any]) -> int:
  """How many answers of this origin are there and whole; 0 for no file.

  Raises ConfigError as `open_answers` does.
  """
  path = pathlib.Path(path)
  known = _read_origin(path, origin)
  if known is None:
    return 0
  with open(path, 'rb') as file:
    return _whole(file, path, known)[-1].count


@contextlib.contextmanager
def open_answers(path, origin: Mapping[str, Any], form=None) -> Iterator[Answers]:
  """Opens a file of answers, new or begun, for this process alone.

  origin: what the answers are made from, JSON by name. It is kept beside the file. A
  last part that was not written whole is cut off.
  Raises ConfigError for a file of other origin or that somebody has changed, and
  WorkdirBusy where another process writes it.
  """
  path = pathlib.Path(path)
  form = JsonLines() if form is None else form
  with _open(path) as file:
    try:
      # The kernel gives it up when this process ends, however it ends.
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise WorkdirBusy(
        f'{path} is being written by another process; of several processes each needs '
        'an output of its own'
      ) from error
    # Only now: until here another process may have added to it.
    known = _read_origin(path, origin)
    marks = [Mark(0, 0, 0)] if known is None else _whole(file, path, known)
    head = form.head(marks[-1].count)
    current = dict(origin, start=len(head), marks=marks)
    _write_origin(path, current)
    # A new file begins with its head, so that it is one of no answers.
    file.truncate(len(head) + marks[-1].size)
    file.seek(0)
    file.write(head)
    file.flush()
    yield Answers(file, path, current, form)


def _open(path: pathlib.Path) -> BinaryIO:
  """The file to write into, made where there is none. Raises ConfigError."""
  try:
    # Never emptied: it may be that of a process which has begun a moment ago.
    path.touch()
    return open(path, 'r+b')
  except OSError as error:
    raise ConfigError(f'--output: {path}: {error.strerror}') from error


def _read_origin(path: pathlib.Path, origin: Mapping[str, Any]) -> dict | None:
  """What stands beside the file; None where there is no file, or nothing in it.

  Raises ConfigError for a file that was made from something else.
  """
  if not path.exists() or not path.stat().st_size:
    return None
  beside = path.with_name(path.name + ORIGIN)
  try:
    known = files.decode(beside.read_bytes())
    known['marks'] = [Mark(*mark) for mark in known['marks']]
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise ConfigError(
      f'--output: {path}: exists, and no {beside.name} says what it is; name a new file'
    ) from error
  # As JSON has it: tuples are lists.
  for name, value in files.decode(files.encode(dict(origin))).items():
    if known.get(name) != value:
      raise ConfigError(
        f'--output: {path}: comes from another {name}; name a new file, or delete it'
      )
  return known


def _whole(file: BinaryIO, path: pathlib.Path, known: Mapping[str, Any]) -> list[Mark]:
  """The marks up to the last place where a file is whole.

  Raises ConfigError where what stands before it is not what was written.
  """
  first, *others = known['marks']
  found = [first]
  file.seek(known['start'])
  for mark in others:
    wanted = mark.size - found[-1].size
    content = file.read(wanted)
    # The end is torn, or was cut off: that part is made again.
    if len(content) < wanted:
      break
    if zlib.crc32(content, found[-1].checksum) != mark.checksum:
      raise ConfigError(
        f'--output: {path}: was changed after it was written, between answers '
        f'{found[-1].count} and {mark.count}; name a new file'
      )
    found.append(mark)
  return found


def _write_origin(path: pathlib.Path, origin: Mapping[str, Any]) -> None:
  beside = path.with_name(path.name + ORIGIN)
  files.write_atomically(beside, (files.encode(origin) + '\n').encode())
