r"""The lines of a user's file: packed or not, with any line ends, in UTF-8.

>>> import tempfile
>>> path = pathlib.Path(tempfile.mkdtemp()) / 'a.txt'
>>> _ = path.write_bytes(b'\xef\xbb\xbfone\rtwo\r')
>>> told = []
>>> list(read(path, told.append)), len(told)
([(1, 'one\n'), (2, 'two\n')], 1)
"""

import codecs
import functools
import gzip
import io
import math
import os
import pathlib
import re
import zlib
from collections.abc import Callable, Iterator

# Bytes of a line or field: more than a real text, less than a decompression bomb.
LONGEST = 2**28
# How names of packed files end.
PACKED = ('.gz', '.zst')
# Real texts are packed to a tenth or so, and zeros without end to a thousandth.
_RATIO = 100
# Bytes that tell what a file is and how its lines end.
_START = 2**16
# Bytes that are split into lines together.
_CHUNK = 2**20
# How files begin that are no text in UTF-8, and what can be done about it.
_NO_TEXT = {
  codecs.BOM_UTF16_LE: 'UTF-16, not UTF-8; save it as UTF-8 (Excel: "CSV UTF-8")',
  codecs.BOM_UTF16_BE: 'UTF-16, not UTF-8; save it as UTF-8 (Excel: "CSV UTF-8")',
  b'\x1f\x8b': 'packed with gzip; its name must then end with .gz',
  b'\x28\xb5\x2f\xfd': 'packed with zstd; its name must then end with .zst',
  b'PK\x03\x04': 'a zip file or an Excel workbook; save the table as CSV',
  b'PAR1': 'Parquet; its name must then end with .parquet',
}
# A quoted stretch, up to the end where nothing closes it.
_QUOTED = re.compile(rb'"[^"]*("|\Z)')


def is_packed(path) -> bool:
  """Does the name of a file say that it is packed? Case does not matter."""
  return str(path).lower().endswith(PACKED)


def unpacked(name) -> str:
  """The name in small letters, without what says that a file is packed."""
  plain = str(name).lower()
  for ending in PACKED:
    plain = plain.removesuffix(ending)
  return plain


def open_bytes(path: pathlib.Path):
  """The bytes of a file, unpacked."""
  name = path.name.lower()
  if name.endswith('.gz'):
    return gzip.open(path, 'rb')
  if name.endswith('.zst'):
    return _open_zstd(path)
  return open(path, 'rb')


def _open_zstd(path: pathlib.Path):
  # Inside: few files need it.
  import pyarrow

  packed = pyarrow.OSFile(os.fspath(path), 'rb')
  stream = pyarrow.CompressedInputStream(packed, 'zstd')
  # By itself it has no lines.
  return io.BufferedReader(stream, _CHUNK)


def why_not_whole(path: pathlib.Path, error: Exception) -> str:
  """What is wrong with a file that cannot be read to its end."""
  if isinstance(error, (EOFError, zlib.error, gzip.BadGzipFile)):
    return f'not a whole gzip file: {error}'
  reason = getattr(error, 'strerror', None)
  # What unpacks zstd gives no number of the system's.
  if reason is None and path.name.lower().endswith('.zst'):
    return f'not a whole zstd file: {error}'
  return f'cannot be read: {reason or error}'


def start(path: pathlib.Path) -> bytes:
  """The first bytes of a file, unpacked, without a byte-order mark of UTF-8."""
  with open_bytes(path) as file:
    return file.read(_START).removeprefix(codecs.BOM_UTF8)


def read(path: pathlib.Path, tell: Callable) -> Iterator[tuple[int, str]]:
  r"""(line number, line) of a UTF-8 file; a byte-order mark is dropped.

  A line ends with \n or \r\n, as in the file. Where all lines end with \r, as on old
  Macs, they are given with \n, and `tell` is called with a line that says so. Raises
  ValueError for another encoding, for a line of `LONGEST` bytes and for a bomb: a packed
  file of more than `LONGEST` bytes that is a hundred times as large as it looks.
  """
  first = start(path)
  _require_text(path, first)
  with open_bytes(path) as file:
    if _has_mac_ends(first):
      tell('lines end with \\r, as on old Macs')
      lines = _mac_lines(file)
    else:
      # Bounded: a small gzip file may hold one line of many gigabytes.
      lines = iter(functools.partial(file.readline, LONGEST), b'')
    most = most_bytes(path)
    size = 0
    for number, line in enumerate(lines, 1):
      size += len(line)
      if size > most:
        raise ValueError(f'{path}:{number}: {bomb(most)}')
      if len(line) >= LONGEST:
        raise ValueError(f'{path}:{number}: a line of {LONGEST} bytes or more')
      if number == 1:
        line = line.removeprefix(codecs.BOM_UTF8)
      yield number, _decoded(path, number, line)


def most_bytes(path: pathlib.Path) -> float:
  """How many bytes a file may have when it is unpacked."""
  if not is_packed(path):
    return math.inf
  return max(LONGEST, _RATIO * path.stat().st_size)


def bomb(most: float) -> str:
  """What is said of a file that has more bytes."""
  return (
    f'unpacks to more than {most:,} bytes, {_RATIO} times what it takes packed; '
    'unpack it by itself if it is what it says'
  )


def _require_text(path, first: bytes) -> None:
  """Raises ValueError where the first bytes are those of no text in UTF-8."""
  for beginning, what in _NO_TEXT.items():
    if first.startswith(beginning):
      raise ValueError(f'{path}: {what}')
  # UTF-16 without a mark: every second byte of a text in Latin letters is zero.
  some = first[:32]
  halves = (some[::2], some[1::2])
  if len(some) > 4 and any(not any(half) for half in halves):
    raise ValueError(f'{path}: {_NO_TEXT[codecs.BOM_UTF16_LE]}')


def _has_mac_ends(first: bytes) -> bool:
  r"""Do lines end with \r alone? Excel puts \n between the lines inside of a cell."""
  outside = _QUOTED.sub(b'', first)
  return b'\r' in outside and b'\n' not in outside


def _mac_lines(file) -> Iterator[bytes]:
  r"""The lines of a file that are parted by \r, with \n at their ends."""
  rest = b''
  while len(rest) < LONGEST and (chunk := file.read(_CHUNK)):
    *whole, rest = (rest + chunk).split(b'\r')
    for line in whole:
      yield line + b'\n'
  if rest:
    yield rest


def _decoded(path, number: int, line: bytes) -> str:
  """The text of a line. Raises ValueError that names the first wrong byte."""
  try:
    return line.decode('utf-8')
  except UnicodeDecodeError as error:
    raise ValueError(
      f'{path}:{number}: byte {error.start}: not UTF-8; save the file as UTF-8'
    ) from error
