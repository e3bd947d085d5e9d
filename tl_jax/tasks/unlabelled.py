"""Examples of a file that have no label: left out and told, or refused if they are many.

>>> rule = Rule(doubtful_are_missing(['1', '0', 'N/A', 'NaN'], said=''))
>>> rule.is_absent('N/A'), rule.is_absent('NaN'), rule.is_absent('0')
(True, True, False)
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tl_jax.config import ConfigError
from tl_jax.data import files, missing
from tl_jax.tasks import labels
from tl_jax.tasks.problems import form_of

# Spellings of missing labels that a line names.
_FEW = 3


class Part(NamedTuple):
  """A split of a parsed file."""

  table: files.Table
  split: str

  def rows(self) -> list[int]:
    """The places of its examples; those of the whole file where hashes divide it."""
    table = self.table
    if table.divided or self.split == files.ALL:
      return list(range(len(table.examples)))
    return [place for place, name in enumerate(table.splits) if name == self.split]

  def labels(self) -> list[Any]:
    """The label of each of its rows."""
    examples = self.table.examples
    return [examples[row]['label'] for row in self.rows()]


@dataclasses.dataclass(frozen=True)
class Rule:
  """Which labels are none.

  With `doubtful` words such as None are missing labels, not classes. With `empty` an
  empty text is one; without, it says that an example has none of several labels. With
  `numbered` the file names its classes by their numbers, and -1 is the number of none.
  With `text` the labels are texts to write, and any word is one.
  """

  doubtful: bool
  empty: bool = True
  numbered: bool = False
  text: bool = False

  def is_absent(self, label: Any) -> bool:
    """Does an example with this label have none?"""
    if label == '':
      return self.empty
    if self.text and isinstance(label, str):
      return False
    if self.numbered and label == -1:
      return True
    if self.doubtful and missing.may_be_missing(label):
      return True
    return missing.is_missing(label)


def doubtful_are_missing(values: Sequence[Any], said: str, known=None) -> bool:
  """Are None and the like missing labels in a column with these labels?

  They are beside numbers, unless it is said that the labels are classes. `said` is the
  kind that the user says; '' where it is to be found out. `known` has the kind and the
  labels of the model that is tried on the file.
  """
  form = form_of(labels.expected_kind(said, known))
  if form == 'number':
    return True
  if said or form in ('set', 'text'):
    return False
  names = list(known.labels) if known else []
  names += [labels.spelled(value) for value in values if _is_certain(value)]
  return bool(names) and all(map(labels.is_number, names))


def _is_certain(value: Any) -> bool:
  """Is this a single label, and sure to be one?"""
  if isinstance(value, list):
    return False
  return not missing.is_missing(value) and not missing.may_be_missing(value)


def leave_out(parts: Mapping[str, Part], said: str, known=None) -> dict[str, Part]:
  """The same parts of the files without the examples that have no label.

  `said` and `known` are as for `doubtful_are_missing`. How many examples are left out
  is among what is told of a file. Raises ConfigError where half of the rows of a part
  or more have no label, with the place of the first.
  """
  rule = _rule_for(list(parts.values()), said, known)
  tables: dict[pathlib.Path, files.Table] = {}
  # A set: a file that hashes divide has the same rows in both parts.
  rows: dict[pathlib.Path, set[int]] = {}
  for part in parts.values():
    _require_most_labelled(part, rule)
    path = part.table.path
    tables[path] = part.table
    rows.setdefault(path, set()).update(part.rows())
  shorter = {
    path: _shortened(table, sorted(rows[path]), rule) for path, table in tables.items()
  }
  found = {}
  for name, part in parts.items():
    found[name] = part._replace(table=shorter[part.table.path])
  return found


def _rule_for(parts: Sequence[Part], said: str, known) -> Rule:
  """The rule for the labels of all parts; `said` and `known` as for `leave_out`."""
  form = form_of(labels.expected_kind(said, known))
  values = []
  for part in parts:
    values += part.labels()
  return Rule(
    doubtful_are_missing(values, said, known),
    empty=form != 'set',
    numbered=any('label' in part.table.classes for part in parts),
    text=form == 'text',
  )


def _require_most_labelled(part: Part, rule: Rule) -> None:
  """Raises ConfigError unless more than half of the rows have a label."""
  table = part.table
  rows = part.rows()
  absent = _absent_rows(table, rows, rule)
  if not absent or 2 * len(absent) < len(rows):
    return
  first = absent[0]
  file, line = table.places[first]
  column = '+'.join(table.columns.label)
  raise ConfigError(
    f'{file}:{line}: {column}: {_spelling(table, first)}; {len(absent)} of '
    f'{len(rows)} rows have no label'
  )


def _shortened(table: files.Table, rows: Sequence[int], rule: Rule) -> files.Table:
  """The table without those of the rows that have no label, which is told."""
  absent = _absent_rows(table, rows, rule)
  if not absent:
    return table
  spellings = dict.fromkeys(_spelling(table, row) for row in absent)
  first = ', '.join(list(spellings)[:_FEW])
  column = '+'.join(table.columns.label)
  line = (
    f'{len(absent)} of {len(rows)} rows have no label: left out ({column}: {first})'
  )
  return table.without(absent, line)


def _absent_rows(table: files.Table, rows: Sequence[int], rule: Rule) -> list[int]:
  """Those of the rows that have no label."""
  return [row for row in rows if rule.is_absent(table.examples[row]['label'])]


def _spelling(table: files.Table, row: int) -> str:
  """The missing label of a row as it stands in the file."""
  label = table.examples[row]['label']
  return repr(str(label)) if label else 'empty'
