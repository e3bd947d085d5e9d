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

from tl_jax.data import sentences, store, tokens

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
class SegmentPairs:
  """What `tokens.Tokens` is, for pairs in the frame of a tokenizer.

  `parts` are the `Tokens` or the `TokenList` of all sentences without special
  tokens. `pairs` int64 (n, 2, 2) has the first token of each segment, counted over
  all sentences, and their number. `labels` int32 (n,) are those of `Pair`. `frame` is
  the tokenizer's of two texts.
  """

  parts: Any
  pairs: np.ndarray
  labels: np.ndarray
  frame: tuple
  key: str = ''
  starts: np.ndarray = dataclasses.field(init=False, repr=False)

  def __post_init__(self):
    lengths = np.asarray(self.parts.lengths, np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    # The class is frozen; this is what its fields stand for, computed once.
    object.__setattr__(self, 'starts', starts)

  def __len__(self) -> int:
    return len(self.pairs)

  def __getitem__(self, i: int) -> np.ndarray:
    segments = self._segments(i)
    pieces = [segments.get(slot, [slot]) for slot, _ in self.frame]
    return np.concatenate(pieces).astype(np.int32)

  @property
  def lengths(self) -> np.ndarray:
    framing = len(self.frame) - 2
    return (self.pairs[:, :, 1].sum(1) + framing).astype(np.int32)

  @property
  def index(self) -> np.ndarray:
    return np.arange(len(self), dtype=np.int32)

  @property
  def counts(self) -> dict[str, int]:
    """What was counted when the sentences became tokens."""
    return self.parts.counts

  @property
  def types(self) -> 'SegmentTypes':
    """The types of the tokens of every pair."""
    return SegmentTypes(self)

  def _segments(self, i: int) -> dict[str, np.ndarray]:
    """The tokens of both segments by their slots."""
    first, second = self.pairs[i].tolist()
    return dict(A=self._tokens(*first), B=self._tokens(*second))

  def _tokens(self, start: int, count: int) -> np.ndarray:
    """So many tokens from `start` on, over the bounds of sentences."""
    stop = start + count
    # The sentence that holds the first token, and the one behind the last token.
    first = int(np.searchsorted(self.starts, start, 'right')) - 1
    last = int(np.searchsorted(self.starts, stop, 'left'))
    whole = np.concatenate([self.parts[place] for place in range(first, last)])
    offset = self.starts[first]
    return whole[start - offset : stop - offset]


@dataclasses.dataclass(frozen=True)
class SegmentTypes:
  """The types of the tokens of pairs: `types[i]`, shaped as `pairs[i]`."""

  of: SegmentPairs

  def __len__(self) -> int:
    return len(self.of)

  def __getitem__(self, i: int) -> np.ndarray:
    (_, first), (_, second) = self.of.pairs[i]
    counts = dict(A=first, B=second)
    slots = [slot for slot, _ in self.of.frame]
    kinds = [kind for _, kind in self.of.frame]
    sizes = [counts.get(slot, 1) for slot in slots]
    return np.repeat(kinds, sizes).astype(np.int32)


def draw_pairs(
  parts: Any,
  document_of: np.ndarray,
  frame: tuple,
  rules: Rules,
  *,
  duplicates: int,
  key: str = '',
) -> SegmentPairs:
  """The pairs of all documents, cut so many times with other draws.

  parts: all sentences as tokens. document_of int (n,): the document of every sentence,
  ascending. What a document gives is a function of (number of the time, document):
  pairs are data, which all runs share, whatever their seeds.
  """
  lengths = np.asarray(parts.lengths, np.int64)
  # Where a new document begins.
  bounds = np.flatnonzero(np.diff(document_of, prepend=-1))
  documents = [part.tolist() for part in np.split(lengths, bounds[1:])]
  starts = np.concatenate([[0], np.cumsum(lengths)])[bounds]
  rows = []
  labels = []
  for time in range(duplicates):
    for number in range(len(documents)):
      draw = random.Random(f'{time}/{number}')
      for pair in cut(documents, number, rules, draw):
        segments = pair.first, pair.second
        rows.append([_place(starts, each) for each in segments])
        labels.append(pair.label)
  return SegmentPairs(
    parts, np.array(rows, np.int64), np.array(labels, np.int32), frame, key
  )


def _place(starts: np.ndarray, segment: Range) -> tuple[int, int]:
  """(its first token over all sentences, its tokens) of a segment."""
  return int(starts[segment.document]) + segment.start, segment.count


def encode(
  source,
  tokenizer,
  directory,
  rules: Rules,
  *,
  manner: sentences.Manner,
  duplicates: int,
) -> SegmentPairs:
  """The pairs of a source of texts, whose sentences are kept as tokens below
  `directory`.

  manner: as of `sentences.documents`. Raises ValueError where there is no room for two
  segments, and for a tokenizer without a frame for them.
  """
  # Without a piece between them no one could tell where the second begins.
  slots = [slot for slot, _ in tokenizer.pair]
  if slots.index('B') == slots.index('A') + 1:
    raise ValueError('nothing stands between two texts of this tokenizer')
  if rules.room < 2:
    raise ValueError(f'rows of {rules.length} tokens have no room for two segments')
  found = []
  document_of = []
  number = 0
  for example in source:
    for document in sentences.documents(str(example['text']), manner):
      found += [dict(text=sentence) for sentence in document]
      document_of += [number] * len(document)
      number += 1
  # Whole and without special pieces: segments are cut of them later.
  encoded = tokens.tokenize(found, tokenizer, directory, special=False)
  # A sentence without a token was left out.
  left = np.asarray(document_of)[np.asarray(encoded.index)]
  key = store.digest(encoded.key, list(rules), manner, duplicates)
  frame = tokenizer.pair
  return draw_pairs(encoded, left, frame, rules, duplicates=duplicates, key=key)
