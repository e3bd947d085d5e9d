"""Pairs of segments, as BERT and ALBERT cut them from documents: what follows, or not.

>>> draw = random.Random(1)
>>> found = cut([[4, 3, 5], [6, 2]], 0, Rules(length=12, short=0.0), draw)
>>> [pair.label for pair in found]
[1, 0]

The rules are those of create_pretraining_data.py of both. They speak of the lengths of
sentences alone, so that a pair is two ranges of tokens, and no token is copied.
"""

import dataclasses
import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

# How often another document is looked for, until any will do.
TRIES = 10


class Rules(NamedTuple):
  """How pairs are cut.

  length: of a row, with its special tokens. special: how many these are. short: the
  part of documents that give shorter pairs, so that short rows are known, too. swaps:
  is the other case that of two segments in the wrong order (ALBERT), or of a second one
  from elsewhere (BERT)?
  """

  length: int
  short: float = 0.1
  swaps: bool = False
  special: int = 3

  @property
  def room(self) -> int:
    """The tokens of both segments together."""
    return self.length - self.special


class Range(NamedTuple):
  """Tokens of a document: from `start`, `count` of them."""

  document: int
  start: int
  count: int


class Pair(NamedTuple):
  """Two segments; label 0 says that the second follows the first, 1 that it does not."""

  first: Range
  second: Range
  label: int


def cut(
  documents: Sequence[Sequence[int]], number: int, rules: Rules, draw: random.Random
) -> list[Pair]:
  """The pairs of the document `number`; documents: the lengths of their sentences, each
  of one token at least.

  Sentences are collected until a target length is reached: the whole room, or in a part
  `short` of the documents any length from 2 on. The first of them, up to a place drawn
  between two sentences, are the first segment. With probability a half, and of a single
  sentence in any case, the second one begins at any sentence of another document, and
  the sentences that were not used are collected again. ALBERT's second case swaps the
  two segments instead. (Of a single sentence it takes another document, as its code
  does.) Two segments that are too long lose tokens at either end, as `truncated` says.

  Of a single document the other one is itself.
  """
  lengths = documents[number]
  starts = np.concatenate([[0], np.cumsum(lengths)]).tolist()
  target = rules.room
  if draw.random() < rules.short:
    target = draw.randint(2, rules.room)
  found = []
  # Sentences before this one are used up.
  first = 0
  while first < len(lengths):
    last = _reach(lengths, first, target)
    # A pair that is asked for begins with one sentence at least.
    middle = first + 1
    if last - first >= 2:
      middle = first + draw.randint(1, last - first - 1)
    one = Range(number, starts[first], starts[middle] - starts[first])
    two = Range(number, starts[middle], starts[last] - starts[middle])
    label = 0
    is_single = last - first == 1
    if is_single or (not rules.swaps and draw.random() < 0.5):
      two = _elsewhere(documents, number, target - one.count, draw)
      # What stood behind the first segment waits for the next pair.
      last = middle
      label = 1
    # Both parts are of one document: only their order can be learned from.
    elif rules.swaps and draw.random() < 0.5:
      one, two = two, one
      label = 1
    one, two = truncated(one, two, rules.room, draw)
    found.append(Pair(one, two, label))
    first = last
  return found


def _reach(lengths: Sequence[int], first: int, target: int) -> int:
  """Behind which sentence, from `first` on, there are `target` tokens or none left."""
  total = 0
  for place in range(first, len(lengths)):
    total += lengths[place]
    if total >= target:
      return place + 1
  return len(lengths)


def _elsewhere(
  documents: Sequence[Sequence[int]], number: int, target: int, draw: random.Random
) -> Range:
  """Whole sentences of another document, from any of them on, until the target."""
  # Among few documents the same one may be drawn again and again.
  for _ in range(TRIES):
    other = draw.randint(0, len(documents) - 1)
    if other != number:
      break
  lengths = documents[other]
  first = draw.randint(0, len(lengths) - 1)
  last = _reach(lengths, first, target)
  return Range(other, sum(lengths[:first]), sum(lengths[first:last]))


def truncated(
  one: Range, two: Range, room: int, draw: random.Random
) -> tuple[Range, Range]:
  """Both ranges with `room` tokens at most: the longer one loses one token after the
  other, at its front or its back with probability a half each; of equals, the second.
  """
  while one.count + two.count > room:
    at_front = draw.random() < 0.5
    if one.count > two.count:
      one = _shorter(one, at_front)
    else:
      two = _shorter(two, at_front)
  return one, two


def _shorter(cut_range: Range, at_front: bool) -> Range:
  """The range without its first or its last token."""
  return cut_range._replace(start=cut_range.start + at_front, count=cut_range.count - 1)


