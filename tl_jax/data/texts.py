"""The texts of a file that somebody wants an answer to each: none is left out.

>>> import tempfile
>>> path = pathlib.Path(tempfile.mkdtemp()) / 'a.csv'
>>> _ = path.write_text('text,id\\ngood film,1\\n,2\\n')
>>> list(read(path)), count(path)
(['good film', ''], 2)
"""

import pathlib
from collections.abc import Callable, Iterator

from tl_jax.data import files, tables


def require(path) -> None:
  """Raises ValueError for a path that is no file of texts; opens nothing."""
  path = pathlib.Path(path)
  files.require(path)
  if path.is_dir():
    raise ValueError(f'{path}: a folder; name a file')


def read(
  path, columns: tuple[str, ...] = ('text',), tell: Callable = tables.ignore
) -> Iterator[str]:
  """Yields the text of every row in order; an empty text is one, too.

  Files are those of `files.load`, but every line of a .txt file is a text. Rows are read
  as they are asked for; a .json file with an array is read whole. Several columns make
  one text, and two of them a pair, as `files.Columns` says. `tell` is called with what
  was found out about the file. Raises ValueError `file:line: column` for the first row
  that cannot be read.
  """
  path = pathlib.Path(path)
  require(path)
  # Nobody asks for labels: a column of that name may hold anything.
  wanted = files.Columns(columns, label=())
  rows = tables.rows(path, columns, tell, keep_blank=True)
  for file, line, row in rows:
    yield files.text_of(file, line, row, wanted)


def count(
  path, columns: tuple[str, ...] = ('text',), tell: Callable = tables.ignore
) -> int:
  """How many texts there are. Every row is looked at, so that `read` will not fail.

  Raises ValueError as `read` does, and for a file without a row.
  """
  found = 0
  for _ in read(path, columns, tell):
    found += 1
  if not found:
    raise ValueError(f'{path}: there is no text in it')
  return found
