r"""Texts encoded word by word: every distinct word once, with the ids of whole texts.

A word here is a part of a text between two places at which the backend begins anew,
whatever lies before and behind: BERT's do so around spaces and signs, byte-level ones
before a space. Few words are distinct, so that most of a text is looked up.

>>> from tl_jax.data import tokenizers
>>> tokenizer = tokenizers.train(['low lower, low.'] * 9, size=120)
>>> pattern_of(tokenizer.reader).findall('low, lower\n')
['low', ',', 'lower']
>>> ids, lengths = Encoder(tokenizer).encode(['low, lower low', ''])
>>> ids.tolist() == tokenizer.encode('low, lower low', special=False)
True
>>> lengths.tolist() == [len(ids), 0]
True
"""

import collections
import functools
import itertools
import json
import re
import threading
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from tl_jax.data.tokenizers import Tokenizer, plain

# Characters of the words that are kept; beyond it they are forgotten, and kept anew.
MOST = 2**22
# Words that the backend is given together.
GROUP = 1000
# Every pre-tokenizer calls these white space, and no normalizer removes them. Others are
# called so by some, and removed by some: they stay inside of a word, which is odd then.
_SPACE = r' \n\t\r'
_SAMPLE = 'a b\nc\td\re'
# The signs of ASCII, the inside of a class of characters.
_SIGNS = r'!-/:-@\[-`{-~'
# BERT's drops space, and makes a word of each sign.
_BERT = re.compile(rf'[{_SIGNS}]|[^{_SPACE}{_SIGNS}]+')
# The first splitter drops space, whatever comes after it.
_SPACES = re.compile(rf'[^{_SPACE}]+')
# GPT-2's expression begins anew at a space behind what is none. It does so at a sign
# behind a letter, too: a run of letters ends there, and so does a contraction. Space
# belongs to what comes after it.
_BYTES = re.compile(
  rf'[{_SPACE}]*(?:[^{_SPACE}{_SIGNS}]*[A-Za-z](?=[{_SIGNS}])|[^{_SPACE}]+)|[{_SPACE}]+'
)
# These change each character by itself, or together with marks that follow it.
_LOCAL = {
  'BertNormalizer',
  'Lowercase',
  'NFC',
  'NFD',
  'NFKC',
  'NFKD',
  'Precompiled',
  'StripAccents',
}
# Letters, numbers, signs and symbols. What modifies what is before it is not among them.
_FIRST = {
  *('Lu', 'Ll', 'Lt', 'Lo', 'Nd', 'Nl', 'No'),
  *('Pc', 'Pd', 'Ps', 'Pe', 'Pi', 'Pf', 'Po', 'Sm', 'Sc', 'So'),
}
# What may follow in a word: marks and modifiers as well.
_INSIDE = {*_FIRST, 'Mn', 'Mc', 'Me', 'Lm', 'Sk'}


def pattern_of(backend) -> re.Pattern | None:
  """The expression that finds the words of a text; None where there are none.

  Its words, one after the other, have the ids of the whole text. That is known of the
  kinds of normalizers and pre-tokenizers that are listed here, without tokens that are
  looked for in texts before these are split, and without chance.
  """
  state = json.loads(backend.to_str())
  if state['model'].get('dropout'):
    return None
  # Special ones are not looked for, if the backend is told so; others are.
  is_plain = backend.encode_special_tokens
  if not all(is_plain and token['special'] for token in state['added_tokens']):
    return None
  normalizers = _flattened(state['normalizer'], 'normalizers')
  if not all(each['type'] in _LOCAL for each in normalizers):
    return None
  # Some have a table of their own, which could make anything of white space.
  if normalizers and len(backend.normalizer.normalize_str(_SAMPLE).split()) != 5:
    return None
  return _words_of(_flattened(state['pre_tokenizer'], 'pretokenizers'))


def _flattened(part: dict[str, Any] | None, inner: str) -> list[dict[str, Any]]:
  """A step of a backend as the steps that it consists of, in order."""
  if part is None:
    return []
  if part['type'] != 'Sequence':
    return [part]
  found = []
  for each in part[inner]:
    found += _flattened(each, inner)
  return found


def _words_of(splitters: Sequence[dict[str, Any]]) -> re.Pattern | None:
  """The expression for the words of pre-tokenizers that follow each other."""
  kinds = [each['type'] for each in splitters]
  if kinds == ['BertPreTokenizer']:
    return _BERT
  # Digits that are split off leave no space at the end of what is before them.
  if kinds in (['ByteLevel'], ['Digits', 'ByteLevel']):
    last = splitters[-1]
    whole = last['add_prefix_space'] or not last['use_regex']
    return None if whole else _BYTES
  if kinds == ['WhitespaceSplit']:
    return _SPACES
  if kinds == ['WhitespaceSplit', 'Metaspace']:
    # Otherwise the first word of a text is not what it is elsewhere.
    return _SPACES if splitters[1]['prepend_scheme'] == 'always' else None
  return None


