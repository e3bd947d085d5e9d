"""From tokens to batches: the batch of step t is a function of (seed, t).

>>> from tl_jax.data import tokens
>>> data = Examples(tokens.TokenList([np.arange(1, n) for n in (4, 6, 3, 5)]))
>>> source = stream(data, seed=0, length=8, batch=2)
>>> sorted(source.batch_at(3)), source.batch_at(3)['tokens'].shape
(['positions', 'segments', 'tokens'], (2, 8))
"""

import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tl_jax.config import Count
from tl_jax.data import cuts, mixing, packing, subsets, windows
from tl_jax.data.phases import Sizes

# Steps of a stream that nobody ends; grain wants a number.
ENDLESS = 2**40


@dataclasses.dataclass(frozen=True)
class Examples:
  """Encoded examples with what belongs to each of them, side by side.

  `tokens` and `targets` are `Tokens` or a `TokenList`; encoder-decoders need targets.
  `prompts` int32 (n,) says how many of an example's first tokens a decoder is given; it
  learns those behind them, or where `learned`, shaped as `tokens`, is 1. `types`, of
  the same shape, tell a model two texts apart. `labels` are (n,) int, (n, k) for several
  labels per example, or real values (n,) or (n, 1). `identifiers` int32 (n,) are by
  default the numbers of the examples in their source. Raises ValueError where the
  lengths differ.
  """

  tokens: Any
  labels: np.ndarray | None = None
  targets: Any = None
  identifiers: np.ndarray | None = None
  prompts: np.ndarray | None = None
  learned: Any = None
  types: Any = None

  def __post_init__(self):
    if not len(self.tokens):
      raise ValueError('data: no examples')
    for name in ('labels', 'targets', 'identifiers', 'prompts', 'learned', 'types'):
      value = getattr(self, name)
      if value is not None and len(value) != len(self.tokens):
        raise ValueError(f'data: {len(value)} {name} for {len(self.tokens)} examples')
    # The class is frozen, so normal forms are set past its own guard.
    if self.identifiers is None:
      index = self.tokens.index
      # Of cuts they are computed when they are asked for.
      if not isinstance(index, cuts.Column):
        index = np.asarray(index, np.int32)
      object.__setattr__(self, 'identifiers', index)
    if self.labels is not None:
      object.__setattr__(self, 'labels', _as_labels(self.labels))

  def __len__(self) -> int:
    return len(self.tokens)


def _as_labels(labels) -> np.ndarray:
  """Class numbers as int32 (n,); indicators and real values as float32 (n, k)."""
  labels = np.asarray(labels)
  if labels.ndim == 1 and labels.dtype.kind != 'f':
    return labels.astype(np.int32)
  return labels.reshape(len(labels), -1).astype(np.float32)


def with_labels(encoded, labels) -> Examples:
  """Examples of a token cache with the labels of its source.

  `labels` has one for every example of the source. Those of documents that the cache
  skipped are dropped.
  """
  return Examples(encoded, np.asarray(labels)[np.asarray(encoded.index)])


class Room(NamedTuple):
  """What a row has room for, where that is not its tokens.

  `taken(lengths)` gives the part of `size` that examples of these lengths take, int
  (n,). Rows must be long enough for all examples that `size` has room for.
  """

  size: int
  taken: Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Layout:
  """The static shape of rows, and how examples are put into them.

  A row has `length` tokens, `target_length` target tokens and at most
  `examples_per_row` labelled examples. `pad` is the id that fills it up. `pack` puts
  several examples into a row. `room` is what a row has room for, if not for `length`
  tokens.
  """

  length: int
  examples_per_row: int | None = None
  target_length: int | None = None
  pad: int = 0
  pack: bool = True
  room: Room | None = None

  def plan(self, examples: Examples, order) -> packing.Plan:
    """Packs these examples, in this order, into rows of this shape."""
    target_lengths = None if examples.targets is None else examples.targets.lengths
    if examples.targets is not None and self.target_length is None:
      raise ValueError('data: target_length is needed for examples with targets')
    room = self.room or Room(self.length, lambda lengths: lengths)
    return packing.plan(
      examples.tokens.lengths,
      room.size,
      order,
      self.examples_per_row,
      pack=self.pack,
      taken=room.taken,
      second=target_lengths,
      second_length=self.target_length,
    )

  def fill(self, examples: Examples, members) -> dict[str, np.ndarray]:
    """The row of these members: int32 arrays, labels too if the examples have them."""
    row = packing.fill(members, examples.tokens, self.length, pad=self.pad)
    if examples.targets is not None:
      row |= packing.fill(
        members, examples.targets, self.target_length, pad=self.pad, prefix='decoder_'
      )
    if examples.prompts is not None:
      row |= packing.fill_learned(members, examples, self.length)
    if examples.types is not None:
      row |= packing.fill_types(members, examples.types, self.length)
    # A row cannot hold more examples than tokens.
    examples_per_row = self.examples_per_row or (self.length if self.pack else 1)
    if examples.labels is not None:
      row |= packing.fill_labels(
        members, examples.labels, examples.identifiers, examples_per_row
      )
    elif self.examples_per_row:
      row |= packing.fill_examples(members, examples.identifiers, examples_per_row)
    # Candidates and words have parts of a row that whole examples have not.
    if hasattr(examples.tokens, 'fill'):
      row |= examples.tokens.fill(members, self.length, examples_per_row)
    return row

  def batch(self, examples: Examples, rows, count: int) -> dict[str, np.ndarray]:
    """A batch of `count` rows; where there are fewer, empty ones follow."""
    filled = [self.fill(examples, members) for members in rows]
    return packing.stack(filled, count, lambda: self.fill(examples, ()))


