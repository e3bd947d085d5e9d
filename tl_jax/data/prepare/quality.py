"""Rules of quality: those of Gopher, of C4 and of FineWeb, with their thresholds.

>>> from tl_jax.data.prepare import batch
>>> gopher(batch.of(['Too short.']), Gopher())
['gopher: fewer than 50 words']
>>> clean('A line that ends well.\\nMenu', C4(sentences=1))
('A line that ends well.', '')

A rule gives for every document why it is left out, '' where it stays. Gopher's are those
of Rae et al. (2021), table A1; C4's those of Raffel et al. (2020), section 2.2; FineWeb's
those of Penedo et al. (2024), section 3.6.
"""

import dataclasses
import re
from typing import Annotated

import numpy as np

from tl_jax.config import Count, Natural, NonNegative, Probability, Range
from tl_jax.data.prepare.batch import Batch

STOP_WORDS = frozenset(('the', 'be', 'to', 'of', 'and', 'that', 'have', 'with'))
_ENDS = ('.', '?', '!', '"', "'")
_ELLIPSIS = ('...', '…')
_BULLETS = ('•', '-')
# What Wikipedia's references look like.
_CITATION = re.compile(r'\[\d*]|\[edit]|\[citation needed]')
# No title or initial ends a sentence.
_SENTENCE_END = re.compile(
  r'(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bDr)(?<!\bSt)(?<!\b[A-Z])[.!?]+["\'”’)\]]*(?=\s|$)'
)
_POLICIES = (
  *('terms of use', 'privacy policy', 'cookie policy', 'uses cookies'),
  *('use of cookies', 'use cookies'),
)


@dataclasses.dataclass(frozen=True)
class Gopher:
  """Bounds on words, signs and lines of a document."""

  least_words: Count = 50
  most_words: Count = 100_000
  shortest_mean: NonNegative = 3.0
  longest_mean: NonNegative = 10.0
  signs_per_word: NonNegative = 0.1
  bullet_lines: Probability = 0.9
  ellipsis_lines: Probability = 0.3
  alphabetic_words: Probability = 0.8
  stop_words: Annotated[int, Range(low=0, high=len(STOP_WORDS))] = 2

  def __post_init__(self):
    for least, most in (
      ('least_words', 'most_words'),
      ('shortest_mean', 'longest_mean'),
    ):
      low, high = getattr(self, least), getattr(self, most)
      if low > high:
        raise ValueError(f'{least}: {low} is above {most}, {high}: no document stays')


@dataclasses.dataclass(frozen=True)
class C4:
  """Lines that stay, and how many sentences these must have."""

  words: Natural = 3
  longest_word: Count = 1000
  sentences: Natural = 5


@dataclasses.dataclass(frozen=True)
class FineWeb:
  """Bounds on the lines of a document."""

  ended_lines: Probability = 0.12
  short_lines: Probability = 0.67
  short_line: Natural = 30
  repeated_characters: Probability = 0.01
  line_ends_per_word: NonNegative = 0.3


def gopher(batch: Batch, rule: Gopher) -> list[str]:
  """Why each document is left out by the rules of Gopher."""
  table = batch.table
  words = batch.per_document(table.is_word)
  characters = batch.per_document(table.lengths * table.is_word)
  alphabetic = batch.per_document(table.is_alphabetic)
  mean = characters / np.maximum(words, 1)
  share = alphabetic / np.maximum(batch.counts, 1)
  stops = table.among(STOP_WORDS)
  # Whichever is broken first is the reason, in this order.
  checks = (
    (words < rule.least_words, f'fewer than {rule.least_words} words'),
    (words > rule.most_words, f'more than {rule.most_words} words'),
    (mean < rule.shortest_mean, 'short words'),
    (mean > rule.longest_mean, 'long words'),
    (_signs(batch, '#') > rule.signs_per_word, 'hash signs'),
    (_signs(batch, *_ELLIPSIS) > rule.signs_per_word, 'ellipses'),
    (_lines_with(batch, _is_bullet) > rule.bullet_lines, 'bullets'),
    (_lines_with(batch, _is_open) > rule.ellipsis_lines, 'lines that end with ...'),
    (share < rule.alphabetic_words, 'words without letters'),
    (_distinct(batch, stops) < rule.stop_words, 'no stop words'),
  )
  return _first_reasons('gopher', checks, len(batch))


def _first_reasons(rule: str, checks, count: int) -> list[str]:
  """The first of these reasons that holds for each of so many documents."""
  found = [''] * count
  for is_broken, reason in checks:
    for place in np.flatnonzero(is_broken):
      found[place] = found[place] or f'{rule}: {reason}'
  return found


