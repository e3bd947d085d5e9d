"""Sentences whose words have a tag each, as files have them.

>>> row = dict(tokens=['EU', 'rejects'], ner_tags=['B-ORG', 'O'])
>>> fields_of(row)
('tokens', 'ner_tags')
>>> words, tags = read(row, 'tokens', 'ner_tags')
>>> words, words.words, tags
('EU rejects', ('EU', 'rejects'), ['B-ORG', 'O'])
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tl_jax.data import missing
from tl_jax.data.tokenizers import plain

# Fields that hold the words, and their tags, the first that a row has.
TOKENS = ('tokens', 'words')
TAGS = (
  *('tags', 'ner_tags', 'labels', 'ner', 'upos', 'pos_tags', 'xpos', 'chunk_tags'),
  *('pos', 'label'),
)


class Words(str):
  """A sentence as its words.

  It is the text that they make with a space between two of them. So whatever knows no
  words reads it as any other text.
  """

  words: tuple[str, ...]

  def __new__(cls, words: Sequence[str]):
    found = super().__new__(cls, ' '.join(words))
    found.words = tuple(words)
    return found

  @property
  def spans(self) -> np.ndarray:
    """The first character of every word and that behind its last, int64 (n, 2)."""
    lengths = np.array(list(map(len, self.words)), np.int64)
    # A space stands behind every word.
    behind = np.cumsum(lengths + 1)
    ends = behind - 1
    starts = ends - lengths
    return np.stack([starts, ends], 1)


def fields_of(
  row: Mapping[str, Any], text: str = '', label: str = ''
) -> tuple[str, str] | None:
  """(the field of the words, that of their tags) of a row, '' for no tags; None where
  it has no words.

  text, label: fields that somebody says, whatever they hold.
  """
  tokens = text or _first_list(TOKENS, row)
  if not tokens:
    return None
  return tokens, label or _first_list(TAGS, row)


def _first_list(names: Sequence[str], row: Mapping[str, Any]) -> str:
  """The first of these fields that has a list; '' for none."""
  for name in names:
    value = row.get(name)
    if isinstance(value, list):
      return name
  return ''


def read(
  row: Mapping[str, Any], tokens: str, tags: str
) -> tuple[Words, list[str | int] | None]:
  """(the words of a row, their tags); None for tags that are not there.

  Words that are a text are parted by white space. Raises ValueError `field: ...` for
  what is no list of words, and for tags of another number.
  """
  words = Words(_words(row.get(tokens), tokens))
  found = row.get(tags) if tags else None
  if not isinstance(found, list) and missing.is_missing(found):
    return words, None
  # As many tags as words, also where both are parted by white space.
  if isinstance(found, str):
    found = found.split()
  if not isinstance(found, list) or not all(map(_is_tag, found)):
    shown = str(found)
    raise ValueError(f'{tags}: {shown[:40]!r} is no list of tags')
  count = len(found)
  wanted = len(words.words)
  if count != wanted:
    raise ValueError(f'{tags}: {count} tags for {wanted} words')
  return words, found


def _words(value: Any, name: str) -> list[str]:
  """The words of a field. Raises ValueError for what holds none."""
  if isinstance(value, str):
    text = plain(value)
    return text.split()
  if not isinstance(value, list):
    shown = str(value)
    raise ValueError(f'{name}: {shown[:40]!r} is no list of words')
  for word in value:
    if not isinstance(word, str) or not word.strip():
      raise ValueError(f'{name}: {word!r} among the words is none')
  return [plain(word.strip()) for word in value]


def _is_tag(value: Any) -> bool:
  """Is this a name, or a number that stands for one?"""
  if isinstance(value, str):
    return bool(value.strip())
  # True is no number of a tag, though Python says so.
  return type(value) is int


def are_words(texts: Sequence[str]) -> bool:
  """Is each of these texts a sentence of words? There is no mixture."""
  return bool(texts) and isinstance(texts[0], Words)
