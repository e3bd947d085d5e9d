"""Examples of a file that have no label: left out and told, or refused if they are many.

>>> rule = Rule(doubtful_are_missing(['1', '0', 'N/A', 'NaN'], said=''))
>>> rule.is_absent('N/A'), rule.is_absent('NaN'), rule.is_absent('0')
(True, True, False)
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tl_jax.config import ConfigError
from tl_jax.data import files, missing
from tl_jax.tasks import labels

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
    return [self.table.examples[row]['label'] for row in self.rows()]


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
  kind = said or (known.kind if known else '')
  if kind == labels.REGRESSION:
    return True
  if said or kind in (labels.MULTI, labels.TEXT):
    return False
  others = [
    labels.spelled(value)
    for value in values
    if not isinstance(value, list)
    and not missing.is_missing(value)
    and not missing.may_be_missing(value)
  ]
  names = [*others, *(known.labels if known else ())]
  return bool(names) and all(map(labels.is_number, names))


def leave_out(parts: Mapping[str, Part], said: str, known=None) -> dict[str, Part]:
  """The same parts of the files without the examples that have no label.

  `said` and `known` are as for `doubtful_are_missing`. How many examples are left out
  is among what is told of a file. Raises ConfigError where half of the rows of a part
  or more have no label, with the place of the first.
  """
  kind = said or (known.kind if known else '')
  values = []
  rows: dict[Any, set[int]] = {}
  for part in parts.values():
    values += part.labels()
    # A file that hashes divide has the same rows in both parts.
    rows.setdefault(part.table.path, set()).update(part.rows())
  rule = Rule(
    doubtful_are_missing(values, said, known),
    empty=kind != labels.MULTI,
    numbered=any('label' in part.table.classes for part in parts.values()),
    text=kind == labels.TEXT,
  )
  for part in parts.values():
    _require_most_labelled(part, rule)
  tables = {part.table.path: part.table for part in parts.values()}
  shorter = {
    path: _shortened(table, rows[path], rule) for path, table in tables.items()
  }
  return {
    name: Part(shorter[part.table.path], part.split) for name, part in parts.items()
  }


def _require_most_labelled(part: Part, rule: Rule) -> None:
  """Raises ConfigError unless more than half of the rows have a label."""
  table = part.table
  rows = part.rows()
  absent = [row for row in rows if rule.is_absent(table.examples[row]['label'])]
  if not absent or 2 * len(absent) < len(rows):
    return
  file, line = table.places[absent[0]]
  what = _spelling(table.examples[absent[0]]['label'])
  raise ConfigError(
    f'{file}:{line}: {"+".join(table.columns.label)}: {what}; {len(absent)} of '
    f'{len(rows)} rows have no label'
  )


def _shortened(table: files.Table, rows: set[int], rule: Rule) -> files.Table:
  """The table without those of the rows that have no label, which is told."""
  absent = [row for row in sorted(rows) if rule.is_absent(table.examples[row]['label'])]
  if not absent:
    return table
  spellings = dict.fromkeys(_spelling(table.examples[row]['label']) for row in absent)
  column = '+'.join(table.columns.label)
  line = (
    f'{len(absent)} of {len(rows)} rows have no label: left out '
    f'({column}: {", ".join([*spellings][:_FEW])})'
  )
  return table.without(absent, line)


def _spelling(label: Any) -> str:
  """A missing label as it stands in the file."""
  return repr(str(label)) if label else 'empty'
