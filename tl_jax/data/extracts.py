"""Questions on passages as tokens: windows of long passages, and where answers stand.

>>> strided(count=10, room=6, stride=3)
[(0, 6), (3, 9), (6, 10)]
>>> [list(map(bool, each)) for each in central([(0, 4), (2, 6)])]
[[True, True, True, False], [False, True, True, True]]

A passage that is longer than a row is read in several windows, which overlap. The
question stands before each of them. What a window without the answer points at is the
first token of the row, as in the code of Devlin et al. (2019).
"""

import bisect
import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tl_jax.data.pairs import Frame
from tl_jax.data.passages import Answers, PassageQuestion

# Tokens of a question that are read, by which windows are apart, and that an answer has
# at most: those of BERT.
QUESTION = 64
STRIDE = 128
LONGEST = 30
# The column of a window that stands for no answer.
NULL = 0


class Window(NamedTuple):
  """A part of a passage behind its question.

  ids, types: int32 (tokens,). first: the column of the first token of the passage.
  places: the first character of each of its tokens and that behind the last, int (m, 2).
  central: bool (m,), whether no other window has more of the passage around a token.
  """

  ids: np.ndarray
  types: np.ndarray
  first: int
  places: np.ndarray
  central: np.ndarray

  @property
  def columns(self) -> np.ndarray:
    """The columns that an answer may begin or end at: that of no answer, and those of
    the passage.
    """
    count = len(self.places)
    return np.concatenate([[NULL], self.first + np.arange(count)])


@dataclasses.dataclass(frozen=True)
class Extracts:
  """What `tokens.Tokens` is, for questions on passages: the windows of each.

  `index` int32 (n,) says which question a window is of. `count` is the number of the
  questions. `answers` int32 (n, 2) has the columns of the first and the last token of the
  answer in every window, None where nobody knows them. `longest` is the most tokens of an
  answer that is given.
  """

  windows: Sequence[Window]
  index: np.ndarray
  count: int
  answers: np.ndarray | None = None
  longest: int = LONGEST

  @functools.cached_property
  def lengths(self) -> np.ndarray:
    return np.array([len(window.ids) for window in self.windows], np.int32)

  @functools.cached_property
  def sizes(self) -> np.ndarray:
    """In how many columns of every window an answer may begin or end, int64 (n,)."""
    return np.array([1 + len(window.places) for window in self.windows], np.int64)

  @functools.cached_property
  def units(self) -> np.ndarray:
    """How many such columns the windows of every question have, int64 (questions,)."""
    found = np.zeros(self.count, np.int64)
    np.add.at(found, self.index, self.sizes)
    return found

  @functools.cached_property
  def starts(self) -> np.ndarray:
    """The number of the first such column of every window, among those of all."""
    return np.cumsum(self.sizes) - self.sizes

  @property
  def answer_lengths(self) -> np.ndarray:
    """Tokens of the answer to every question, int64 (questions,); 0 where no window has
    it whole, and where there is none.
    """
    found = np.zeros(self.count, np.int64)
    if self.answers is None:
      return found
    first, last = self.answers.T
    tokens = np.where(first == NULL, 0, last - first + 1)
    np.maximum.at(found, self.index, tokens)
    return found

  @property
  def types(self) -> list[np.ndarray]:
    """The types of the tokens of every window."""
    return [window.types for window in self.windows]

  def __len__(self) -> int:
    return len(self.windows)

  def __getitem__(self, i: int) -> np.ndarray:
    return self.windows[i].ids

  def fill(
    self, members: Sequence[int], row_length: int, examples_per_row: int
  ) -> dict[str, np.ndarray]:
    """The columns of a row that may be answers, and where its answers are.

    `identifiers` int32 (row_length,) number the columns, -1 in others. `labels` int32
    (examples_per_row, 2) are the columns of the row where the answer in each window
    begins and ends; without answers there are none.
    """
    identifiers = np.full(row_length, -1, np.int32)
    labels = np.zeros((examples_per_row, 2), np.int32)
    start = 0
    for place, member in enumerate(members):
      number = int(member)
      window = self.windows[number]
      units = self.starts[number] + np.arange(self.sizes[number])
      identifiers[start + window.columns] = units
      if self.answers is not None:
        labels[place] = start + self.answers[number]
      start += len(window.ids)
    row = dict(identifiers=identifiers)
    if self.answers is not None:
      row['labels'] = labels
    return row