class Epochs:
  """The endless sequence of rows of one source that is planned whole.

  Every epoch has an order of its own, and a packing plan that is computed once.
  """

  def __init__(
    self,
    examples: Examples,
    layout: Layout,
    seed: int,
    subset=None,
    shuffle: bool = True,
  ):
    self.examples = examples
    self.layout = layout
    self.seed = seed
    self.shuffle = shuffle
    self.subset = subset
    self.indices = subsets.indices(len(examples), subset)
    self.count = len(self.indices)
    # The first row of each epoch so far.
    self._starts = [0]
    self._plan = functools.lru_cache(windows.KEPT)(self.plan)
    # Threads that read ahead ask for rows of the same epoch at once.
    self._lock = threading.Lock()

  def plan(self, epoch: int) -> packing.Plan:
    """The packing plan of an epoch: a function of (lengths, seed, epoch)."""
    order = self.indices
    if self.shuffle:
      order = order[subsets.permutation(len(order), self.seed, epoch)]
    return self.layout.plan(self.examples, order)

  def rows_in(self, epoch: int) -> int:
    """How many rows an epoch has; packed, that depends on the order of its examples."""
    return self.plan(epoch).rows

  def locate(self, row: int) -> tuple[int, np.ndarray]:
    """(epoch, members) of a row of the endless sequence."""
    with self._lock:
      # Every epoch has as many rows as examples: no need to visit them all.
      if not self.layout.pack:
        epoch, inside = divmod(row, self.count)
        return epoch, self._plan(epoch)[inside]
      # Packed epochs differ in length, so all before this one must be planned.
      while self._starts[-1] <= row:
        epoch = len(self._starts) - 1
        self._starts.append(self._starts[-1] + self._plan(epoch).rows)
      epoch = int(np.searchsorted(self._starts, row, side='right')) - 1
      return epoch, self._plan(epoch)[row - self._starts[epoch]]


def _rows_of_source(
  examples: Examples, layout: Layout, seed: int, subset, shuffle: bool
) -> Epochs | windows.Windows:
  """The endless sequence of rows of a source, however large."""
  if isinstance(examples.tokens, cuts.Cuts):
    return cuts.CutWindows(examples, layout, seed, subset)
  count = len(examples) if subset is None else len(subset)
  # Windows are alike because they are shuffled: those of a sorted source are not.
  if windows.fits_whole(count) or not shuffle:
    return Epochs(examples, layout, seed, subset, shuffle)
  return windows.Windows(examples, layout, seed, subset)


