"""Packing: several examples in one row, none split, and what fills the row.

>>> best = plan([3, 5, 4, 4], 8)
>>> [sorted(int(i) for i in row) for row in best]
[[0, 1], [2, 3]]
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

# Examples that are sorted by length together; beyond it the shuffled order rules.
WINDOW = 2048
# Rows that are looked at for an example with two lengths; older ones stay as they are.
OPEN_ROWS = 64


@dataclasses.dataclass(frozen=True)
class Plan:
  """Which examples share a row.

  Row r holds the examples `members[starts[r]:starts[r + 1]]`, in the order of their
  segments.
  """

  members: np.ndarray
  starts: np.ndarray

  @property
  def rows(self) -> int:
    return len(self.starts) - 1

  def __len__(self) -> int:
    return self.rows

  def __getitem__(self, row: int) -> np.ndarray:
    if not 0 <= row < self.rows:
      raise IndexError(f'row {row} of a plan of {self.rows} rows')
    return self.members[self.starts[row] : self.starts[row + 1]]


def plan(
  lengths,
  row_length: int,
  order=None,
  examples_per_row: int | None = None,
  *,
  pack: bool = True,
  window: int = WINDOW,
  taken: Callable[[np.ndarray], np.ndarray] | None = None,
  second=None,
  second_length: int | None = None,
) -> Plan:
  """Packs examples into rows of `row_length` tokens, at most `examples_per_row` a row.

  `lengths` (n,) are those of all examples. `order` has the indices to pack, in shuffled
  order; all by default. Within each `window` of the order, an example goes to the
  fullest row that it fits, longest first (best fit decreasing, Johnson 1973: at most
  11/9 of the optimum). The rows then keep the order of their first example.
  `pack=False` gives every example a row of its own. `taken(lengths)` is what examples
  of these lengths take of a row, where that is not their lengths. `second` (n,) are
  lengths on a second side, a decoder's, which must fit `second_length` in the same row.
  Raises ValueError for an example that fits no row.
  """
  if order is None:
    order = np.arange(len(lengths))
  order = np.asarray(order, np.int64)
  sizes = _sizes(lengths, order)
  if taken is not None:
    sizes = np.asarray(taken(sizes), np.int64)
  _require_fit(sizes, order, row_length, 'tokens')
  second_sizes = None
  if second is not None:
    second_sizes = _sizes(second, order)
    _require_fit(second_sizes, order, second_length, 'target tokens')
  # A row for each: there is nothing to fit.
  if not pack or examples_per_row == 1:
    return Plan(order.copy(), np.arange(len(order) + 1))
  members: list[int] = []
  row_sizes: list[int] = []
  for start in range(0, len(order), window):
    part = slice(start, start + window)
    chunk = order[part]
    most = examples_per_row or len(chunk)
    if second_sizes is None:
      packed = _best_fit(sizes[part], row_length, most)
    else:
      packed = _best_fit_pairs(
        sizes[part], second_sizes[part], row_length, second_length, most
      )
    # Back to the shuffled order: long examples must not come first in every window.
    packed.sort(key=min)
    for row in packed:
      members += chunk[sorted(row)].tolist()
      row_sizes.append(len(row))
  ends = np.cumsum(row_sizes, dtype=np.int64)
  starts = np.concatenate([[0], ends]).astype(np.int64)
  return Plan(np.array(members, np.int64), starts)


def _sizes(lengths, order: np.ndarray) -> np.ndarray:
  """The lengths in this order, int64: of a mapped file no others are read."""
  held = np.asarray(lengths) if isinstance(lengths, Sequence) else lengths
  return held.take(order).astype(np.int64)


def _require_fit(sizes, order, row_length, what: str) -> None:
  """Raises ValueError for a row without room and for the first example too long.

  `sizes` are those of the examples `order`.
  """
  if row_length is None or row_length < 1:
    raise ValueError(f'packing: a row of {row_length} {what}')
  long = np.flatnonzero(sizes > row_length)
  if len(long):
    first = long[0]
    raise ValueError(
      f'packing: example {order[first]} has {sizes[first]} {what}, '
      f'a row holds {row_length}'
    )


def _best_fit(
  lengths: np.ndarray, row_length: int, examples_per_row: int
) -> list[list[int]]:
  """Rows of positions in `lengths` (n,).

  The open rows are kept in a stack for each number of free tokens. Bit f of `mask` says
  whether the stack of f free tokens has a row, so that the fullest row which fits is
  found in a few operations, not in one per open row.
  """
  rows: list[list[int]] = []
  stacks: list[list[int]] = [[] for _ in range(row_length + 1)]
  mask = 0
  sizes = lengths.tolist()
  for i in np.argsort(-lengths, kind='stable').tolist():
    size = sizes[i]
    fits = mask >> size
    if fits:
      # The lowest bit that is set: the row with the least room that suffices.
      free = size + (fits & -fits).bit_length() - 1
      stack = stacks[free]
      row = stack.pop()
      if not stack:
        mask ^= 1 << free
      rows[row].append(i)
      free -= size
    else:
      row = len(rows)
      free = row_length - size
      rows.append([i])
    if free and len(rows[row]) < examples_per_row:
      stacks[free].append(row)
      mask |= 1 << free
  return rows


def _best_fit_pairs(
  first, second, first_length: int, second_length: int, examples_per_row: int
) -> list[list[int]]:
  """Best fit with two lengths per example, among the last `OPEN_ROWS` open rows."""
  rows: list[list[int]] = []
  # [row, free on the first side, free on the second side]
  open_rows: list[list[int]] = []
  # The part of a row that an example takes on its larger side, largest first.
  part = np.maximum(first / first_length, second / second_length)
  for i in np.argsort(-part, kind='stable').tolist():
    a = int(first[i])
    b = int(second[i])
    fitting = [each for each in open_rows if each[1] >= a and each[2] >= b]
    if fitting:
      best = min(
        fitting,
        key=lambda each: (each[1] - a) / first_length + (each[2] - b) / second_length,
      )
      best[1] -= a
      best[2] -= b
      rows[best[0]].append(i)
      if len(rows[best[0]]) >= examples_per_row:
        open_rows.remove(best)
    else:
      rows.append([i])
      if examples_per_row > 1:
        open_rows.append([len(rows) - 1, first_length - a, second_length - b])
        del open_rows[:-OPEN_ROWS]
  return rows


def fill(
  members: Sequence[int], tokens, row_length: int, *, pad: int = 0, prefix: str = ''
) -> dict[str, np.ndarray]:
  """One row as three arrays, int32 (row_length,): tokens, segments and positions.

  Segments count the examples from 1 and are 0 on padding. Positions begin anew in each
  segment. `tokens[i]` is the token array of example i. `prefix='decoder_'` names the
  arrays of the decoder's side. Raises ValueError where the members are too long.
  """
  row = {
    f'{prefix}tokens': np.full(row_length, pad, np.int32),
    f'{prefix}segments': np.zeros(row_length, np.int32),
    f'{prefix}positions': np.zeros(row_length, np.int32),
  }
  ids, segments, positions = row.values()
  start = 0
  for segment, member in enumerate(members, 1):
    piece = tokens[int(member)]
    stop = start + len(piece)
    if stop > row_length:
      raise ValueError(
        f'packing: example {int(member)} does not fit a row of {row_length} tokens'
      )
    ids[start:stop] = piece
    segments[start:stop] = segment
    positions[start:stop] = np.arange(len(piece))
    start = stop
  return row


def fill_learned(
  members: Sequence[int], examples, row_length: int
) -> dict[str, np.ndarray]:
  """`learned` int32 (row_length,): 1 on the tokens of each example that are learned.

  Those are what `examples.learned` marks or, without it, what follows the prompts.
  """
  learned = np.zeros(row_length, np.int32)
  start = 0
  for member in members:
    member = int(member)
    stop = start + int(examples.tokens.lengths[member])
    if examples.learned is None:
      learned[start + int(examples.prompts[member]) : stop] = 1
    else:
      learned[start:stop] = examples.learned[member]
    start = stop
  return {'learned': learned}


def fill_types(members: Sequence[int], types, row_length: int) -> dict[str, np.ndarray]:
  """`types` int32 (row_length,): the type of every token, 0 on padding.

  `types[i]` are those of example i.
  """
  found = np.zeros(row_length, np.int32)
  start = 0
  for member in members:
    own = types[int(member)]
    stop = start + len(own)
    found[start:stop] = own
    start = stop
  return {'types': found}


def fill_examples(
  members: Sequence[int], identifiers: np.ndarray, examples_per_row: int
) -> dict[str, np.ndarray]:
  """Which examples a row has, of the `examples_per_row` that it may have.

  `examples` int32 (examples_per_row,) has the segment of each, 0 for none.
  `identifiers` int32 of that shape are -1 for none.
  """
  # An empty row has no members, and an empty list would be an array of floats.
  members = np.asarray(members, np.int64)
  filled = len(members)
  if filled > examples_per_row:
    raise ValueError(
      f'packing: {filled} examples in a row, which has at most {examples_per_row}'
    )
  row = {
    'examples': np.zeros(examples_per_row, np.int32),
    'identifiers': np.full(examples_per_row, -1, np.int32),
  }
  row['examples'][:filled] = np.arange(1, filled + 1)
  row['identifiers'][:filled] = identifiers[members]
  return row


def fill_labels(
  members: Sequence[int],
  labels: np.ndarray,
  identifiers: np.ndarray,
  examples_per_row: int,
) -> dict[str, np.ndarray]:
  """`fill_examples`, and the labels of these examples.

  `labels` are int32 (examples_per_row,) for labels (n,), and float32 (examples_per_row,
  k) for labels (n, k).
  """
  row = fill_examples(members, identifiers, examples_per_row)
  dtype = np.int32 if labels.ndim == 1 else np.float32
  shape = examples_per_row, *labels.shape[1:]
  row['labels'] = np.zeros(shape, dtype)
  members = np.asarray(members, np.int64)
  row['labels'][: len(members)] = labels[members]
  return row


def stack(
  rows: Sequence[Mapping[str, np.ndarray]],
  count: int,
  empty: Callable[[], Mapping[str, np.ndarray]],
):
  """A batch of exactly `count` rows: those given, then those that `empty` makes."""
  missing = count - len(rows)
  rows = [*rows, *(empty() for _ in range(missing))]
  batch = {}
  for name in rows[0]:
    batch[name] = np.stack([row[name] for row in rows])
  return batch
