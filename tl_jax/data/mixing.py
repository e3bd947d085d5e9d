"""Which source of a mixture a row comes from: shares, and stages in which they change.

>>> shares({'a': 3.0, 'b': 1.0})
{'a': 768, 'b': 256}
>>> by_size({'a': 1.0, 'b': 1.0}, {'a': 400, 'b': 100}, temperature=2.0)
{'a': 20.0, 'b': 10.0}
"""

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tl_jax.data import subsets

# Rows in which a mixture takes exactly its shares.
BLOCK = 1024
# Examples whose lengths are read together where a budget of tokens is filled.
_CHUNK = 2**16

Weights = Mapping[str, float]


def by_size(
  weights: Weights, sizes: Mapping[str, int], *, temperature: float, cap: int = 0
) -> dict[str, float]:
  """Every weight times min(size, cap) ** (1 / temperature): T5's mixing rate.

  `temperature` 1 is in proportion to the sizes, a high one in equal parts. `cap` is the
  paper's K, 0 for none (Raffel et al. 2020, section 3.5.2).
  """
  found = {}
  for name, weight in weights.items():
    # Without a cap the size is its own.
    size = min(sizes[name], cap or sizes[name])
    mixing_rate = size ** (1 / temperature)
    found[name] = weight * mixing_rate
  return found


def budget(tokens, most: int, seed: int, name: str) -> np.ndarray:
  """The pieces of a source that a budget of `most` tokens lets a run see, int64 (n,).

  They are taken in an order of the seed, so that a smaller budget is the beginning of a
  larger one. They end where the next piece would exceed it. `tokens` is what `Tokens`
  is. Raises ValueError that names the source for a budget larger than all of it or
  smaller than its first piece.
  """
  own_seed = subsets.seed_of(seed, f'budget/{name}')
  count = len(tokens)
  lengths = tokens.lengths
  found = []
  # Tokens that are not spent yet.
  left = most
  for start in range(0, count, _CHUNK):
    places = np.arange(start, min(start + _CHUNK, count))
    pieces = subsets.permuted(places, count, own_seed)
    ends = np.cumsum(lengths[pieces], dtype=np.int64)
    fitting = int(np.searchsorted(ends, left, side='right'))
    found.append(pieces[:fitting])
    if fitting < len(pieces):
      break
    left -= int(ends[-1])
  else:
    # All pieces are taken, and the budget is not spent.
    if left:
      raise ValueError(
        f'data.unique.{name}: {most} tokens, but the source has {most - left}'
      )
  chosen = np.concatenate(found)
  if not len(chosen):
    raise ValueError(f'data.unique.{name}: no piece has so few tokens as {most}')
  return chosen


def shares(weights: Weights) -> dict[str, int]:
  """Rows of each source in a block of `BLOCK` rows, by largest remainders.

  The weights need not sum to 1. Every positive one gets one row at least.
  """
  total = math.fsum(weights.values())
  exact = {name: BLOCK * weight / total for name, weight in weights.items()}
  found = {}
  for name, value in exact.items():
    fewest = 1 if value > 0 else 0
    found[name] = max(int(value), fewest)
  # Rows that rounding down left over go to the sources that lost most by it.
  by_remainder = sorted(exact, key=lambda name: (found[name] - exact[name], name))
  positive = [name for name in by_remainder if exact[name] > 0]
  # They may be more than the sources: then it goes round again.
  for name in itertools.cycle(positive):
    if sum(found.values()) >= BLOCK:
      break
    found[name] += 1
  # Sources that were lifted to one row take it from the largest.
  while sum(found.values()) > BLOCK:
    largest = max(found, key=lambda name: (found[name], name))
    found[largest] -= 1
  return found


def require_weights(names, weights: Weights, where: str = 'data.mixture') -> None:
  """Raises ValueError unless every source has a weight >= 0 and some are above 0.

  `where` is what the message calls the weights.
  """
  odd = sorted(set(weights) ^ set(names))
  if odd:
    raise ValueError(f'{where}: {odd[0]!r} has a weight or a source but not both')
  for name, weight in weights.items():
    if not (math.isfinite(weight) and weight >= 0):
      raise ValueError(f'{where}.{name}: the weight {weight} is not a number >= 0')
  if not math.fsum(weights.values()) > 0:
    raise ValueError(f'{where}: the weights sum to 0')


def changes(
  names, weights: Weights, stages: Sequence[tuple[int, Weights]]
) -> list[tuple[int, Weights]]:
  """The steps at which weights change, from 0 on, with the weights of all sources.

  A source that a stage does not name has weight 0 in it. Raises ValueError for steps
  that do not ascend and for weights that cannot be.
  """
  require_weights(names, weights)
  found = [(0, weights)]
  for number, (step, named) in enumerate(stages):
    where = f'data.stages[{number}]'
    if step <= found[-1][0]:
      raise ValueError(f'{where}: step {step} does not come after {found[-1][0]}')
    # All stages know the same sources, by their numbers.
    whole = dict.fromkeys(names, 0.0) | dict(named)
    require_weights(names, whole, where)
    found.append((step, whole))
  return found


