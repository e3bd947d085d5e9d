"""What the first row of a file says of all others.

>>> import tempfile
>>> path = pathlib.Path(tempfile.mkdtemp()) / 'a.csv'
>>> _ = path.write_text('text,label\\ngood film,pos\\n')
>>> first_row(path, '')
{'text': 'good film', 'label': 'pos'}
"""

import pathlib

from tl_jax.data import choices, conversations, files, folders, tables


def conversation_in(path, delimiter: str = '') -> tuple[str, str] | None:
  """The columns of the conversations that a file has, by its first row; None where it
  has none, or has texts with labels. A `delimiter` is that of `Columns`.
  """
  row = first_row(path, delimiter)
  usual = {'text', 'label'} <= row.keys()
  return None if usual else conversations.fields_of(row)


def choices_in(
  path, text: tuple[str, ...] = (), answer: str = '', delimiter: str = ''
) -> choices.Fields | None:
  """The fields of the questions with candidates that a file has, by its first row; None
  where it has none. `text` and `answer` are as of `choices.fields_of`.
  """
  return choices.fields_of(first_row(path, delimiter), text, answer)


def first_row(path, delimiter: str) -> dict:
  """The first row of a file; {} where there is none, or texts alone."""
  first = files.files_of(path)[0]
  if folders.ending(first) == '.txt' and not delimiter:
    return {}
  found = tables.rows(pathlib.Path(path), delimiter=delimiter)
  return next((row for _, _, row in found), {})