@dataclasses.dataclass(frozen=True)
class Stream:
  """An endless sequence of batches.

  `batch_at(step)` is a pure function, so that the number of a step is the whole state.
  `parts` are the sources of a mixture by `names`; its `course` says which of them a row
  comes from. `sizes` are the numbers of rows of the batches.
  """

  parts: tuple[Epochs | windows.Windows, ...]
  names: tuple[str, ...]
  course: mixing.Course
  layout: Layout
  sizes: Sizes

  @property
  def size(self) -> int:
    """The number of rows of a batch; where it changes, of the last ones."""
    return self.sizes.rows[-1]

  def batch_at(self, step: int, rows=None) -> dict[str, np.ndarray]:
    """The batch of a step, or its rows with the numbers `rows`, in that order.

    Raises ValueError for a number that is not of a row of the batch.
    """
    filled = []
    first = self.sizes.before(step)
    for row in rows_of(self.sizes.at(step), rows):
      part, _, members = self.locate(first + row)
      filled.append(self.layout.fill(self.parts[part].examples, members))
    return {name: np.stack([row[name] for row in filled]) for name in filled[0]}

  def tokens_at(self, step: int) -> int:
    """How many tokens the whole batch of a step holds, padding not counted.

    The lengths of the examples say it, so a host that reads only some of the rows knows
    the number too.
    """
    total = 0
    for row in self._rows(step, step + 1):
      part, _, members = self.locate(row)
      total += int(self.parts[part].examples.tokens.lengths[members].sum())
    return total

  def locate(self, row: int) -> tuple[int, int, np.ndarray]:
    """(number of the source, its epoch, members) of a global row."""
    part, inside = self.course.stage_of(row).locate(row)
    epoch, members = self.parts[part].locate(inside)
    return part, epoch, members

  def members(self, start: int, stop: int) -> np.ndarray:
    """The examples of a single source in steps start, ..., stop - 1: int64, ascending."""
    found = set()
    for row in self._rows(start, stop):
      found.update(self.locate(row)[2].tolist())
      # All are there: the epochs that follow hold no others.
      if len(found) == self.parts[0].count:
        break
    return np.array(sorted(found), np.int64)

  def passes(self, steps: int) -> dict[str, tuple[int, float]]:
    """{source: (its rows, its passes)} of the first `steps` steps.

    A pass is counted in rows of the first epoch: packed ones differ a little.
    """
    rows = self.sizes.before(steps)
    stage = self.course.stage_of(max(0, rows - 1))
    counts = stage.after(rows - stage.first)
    found = {}
    for name, part, count in zip(self.names, self.parts, counts, strict=True):
      found[name] = count, count / part.rows_in(0)
    return found

  def epoch_of(self, step: int) -> dict[str, int]:
    """The epoch that each source is in when step `step` begins."""
    found = {}
    # A block has a row of every source that is not left out.
    first = self.sizes.before(step)
    for row in range(first, first + mixing.BLOCK):
      part, epoch, _ = self.locate(row)
      found.setdefault(self.names[part], epoch)
      if len(found) == len(self.parts):
        break
    return found

  def _rows(self, start: int, stop: int) -> range:
    """The global rows of steps start, ..., stop - 1."""
    return range(self.sizes.before(start), self.sizes.before(stop))


def rows_of(size: int, rows=None) -> list[int]:
  """The numbers of rows of a batch of `size` rows; without `rows`, all of them.

  Raises ValueError for a number that is not of a row.
  """
  if rows is None:
    return list(range(size))
  numbers = [int(row) for row in rows]
  for number in numbers:
    if not 0 <= number < size:
      raise ValueError(f'row {number} of a batch of {size} rows')
  return numbers


def stream(
  examples,
  *,
  seed: int,
  length: Count,
  batch: Count,
  sizes: Sizes | None = None,
  pack: bool = True,
  examples_per_row: Count | None = None,
  target_length: Count | None = None,
  pad: int = 0,
  weights: Mapping[str, float] | None = None,
  stages: Sequence[tuple[int, Mapping[str, float]]] = (),
  epochs: Mapping[str, float] | None = None,
  subset=None,
  shuffle: bool = True,
  room: Room | None = None,
) -> Stream:
  """The endless stream of one set of examples, or of a mixture {name: Examples}.

  `length` is the number of tokens of a row. `room` is what rows have room for, by
  default `length` tokens. `batch` is the number of rows of a global batch, unless
  `sizes` has it by step. `examples_per_row` is how many labelled examples a row may hold
  (1 with `pack=False`).
  `weights` {name: weight} count the rows of a mixture and are kept to 1/1024. A short
  source begins its next epoch when it ends. From each step of `stages` ((step, weights),
  ...) on, other weights hold. `epochs` {name: passes} are the most of a source: after
  them the others go on without it. `subset` has the indices to use, of a mixture
  {name: indices}. Raises ValueError that names a weight or a source that cannot be.
  """
  mixture = dict(examples) if isinstance(examples, Mapping) else {'': examples}
  chosen = _subsets(mixture, subset)
  _require_rows(mixture.values(), batch, examples_per_row, pack)
  weights = dict.fromkeys(mixture, 1.0) if weights is None else weights
  changes = mixing.changes(mixture, weights, stages)
  layout = Layout(length, examples_per_row, target_length, pad, pack, room)
  names = []
  for name in mixture:
    if any(stage[name] for _, stage in changes):
      names.append(name)
  parts = []
  for name in names:
    # By name: a source has the same order in every mixture.
    own_seed = subsets.seed_of(seed, f'source/{name}')
    own = chosen.get(name)
    parts.append(_rows_of_source(mixture[name], layout, own_seed, own, shuffle))
  sizes = sizes or Sizes((0,), (batch,))
  limits = mixing.limits(names, parts, epochs or {})
  course = mixing.course(sizes.changes(changes, names), seed, limits)
  return Stream(tuple(parts), tuple(names), course, layout, sizes)