def encode(
  texts: Sequence[PassageQuestion],
  tokenizer,
  length: int,
  answers: Sequence[Answers] | None = None,
) -> tuple[Extracts, np.ndarray]:
  """(the windows of questions on passages, how many tokens every question has).

  A window has at most `length` tokens, a question `QUESTION` of them. Raises ValueError
  where these leave no room for a passage.
  """
  questions = tokenizer.encode_batch([text.first for text in texts], special=False)
  passages = tokenizer.encode_spans([text.second for text in texts])
  windows: list[Window] = []
  index: list[int] = []
  columns: list[tuple[int, int]] = []
  asked = zip(questions, passages, strict=True)
  for number, (question, (ids, spans)) in enumerate(asked):
    passage = texts[number].second
    spans = [(_behind_space(passage, *span), span[1]) for span in spans]
    places = np.array(spans, np.int64).reshape(-1, 2)
    own = _windows_of(question, ids, places, tokenizer.pair, length)
    windows += own
    index += [number] * len(own)
    if answers is not None:
      columns += [_columns_of(window, answers[number]) for window in own]
  known = None if answers is None else np.array(columns, np.int32).reshape(-1, 2)
  numbers = np.array(index, np.int32)
  sizes = np.array([len(question) for question in questions], np.int64)
  return Extracts(windows, numbers, len(texts), known), sizes


def _behind_space(text: str, begin: int, end: int) -> int:
  """Where a token begins without the space that some tokenizers count as its own."""
  while begin < end and text[begin].isspace():
    begin += 1
  return begin


def _windows_of(
  question: Sequence[int],
  ids: Sequence[int],
  places: np.ndarray,
  frame: Frame,
  length: int,
) -> list[Window]:
  """The windows of a passage behind its question."""
  question = question[:QUESTION]
  framing = len(frame) - 2
  room = length - framing - len(question)
  # A passage of which little is seen answers nothing.
  if room < 1:
    raise ValueError(
      f'config.data.length: {length} leaves no room for a passage beside '
      f'{len(question)} tokens '
      f'of its question and {framing} special ones'
    )
  parts = strided(len(ids), room, min(STRIDE, max(1, room // 2)))
  found = []
  for (first, end), middle in zip(parts, central(parts), strict=True):
    # The frame says where each of them stands.
    texts = dict(A=list(question), B=list(ids[first:end]))
    framed = _framed(frame, texts)
    found.append(Window(*framed, places[first:end], middle))
  return found


def _framed(frame: Frame, texts: dict[str, list]) -> tuple[np.ndarray, np.ndarray, int]:
  """(ids, types, the column where the passage begins) of two texts in their frame."""
  ids: list[int] = []
  types: list[int] = []
  start = 0
  for slot, kind in frame:
    own = texts.get(slot, [slot])
    if slot == 'B':
      start = len(ids)
    ids += own
    types += [kind] * len(own)
  return np.array(ids, np.int32), np.array(types, np.int32), start


def strided(count: int, room: int, stride: int) -> list[tuple[int, int]]:
  """(first, end) of every window of `room` tokens of a passage of `count` of them."""
  found = []
  first = 0
  while True:
    end = min(first + room, count)
    found.append((first, end))
    if end == count:
      return found
    first += stride


def central(parts: Sequence[tuple[int, int]]) -> list[np.ndarray]:
  """For every token of every window, whether it has the most context in this one.

  That is the lesser number of tokens on its two sides, and a hundredth of the length of
  the window; of equal windows the first counts.
  """
  end = parts[-1][1]
  scores = np.full((len(parts), end), -1.0)
  for row, (first, last) in enumerate(parts):
    numbers = np.arange(first, last)
    sides = np.minimum(numbers - first, last - 1 - numbers)
    scores[row, first:last] = sides + 0.01 * (last - first)
  best = scores.argmax(0) if end else np.zeros(0, int)
  return [best[first:last] == row for row, (first, last) in enumerate(parts)]


def _columns_of(window: Window, answers: Answers) -> tuple[int, int]:
  """The columns of the first and the last token of the first answer in a window; those
  of no answer where it is not whole there.
  """
  if not answers.texts or not len(window.places):
    return NULL, NULL
  begin = answers.starts[0]
  end = begin + len(answers.texts[0])
  starts, ends = window.places.T
  # The token of a character is the last that begins before it, or there.
  first = bisect.bisect_right(starts, begin) - 1
  last = bisect.bisect_right(starts, end - 1) - 1
  is_whole = first >= 0 and ends[last] >= end and ends[first] > begin
  if not is_whole:
    return NULL, NULL
  return window.first + first, window.first + last
