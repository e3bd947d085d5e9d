"""Many documents as words: what every filter looks at, computed once for all of them.

>>> split('Mr. Elton cannot go.--"Ann')
['Mr.', 'Elton', 'can', 'not', 'go.--"Ann']
>>> found = of(['Ann ran, Ann fell.', ''])
>>> found.words[0]
['Ann', 'ran', ',', 'Ann', 'fell', '.']
>>> found.counts.tolist(), found.per_document(found.table.is_alphabetic).tolist()
([6, 0], [4, 0])

A word is a run of letters and digits, before which an apostrophe may stand, or a sign: so
`don't` is two words, and 3.5, a.txt, `Mr.` and an address are one, as the tokenizers of
English have it. So are words with signs and dashes between them that no space parts; by
them spaCy, and with it datatrove's rules, count what is no word in old novels.
"""

import dataclasses
import functools
import re
import zlib
from collections.abc import Callable, Sequence

import numpy as np

# Titles, months and the like, to which a point belongs.
_SHORT = (
  'Mr|Mrs|Ms|Dr|St|Messrs|Prof|Rev|Gen|Col|Capt|Gov|Sen|Rep|Jr|Sr|Co|Corp|Inc|Ltd|Mt|'
  'Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept|Sep|Oct|Nov|Dec|vs'
)
# Signs that end a sentence or a clause.
_ENDS = r"""[!?;,:)"'”’]"""
# Within a word: Some::Module, file.txt, 3.5 and 1,000; go.--But, here--"But.
_INSIDE = (
  r'::|\.(?=[a-z0-9])|,(?=\d)'
  rf"""|{_ENDS}*\.?--+["'“‘(]+(?=\w)|(?:{_ENDS}+\.?|\.)--+(?=\w)"""
)
_WORD = re.compile(
  # Most words have a space behind them; this says it soon.
  r'[Cc]an(?=not\b)|\w++(?=\s)'
  r'|https?://\S*[\w/]'
  rf'|(?:{_SHORT})\.(?!\w)'
  # Initials.
  r'|[A-Za-z]\.(?:[A-Za-z]\.)*(?!\w)'
  r"|(?:(?<!\S)--+(?=\w)|['’])?\w++"
  rf'(?:(?=[^\w\s])(?:{_INSIDE})\w++)*'
  # Behind a word: C++, and what breaks off--
  rf'(?:(?=[^\w\s])(?:\+{{1,2}}|{_ENDS}*\.?--+(?!\S)))?'
  r'|\.{2,}|-{2,}|[^\w\s]'
)
# Of a hash of several words; odd, so that no word is lost.
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
# The mixing of splitmix64 (Steele et al. 2014).
_MIXING = (
  (np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)),
  (np.uint64(27), np.uint64(0x94D049BB133111EB)),
)
_LAST_SHIFT = np.uint64(31)


class Table:
  """The distinct words of a batch, with what is known of each, (words,)."""

  def __init__(self, words: Sequence[str]):
    self.words = words

  @functools.cached_property
  def lengths(self) -> np.ndarray:
    return np.array([len(word) for word in self.words], np.int64)

  @functools.cached_property
  def is_word(self) -> np.ndarray:
    """Is it more than a single sign?"""
    found = [any(map(str.isalnum, word)) for word in self.words]
    return np.array(found, bool)

  @functools.cached_property
  def is_alphabetic(self) -> np.ndarray:
    """Has it a letter?"""
    found = [any(map(str.isalpha, word)) for word in self.words]
    return np.array(found, bool)

  @functools.cached_property
  def hashes(self) -> np.ndarray:
    """The same for a word in every batch and process, whatever its case, uint64."""
    found = [zlib.crc32(word.lower().encode('utf-8', 'replace')) for word in self.words]
    return mixed(np.array(found, np.uint64))

  def among(self, words: frozenset[str]) -> np.ndarray:
    """Is it one of these?"""
    return np.array([word in words for word in self.words], bool)


@dataclasses.dataclass(frozen=True)
class Batch:
  """Documents with their words one after the other.

  `ids` int32 (n,) are places in the `table`, `counts` int64 (documents,) say how many
  words each document has.
  """

  texts: Sequence[str]
  words: Sequence[Sequence[str]]
  table: Table
  ids: np.ndarray
  counts: np.ndarray

  def __len__(self) -> int:
    return len(self.texts)

  @functools.cached_property
  def documents(self) -> np.ndarray:
    """The number of the document of each word, int64 (n,)."""
    return np.repeat(np.arange(len(self)), self.counts)

  @functools.cached_property
  def lengths(self) -> np.ndarray:
    """The characters of each word, int64 (n,)."""
    return self.table.lengths[self.ids]

  def per_document(self, values: np.ndarray) -> np.ndarray:
    """The sums (documents,) of values of the words in the table, (words,)."""
    weights = values[self.ids]
    found = np.bincount(self.documents, weights, minlength=len(self))
    return found.astype(np.int64)


def split(text: str) -> list[str]:
  """The words and signs of a text."""
  return _WORD.findall(text)


def of(texts: Sequence[str], words_of: Callable[[str], Sequence[str]] = split) -> Batch:
  """The documents as words, which `words_of` finds."""
  places: dict[str, int] = {}
  words = []
  numbers = []
  for text in texts:
    own = words_of(text)
    words.append(own)
    for word in own:
      # A word that is met for the first time has the next place.
      numbers.append(places.setdefault(word, len(places)))
  counts = np.array([len(own) for own in words], np.int64)
  return Batch(texts, words, Table(list(places)), np.array(numbers, np.int32), counts)


def mixed(values: np.ndarray) -> np.ndarray:
  """Numbers whose bits depend on all bits of the values, uint64; equal for equal ones."""
  found = values.astype(np.uint64)
  # Sums and products lose what is beyond 64 bits, as they shall.
  with np.errstate(over='ignore'):
    for shift, factor in _MIXING:
      found = (found ^ (found >> shift)) * factor
  return found ^ (found >> _LAST_SHIFT)


def grams(hashes: np.ndarray, documents: np.ndarray, size: int):
  """(hash, place of the first word) of every run of `size` words within a document.

  hashes uint64 (n,), documents (n,): of the words, document after document.
  """
  count = len(hashes) - size + 1
  if count < 1:
    return np.zeros(0, np.uint64), np.zeros(0, np.int64)
  found = np.zeros(count, np.uint64)
  with np.errstate(over='ignore'):
    for place in range(size):
      found = found * _FACTOR + hashes[place : place + count]
  # Words on either side of an end make no run.
  inside = documents[:count] == documents[size - 1 :]
  places = np.flatnonzero(inside)
  return mixed(found[places]), places
