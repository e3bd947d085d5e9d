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
import pathlib
import re
from collections.abc import Callable, Iterator

# Bytes of a line or field: more than a real text, less than a decompression bomb.
LONGEST = 2**28
# Bytes that tell what a file is and how its lines end.
_START = 2**16
# Bytes that are split into lines together.
_CHUNK = 2**20
# How files begin that are no text in UTF-8, and what can be done about it.
_NO_TEXT = {
  codecs.BOM_UTF16_LE: 'UTF-16, not UTF-8; save it as UTF-8 (Excel: "CSV UTF-8")',
  codecs.BOM_UTF16_BE: 'UTF-16, not UTF-8; save it as UTF-8 (Excel: "CSV UTF-8")',
  b'\x1f\x8b': 'packed with gzip; its name must then end with .gz',
  b'PK\x03\x04': 'a zip file or an Excel workbook; save the table as CSV',
  b'PAR1': 'Parquet; its name must then end with .parquet',
}
# A quoted stretch, up to the end where nothing closes it.
_QUOTED = re.compile(rb'"[^"]*("|\Z)')


def open_bytes(path: pathlib.Path):
  """The bytes of a file, unpacked."""
  if path.name.lower().endswith('.gz'):
    return gzip.open(path, 'rb')
  return open(path, 'rb')


def start(path: pathlib.Path) -> bytes:
  """The first bytes of a file, unpacked, without a byte-order mark of UTF-8."""
  with open_bytes(path) as file:
    return file.read(_START).removeprefix(codecs.BOM_UTF8)


def read(path: pathlib.Path, tell: Callable) -> Iterator[tuple[int, str]]:
  r"""(line number, line) of a UTF-8 file; a byte-order mark is dropped.

  A line ends with \n or \r\n, as in the file. Where all lines end with \r, as on old
  Macs, they are given with \n, and `tell` is called with a line that says so. Raises
  ValueError for another encoding and for a line of `LONGEST` bytes.
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
    for number, line in enumerate(lines, 1):
      if len(line) >= LONGEST:
        raise ValueError(f'{path}:{number}: a line of {LONGEST} bytes or more')
      if number == 1:
        line = line.removeprefix(codecs.BOM_UTF8)
      yield number, _decoded(path, number, line)


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
