"""What a corpus is like, in numbers that add up over its parts.

>>> from tl_jax.data.prepare import batch
>>> found = of(batch.of(['a b a b', 'a c']))
>>> found.documents, found.words, found.distinct
(2, 6, 3)
>>> round((found + found).entropy, 3), (found + found).words
(1.459, 12)
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from tl_jax.data.prepare.batch import Batch, grams

# Words of the runs by which two corpora are compared, and how many of these are kept: of
# two samples of the least hashes, what they share is what the whole shares.
_RUN = 5
_SKETCH = 4096


@dataclasses.dataclass(frozen=True)
class Statistics:
  """documents, bytes, words: how many. hashes, counts: of every distinct word, in order.
  sketch: the least hashes of its runs of five words, in order.
  """

  documents: int = 0
  bytes: int = 0
  words: int = 0
  hashes: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.uint64))
  counts: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
  sketch: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.uint64))

  def __add__(self, other: 'Statistics') -> 'Statistics':
    both = np.concatenate([self.hashes, other.hashes])
    hashes, places = np.unique(both, return_inverse=True)
    counts = np.zeros(len(hashes), np.int64)
    np.add.at(counts, places, np.concatenate([self.counts, other.counts]))
    return Statistics(
      self.documents + other.documents,
      self.bytes + other.bytes,
      self.words + other.words,
      hashes,
      counts,
      _least(np.concatenate([self.sketch, other.sketch])),
    )

  @property
  def distinct(self) -> int:
    """How many different words there are, whatever their case."""
    return len(self.hashes)

  @property
  def entropy(self) -> float:
    """Bits of a word, by how frequent the words are."""
    if not self.words:
      return 0.0
    shares = self.counts / self.counts.sum()
    return float(-(shares * np.log2(shares)).sum())

  def shown(self) -> dict[str, float]:
    """The numbers of a report."""
    return dict(
      documents=self.documents,
      bytes=self.bytes,
      words=self.words,
      distinct=self.distinct,
      type_token_ratio=self.distinct / max(self.words, 1),
      entropy=self.entropy,
    )


def of(batch: Batch) -> Statistics:
  """The statistics of some documents."""
  words = batch.table.hashes[batch.ids]
  # By hashes: words of other chunks have other places in their tables.
  hashes, counts = np.unique(words, return_counts=True)
  runs, _ = grams(words, batch.documents, _RUN)
  size = sum(len(text.encode('utf-8', 'replace')) for text in batch.texts)
  return Statistics(len(batch), size, len(words), hashes, counts, _least(runs))


def _least(hashes: np.ndarray) -> np.ndarray:
  return np.unique(hashes)[:_SKETCH]


def overlap(one: Statistics, other: Statistics) -> float:
  """The share of all runs of five words of two corpora that both have, an estimate.

  Of the least hashes of both together those are counted that are in both (Bar-Yossef et
  al. 2002).
  """
  least = _least(np.concatenate([one.sketch, other.sketch]))
  if not len(least):
    return 0.0
  shared = np.isin(least, one.sketch) & np.isin(least, other.sketch)
  return float(shared.mean())


def to_arrays(found: Statistics, name: str) -> dict[str, np.ndarray]:
  """The statistics as arrays, each under a name that begins with `name`."""
  fields = dataclasses.asdict(found)
  return {f'{name}.{field}': np.asarray(value) for field, value in fields.items()}


def from_arrays(arrays: Mapping[str, np.ndarray], name: str) -> Statistics:
  """The statistics that `to_arrays` made."""
  values = {}
  for field in dataclasses.fields(Statistics):
    # A number was kept as an array without an axis.
    value = arrays[f'{name}.{field.name}']
    values[field.name] = value if value.ndim else int(value)
  return Statistics(**values)