class Encoder:
  """Encodes texts without special tokens around them, and remembers their words."""

  def __init__(self, tokenizer: Tokenizer):
    self._tokenizer = tokenizer
    self._pattern = pattern_of(tokenizer.reader)
    # Two threads would give a number to two words.
    self._lock = threading.Lock()
    self._forget()

  def _forget(self) -> None:
    """Begins with no word."""
    # A word that is asked for the first time gets the next number.
    self._numbers: dict[str, int] = collections.defaultdict(itertools.count().__next__)
    # By these numbers; the ids of all words lie one after the other.
    self._ids = np.zeros(0, np.int32)
    self._lengths = np.zeros(0, np.int64)
    # Is a word not what it would be in its text?
    self._odd = np.zeros(0, bool)
    self._characters = 0

  def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(ids int32, lengths int64): those of all texts, and how many each has."""
    if self._pattern is None:
      return self._encode_whole(texts)
    with self._lock:
      return self._encode_words(texts)

  def _encode_words(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """What `encode` gives, from the words of the texts."""
    if self._characters > MOST:
      self._forget()
    found: list[int] = []
    ends = []
    # Text by text: the words of the last one are in the memory that is near.
    for text in texts:
      found += map(self._numbers.__getitem__, self._pattern.findall(text))
      ends.append(len(found))
    numbers = np.array(found, np.int64)
    counts = np.diff(np.array(ends, np.int64), prepend=0)
    self._learn()
    ids = _gather(self._ids, self._lengths, numbers)
    lengths = _sums(self._lengths[numbers], counts)
    whole = np.flatnonzero(_sums(self._odd[numbers], counts))
    if not len(whole):
      return ids, lengths
    return self._replace(ids, lengths, texts, whole)

  def _encode_whole(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    lists = self._tokenizer.encode_batch(texts, special=False)
    lengths = np.fromiter(map(len, lists), np.int64, len(lists))
    ids = itertools.chain.from_iterable(lists)
    return np.fromiter(ids, np.int32, int(lengths.sum())), lengths

  def _learn(self) -> None:
    """Encodes the words that have a number, and nothing else yet."""
    count = len(self._numbers) - len(self._lengths)
    if not count:
      return
    # The last come first, then.
    new = list(itertools.islice(reversed(self._numbers), count))[::-1]
    readable = [plain(word) for word in new]
    groups = [readable[start : start + GROUP] for start in range(0, len(new), GROUP)]
    encodings = self._tokenizer.reader.encode_batch(
      groups, is_pretokenized=True, add_special_tokens=False
    )
    ids, lengths = [self._ids], [self._lengths]
    for group, encoding in zip(groups, encodings, strict=True):
      ids.append(np.array(encoding.ids, np.int32))
      # For every token the place of its word in the group.
      places = np.array(encoding.word_ids, np.int64)
      lengths.append(np.bincount(places, minlength=len(group)))
    odd = [not is_regular(word) for word in new]
    self._ids = np.concatenate(ids)
    self._lengths = np.concatenate(lengths)
    self._odd = np.concatenate([self._odd, np.array(odd, bool)])
    self._characters += sum(map(len, new))

  def _replace(
    self, ids: np.ndarray, lengths: np.ndarray, texts: Sequence[str], whole: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    """The ids of all texts, those of the texts `whole` encoded as one."""
    other, other_lengths = self._encode_whole([texts[i] for i in whole])
    numbers = np.arange(len(texts))
    numbers[whole] = len(texts) + np.arange(len(whole))
    both = np.concatenate([lengths, other_lengths])
    return _gather(np.concatenate([ids, other]), both, numbers), both[numbers]


@functools.lru_cache(1)
def encoder_of(tokenizer: Tokenizer) -> Encoder:
  """The encoder of a tokenizer; that of the last one still knows its words."""
  return Encoder(tokenizer)


def is_regular(word: str) -> bool:
  """Is a word the same to every backend, wherever it stands?

  A mark at its beginning could belong to what is before it. White space that is not
  everywhere so called, control characters and unknown ones are left to the backend,
  and so are lone surrogates.

  >>> is_regular(' naïve'), is_regular('a\\x0b'), is_regular('\\u0301a')
  (True, False, False)
  """
  bare = word.strip(' \n\t\r')
  if bare.isascii():
    return bare.isprintable()
  kinds = [unicodedata.category(character) for character in bare]
  return kinds[0] in _FIRST and _INSIDE.issuperset(kinds)


def _gather(values: np.ndarray, lengths: np.ndarray, numbers: np.ndarray) -> np.ndarray:
  """The parts with these numbers, one after the other, of parts that lie so in `values`.

  >>> _gather(np.array([5, 6, 7]), np.array([1, 2]), np.array([1, 0, 1])).tolist()
  [6, 7, 5, 6, 7]
  """
  starts = np.cumsum(lengths) - lengths
  sizes = lengths[numbers]
  ends = np.cumsum(sizes)
  # From a place in the result to that in the values.
  shifts = starts[numbers] - (ends - sizes)
  places = np.arange(int(sizes.sum())) + np.repeat(shifts, sizes)
  return values[places]


def _sums(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
  """The sums of as many values each as `counts` says, int64.

  >>> _sums(np.array([1, 2, 3]), np.array([2, 0, 1])).tolist()
  [3, 0, 3]
  """
  before = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
  ends = np.concatenate([[0], np.cumsum(counts)])
  return np.diff(before[ends])
