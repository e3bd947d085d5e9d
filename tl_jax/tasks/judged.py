"""Files of texts whose likelihood a model is asked for: their columns, and their splits.

>>> found({'sentence_good': 'He runs.', 'sentence_bad': 'He run.', 'UID': 'verbs'})
'minimal_pairs'
"""

import dataclasses
from collections.abc import Mapping

from tl_jax import config
from tl_jax.config import ConfigError
from tl_jax.data import files, first_rows, separated
from tl_jax.tasks.problems import PROBLEMS
from tl_jax.tasks.problems.judged import BAD, GOOD, LAST_WORD, MINIMAL_PAIRS
from tl_jax.tasks.unlabelled import Part


def is_judged(kind: str) -> bool:
  """Is a model only asked about tasks of this kind?"""
  return bool(kind) and PROBLEMS[kind].answer == 'likelihood'


def found(row: Mapping) -> str:
  """The kind of a file with this row by its fields; '' where they do not tell."""
  return MINIMAL_PAIRS.name if {GOOD, BAD} <= row.keys() else ''


def with_kind_found(name: str, how, known):
  """How a file is read: with the kind that its fields tell, where nobody says another.

  how: `own.Reading`.
  """
  if known or how.kind or how.says_columns:
    return how
  # The first row decides for all files of a folder.
  delimiter = separated.delimiter_of(how.delimiter)
  row = first_rows.first_row(how.file('train') or name, delimiter)
  return dataclasses.replace(how, kind=found(row))


def columns(how, kind: str) -> files.Columns:
  """The columns of a file of a kind whose texts a model is asked about.

  how: `own.Reading`. Nothing but texts is asked for: each stands for its own label.
  Raises ConfigError for other columns than texts, or another number of these.
  """
  if how.label or how.target:
    raise ConfigError(
      f'config.task.label: {how.label or how.target!r}: kind={kind} has texts alone'
    )
  text = config.names(how.text)
  if kind == MINIMAL_PAIRS.name:
    text = text or (GOOD, BAD)
  wanted = 1 if kind == LAST_WORD.name else 2
  text = text or ('text',)
  if len(text) != wanted:
    raise ConfigError(
      f'config.task.text: {how.text!r}: kind={kind} has {wanted} column'
      f'{"s, GOOD+BAD" if wanted == 2 else ""}'
    )
  delimiter = separated.delimiter_of(how.delimiter)
  # Listed, because texts are no classes: any word is one.
  return files.Columns(text, text[:1], labelled=True, delimiter=delimiter, listed=True)


def whole(parts: Mapping[str, Part]) -> dict[str, Part]:
  """The parts of files without a division by hashes: where nothing is learned, a model
  is asked about all that there is.
  """
  chosen = {}
  for split, part in parts.items():
    is_divided = part.table.divided
    chosen[split] = part._replace(split=files.ALL) if is_divided else part
  train = chosen['train']
  # Published sets have no other split than the one that is asked about.
  if train.split not in (files.ALL, *train.table.splits):
    chosen['train'] = chosen['test']
  return chosen