@dataclasses.dataclass(frozen=True)
class Documents:
  """Documents of sentences: `documents[number]` has the lengths of its sentences.

  `parts` are the `Tokens` or the `TokenList` of all sentences without special tokens.
  `bounds` int64 (n + 1,) says at which of them each document begins, and where the last
  one ends. `longest` is the most sentences of a document. Of arrays that are mapped no
  more is read than is asked for.
  """

  parts: Any
  bounds: np.ndarray
  longest: int

  def __len__(self) -> int:
    return len(self.bounds) - 1

  def __getitem__(self, number: int) -> list[int]:
    first, last = self.bounds[number : number + 2].tolist()
    return self.parts.lengths[first:last].tolist()

  def read(self, segment: Range) -> np.ndarray:
    """The tokens of a segment, over the bounds of sentences."""
    lengths = self[segment.document]
    ends = np.cumsum(lengths)
    stop = segment.start + segment.count
    # The sentence that holds the first token, and the one that holds the last.
    first = int(np.searchsorted(ends, segment.start, 'right'))
    last = int(np.searchsorted(ends, stop, 'left'))
    begin = int(self.bounds[segment.document])
    places = range(begin + first, begin + last + 1)
    whole = np.concatenate([self.parts[place] for place in places])
    offset = int(ends[first]) - lengths[first]
    return whole[segment.start - offset : stop - offset]

  def whole(self, number: int) -> np.ndarray:
    """All tokens of a document."""
    return self.read(Range(number, 0, sum(self[number])))

  def pairs(self, cut_number: int, rules: Rules) -> list[Pair]:
    """The pairs of one cut. Cuts count the documents through, time after time.

    They are a function of (number of the time, document): pairs are data, which all
    runs share, whatever their seeds.
    """
    time, number = divmod(cut_number, len(self))
    return cut(self, number, rules, random.Random(f'{time}/{number}'))


def framed(documents: Documents, pair: Pair, frame: tuple) -> np.ndarray:
  """The tokens of a pair in the frame of a tokenizer, int32."""
  segments = dict(A=documents.read(pair.first), B=documents.read(pair.second))
  pieces = [segments.get(slot, [slot]) for slot, _ in frame]
  return np.concatenate(pieces).astype(np.int32)


def framed_types(pair: Pair, frame: tuple) -> np.ndarray:
  """The types of the tokens of a pair in its frame, int32."""
  counts = dict(A=pair.first.count, B=pair.second.count)
  kinds = [kind for _, kind in frame]
  sizes = [counts.get(slot, 1) for slot, _ in frame]
  return np.repeat(kinds, sizes).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class SegmentPairs:
  """What `tokens.Tokens` is, for pairs in the frame of a tokenizer.

  `pairs` int64 (n, 2, 3) has the document of each segment, its first token there, and
  their number. `labels` int32 (n,) are those of `Pair`. `frame` is the tokenizer's of
  two texts.
  """

  documents: Documents
  pairs: np.ndarray
  labels: np.ndarray
  frame: tuple
  key: str = ''

  def __len__(self) -> int:
    return len(self.pairs)

  def __getitem__(self, i: int) -> np.ndarray:
    return framed(self.documents, self.pair(i), self.frame)

  def pair(self, i: int) -> Pair:
    """The pair of this number."""
    first, second = self.pairs[i].tolist()
    return Pair(Range(*first), Range(*second), int(self.labels[i]))

  @property
  def lengths(self) -> np.ndarray:
    framing = len(self.frame) - 2
    return (self.pairs[:, :, 2].sum(1) + framing).astype(np.int32)

  @property
  def index(self) -> np.ndarray:
    return np.arange(len(self), dtype=np.int32)

  @property
  def counts(self) -> dict[str, int]:
    """What was counted when the sentences became tokens."""
    return self.documents.parts.counts

  @property
  def types(self) -> 'SegmentTypes':
    """The types of the tokens of every pair."""
    return SegmentTypes(self)


@dataclasses.dataclass(frozen=True)
class SegmentTypes:
  """The types of the tokens of pairs: `types[i]`, shaped as `pairs[i]`.

  `of` has a `frame`, and its `pair(i)`.
  """

  of: Any

  def __len__(self) -> int:
    return len(self.of)

  def __getitem__(self, i: int) -> np.ndarray:
    return framed_types(self.of.pair(i), self.of.frame)


def draw_pairs(
  documents: Documents, frame: tuple, rules: Rules, *, duplicates: int, key: str = ''
) -> SegmentPairs:
  """The pairs of all documents, cut so many times with other draws."""
  rows = []
  labels = []
  for cut_number in range(duplicates * len(documents)):
    for pair in documents.pairs(cut_number, rules):
      rows.append([pair.first, pair.second])
      labels.append(pair.label)
  pairs = np.array(rows, np.int64)
  return SegmentPairs(documents, pairs, np.array(labels, np.int32), frame, key)
