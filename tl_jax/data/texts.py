"""The texts of a file that somebody wants an answer to each: none is left out.

>>> import tempfile
>>> path = pathlib.Path(tempfile.mkdtemp()) / 'a.csv'
>>> _ = path.write_text('text,id\\ngood film,1\\n,2\\n')
>>> list(read(path)), count(path)
(['good film', ''], 2)
"""

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from tl_jax.data import (
  conll,
  conversations,
  files,
  first_rows,
  folders,
  passages,
  tables,
  words,
)
from tl_jax.data.candidates import Choices
from tl_jax.data.conversations import Turn
from tl_jax.data.words import Words


def require(path) -> None:
  """Raises ValueError for a path that is no file of texts; opens nothing."""
  path = pathlib.Path(path)
  files.require(path)
  if path.is_dir():
    raise ValueError(f'{path}: a folder; name a file')


def read(
  path,
  columns: tuple[str, ...] = ('text',),
  tell: Callable = tables.ignore,
  delimiter: str = '',
) -> Iterator[str]:
  """Yields the text of every row in order; an empty text is one, too.

  Files are those of `files.load`, but every line of a .txt file is a text. Rows are read
  as they are asked for; a .json file with an array is read whole. Several columns make
  one text, and two of them a pair, as `files.Columns` says; so is the `delimiter`.
  `tell` is called with what was found out about the file. Raises ValueError
  `file:line: column` for the first row that cannot be read.
  """
  path = pathlib.Path(path)
  require(path)
  # Nobody asks for labels: a column of that name may hold anything.
  wanted = files.Columns(columns, label=())
  rows = tables.rows(path, columns, tell, keep_blank=True, delimiter=delimiter)
  for file, line, row in rows:
    yield files.text_of(file, line, row, wanted)


def read_choices(
  path,
  columns: tuple[str, ...] = (),
  tell: Callable = tables.ignore,
  delimiter: str = '',
) -> Iterator[Choices]:
  """Yields the question with its candidates of every row in order, as `files.Columns`
  has them with `choices`.

  Without `columns` the fields of the first row decide. Otherwise as `read`. The answer
  of a row is not looked at.
  """
  path = pathlib.Path(path)
  require(path)
  fields = first_rows.choices_in(path, columns, delimiter=delimiter)
  if fields is None:
    raise ValueError(f'{path}: no questions with candidates')
  wanted = files.Columns(fields.text, label=(), choices=True)
  rows = tables.rows(path, fields.text, tell, keep_blank=True, delimiter=delimiter)
  for file, line, row in rows:
    yield files.question_of(file, line, row, wanted)['text']


def read_words(
  path,
  columns: tuple[str, ...] = (),
  tell: Callable = tables.ignore,
  delimiter: str = '',
) -> Iterator[Words]:
  """Yields the words of every row in order, as `files.Columns` has them with `tagged`.

  Without `columns` the fields of the first row decide; the words of a text are what
  white space parts. A .tsv file has a word on every line, and so has a .txt file that
  looks like it. Otherwise as `read`. Tags are not looked at.
  """
  path = pathlib.Path(path)
  require(path)
  form = folders.ending(path)
  if form == '.tsv' or (form == '.txt' and conll.looks_so(path)):
    tell('a word on every line, with empty lines between sentences')
    delimiter = conll.LINES
  rows = tables.rows(path, columns, tell, keep_blank=True, delimiter=delimiter)
  fields = columns
  for file, line, row in rows:
    # One column of words, whatever the row has besides.
    fields = fields or (words.fields_of(row) or ('text',))[:1]
    if len(fields) > 1:
      raise ValueError(f'{path}: words stand in one column, not in {"+".join(fields)}')
    wanted = files.Columns(fields, label=(), tagged=True)
    yield files.sentence_of(file, line, row, wanted)['text']


def read_passages(
  path,
  columns: tuple[str, ...] = (),
  tell: Callable = tables.ignore,
  delimiter: str = '',
) -> Iterator[passages.PassageQuestion]:
  """Yields the question on a passage of every row in order.

  Without two `columns` the fields of the first row decide. Otherwise as `read`. The
  answers of a row are not looked at.
  """
  path = pathlib.Path(path)
  require(path)
  fields = passages.fields_of(first_rows.first_row(path, delimiter), columns)
  if fields is None:
    raise ValueError(f'{path}: no question with a passage; --text=QUESTION+PASSAGE')
  text = (fields.question, fields.passage)
  wanted = files.Columns(text, label=(), passages=True)
  rows = tables.rows(path, text, tell, keep_blank=True, delimiter=delimiter)
  for file, line, row in rows:
    yield files.passage_of(file, line, row, wanted)['text']


def read_asked(
  path,
  columns: tuple[str, ...] = (),
  tell: Callable = tables.ignore,
  delimiter: str = '',
) -> Iterator[tuple[Turn, ...]]:
  """Yields what is asked in every row in order: the turns that wait for an answer.

  They are () where nobody asks. A column of texts has what a user says. Without
  `columns` the fields of each row decide, as `conversations.asking_field` finds them.
  Otherwise as `read`.
  """
  path = pathlib.Path(path)
  require(path)
  rows = tables.rows(path, columns, tell, keep_blank=True, delimiter=delimiter)
  for file, line, row in rows:
    yield _asked(file, line, row, columns)


def _asked(file, line: int, row: dict, columns: tuple[str, ...]) -> tuple[Turn, ...]:
  """What one row asks."""
  columns = columns or (conversations.asking_field(row) or 'text',)
  (name, *others) = columns
  # A field that is missing, and several that are one text, are as they are of texts.
  if others or name not in row:
    text = files.text_of(file, line, row, files.Columns(columns, label=()))
    row, name = dict(text=text), 'text'
  try:
    return conversations.asked_of(row, name)
  except ValueError as error:
    raise ValueError(f'{file}:{line}: {error}') from error


def count(
  path,
  columns: tuple[str, ...] = ('text',),
  tell: Callable = tables.ignore,
  reader: Callable[..., Iterator[Any]] = read,
) -> int:
  """How many texts there are. Every row is looked at, so that `reader` will not fail.

  Raises ValueError as `reader` does, and for a file without a row.
  """
  found = 0
  for _ in reader(path, columns, tell):
    found += 1
  if not found:
    raise ValueError(f'{path}: there is no text in it')
  return found
