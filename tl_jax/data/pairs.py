"""Two texts of one example, in the frame that a tokenizer puts around them.

>>> asked = Pair('Is it late?', 'It is noon.')
>>> asked.second, asked
('It is noon.', 'Is it late?\\nIt is noon.')

BERT reads two texts as [CLS] A [SEP] B [SEP], with a type for the tokens of each
(Devlin et al. 2019, section 3). RoBERTa reads them as <s> A </s></s> B </s>, without
types.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# What stands in a row, in order: the id of a piece, or 'A' and 'B' for the texts, each
# with its type.
Frame = tuple[tuple[int | str, int], ...]


class Pair(str):
  """Two texts of one example.

  It is the text that the two make where one text is read: joined by a line end, unless
  `joined` says it. So whatever knows no pairs reads it as any other text.
  """

  first: str
  second: str

  def __new__(cls, first: str, second: str, joined: str | None = None):
    text = f'{first}\n{second}' if joined is None else joined
    pair = super().__new__(cls, text)
    pair.first = first
    pair.second = second
    return pair


def are_framed(texts: Sequence[str], tokenizer) -> bool:
  """Are there pairs among the texts, and does the tokenizer keep two texts apart?

  One that puts no piece between them, as GPT-2's, leaves them to be joined.
  """
  slots = [slot for slot, _ in tokenizer.pair]
  is_apart = slots.index('B') > slots.index('A') + 1
  return is_apart and any(isinstance(text, Pair) for text in texts)


def spelled(tokenizer) -> str:
  """The frame of two texts as a person reads it, as `[CLS] A [SEP] B [SEP]`."""
  words = []
  for slot, _ in tokenizer.pair:
    words.append(slot if isinstance(slot, str) else tokenizer.pieces[slot])
  return ' '.join(words)


def shares(first, second, room) -> tuple[np.ndarray, np.ndarray]:
  """How many tokens of two texts of these lengths (n,) are kept, int64 (n,) each.

  Beyond `room` tokens for both the longer text is cut until the other is as long; then
  both are cut. The odd token is that of the longer one, of equal ones of the second.
  That is `longest_first` of transformers.

  >>> [kept.tolist() for kept in shares([9, 9, 2], [3, 9, 2], 7)]
  [[4, 3, 2], [3, 4, 2]]
  """
  first = np.asarray(first, np.int64)
  second = np.asarray(second, np.int64)
  shorter = np.minimum(first, second)
  longer = np.maximum(first, second)
  # The shorter text is whole up to half of the room, the longer one has the rest.
  shorter = np.minimum(shorter, room // 2)
  longer = np.minimum(longer, room - shorter)
  is_longer = first > second
  kept_of_first = np.where(is_longer, longer, shorter)
  kept_of_second = np.where(is_longer, shorter, longer)
  return kept_of_first, kept_of_second


@dataclasses.dataclass(frozen=True)
class Framed:
  """What `tokens.Tokens` is, for texts in their frames, some of which are pairs.

  `first` and `second` are `Tokens` or a `TokenList` of the texts without special
  tokens. Where `is_pair` bool (n,) is false, the first is the whole text. `single` and
  `pair` are the frames of one text and of two. `length` is the most tokens of an
  example, special ones included. Raises ValueError where a frame leaves no room.
  """

  first: Any
  second: Any
  is_pair: np.ndarray
  single: Frame
  pair: Frame
  length: int

  def __post_init__(self):
    framing = len(self.pair) - 2
    if self.length <= framing:
      raise ValueError(
        f'config.data.length: {self.length} leaves no room beside {framing} special tokens; '
        f'nearest: {framing + 1}'
      )

  def __len__(self) -> int:
    return len(self.is_pair)

  def __getitem__(self, i: int) -> np.ndarray:
    texts = self.texts_of(i)
    pieces = []
    for slot, _ in self.frame_of(i):
      # A slot that is no text is the id of a special token.
      pieces.append(texts.get(slot, [slot]))
    return np.concatenate(pieces).astype(np.int32)

  @functools.cached_property
  def whole(self) -> np.ndarray:
    """The lengths before any text is cut, int64 (n,)."""
    first, second = self._lengths
    return first + second + self._framing

  @functools.cached_property
  def lengths(self) -> np.ndarray:
    first, second = self._kept
    return (first + second + self._framing).astype(np.int32)

  @functools.cached_property
  def index(self) -> np.ndarray:
    return np.arange(len(self), dtype=np.int32)

  @property
  def types(self) -> 'Types':
    """The types of the tokens of every example."""
    return Types(self)

  @functools.cached_property
  def _lengths(self) -> tuple[np.ndarray, np.ndarray]:
    """The lengths of the two texts, int64 (n,) each; 0 where there is no second."""
    first = np.asarray(self.first.lengths, np.int64)
    # Some tokenizers have a token even for the empty text that stands in its place.
    second = np.where(self.is_pair, self.second.lengths, 0)
    return first, second.astype(np.int64)

  @functools.cached_property
  def _framing(self) -> np.ndarray:
    """How many special tokens every example has, int64 (n,)."""
    return np.where(self.is_pair, len(self.pair) - 2, len(self.single) - 1)

  @functools.cached_property
  def _kept(self) -> tuple[np.ndarray, np.ndarray]:
    """How many tokens of the two texts are kept, int64 (n,) each."""
    return shares(*self._lengths, self.length - self._framing)

  def frame_of(self, i: int) -> Frame:
    """What stands around the texts of an example."""
    return self.pair if self.is_pair[i] else self.single

  def texts_of(self, i: int) -> dict[str, np.ndarray]:
    """The ids of the texts of an example, cut, by the slots where they stand."""
    of_first, of_second = self._kept
    first = self.first[i]
    second = self.second[i]
    return dict(A=first[: of_first[i]], B=second[: of_second[i]])


@dataclasses.dataclass(frozen=True)
class Types:
  """The types of the tokens of framed texts: `types[i]`, shaped as `framed[i]`."""

  framed: Framed

  def __len__(self) -> int:
    return len(self.framed)

  def __getitem__(self, i: int) -> np.ndarray:
    texts = self.framed.texts_of(i)
    found = []
    for slot, kind in self.framed.frame_of(i):
      # A slot that is no text is a special token.
      count = len(texts[slot]) if slot in texts else 1
      found += [kind] * count
    return np.array(found, np.int32)


def frame(
  texts: Sequence[str],
  tokenizer,
  length: int,
  encode: Callable[[list[str]], Any],
) -> Framed:
  """The texts, some of which are pairs, in the frames of the tokenizer.

  `encode(texts)` gives the tokens of plain texts without special ones.
  """
  firsts = []
  seconds = []
  are_pairs = []
  for text in texts:
    is_pair = isinstance(text, Pair)
    firsts.append(text.first if is_pair else text)
    seconds.append(text.second if is_pair else '')
    are_pairs.append(is_pair)
  slots = [*tokenizer.prefix, 'A', *tokenizer.suffix]
  single = tuple((slot, 0) for slot in slots)
  return Framed(
    encode(firsts),
    encode(seconds),
    np.array(are_pairs, bool),
    single,
    tokenizer.pair,
    length,
  )
