r"""CSV and its relatives: the delimiter is given or found from the header, a broken row
is named.

>>> import tempfile
>>> path = pathlib.Path(tempfile.mkdtemp()) / 'a.csv'
>>> _ = path.write_text('text;label\ngood film;pos\n')
>>> told = []
>>> list(rows(path, ',', ('text', 'label'), told.append)), len(told)
([(2, {'text': 'good film', 'label': 'pos'})], 1)
"""

import csv
import itertools
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence

from tl_jax.data import lines

# Words for characters that are hard to type, or that part other things than cells.
WORDS = {'comma': ',', 'semicolon': ';', 'tab': '\t', 'bar': '|', 'space': ' '}
# What is looked for in a header. Spaces are not: a text without a label has them, too.
SOUGHT = (',', ';', '\t', '|')
# What ends a record, or holds a cell together, parts no cells.
_NEVER = ('"', '\r', '\n', '\0')
# The line that Excel puts before the header to say what parts the cells.
_EXCEL = re.compile(r'sep=.\s*', re.IGNORECASE)


class NoColumn(ValueError):
  """A `column` that a header, or a row with names of its own, does not have.

  `parts` is the character by which the header would have what is wanted, though nobody
  looks for it; '' where there is none.
  """

  def __init__(self, message: str, column: str, parts: str = ''):
    super().__init__(message)
    self.column, self.parts = column, parts


class SeveralDelimiters(ValueError):
  """A header that has the wanted columns by more than one delimiter."""


def delimiter_of(said: str) -> str:
  """The character that is said, by itself or by one of `WORDS`; '' for ''.

  Raises ValueError for anything else.

  >>> delimiter_of('^'), delimiter_of('semicolon')
  ('^', ';')
  """
  found = WORDS.get(said, said)
  if len(found) > 1 or found in _NEVER:
    raise ValueError(
      f'{said!r} is not a single character that parts cells, nor one of '
      f'{", ".join(WORDS)}'
    )
  return found


def word_of(delimiter: str) -> str:
  """The word of `WORDS` for a character; the character itself where there is none."""
  for word, character in WORDS.items():
    if character == delimiter:
      return word
  return delimiter


def _one(delimiter: str) -> str:
  """A delimiter in a message, as `semicolon`."""
  word = word_of(delimiter)
  if word == delimiter:
    return repr(delimiter)
  return word


def _many(delimiter: str) -> str:
  """Delimiters in a message, as `semicolons`."""
  word = word_of(delimiter)
  if word == delimiter:
    return repr(delimiter)
  return f'{word}s'


def rows(
  path: pathlib.Path,
  usual: str,
  wanted: Sequence[str],
  tell: Callable,
  keep_blank: bool = False,
  given: str = '',
) -> Iterator[tuple[int, dict]]:
  """(line, row) for every record after the header; the line is that of its beginning.

  `usual` is the delimiter that the ending of the file stands for. Where the header has
  the `wanted` columns with another one, the file is read with that one, and `tell` is
  called with a line that says so. A `given` delimiter is the only one that is tried. A
  row of empty cells is none, unless `keep_blank`.
  Raises ValueError for a column that is not there, for a header or a row that cannot be
  read, and where there is no row.
  """
  # The library's own limit is 128 kB, shorter than many a document.
  csv.field_size_limit(lines.LONGEST)
  tried = list(dict.fromkeys([usual, *SOUGHT]))
  if given:
    tried = [given]
  delimiter = _delimiter(path, tried, wanted)
  if delimiter != tried[0]:
    tell(f'cells are parted by {_many(delimiter)}, as the header shows')
  header = None
  last = None
  for line, cells in _records(path, delimiter, tell, keep_blank):
    if header is None:
      header = _names(path, line, cells)
      continue
    if len(cells) != len(header):
      raise _ragged(path, line, cells, header, delimiter)
    last = line
    yield line, dict(zip(header, cells, strict=True))
  if header is None:
    raise ValueError(f'{path}: the file is empty; a header and rows are needed')
  if last is None:
    raise ValueError(f'{path}: no row below the header {", ".join(header)}')


def _records(
  path, delimiter: str, tell: Callable, keep_blank: bool = False
) -> Iterator[tuple[int, list[str]]]:
  """(line of the beginning, cells) of every record that is no blank line.

  With `keep_blank` a row of empty cells, as many as the header has, is a record, too.
  """
  # The lines of the record that is being read: where it is broken, they show how.
  held: list[str] = []
  reader = csv.reader(_held(path, held, tell), delimiter=delimiter, strict=True)
  # A quoted cell may span lines: a record begins on the line after the one before it.
  first = 1
  width = 0
  try:
    for cells in reader:
      # Excel writes a row of empty cells for an empty line.
      is_filled = any(cell.strip() for cell in cells)
      # Nothing between two line ends is no row, however few columns there are.
      if is_filled or (keep_blank and cells and len(cells) == width):
        width = width or len(cells)
        yield first, cells
      first = reader.line_num + 1
      held.clear()
  except csv.Error as error:
    raise _broken(path, first, held, error) from error


