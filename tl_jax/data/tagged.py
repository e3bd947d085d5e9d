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

  `index` int32 (n,) says which sentence a window is of. `columns` has the columns of
  the tokens whose words are tagged in the window, `numbers` the numbers of these words
  among those of all sentences. `tags` int32 (words,) are theirs, None where nobody
  knows them.
  """

  arrays: Sequence[np.ndarray]
  index: np.ndarray
  columns: Sequence[np.ndarray]
  numbers: Sequence[np.ndarray]
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
    for member in map(int, members):
      columns = start + self.columns[member]
      numbers = self.numbers[member]
      identifiers[columns] = numbers
      if self.tags is not None:
        labels[columns] = self.tags[numbers]
      start += int(self.lengths[member])
    if self.tags is None:
      return dict(identifiers=identifiers)
    return dict(labels=labels, identifiers=identifiers)


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
  room = length - len(prefix) - len(suffix)
  if room < 1:
    raise ValueError(
      f'max_length: {length} leaves no room beside {len(prefix) + len(suffix)} special '
      'tokens'
    )
  found = Windows([], [], [], [], tags)
  before = 0
  for number, pieces in enumerate(pieces_of(texts, tokenizer)):
    # The columns of the first pieces: where another word begins.
    is_first = np.diff(pieces.words, prepend=-1) > 0
    for start, stop, first, last in parts(pieces.words, room):
      own = slice(start, start + min(room, stop - start))
      words = pieces.words[own]
      is_tagged = is_first[own] & (words >= first) & (words < last)
      columns = np.flatnonzero(is_tagged)
      found.arrays.append(np.concatenate([prefix, pieces.ids[own], suffix]))
      found.index.append(number)
      found.columns.append(len(prefix) + columns)
      found.numbers.append(before + words[columns])
    before += len(texts[number].words)
  return dataclasses.replace(found, index=np.array(found.index, np.int32))


def parts(words: np.ndarray, room: int) -> list[tuple[int, int, int, int]]:
  """(first token, end, first word, end) of every window of a sentence.

  words (n,): the word that every token is of. The words are those that are tagged in
  the window. It has other words around them, as far as they fit. A word with more
  tokens than `room` has a window to itself, which is cut.
  """
  if not len(words):
    return []
  # The first token of every word, and the end of the last.
  starts = np.searchsorted(words, np.arange(words[-1] + 2)).tolist()
  count = len(starts) - 1
  if starts[count] <= room:
    return [(0, starts[count], 0, count)]
  found = []
  first = 0
  while first < count:
    last = first + 1
    # Half of the room for what is tagged, and all of it at the end of a sentence.
    while last < count and starts[last + 1] - starts[first] <= room // 2:
      last += 1
    ahead, behind = _in_sight(starts, first, last, room)
    found.append((starts[ahead], starts[behind], first, last))
    first = last
  return found


def _in_sight(starts: list[int], first: int, last: int, room: int) -> tuple[int, int]:
  """(first word, end) of what stands in a window with the words from `first` to `last`.

  starts: the first token of every word, and the end of the last.
  """
  ahead, behind = first, last
  while True:
    # (tokens of context on a side, the words with one more there)
    sides = []
    if ahead > 0:
      sides.append((starts[first] - starts[ahead], ahead - 1, behind))
    if behind < len(starts) - 1:
      sides.append((starts[behind] - starts[last], ahead, behind + 1))
    fitting = [side for side in sides if starts[side[2]] - starts[side[1]] <= room]
    if not fitting:
      return ahead, behind
    # Both sides grow alike.
    _, ahead, behind = min(fitting)


def pieces_of(texts: Sequence[Words], tokenizer) -> list[Pieces]:
  """The tokens of sentences, each with the number of its word.

  A sentence is encoded as the text that it makes, so that a token is what it would be
  in a text. Every word has a token: one of which the tokenizer keeps nothing, such as a
  control character, has that of unknown words. Raises ValueError where there is none.
  """
  found = []
  for text, (ids, offsets) in zip(texts, tokenizer.encode_spans(texts), strict=True):
    words = _words_at(text.spans, np.array(offsets, np.int64).reshape(-1, 2))
    ids = np.array(ids, np.int32)
    missing = np.setdiff1d(np.arange(len(text.words)), words)
    if len(missing):
      if tokenizer.unk is None:
        raise ValueError(f'the tokenizer has no token for {text.words[missing[0]]!r}')
      places = np.searchsorted(words, missing)
      ids = np.insert(ids, places, tokenizer.unk)
      words = np.insert(words, places, missing)
    found.append(Pieces(ids, words))
  return found


def _words_at(spans: np.ndarray, offsets: np.ndarray) -> np.ndarray:
  """The number of the word that each token is of, int64 (n,).

  spans (words, 2), offsets (n, 2): the first character and that behind the last.
  """
  if not len(spans):
    return np.zeros(0, np.int64)
  first, end = offsets.T
  # By its last character: the first may be the space before a word.
  place = np.maximum(first, end - 1)
  words = np.searchsorted(spans[:, 0], place, side='right') - 1
  words = np.maximum(words, 0)
  # A token that is a space alone begins the word behind it.
  words += place >= spans[words, 1]
  words = np.minimum(words, len(spans) - 1)
  # No token goes back to a word before.
  return np.maximum.accumulate(words)
