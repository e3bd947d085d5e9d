"""Rows of a source too large to be planned whole: windows of it, packed one by one.

An epoch's order is cut into windows of equally many examples. How many rows a window
has is settled before it is packed, so that any row is found by planning one window.
Of 365 million examples, on two busy cores, the first batch takes 3 s, that of step
1,000,000 takes 5 s, with 38 MB besides the mapped file; 10 million planned whole take
77 s and 800 MB.

>>> packed = packing.plan([3, 5, 4, 4], 8)
>>> [row.tolist() for row in due(packed, 3)]
[[0], [1], [2, 3]]
"""

import bisect
import functools
import logging
import math
import threading
from collections.abc import Callable

import numpy as np

from tl_jax.data import packing, subsets

# Examples of a window, at least. It is planned in half a second, and rows of it are
# some hundreds of batches.
SIZE = 2**18
# By how many standard deviations a window may need more rows than the first one did:
# of ten million windows one needs more.
MARGIN = 5
# Rows on top of them, for examples so rare that the first window shows none.
SPARE = 16
# Plans that are kept: some threads are still in the window before.
KEPT = 3
_LOG = logging.getLogger(__name__)


def fits_whole(count: int) -> bool:
  """Are so many examples planned whole, an epoch at a time?"""
  return count < 2 * SIZE


class Windows:
  """The endless sequence of rows of one source, planned a window at a time.

  Every example is in one row of every epoch. There is an exception: where a window
  needs more rows than it has, the examples of those beyond wait for the next epoch, and
  the log says so. `subset` has the indices to use, all by default.
  """

  def __init__(self, examples, layout, seed: int, subset=None):
    self.examples = examples
    self.layout = layout
    self.seed = seed
    self.subset = None if subset is None else np.asarray(subset, np.int64)
    self.count = len(examples) if subset is None else len(self.subset)
    self.windows = max(1, self.count // SIZE)
    self._plan = functools.lru_cache(KEPT)(self.plan)
    # The first window is asked for twice: it tells how many rows all of them have.
    self._packed = functools.lru_cache(1)(self._pack)
    # Threads that read ahead ask for rows of the same window at once.
    self._lock = threading.Lock()

  def rows_in(self, epoch: int) -> int:
    """How many rows an epoch has; every one has as many."""
    del epoch
    return self._first_row(self.windows)

  def locate(self, row: int) -> tuple[int, np.ndarray]:
    """(epoch, members) of a row of the endless sequence."""
    with self._lock:
      epoch, inside = divmod(row, self._first_row(self.windows))
      after = bisect.bisect_right(range(self.windows), inside, key=self._first_row)
      window = after - 1
      return epoch, self._plan(epoch, window)[inside - self._first_row(window)]

  def plan(self, epoch: int, window: int) -> packing.Plan:
    """The packing plan of a window: a function of (lengths, seed, epoch, window)."""
    rows = self._first_row(window + 1) - self._first_row(window)
    packed = self._packed(epoch, window)
    if packed.rows > rows:
      _LOG.warning(
        'data: a window of %d examples fills %d rows and has %d; what is in the others '
        'is read in the next epoch',
        *(len(packed.members), packed.rows, rows),
      )
    return due(packed, rows)

  def _first_example(self, window: int) -> int:
    """The place in an epoch's order at which a window begins."""
    return window * self.count // self.windows

  def _first_row(self, window: int) -> int:
    """The row of an epoch at which a window begins: in proportion to its examples."""
    rows, examples = self._rate
    # Rounded up, so that no window has more rows than examples.
    return -(-self._first_example(window) * rows // examples)

  @functools.cached_property
  def _rate(self) -> tuple[int, int]:
    """(rows, examples): every window has a row for so many examples.

    They are those of the very first window, and a margin for the others: the windows
    are samples of one source. Its parts that were packed on their own tell how much
    samples differ.
    """
    first = self._packed(0, 0)
    examples = len(first.members)
    ends = np.arange(0, examples + 1, packing.WINDOW)
    rows = np.diff(np.searchsorted(first.starts, ends)).tolist()
    # The variance of a part, times the square of their number: whole numbers are the
    # same on every machine.
    squares = len(rows) * sum(count**2 for count in rows) - sum(rows) ** 2
    # The first window is a sample as well: the difference of two varies twice as much.
    numerator = 2 * squares * examples
    denominator = len(rows) ** 2 * packing.WINDOW
    margin = math.isqrt(MARGIN**2 * numerator // denominator) + SPARE
    return min(first.rows + margin, examples), examples

  def _pack(self, epoch: int, window: int) -> packing.Plan:
    """A window's examples in as few rows as they need."""
    return self.layout.plan(self.examples, self.drawn(epoch, window))

  def drawn(self, epoch: int, window: int) -> np.ndarray:
    """The numbers of a window's examples in the order of the epoch, int64."""
    places = np.arange(self._first_example(window), self._first_example(window + 1))
    members = subsets.permuted(places, self.count, self.seed, epoch)
    return members if self.subset is None else self.subset[members]


def due(packed: packing.Plan, rows: int) -> packing.Plan:
  """The plan with exactly so many rows, at most as many as it has members.

  Where it has fewer, rows are parted in two, evenly over the plan. Where it has more,
  the last ones are left out.
  """
  missing = rows - packed.rows
  if missing <= 0:
    return packing.Plan(packed.members, packed.starts[: rows + 1])
  inside = np.setdiff1d(np.arange(len(packed.members)), packed.starts)
  parted = inside[np.arange(missing) * len(inside) // missing]
  return packing.Plan(packed.members, np.union1d(packed.starts, parted))


def first_rows(
  plan: Callable[[np.ndarray], packing.Plan], order: np.ndarray, rows: int
) -> packing.Plan:
  """The first rows of `plan(order)`, all of them where there are fewer.

  Of a long order only a beginning is planned: parts of it that are packed on their own
  do not depend on what follows.
  """
  # As many examples as rows are needed in any case.
  count = max(1, -(-rows // packing.WINDOW)) * packing.WINDOW
  while True:
    packed = plan(order[:count])
    if packed.rows >= rows or count >= len(order):
      starts = packed.starts[: rows + 1]
      return packing.Plan(packed.members[: starts[-1]], starts)
    count *= 2
