"""The columns of files for embeddings: those that are said, or what such files call them.

>>> usual('embedding', {'anchor': 'a', 'positive': 'b', 'negative': 'c'})
(('anchor',), ('positive', 'negative'))
>>> usual('similarity', {'sentence1': 'a', 'sentence2': 'b', 'score': 5.0})
(('sentence1', 'sentence2'), ('score',))
"""

from collections.abc import Mapping

from tl_jax import config
from tl_jax.config import ConfigError
from tl_jax.data import files, first_rows, separated
from tl_jax.tasks.labels import TEXT
from tl_jax.tasks.problems import PROBLEMS
from tl_jax.tasks.problems.embedding import HEAD

# What stands in published files, by kind: the columns of texts, and of what is learned
# of them. The first that a file has are read.
USUAL = {
  'embedding': (
    (('anchor',), ('positive', 'negative')),
    (('anchor',), ('positive',)),
    (('query',), ('positive', 'negative')),
    (('query',), ('positive',)),
  ),
  'simcse': ((('text',), ('text',)), (('sentence',), ('sentence',))),
  'similarity': (
    (('sentence1', 'sentence2'), ('score',)),
    (('sentence1', 'sentence2'), ('label',)),
    (('sentence_A', 'sentence_B'), ('relatedness_score',)),
    (('text1', 'text2'), ('score',)),
  ),
}


# What is wanted of text=, by kind.
TEXTS = {
  'embedding': (
    'one column of texts; those that belong to it are target=COLUMN, with wrong ones '
    'target=A+B'
  ),
  'simcse': 'one column of texts',
  'similarity': 'two columns of texts, COLUMN+COLUMN',
}


def is_vector(kind: str) -> bool:
  """Does a model answer a kind of task by vectors?"""
  return bool(kind) and PROBLEMS[kind].head == HEAD


def takes_target(kind: str) -> bool:
  """Has a kind, '' where it is not known yet, a column of texts to learn?"""
  return kind in ('', TEXT) or is_vector(kind)


def is_answered(kind: str, known) -> bool:
  """Does a model that is `known`, or will be made where it is None, answer this kind?

  One that gives vectors answers all kinds that are judged by these.
  """
  if known is None or kind == known.kind:
    return True
  return is_vector(kind) and is_vector(known.kind)


def usual(kind: str, row: Mapping) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
  """(columns of texts, columns of what is learned) of a file with this row; None where
  it has none of those that are usual.
  """
  for text, label in USUAL[kind]:
    if {*text, *label} <= row.keys():
      return text, label
  return None


def columns(name: str, how, kind: str) -> files.Columns:
  """The columns of a file for a task of a kind of vectors, as `how` says.

  how: `own.Reading`. Raises ConfigError for columns that are not said and not there, or
  of another number than the kind has.
  """
  delimiter = separated.delimiter_of(how.delimiter)
  said = config.names(how.text), config.names(how.target or how.label)
  # Of texts alone, each belongs to itself.
  if kind == 'simcse':
    said = said[0], said[0]
  if not any(said):
    said = _usual_of(how.file('train') or name, kind, delimiter)
  text, label = said
  _require(kind, how, text, label)
  # What belongs to a text is a text, also where it looks like a number.
  listed = kind != 'similarity'
  return files.Columns(text, label, labelled=True, delimiter=delimiter, listed=listed)


def _usual_of(path: str, kind: str, delimiter: str):
  """The usual columns of a file. Raises ConfigError where it has others."""
  row = first_rows.first_row(path, delimiter)
  # Of texts alone, a line each.
  if kind == 'simcse' and not row:
    return ('text',), ('text',)
  found = usual(kind, row)
  if found is not None:
    return found
  key = 'label' if kind == 'similarity' else 'target'
  needed = 'text=COLUMN' if kind == 'simcse' else f'text= and {key}='
  usually = ' and '.join('+'.join(part) for part in dict.fromkeys(USUAL[kind][0]))
  there = ', '.join(map(str, list(row)[:8]))
  raise ConfigError(
    f'{path}: kind={kind}: no columns {usually}; the file has {there}; {needed} names '
    'the columns'
  )


def _require(kind: str, how, text: tuple[str, ...], label: tuple[str, ...]) -> None:
  """Raises ConfigError for columns that do not make examples of a kind."""
  wanted = 2 if kind == 'similarity' else 1
  if len(text) != wanted:
    raise ConfigError(f'config.task.text: {how.text!r}: kind={kind} has {TEXTS[kind]}')
  has_target, has_label = bool(how.target), bool(how.label)
  if kind == 'simcse' and (has_target or has_label):
    raise ConfigError(
      f'config.task.target: {how.target or how.label!r}: kind={kind} learns from texts '
      'alone; kind=embedding from texts that belong together'
    )
  if kind == 'embedding' and has_label | (not label):
    raise ConfigError(
      'config.task.target: kind=embedding needs the column of the texts that belong to '
      'the others, or that and a column of wrong ones with +; kind=simcse learns from '
      'texts alone'
    )
  if kind == 'similarity':
    _require_scores(has_target, label)


def _require_scores(has_target: bool, label: tuple[str, ...]) -> None:
  """Raises ConfigError unless there is one column of scores."""
  if has_target or len(label) != 1:
    raise ConfigError(
      'config.task.label: kind=similarity needs one column of numbers that say how '
      'alike two texts are'
    )
