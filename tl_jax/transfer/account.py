"""What happened to every leaf of a transplant, as a table and as JSON.

>>> entry = Entry('renamed', 'encoder', 'body', (2,), 'float32', (2,), 'bfloat16')
>>> print(Account((entry,)))
outcome  leaf     leaves  parameters  note
renamed  encoder       1           2  from body, float32 to bfloat16
"""

import math
import re
from typing import NamedTuple

# In the order in which tables and JSON list them.
OUTCOMES = ('copied', 'renamed', 'resized', 'fresh', 'dropped')


class Entry(NamedTuple):
  """What happened to one leaf.

  target: its name there, None for a leaf that was dropped. source: its name there, None
  for a leaf that stays fresh. Shapes and dtypes are None with the name.
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
    if self.source is None or self.target is None:
      return ''
    notes = []
    if self.source != self.target:
      notes.append(f'from {self.source}')
    if self.source_shape != self.target_shape:
      notes.append(f'{self.source_shape} to {self.target_shape}')
    if self.source_dtype != self.target_dtype:
      notes.append(f'{self.source_dtype} to {self.target_dtype}')
    return ', '.join(notes)


class Account(NamedTuple):
  """Every leaf of the target, and every leaf of the source that was dropped."""

  entries: tuple[Entry, ...]

  @property
  def counts(self) -> dict[str, int]:
    """How many leaves had each outcome, 0 for none."""
    counts = dict.fromkeys(OUTCOMES, 0)
    for entry in self.entries:
      counts[entry.outcome] += 1
    return counts

  @property
  def parameters(self) -> dict[str, int]:
    """How many parameters had each outcome, 0 for none."""
    parameters = dict.fromkeys(OUTCOMES, 0)
    for entry in self.entries:
      parameters[entry.outcome] += entry.size
    return parameters

  def to_json(self) -> dict:
    """A dict for `json.dump`: `counts` and `parameters` by outcome, and `leaves`, one
    object each.
    """
    leaves = [entry._asdict() for entry in self.entries]
    for leaf in leaves:
      # JSON has no tuples, and what is read back should be equal.
      for field in ('source_shape', 'target_shape'):
        if leaf[field] is not None:
          leaf[field] = list(leaf[field])
    return {'counts': self.counts, 'parameters': self.parameters, 'leaves': leaves}

  def __str__(self) -> str:
    """An aligned table. Layers that fared alike are one row, with * for a number."""
    groups = {}
    for entry in self.entries:
      # Layers differ in the numbers of their names and notes alone.
      leaf = _starred(entry.target or entry.source)
      group = (entry.outcome, leaf, _starred(entry.note))
      groups.setdefault(group, []).append(entry.size)
    rows = [('outcome', 'leaf', 'leaves', 'parameters', 'note')]
    for (outcome, leaf, note), sizes in groups.items():
      rows.append((outcome, leaf, str(len(sizes)), f'{sum(sizes):,}', note))

    # Words to the left, numbers to the right.
    align = (str.ljust, str.ljust, str.rjust, str.rjust, str.ljust)
    columns = zip(*rows, strict=True)
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for row in rows:
      cells = []
      for pad, cell, width in zip(align, row, widths, strict=True):
        cells.append(pad(cell, width))
      lines.append('  '.join(cells).rstrip())
    return '\n'.join(lines)


def _starred(text: str) -> str:
  """The text with * for every number that is a part of a name."""
  # A name that ends in a number is a leaf of its own, not one of many layers.
  return re.sub(r'(?<=/)\d+(?=/)', '*', text)