def _held(path, held: list[str], tell: Callable) -> Iterator[str]:
  """The lines of a file, each put into `held` when it is given."""
  for number, line in lines.read(path, tell):
    if number == 1 and _EXCEL.fullmatch(line):
      line = '\n'
    held.append(line)
    yield line


def _broken(path, first: int, held: list[str], error: csv.Error) -> ValueError:
  """What is wrong with the record of these lines, which begins on line `first`."""
  reason = str(error)
  last = first + len(held) - 1
  if 'unexpected end' in reason:
    line = first + _opening(held)
    return ValueError(
      f'{path}:{line}: a quote is opened here and never closed; a quote that is part of '
      'a text is written twice, in a cell in quotes'
    )
  if 'expected after' in reason:
    where = '' if last == first else f' on line {last}'
    return ValueError(
      f'{path}:{first}: text after a closing quote{where}; a quote that is part of a '
      'text is written twice'
    )
  if 'new-line' in reason:
    reason = 'a carriage return, \\r, in the middle of the line and outside of quotes'
  return ValueError(f'{path}:{last}: {reason}')


def _opening(held: list[str]) -> int:
  """The place of the line with the quote that nothing closes."""
  is_open = False
  found = 0
  for place, line in enumerate(held):
    # A quote written twice is one of the text.
    count = line.replace('""', '').count('"')
    if count % 2:
      is_open = not is_open
    if count and is_open:
      found = place
  return found


def _delimiter(path, tried: Sequence[str], wanted: Sequence[str]) -> str:
  """The one delimiter of those `tried` with which the header has all wanted columns.

  Raises ValueError where there is none, or more than one.
  """
  line, headers = _headers(path, tried)
  # There is no header, or none that can be read: whoever reads the rows is told why.
  if not headers:
    return tried[0]
  fitting = [each for each, names in headers.items() if {*wanted} <= {*names}]
  if not fitting:
    raise _no_column(f'{path}:{line}', tried, headers, wanted)
  if len(fitting) > 1:
    choices = ' or '.join(map(_many, fitting))
    raise SeveralDelimiters(
      f'{path}:{line}: cells may be parted by {choices}: the header has '
      f'{", ".join(wanted)} with either'
    )
  return fitting[0]


def _headers(path, tried: Sequence[str]) -> tuple[int, dict[str, list[str]]]:
  """(line of the header, its columns by each delimiter of those `tried` that parts it).

  A header that none of them parts is a single column, by the first with which it can be
  read. Where it can be read with none, there are no columns.
  """
  found: dict[str, list[str]] = {}
  line = 1
  for delimiter in tried:
    try:
      line, cells = next(_records(path, delimiter, lambda told: None))
    except (StopIteration, ValueError):
      continue
    found[delimiter] = [cell.strip() for cell in cells]
  parted = {each: names for each, names in found.items() if len(names) > 1}
  whole = dict(itertools.islice(found.items(), 1))
  return line, parted or whole


def _no_column(
  place: str,
  tried: Sequence[str],
  headers: dict[str, list[str]],
  wanted: Sequence[str],
) -> NoColumn:
  """The error of a column that the header has with no delimiter."""
  choices = []
  for delimiter, names in headers.items():
    parted = '' if delimiter == tried[0] else f' parted by {_many(delimiter)}'
    choices.append(', '.join(names) + parted)
  names = next(iter(headers.values()))
  missing = next((name for name in wanted if name not in names), wanted[0])
  said = f'{place}: {missing}: no such column; it has {" or ".join(choices)}'
  parts = _parting(names[0], wanted) if len(names) == 1 else ''
  return NoColumn(said, missing, parts)


def _parting(header: str, wanted: Sequence[str]) -> str:
  """The character that parts a header into the wanted columns, and more; '' for none.

  Letters, digits and _ are parts of names.
  """
  for character in dict.fromkeys(re.findall(r'\W', header)):
    names = {name.strip() for name in header.split(character)}
    if character not in _NEVER and {*wanted} <= names:
      return character
  return ''


def _names(path, line: int, cells: list[str]) -> list[str]:
  """The names of the columns. Raises ValueError where two are equal.

  Columns without a name are not asked for by one, and there may be several of them.
  """
  header = [cell.strip() for cell in cells]
  require_different(f'{path}:{line}', header)
  return header


def require_different(place: str, names: Sequence[str]) -> None:
  """Raises ValueError for a name that two columns have."""
  for position, name in enumerate(names):
    if name and name in names[:position]:
      raise ValueError(f'{place}: a column is named twice: {name}')


def _ragged(path, line: int, cells, header, delimiter: str) -> ValueError:
  """The error of a row with more or fewer cells than the header."""
  hint = f'; they are parted by {_many(delimiter)}'
  if len(cells) > len(header):
    hint = f'; a cell that holds a {_one(delimiter)} stands in quotes'
  return ValueError(
    f'{path}:{line}: {len(cells)} fields, the header has {len(header)}{hint}'
  )