class Stage(NamedTuple):
  """Rows in which the sources keep their shares.

  `first` is the row at which it begins. `before` has the rows of each source in the
  stages before it. `shares` has the rows of each in a block of `BLOCK`. The order
  within blocks is of `seed`.
  """

  first: int
  before: tuple[int, ...]
  shares: tuple[int, ...]
  seed: int

  def locate(self, row: int) -> tuple[int, int]:
    """(number of the source, number of the row among its own) of a global row."""
    block, offset = divmod(row - self.first, BLOCK)
    turns = self.turns(block)
    source = int(turns[offset])
    # Rows of the source in whole blocks before this one, then in this block.
    earlier = int(np.count_nonzero(turns[:offset] == source))
    inside = block * self.shares[source] + earlier
    return source, self.before[source] + inside

  def turns(self, block: int) -> np.ndarray:
    """Which source each row of a block comes from, int64 (BLOCK,)."""
    return _turns(self.seed, self.first, self.shares, block)

  def after(self, rows: int) -> tuple[int, ...]:
    """How many rows each source has given when the stage is so many rows old."""
    block, offset = divmod(rows, BLOCK)
    begun = np.bincount(self.turns(block)[:offset], minlength=len(self.shares))
    # Those of earlier stages, of whole blocks, and of the block that is begun.
    whole = block * np.array(self.shares)
    found = np.array(self.before) + whole + begun
    return tuple(found.tolist())

  def ends(self, limits: Sequence[int | None]) -> int | None:
    """Rows until the first of the sources has given as many as its limit.

    None where none of those that it uses has a limit.
    """
    found = []
    for source, (limit, share) in enumerate(zip(limits, self.shares, strict=True)):
      if limit is not None and share:
        # The last of its rows is so many blocks and rows of a block away.
        block, more = divmod(limit - self.before[source] - 1, share)
        # The place of its last row in the block.
        places = np.flatnonzero(self.turns(block) == source)
        found.append(block * BLOCK + int(places[more]) + 1)
    return min(found, default=None)


# A few blocks are being read at any time, by several threads.
@functools.lru_cache(maxsize=16)
def _turns(seed: int, first: int, shares: tuple[int, ...], block: int) -> np.ndarray:
  """Which source each row of a block comes from: exact shares in a shuffled order."""
  turns = np.repeat(np.arange(len(shares)), shares)
  # The first stage has the name that mixtures had before there were stages.
  name = f'mixture/{first}' if first else 'mixture'
  order = subsets.permutation(BLOCK, subsets.seed_of(seed, name), block)
  return turns[order]


class Course(NamedTuple):
  """All stages of a mixture, and the row at which nothing is left to read, if any."""

  stages: tuple[Stage, ...]
  end: int | None = None

  def stage_of(self, row: int) -> Stage:
    """The stage that a row is in. Raises ValueError for one beyond the end."""
    if self.end is not None and row >= self.end:
      raise ValueError(f'data: row {row} of a mixture that ends after {self.end}')
    found = self.stages[0]
    # They are few, and the last one is where a long run spends its time.
    for stage in reversed(self.stages):
      if stage.first <= row:
        found = stage
        break
    return found


def course(
  changes: Sequence[tuple[int, Weights]],
  seed: int,
  limits: Mapping[str, int] | None = None,
) -> Course:
  """The stages of a mixture whose weights change at the given rows, the first at 0.

  All weights name the same sources. `limits` has the most rows of those that are not
  repeated for ever: such a source is left out once it gave them, and the others keep
  their proportions among themselves.
  """
  names = list(changes[0][1])
  # In the order of the sources: a stage knows them by their numbers.
  most = [None if limits is None else limits.get(name) for name in names]
  stages: list[Stage] = []
  given = (0,) * len(names)
  stops = [row for row, _ in changes[1:]]
  for (first, weights), stop in zip(changes, [*stops, None], strict=True):
    found, end = _stages(weights, Stage(first, given, (), seed), stop, most)
    stages += found
    # Whatever comes later, the run cannot get there.
    if end is not None:
      return Course(tuple(stages), end)
    if stop is not None:
      last = stages[-1]
      given = last.after(stop - last.first)
  return Course(tuple(stages))


def _stages(
  weights: Weights, begin: Stage, stop: int | None, limits: Sequence[int | None]
) -> tuple[list[Stage], int | None]:
  """(the stages of these weights until the row `stop`, the row at which nothing is left).

  `begin` is the first of them, without shares. Each one ends where a source has given
  all that it may. The second is None where something is left.
  """
  found = []
  while True:
    left = _unfinished(weights, begin.before, limits)
    if not any(left.values()):
      return found, begin.first
    stage = begin._replace(shares=tuple(shares(left).values()))
    found.append(stage)
    rows = stage.ends(limits)
    # Without a limit the stage lasts until other weights hold, or for ever.
    if rows is None:
      return found, None
    first = stage.first + rows
    if stop is not None and first >= stop:
      return found, None
    begin = begin._replace(first=first, before=stage.after(rows))


def _unfinished(
  weights: Weights, given: Sequence[int], limits: Sequence[int | None]
) -> dict[str, float]:
  """The weights, 0 for a source that has given all rows that it may."""
  found = {}
  for (name, weight), rows, limit in zip(weights.items(), given, limits, strict=True):
    is_finished = limit is not None and rows >= limit
    found[name] = 0.0 if is_finished else weight
  return found


def rows_of_epochs(source, epochs: float) -> float:
  """How many rows so many passes over a source have, of which the last may be a part."""
  # Packed passes differ in length, so each is counted.
  whole, part = divmod(epochs, 1)
  rows = float(sum(source.rows_in(epoch) for epoch in range(int(whole))))
  if part:
    rows += part * source.rows_in(int(whole))
  return rows


def limits(
  names: Sequence[str], sources: Sequence, epochs: Mapping[str, float]
) -> dict[str, int]:
  """The rows of the sources that are read only so many times, at least one.

  Raises ValueError for a name that is no source's.
  """
  found = {}
  for name, most in epochs.items():
    if name not in names:
      raise ValueError(f'data.epochs: {name!r} is no source of the mixture')
    rows = rows_of_epochs(sources[names.index(name)], most)
    found[name] = max(1, int(rows))
  return found
