"""Sentences of words as tokens: which token a tag belongs to, and where long ones part.

>>> parts(np.array([0, 1, 1, 2, 3]), room=4)
[(0, 4, 0, 1), (0, 4, 1, 2), (1, 5, 2, 4)]

A word may have several tokens. The first of them has its tag (Devlin et al. 2019,
section 5.3). A sentence that is longer than a row is read in several windows, which
overlap: every word is tagged once, with words on both of its sides in sight.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tl_jax.data.words import Words

# Where a column holds no first token of a word.
NO_TAG = -1


@dataclasses.dataclass(frozen=True)
class Windows:
  """What `tokens.Tokens` is, for sentences: the tokens of every window of each.

  `index` int32 (n,) says which sentence a window is of, `units` int64 (sentences,) how
  many words each sentence has. `columns` has the columns of
  the tokens whose words are tagged in the window, `numbers` the numbers of these words
  among those of all sentences. `tags` int32 (words,) are theirs, None where nobody
  knows them.
  """

  arrays: Sequence[np.ndarray]
  index: np.ndarray
  columns: Sequence[np.ndarray]
  numbers: Sequence[np.ndarray]
  units: np.ndarray
  tags: np.ndarray | None = None

  @functools.cached_property
  def lengths(self) -> np.ndarray:
    return np.array([len(array) for array in self.arrays], np.int32)

  def __len__(self) -> int:
    return len(self.arrays)

  def __getitem__(self, i: int) -> np.ndarray:
    return self.arrays[i]

  def fill(
    self, members: Sequence[int], row_length: int, examples_per_row: int
  ) -> dict[str, np.ndarray]:
    """The tags of a row and the numbers of its words, int32 (row_length,) each.

    Both are -1 where a column holds no token that is tagged. Without tags there are no
    `labels`.
    """
    # Words are tagged, not examples.
    del examples_per_row
    labels = np.full(row_length, NO_TAG, np.int32)
    identifiers = np.full(row_length, -1, np.int32)
    start = 0
    for member in members:
      number = int(member)
      columns = start + self.columns[number]
      words = self.numbers[number]
      identifiers[columns] = words
      if self.tags is not None:
        labels[columns] = self.tags[words]
      length = self.lengths[number]
      start += int(length)
    row = dict(identifiers=identifiers)
    if self.tags is not None:
      row['labels'] = labels
    return row


class Pieces(NamedTuple):
  """The tokens of a sentence without special ones, int32 (n,), and the number of the
  word that each is of.
  """

  ids: np.ndarray
  words: np.ndarray


def windows(
  texts: Sequence[Words], tokenizer, length: int, tags: np.ndarray | None = None
) -> Windows:
  """The windows of sentences, each of at most `length` tokens.

  tags: those of the words of all sentences, one after the other. Raises ValueError
  where the frame leaves no room.
  """
  prefix = np.array(tokenizer.prefix, np.int32)
  suffix = np.array(tokenizer.suffix, np.int32)
  framing = len(prefix) + len(suffix)
  room = length - framing
  if room < 1:
    raise ValueError(
      f'config.data.length: {length} leaves no room beside {framing} special tokens; '
      f'nearest: {framing + 1}'
    )
  arrays = []
  index = []
  columns = []
  numbers = []
  before = 0
  sentences = pieces_of(texts, tokenizer)
  for number, pieces in enumerate(sentences):
    # A word has its tag where it begins.
    change = np.diff(pieces.words, prepend=-1)
    is_first = change > 0
    for start, stop, first, last in parts(pieces.words, room):
      end = min(stop, start + room)
      own = slice(start, end)
      words = pieces.words[own]
      is_own = (words >= first) & (words < last)
      places = np.flatnonzero(is_first[own] & is_own)
      row = [prefix, pieces.ids[own], suffix]
      arrays.append(np.concatenate(row))
      index.append(number)
      columns.append(len(prefix) + places)
      numbers.append(before + words[places])
    sentence = texts[number]
    before += len(sentence.words)
  units = np.array([len(text.words) for text in texts], np.int64)
  return Windows(arrays, np.array(index, np.int32), columns, numbers, units, tags)


def parts(words: np.ndarray, room: int) -> list[tuple[int, int, int, int]]:
  """(first token, end, first word, end) of every window of a sentence.

  words (n,): the word that every token is of. The words are those that are tagged in
  the window. It has other words around them, as far as they fit. A word with more
  tokens than `room` has a window to itself, which is cut.
  """
  if not len(words):
    return []
  # The first token of every word, and the end of the last.
  count = int(words[-1]) + 1
  numbers = np.arange(count + 1)
  starts = np.searchsorted(words, numbers).tolist()
  if starts[count] <= room:
    return [(0, starts[count], 0, count)]
  found = []
  first = 0
  while first < count:
    last = first + 1
    # Half of the room is for what is tagged, the rest for what stands around it.
    end = starts[first] + room // 2
    while last < count and starts[last + 1] <= end:
      last += 1
    ahead, behind = _in_sight(starts, first, last, room)
    window = (starts[ahead], starts[behind], first, last)
    found.append(window)
    first = last
  return found


def _in_sight(starts: list[int], first: int, last: int, room: int) -> tuple[int, int]:
  """(first word, end) of what stands in a window with the words from `first` to `last`.

  starts: the first token of every word, and the end of the last.
  """
  ahead = first
  behind = last
  count = len(starts) - 1
  while True:
    # (tokens of context on a side, the words with one more there)
    sides = []
    if ahead > 0 and starts[behind] - starts[ahead - 1] <= room:
      context = starts[first] - starts[ahead]
      sides.append((context, ahead - 1, behind))
    if behind < count and starts[behind + 1] - starts[ahead] <= room:
      context = starts[behind] - starts[last]
      sides.append((context, ahead, behind + 1))
    if not sides:
      return ahead, behind
    # Both sides grow alike.
    _, ahead, behind = min(sides)


def pieces_of(texts: Sequence[Words], tokenizer) -> list[Pieces]:
  """The tokens of sentences, each with the number of its word.

  A sentence is encoded as the text that it makes, so that a token is what it would be
  in a text. Every word has a token: one of which the tokenizer keeps nothing, such as a
  control character, has that of unknown words. Raises ValueError where there is none.
  """
  found = []
  encoded = tokenizer.encode_spans(texts)
  for text, (ids, spans) in zip(texts, encoded, strict=True):
    offsets = np.array(spans, np.int64)
    words = _words_at(text.spans, offsets.reshape(-1, 2))
    pieces = Pieces(np.array(ids, np.int32), words)
    numbers = np.arange(len(text.words))
    missing = np.setdiff1d(numbers, words)
    if len(missing):
      pieces = _with_unknown(pieces, text, missing, tokenizer.unk)
    found.append(pieces)
  return found


def _with_unknown(pieces: Pieces, text: Words, missing, unknown: int | None) -> Pieces:
  """The pieces with the unknown one for each of the words that are missing."""
  if unknown is None:
    word = text.words[missing[0]]
    raise ValueError(f'the tokenizer has no token for {word!r}')
  places = np.searchsorted(pieces.words, missing)
  ids = np.insert(pieces.ids, places, unknown)
  words = np.insert(pieces.words, places, missing)
  return Pieces(ids, words)


def _words_at(spans: np.ndarray, offsets: np.ndarray) -> np.ndarray:
  """The number of the word that each token is of, int64 (n,).

  spans (words, 2), offsets (n, 2): the first character and that behind the last.
  """
  if not len(spans):
    return np.zeros(0, np.int64)
  first, end = offsets.T
  # By its last character: the first may be the space before a word.
  place = np.maximum(first, end - 1)
  starts, ends = spans.T
  begun = np.searchsorted(starts, place, side='right')
  words = np.maximum(begun - 1, 0)
  # A token that is a space alone begins the word behind it.
  is_behind = place >= ends[words]
  words += is_behind
  words = np.minimum(words, len(spans) - 1)
  # No token goes back to a word before.
  return np.maximum.accumulate(words)
