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
from collections.abc import Mapping, Sequence

from tl_jax import config
from tl_jax.config import ConfigError
from tl_jax.data import conll, files, first_rows, folders, separated, tables, words
from tl_jax.tasks.labels import TAGS


def found(name: str, how) -> files.Columns | None:
  """The columns of a file of which nobody says the kind; None where it is not one of
  words with tags.

  how: `own.Reading`.
  """
  path = how.file('train') or name
  # Such a file can be nothing else.
  if folders.ending(path) in conll.ENDINGS:
    return columns(name, how)
  if _is_of_others(path, how):
    return None
  delimiter = separated.delimiter_of(how.delimiter)
  row = first_rows.first_row(path, delimiter)
  text = ''.join(config.names(how.text))
  label = ''.join(config.names(how.label))
  fields = words.fields_of(row, text, label)
  # Words alone are no task.
  if fields is None or not _are_lists(row, fields):
    return None
  # Beside texts the words are something else that is told of these.
  others = {'text'} if how.label else {'text', 'label'}
  if not how.text and others <= row.keys():
    return None
  return _columns(fields, '')


def _is_of_others(path: str, how) -> bool:
  """Is a file none of lists, or asked for by columns that lists have not?"""
  count = max(len(config.names(how.text)), len(config.names(how.label)))
  if how.target or count > 1:
    return True
  # Cells hold no lists.
  return not files.is_file(path) or tables.is_separated(path)


def _are_lists(row: Mapping, names: Sequence[str]) -> bool:
  values = [row.get(name) for name in names]
  return all(isinstance(value, list) for value in values)


def columns(name: str, how) -> files.Columns:
  """The columns of a file that is said to have tags, as `how` says.

  Raises ConfigError for columns that are not said and not there.
  """
  text = config.names(how.text)
  label = config.names(how.label)
  if max(len(text), len(label)) > 1:
    raise ConfigError(
      f'config.task.kind: {TAGS!r} has one column of words and one of their tags'
    )
  path = how.file('train') or name
  delimiter = _delimiter(path, how)
  row = first_rows.first_row(path, delimiter)
  fields = words.fields_of(row, ''.join(text), ''.join(label))
  if fields is None:
    raise _no_column(path, row, 'words', 'text')
  if not fields[1]:
    raise _no_column(path, row, 'tags', 'label')
  return _columns(fields, delimiter)


def _no_column(path: str, row: Mapping, what: str, key: str) -> ConfigError:
  """The error of a file without words, or without tags."""
  names = [str(name) for name in row]
  there = ', '.join(names[:8]) or 'nothing'
  return ConfigError(
    f'{path}: kind={TAGS}: no column of {what}; the file has {there}; {key}=COLUMN '
    'names it'
  )


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
  folder = pathlib.Path(path)
  inside = [folder]
  if folder.is_dir():
    inside = folders.files_in(folder)
  endings = set(map(folders.ending, inside))
  if '.csv' in endings:
    known = ', '.join(conll.ENDINGS)
    raise ConfigError(
      f'{path}: kind={TAGS} is of files with a word on every line ({known}, .tsv, .txt) '
      'and of lists in .jsonl and .parquet, not of .csv'
    )
  if endings & {'.txt', '.tsv'}:
    return conll.LINES
  return ''
