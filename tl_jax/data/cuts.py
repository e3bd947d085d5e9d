"""Pairs of segments of a source too large to be planned whole: cut when they are read.

A cut is one time that a document is cut. An epoch is an order of all cuts, a window a
part of it, and a row needs the cuts of its window alone.

>>> from tl_jax.data.tokens import TokenList
>>> parts = TokenList([np.arange(4), np.arange(3), np.arange(6), np.arange(2)])
>>> documents = segment_pairs.Documents(parts, np.array([0, 2, 4]), longest=2)
>>> frame = ((1, 0), ('A', 0), (2, 0), ('B', 1), (2, 1))
>>> found = Cuts(documents, frame, segment_pairs.Rules(12), duplicates=2)
>>> len(found), found.lengths[found.members([0, 3])].tolist()
(4, [10, 11])
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable

import numpy as np

from tl_jax.data import packing, segment_pairs, subsets, windows

# Cuts of a window, at least. They are cut in a second or two.
SIZE = 2**14


def fits_whole(count: int) -> bool:
  """Are the pairs of so many cuts planned whole?"""
  return count < 2 * SIZE


class Column:
  """A number for each of many things, computed for those that are asked for.

  read(i) is that of one, and total() what all sum up to. Indexed by an array it gives
  an array.
  """

  def __init__(self, count: int, read: Callable[[int], int], total=lambda: 0):
    self._count = count
    self._read = read
    self._total = total

  def __len__(self) -> int:
    return self._count

  def take(self, numbers) -> np.ndarray:
    """The values of these numbers, int32, in their shape."""
    numbers = np.asarray(numbers, np.int64)
    values = [self._read(number) for number in numbers.ravel().tolist()]
    return np.array(values, np.int32).reshape(numbers.shape)

  __getitem__ = take

  def sum(self, dtype=np.int64) -> int:
    """The sum of all."""
    return dtype(self._total())


@dataclasses.dataclass(frozen=True)
class Cuts:
  """What `tokens.Tokens` is, for the pairs of cuts that nobody has planned.

  Its length is the number of cuts. A pair is known by its member number: that of its
  cut times the most sentences of a document, plus its place in the cut.
  """

  documents: segment_pairs.Documents
  frame: tuple
  rules: segment_pairs.Rules
  duplicates: int
  key: str = ''

  def __len__(self) -> int:
    return self.duplicates * len(self.documents)

  def __getitem__(self, member: int) -> np.ndarray:
    return segment_pairs.framed(self.documents, self.pair(member), self.frame)

  @functools.cached_property
  def pairs(self) -> Callable[[int], list[segment_pairs.Pair]]:
    """A function from the number of a cut to its pairs, which remembers a few."""
    # The window that is being planned, and those that are being read.
    remember = functools.lru_cache(2 * SIZE)
    return remember(lambda number: self.documents.pairs(number, self.rules))

  def pair(self, member: int) -> segment_pairs.Pair:
    """The pair of a member number."""
    number, place = divmod(int(member), self.documents.longest)
    return self.pairs(number)[place]

  def members(self, numbers) -> np.ndarray:
    """The member numbers of all pairs of these cuts, int64."""
    found = []
    for number in np.asarray(numbers).tolist():
      first = number * self.documents.longest
      found += range(first, first + len(self.pairs(number)))
    return np.array(found, np.int64)

  @property
  def lengths(self) -> Column:
    """The tokens of pairs in their frame, by member numbers."""
    framing = len(self.frame) - 2

    def read(member: int) -> int:
      pair = self.pair(member)
      return pair.first.count + pair.second.count + framing

    return Column(len(self), read)

  @property
  def index(self) -> Column:
    """The documents of the first segments, by member numbers."""
    return Column(len(self), lambda member: self.pair(member).first.document)

  @property
  def types(self) -> segment_pairs.SegmentTypes:
    """The types of the tokens of pairs, by member numbers."""
    return segment_pairs.SegmentTypes(self)

  @property
  def counts(self) -> dict[str, int]:
    """What was counted when the sentences became tokens."""
    return self.documents.parts.counts

  @property
  def pieces(self) -> 'Pieces':
    """What a budget, a size and a frequency are of: the documents that are cut."""
    return Pieces(self)

  def fill(self, members, length: int, examples_per_row: int) -> dict[str, np.ndarray]:
    """The labels of the pairs of a row, int32 (examples_per_row,)."""
    del length
    labels = np.zeros(examples_per_row, np.int32)
    for place, member in enumerate(members):
      labels[place] = self.pair(member).label
    return dict(labels=labels)


@dataclasses.dataclass(frozen=True)
class Pieces:
  """What `tokens.Tokens` is, for the whole document of every cut."""

  of: Cuts

  def __len__(self) -> int:
    return len(self.of)

  def __getitem__(self, number: int) -> np.ndarray:
    return self.of.documents.whole(self._document(number))

  @property
  def lengths(self) -> Column:
    documents = self.of.documents

    def read(number: int) -> int:
      return sum(documents[self._document(number)])

    def total() -> int:
      once = documents.parts.lengths.sum(dtype=np.int64)
      return self.of.duplicates * int(once)

    return Column(len(self), read, total)

  def _document(self, number: int) -> int:
    return int(number) % len(self.of.documents)


class CutWindows(windows.Windows):
  """The endless sequence of rows of cuts, planned a window at a time.

  Every pair of every cut is in one row of every epoch. Windows have equally many rows,
  but some need fewer: the rows that are left hold pairs of their documents that are cut
  once more.
  """

  def __init__(self, examples, layout, seed: int, subset=None):
    super().__init__(examples, layout, seed, subset)
    self.windows = max(1, self.count // SIZE)

  def _planned(self, numbers: np.ndarray, draw: int) -> packing.Plan:
    """The plan of all pairs of cuts, which do not stand side by side in it."""
    members = self.examples.tokens.members(numbers)
    order = subsets.permutation(len(members), draw)
    return self.layout.plan(self.examples, members[order])

  def _pack(self, epoch: int, window: int) -> packing.Plan:
    draw = subsets.seed_of(self.seed, f'pairs/{epoch}', window)
    return self._planned(self.drawn(epoch, window), draw)

  def plan(self, epoch: int, window: int) -> packing.Plan:
    """The plan of a window: a function of (documents, seed, epoch, window)."""
    packed = self._packed(epoch, window)
    missing = self._first_row(window + 1) - self._first_row(window) - packed.rows
    if missing <= 0:
      return super().plan(epoch, window)
    numbers = self.drawn(epoch, window)
    all_cuts = len(self.examples)
    plans = [packed]
    for time in itertools.count(1):
      # Cuts beyond all that are planned: nobody else reads these.
      again = numbers + time * all_cuts
      draw = subsets.seed_of(self.seed, f'pairs/{epoch}/{time}', window)
      planned = functools.partial(self._planned, draw=draw)
      plans.append(windows.first_rows(planned, again, missing))
      missing -= plans[-1].rows
      if not missing:
        return joined(plans)

  @functools.cached_property
  def _rate(self) -> tuple[int, int]:
    """(rows, cuts): every window has a row for so many cuts.

    They are those of the very first window, and a margin for the others: documents
    differ in how many pairs they give.
    """
    first = self._packed(0, 0)
    numbers = self.drawn(0, 0).tolist()
    pairs = [len(self.examples.tokens.pairs(number)) for number in numbers]
    cuts, total = len(pairs), sum(pairs)
    # The variance of the pairs of a cut, times the square of their number: whole
    # numbers are the same on every machine.
    squares = cuts * sum(count**2 for count in pairs) - total**2
    # The first window is a sample as well, and pairs share rows.
    numerator = 2 * squares * first.rows**2
    deviations = windows.MARGIN**2 * numerator // (cuts * total**2)
    return first.rows + math.isqrt(deviations) + windows.SPARE, cuts


def joined(plans: list[packing.Plan]) -> packing.Plan:
  """The rows of several plans, one after the other."""
  sizes = np.concatenate([np.diff(plan.starts) for plan in plans])
  starts = np.concatenate([[0], np.cumsum(sizes)])
  return packing.Plan(np.concatenate([plan.members for plan in plans]), starts)
