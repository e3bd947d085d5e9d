"""The columns of files whose words have tags: those that are said, or the usual ones.

>>> import pathlib, tempfile
>>> from tl_jax.tasks.own import Reading
>>> path = pathlib.Path(tempfile.mkdtemp()) / 'a.conll'
>>> _ = path.write_text('EU NNP B-ORG\\nrejects VBZ O\\n')
>>> found = columns(str(path), Reading(label='2'))
>>> found.text, found.label
(('tokens',), ('2',))
"""

import pathlib

from tl_jax import config
from tl_jax.config import ConfigError
from tl_jax.data import conll, files, separated, tables, words
from tl_jax.tasks.labels import TAGS


def found(name: str, how) -> files.Columns | None:
  """The columns of a file of which nobody says the kind; None where it is not one of
  words with tags.

  how: `own.Reading`.
  """
  path = how.file('train') or name
  # Such a file can be nothing else.
  if tables.ending(path) in conll.ENDINGS:
    return columns(name, how)
  text, label = config.names(how.text), config.names(how.label)
  if how.target or len(text) > 1 or len(label) > 1 or not files.is_file(path):
    return None
  row = files.first_row(path, separated.delimiter_of(how.delimiter))
  fields = words.fields_of(row, ''.join(text), ''.join(label))
  # Words alone are no task.
  if fields is None or not all(isinstance(row.get(name), list) for name in fields):
    return None
  # Beside texts the words are something else that is told of these.
  others = {'text'} if text or label else {'text', 'label'}
  is_of_texts = not text and others <= row.keys()
  return None if is_of_texts else _columns(fields, '')


def columns(name: str, how) -> files.Columns:
  """The columns of a file that is said to have tags, as `how` says.

  Raises ConfigError for columns that are not said and not there.
  """
  text, label = config.names(how.text), config.names(how.label)
  if len(text) > 1 or len(label) > 1:
    raise ConfigError(
      f'config.task.kind: {TAGS!r} has one column of words and one of their tags'
    )
  path = how.file('train') or name
  delimiter = _delimiter(path, how)
  row = files.first_row(path, delimiter)
  fields = words.fields_of(row, ''.join(text), ''.join(label))
  if fields is None or not fields[1]:
    missing = 'text' if fields is None else 'label'
    there = ', '.join(map(str, list(row)[:8])) or 'nothing'
    raise ConfigError(
      f'{path}: kind={TAGS}: no column of {"words" if fields is None else "tags"}; the '
      f'file has {there}; {missing}=COLUMN names it'
    )
  return _columns(fields, delimiter)


def _columns(fields: tuple[str, str], delimiter: str) -> files.Columns:
  text, label = fields
  return files.Columns(
    (text,), (label,), labelled=True, delimiter=delimiter, tagged=True
  )


def _delimiter(path: str, how) -> str:
  """What parts the cells of a file: the ends of lines where it has a word on each.

  Raises ConfigError for a delimiter that is said, and for a file of cells in lines.
  """
  if how.delimiter:
    raise ConfigError(
      f'config.task.delimiter: {how.delimiter!r}, but kind={TAGS} reads a word on '
      'every line, with columns between tabs or spaces'
    )
  inner = pathlib.Path(path)
  endings = {tables.ending(inner)}
  if inner.is_dir():
    endings = set(map(tables.ending, tables.files_in(inner)))
  if '.csv' in endings:
    raise ConfigError(
      f'{path}: kind={TAGS} is of files with a word on every line '
      f'({", ".join(conll.ENDINGS)}, .tsv, .txt) and of lists in .jsonl and .parquet, '
      'not of .csv'
    )
  return conll.LINES if endings & {'.txt', '.tsv'} else ''
