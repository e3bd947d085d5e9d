"""Packing: several examples in one row, none split, and what fills the row.

>>> best = plan([3, 5, 4, 4], 8)
>>> [sorted(int(i) for i in row) for row in best]
[[0, 1], [2, 3]]
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

# examples that are sorted by length together; the shuffled order rules beyond it
WINDOW = 2048


@dataclasses.dataclass(frozen=True)
class Plan:
  """Which examples share a row: row r holds `members[starts[r]:starts[r + 1]]`, in the
  order of their segments.
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
  slots: int | None = None,
  *,
  pack: bool = True,
  window: int = WINDOW,
  second=None,
  second_length: int | None = None,
) -> Plan:
  """Packs examples into rows of `row_length` tokens, at most `slots` of them in a row,
  best fit in decreasing length.

  lengths (n,) of all examples; order: the indices to pack, in shuffled order (all by
  default). Within each window of the order, an example goes to the fullest row it fits
  (best fit decreasing, Johnson 1973: at most 11/9 of the optimum), and the rows keep
  the order of their first example. `pack=False` gives every example its own row.
  `second` (n,) are lengths on a second side, a decoder's, that must fit `second_length`
  in the same row. Raises ValueError for an example that fits no row.
  """
  lengths = np.asarray(lengths, np.int64)
  order = np.arange(len(lengths)) if order is None else np.asarray(order, np.int64)
  _require_fit(lengths, order, row_length, 'tokens')
  if second is not None:
    second = np.asarray(second, np.int64)
    _require_fit(second, order, second_length, 'target tokens')
  if not pack or slots == 1:
    return Plan(order.copy(), np.arange(len(order) + 1))
  rows: list[list[int]] = []
  for start in range(0, len(order), window):
    chunk = order[start : start + window]
    if second is None:
      packed = _best_fit(lengths[chunk], row_length, slots or len(chunk))
    else:
      packed = _best_fit_pairs(
        lengths[chunk], second[chunk], row_length, second_length, slots or len(chunk)
      )
    packed.sort(key=min)
    rows += [[chunk[i] for i in sorted(row)] for row in packed]
  starts = np.concatenate(
    [[0], np.cumsum([len(row) for row in rows], dtype=np.int64)]
  ).astype(np.int64)
  return Plan(np.array([i for row in rows for i in row], np.int64), starts)


def _require_fit(lengths, order, row_length, what: str) -> None:
  if row_length is None or row_length < 1:
    raise ValueError(f'packing: a row of {row_length} {what}')
  long = order[lengths[order] > row_length] if len(order) else order
  if len(long):
    raise ValueError(
      f'packing: example {long[0]} has {lengths[long[0]]} {what}, a row holds {row_length}'
    )


def _best_fit(lengths: np.ndarray, row_length: int, slots: int) -> list[list[int]]:
  """Rows of positions in `lengths`; the open rows are stacks by free space, and a bit
  mask finds the fullest fit.
  """
  rows: list[list[int]] = []
  stacks: list[list[int]] = [[] for _ in range(row_length + 1)]
  mask = 0
  sizes = lengths.tolist()
  for i in np.argsort(-lengths, kind='stable').tolist():
    size = sizes[i]
    fits = mask >> size
    if fits:
      free = size + (fits & -fits).bit_length() - 1
      stack = stacks[free]
      row = stack.pop()
      if not stack:
        mask ^= 1 << free
      rows[row].append(i)
      free -= size
    else:
      row, free = len(rows), row_length - size
      rows.append([i])
    if free and len(rows[row]) < slots:
      stacks[free].append(row)
      mask |= 1 << free
  return rows


def _best_fit_pairs(
  first, second, first_length: int, second_length: int, slots: int
) -> list[list[int]]:
  """Best fit with two lengths per example; only the last 64 open rows are looked at."""
  rows: list[list[int]] = []
  # [row, free on the first side, free on the second side]
  open_rows: list[list[int]] = []
  for i in np.argsort(
    -np.maximum(first / first_length, second / second_length), kind='stable'
  ).tolist():
    a, b = int(first[i]), int(second[i])
    fitting = [each for each in open_rows if each[1] >= a and each[2] >= b]
    if fitting:
      best = min(
        fitting,
        key=lambda each: (each[1] - a) / first_length + (each[2] - b) / second_length,
      )
      best[1] -= a
      best[2] -= b
      rows[best[0]].append(i)
      if len(rows[best[0]]) >= slots:
        open_rows.remove(best)
    else:
      rows.append([i])
      if slots > 1:
        open_rows.append([len(rows) - 1, first_length - a, second_length - b])
        del open_rows[:-64]
  return rows


def fill(
  members: Sequence[int], tokens, row_length: int, *, pad: int = 0, prefix: str = ''
) -> dict[str, np.ndarray]:
  """One row: tokens, segments (1.. by example, 0 padding) and positions (restart in
  each segment), int32 (length,).

  `tokens[i]` is the token array of example i; `prefix='decoder_'` names the arrays of
  the decoder's side.
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
    ids[start:stop], segments[start:stop], positions[start:stop] = (
      piece,
      segment,
      np.arange(len(piece)),
    )
    start = stop
  return row


def fill_labels(
  members: Sequence[int], labels: np.ndarray, identifiers: np.ndarray, slots: int
) -> dict[str, np.ndarray]:
  """The classification side of a row: `examples` (slots,) segment number or 0,
  `labels`, `identifiers` (-1 if empty).

  labels (n,) gives int32 (slots,); labels (n, k) gives float32 (slots, k).
  """
  members = np.asarray(members, np.int64)
  if len(members) > slots:
    raise ValueError(f'packing: {len(members)} examples in a row of {slots} slots')
  row = {
    'examples': np.zeros(slots, np.int32),
    'identifiers': np.full(slots, -1, np.int32),
    'labels': np.zeros(
      (slots, *labels.shape[1:]), np.int32 if labels.ndim == 1 else np.float32
    ),
  }
  row['examples'][: len(members)] = np.arange(1, len(members) + 1)
  row['identifiers'][: len(members)] = identifiers[members]
  row['labels'][: len(members)] = labels[members]
  return row


def stack(
  rows: Sequence[Mapping[str, np.ndarray]],
  count: int,
  empty: Callable[[], Mapping[str, np.ndarray]],
):
  """A batch of exactly `count` rows, padded with empty ones."""
  rows = [*rows, *(empty() for _ in range(count - len(rows)))]
  return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