def _subsets(mixture: Mapping[str, Examples], subset) -> dict:
  """The indices to use, by source. Raises ValueError where it is not clear of which."""
  if subset is None:
    return {}
  if isinstance(subset, Mapping):
    unknown = sorted(set(subset) - set(mixture))
    if unknown:
      raise ValueError(f'data: a subset of {unknown[0]!r}, which is no source')
    return dict(subset)
  if len(mixture) > 1:
    raise ValueError('data: a subset of a mixture is given by source')
  return dict.fromkeys(mixture, subset)


def _require_rows(parts, batch: int, examples_per_row: int | None, pack: bool) -> None:
  """Raises ValueError for an empty batch, and for packed labels without a number."""
  if batch < 1:
    raise ValueError(f'data.batch: {batch} rows')
  labelled_parts = any(part.labels is not None for part in parts)
  # The shape of the labels of a batch must not depend on what is in it.
  if labelled_parts and pack and examples_per_row is None:
    raise ValueError(
      'data.examples_per_row: packed rows of labelled examples need a fixed number'
    )


def batches(
  source: Stream,
  start_step: int = 0,
  stop_step: int | None = None,
  *,
  rows=None,
  threads: int = 2,
  prefetch: int = 8,
) -> Iterator[dict[str, np.ndarray]]:
  """The batches of steps start_step, start_step + 1, ..., stop_step - 1.

  `threads` threads read `prefetch` batches ahead; with 0 there are none, and no grain.
  They change when a batch is made, never what is in it. Of each batch the rows with the
  numbers `rows` are given; without them, all rows.
  """
  stop = ENDLESS if stop_step is None else stop_step
  if not threads:
    return (source.batch_at(step, rows) for step in range(start_step, stop))
  import grain

  steps = grain.MapDataset.range(start_step, stop).map(
    lambda step: source.batch_at(int(step), rows)
  )
  options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch)
  return iter(steps.to_iter_dataset(options))


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """A finite pass: every example is in exactly one row of exactly one batch.

  The last batch is padded with empty rows. Of each batch of `size` rows those with the
  numbers `rows`, which ascend, are given.
  """

  examples: Examples
  layout: Layout
  plan: packing.Plan
  size: int
  rows: list[int]

  def __len__(self) -> int:
    return -(-self.plan.rows // self.size)

  def __getitem__(self, step: int) -> dict[str, np.ndarray]:
    if not 0 <= step < len(self):
      raise IndexError(f'batch {step} of {len(self)}')
    # The numbers of the rows in the plan; beyond its end the batch is padding.
    wanted = [step * self.size + row for row in self.rows]
    filled = [self.plan[row] for row in wanted if row < self.plan.rows]
    return self.layout.batch(self.examples, filled, len(wanted))

  def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
    return (self[step] for step in range(len(self)))


def evaluation(
  examples: Examples,
  *,
  length: Count,
  batch: Count,
  pack: bool = True,
  examples_per_row: Count | None = None,
  target_length: Count | None = None,
  pad: int = 0,
  subset=None,
  rows=None,
  room: Room | None = None,
  batches: Count | None = None,
) -> Evaluation:
  """One pass over the examples (or over `subset` of them) in batches of `batch` rows.

  All batches have one shape. Of each the rows with the numbers `rows` are given;
  without them, all rows. Empty rows and places have `segments` and `examples` 0 and
  `identifiers` -1, so that nothing is counted twice. `batches` is how many are wanted
  at most: what lies beyond them is not planned. Raises ValueError as `stream` does.
  """
  _require_rows([examples], batch, examples_per_row, pack)
  layout = Layout(length, examples_per_row, target_length, pad, pack, room)
  order = subsets.indices(len(examples), subset)
  most = len(order) if batches is None else batches * batch
  plan = windows.first_rows(lambda part: layout.plan(examples, part), order, most)
  return Evaluation(examples, layout, plan, batch, sorted(rows_of(batch, rows)))
