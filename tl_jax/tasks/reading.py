"""The columns of files with questions on passages: those that are said, or the usual.

>>> import pathlib, tempfile
>>> from tl_jax.tasks.own import Reading
>>> path = pathlib.Path(tempfile.mkdtemp()) / 'a.csv'
>>> _ = path.write_text('question,context,answer\\nWho?,Ann ran.,Ann\\n')
>>> columns(str(path), Reading(kind='span')).text
('question', 'context')
"""

from tl_jax import config
from tl_jax.config import ConfigError
from tl_jax.data import files, first_rows, passages, separated
from tl_jax.tasks.labels import SPAN


def found(name: str, how) -> files.Columns | None:
  """The columns of a file of which nobody says the kind; None where it is not one of
  questions on passages that says where the answers stand.

  how: `own.Reading`.
  """
  if how.target or how.text or how.label:
    return None
  delimiter = separated.delimiter_of(how.delimiter)
  row = first_rows.first_row(how.file('train') or name, delimiter)
  fields = passages.fields_of(row)
  if fields is None or not passages.says_places(row, fields):
    return None
  return _columns(fields, delimiter)


def columns(name: str, how) -> files.Columns:
  """The columns of a file that is said to have spans, as `how` says.

  Raises ConfigError for columns that are not said and not there.
  """
  text = config.names(how.text)
  label = config.names(how.label)
  if len(text) not in (0, 2) or len(label) > 1:
    raise ConfigError(
      f'config.task.kind: {SPAN!r} has a question and a passage (text=QUESTION+PASSAGE) '
      'and one column of answers'
    )
  path = how.file('train') or name
  delimiter = separated.delimiter_of(how.delimiter)
  row = first_rows.first_row(path, delimiter)
  fields = passages.fields_of(row, text, ''.join(label))
  if fields is None:
    raise _missing(path, row, 'question and passage', 'text=QUESTION+PASSAGE')
  if not fields.answers:
    raise _missing(path, row, 'answers', 'label=COLUMN')
  return _columns(fields, delimiter)


def _missing(path: str, row, what: str, key: str) -> ConfigError:
  names = [str(name) for name in row]
  there = ', '.join(names[:8]) or 'nothing'
  return ConfigError(
    f'{path}: kind={SPAN}: no column of {what}; the file has {there}; {key} names it'
  )


def _columns(fields: passages.Fields, delimiter: str) -> files.Columns:
  return files.Columns(
    (fields.question, fields.passage),
    (fields.answers,),
    labelled=True,
    delimiter=delimiter,
    passages=True,
  )
