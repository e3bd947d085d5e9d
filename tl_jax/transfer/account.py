"""What happened to every leaf of a transplant, as a table and as JSON.

>>> entry = Entry('renamed', 'encoder', 'body', (2,), 'float32', (2,), 'bfloat16')
>>> print(Account((entry,)))
outcome  leaf     leaves  parameters  note
renamed  encoder       1           2  from body, float32 to bfloat16
"""

import math
import re
from typing import NamedTuple

OUTCOMES = ('copied', 'renamed', 'resized', 'fresh', 'dropped')


class Entry(NamedTuple):
  """One leaf: the target's name is None for a dropped one, the source's for a fresh
  one.
  """

  outcome: str
  target: str | None
  source: str | None
  source_shape: tuple[int, ...] | None
  source_dtype: str | None
  target_shape: tuple[int, ...] | None
  target_dtype: str | None

  @property
  def size(self) -> int:
    """Parameters: of the target's leaf, or of the one that was dropped."""
    return math.prod(self.source_shape if self.target is None else self.target_shape)

  @property
  def note(self) -> str:
    """What is not the same on both sides."""
    notes = []
    if None not in (self.source, self.target):
      if self.source != self.target:
        notes.append(f'from {self.source}')
      if self.source_shape != self.target_shape:
        notes.append(f'{self.source_shape} to {self.target_shape}')
      if self.source_dtype != self.target_dtype:
        notes.append(f'{self.source_dtype} to {self.target_dtype}')
    return ', '.join(notes)


class Account(NamedTuple):
  """Every leaf of the target, and every leaf of the source that was dropped, with its
  outcome.
  """

  entries: tuple[Entry, ...]

  @property
  def counts(self) -> dict[str, int]:
    """How many leaves had each outcome, none left out."""
    return {
      outcome: sum(entry.outcome == outcome for entry in self.entries)
      for outcome in OUTCOMES
    }

  @property
  def parameters(self) -> dict[str, int]:
    """How many parameters had each outcome."""
    return {
      outcome: sum(entry.size for entry in self.entries if entry.outcome == outcome)
      for outcome in OUTCOMES
    }

  def to_json(self) -> dict:
    """A dict for `json.dump`: `counts` and `parameters` by outcome, and `leaves`, one
    object each.
    """
    return {
      'counts': self.counts,
      'parameters': self.parameters,
      'leaves': [
        {
          field: list(value) if isinstance(value, tuple) else value
          for field, value in entry._asdict().items()
        }
        for entry in self.entries
      ],
    }

  def __str__(self) -> str:
    """An aligned table; layers that fared alike are one row, with * for their number."""
    groups = {}
    for entry in self.entries:
      row = entry.outcome, _starred(entry.target or entry.source), _starred(entry.note)
      groups.setdefault(row, []).append(entry.size)
    header = ('outcome', 'leaf', 'leaves', 'parameters', 'note')
    rows = [
      header,
      *(
        (outcome, leaf, str(len(sizes)), f'{sum(sizes):,}', note)
        for (outcome, leaf, note), sizes in groups.items()
      ),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    return '\n'.join(
      f'{outcome:{widths[0]}}  {leaf:{widths[1]}}  {leaves:>{widths[2]}}  {parameters:>{widths[3]}}  {note}'.rstrip()
      for outcome, leaf, leaves, parameters, note in rows
    )


def _starred(text: str) -> str:
  return re.sub(r'(?<=/)\d+(?=/)', '*', text)