def _signs(batch: Batch, *signs: str) -> np.ndarray:
  """How many of these signs every document has for each of its words."""
  counts = [sum(map(text.count, signs)) for text in batch.texts]
  return np.array(counts) / np.maximum(batch.counts, 1)


def _is_bullet(line: str) -> bool:
  return line.lstrip().startswith(_BULLETS)


def _is_open(line: str) -> bool:
  return line.rstrip().endswith(_ELLIPSIS)


def _lines_with(batch: Batch, is_one) -> np.ndarray:
  """The share of such lines in every document."""
  found = []
  for text in batch.texts:
    lines = text.splitlines()
    share = sum(map(is_one, lines)) / max(1, len(lines))
    found.append(share)
  return np.array(found)


def _distinct(batch: Batch, is_one: np.ndarray) -> np.ndarray:
  """How many different ones of some words of the table every document has."""
  chosen = is_one[batch.ids]
  # One number for each word of each document.
  size = len(batch.table.words)
  keys = np.unique(batch.documents[chosen] * size + batch.ids[chosen])
  return np.bincount(keys // max(size, 1), minlength=len(batch))


def clean(text: str, rule: C4) -> tuple[str, str]:
  """(the lines of a document that stay, why all of it is left out) by the rules of C4."""
  kept = []
  sentences = 0
  for whole in text.splitlines():
    line = whole.strip()
    words = line.split()
    line = _CITATION.sub('', line)
    if not _is_prose(line, words, rule):
      continue
    # Some words forbid the line, others the whole document.
    lower = line.lower()
    if 'lorem ipsum' in lower:
      return '', 'c4: lorem ipsum'
    if 'javascript' in lower:
      continue
    if '{' in line:
      return '', 'c4: curly bracket'
    if any(policy in lower for policy in _POLICIES):
      continue
    # A line that stays is a sentence at least.
    sentences += max(1, len(_SENTENCE_END.findall(line)))
    kept.append(line)
  if sentences < rule.sentences:
    return '', f'c4: fewer than {rule.sentences} sentences'
  return '\n'.join(kept).strip(), ''


# What is known of the lines of a document: those that it had and that were dropped, and
# its bytes, of which so many went with them.
CUT = ('lines', 'dropped_lines', 'bytes', 'dropped_bytes')


def cut_of(whole: str, left: str) -> tuple[int, int, int, int]:
  """The numbers of `CUT` of a document, by the lines of it that are left."""
  lines = _lines_in(whole)
  size = _bytes_in(whole)
  return lines, lines - _lines_in(left), size, size - _bytes_in(left)


def _lines_in(text: str) -> int:
  """Lines that have a text; empty ones are no loss."""
  return sum(bool(line.strip()) for line in text.splitlines())


def _bytes_in(text: str) -> int:
  return len(text.encode('utf-8', 'replace'))


def _is_prose(line: str, words: list[str], rule: C4) -> bool:
  """Does a line end as a sentence does, and has it words enough?"""
  if not line.endswith(_ENDS) or line.endswith(_ELLIPSIS):
    return False
  if len(words) < rule.words:
    return False
  return max(map(len, words)) <= rule.longest_word


def fineweb(batch: Batch, rule: FineWeb) -> list[str]:
  """Why each document is left out by the rules of FineWeb."""
  found = []
  for text, words in zip(batch.texts, batch.words, strict=True):
    reason = _of_lines(text, len(words), rule)
    found.append(f'fineweb: {reason}' if reason else '')
  return found


def _of_lines(text: str, words: int, rule: FineWeb) -> str:
  """Why a document with so many words is left out for its lines, '' where it stays."""
  lines = [line for line in text.split('\n') if line.strip()]
  count = len(lines)
  if not count:
    return 'empty'
  if sum(line.endswith(('.', '?', '!')) for line in lines) < rule.ended_lines * count:
    return 'lines without an end'
  if sum(len(line) <= rule.short_line for line in lines) > rule.short_lines * count:
    return 'short lines'
  repeated = repeated_characters(lines)
  if repeated > rule.repeated_characters * len(text.replace('\n', '')):
    return 'repeated lines'
  if text.count('\n') > rule.line_ends_per_word * words:
    return 'a list'
  return ''


def repeated_characters(parts: list[str]) -> int:
  """The characters of the parts that stood before already."""
  seen = set()
  found = 0
  for part in parts:
    if part in seen:
      found += len(part)
    seen.add(part)
  return found
