"""Gopher's rules against documents that repeat themselves (Rae et al. 2021, table A1).

>>> from tl_jax.data.prepare import batch
>>> text = ' '.join(f'{place} words' for place in range(40))
>>> reasons(batch.of([text, 9 * 'one two three four five six. ']), Repetition())
['', 'repetition: top 2-gram']

Runs of words are counted for all documents at once, by hashes. What they say is a bound:
only a document beyond it is counted word by word.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tl_jax.config import NonNegative, Probability
from tl_jax.data.prepare.batch import Batch, grams, mixed
from tl_jax.data.prepare.quality import repeated_characters

_PARAGRAPHS = re.compile(r'\n{2,}')
_LINES = re.compile(r'\n+')


# A share for each length of runs: one too few of them would be a rule less.
_Shares3 = tuple[NonNegative, NonNegative, NonNegative]
_Shares6 = tuple[(NonNegative,) * 6]


@dataclasses.dataclass(frozen=True)
class Repetition:
  """The shares of a document that lines, paragraphs and runs of words may repeat.

  `top`: the characters of the most frequent run of 2, 3 and 4 words. `repeated`: those of
  all repeated runs of 5 to 10 words.
  """

  lines: Probability = 0.3
  paragraphs: Probability = 0.3
  line_characters: Probability = 0.2
  paragraph_characters: Probability = 0.2
  top: _Shares3 = (0.2, 0.18, 0.16)
  repeated: _Shares6 = (0.15, 0.14, 0.13, 0.12, 0.11, 0.10)


# Words of the shortest runs.
_TOP = 2
_REPEATED = 5


def reasons(batch: Batch, rule: Repetition) -> list[str]:
  """Why each document is left out, '' where it stays."""
  found = [_of_parts(text, rule) for text in batch.texts]
  sizes = np.array([max(1, len(text)) for text in batch.texts])
  # Of the words as they are: here case counts. 0 is the hash of no word.
  hashes = mixed(batch.ids.astype(np.uint64) + np.uint64(1))
  for run in _runs(rule):
    hits = grams(hashes, batch.documents, run.size)
    most = run.bound(batch, *hits, run.size)
    # Few documents are beyond the bound, and only these are counted.
    for place in np.flatnonzero(most > run.share * sizes):
      characters = run.exact(batch.words[place], run.size)
      if characters > run.share * sizes[place]:
        found[place] = found[place] or run.name
  return [f'repetition: {reason}' if reason else '' for reason in found]


class _Run(NamedTuple):
  """A rule on runs of `size` words: the share that they may have of a document, a bound
  on their characters in every document of a batch, and the count in one.
  """

  size: int
  share: float
  bound: Callable[..., np.ndarray]
  exact: Callable[[Sequence[str], int], int]
  name: str


def _runs(rule: Repetition) -> Iterator[_Run]:
  for size, share in enumerate(rule.top, _TOP):
    yield _Run(size, share, _top_bound, _top, f'top {size}-gram')
  for size, share in enumerate(rule.repeated, _REPEATED):
    name = f'repeated {size}-grams'
    yield _Run(size, share, _repeated_bound, _repeated, name)


def _of_parts(text: str, rule: Repetition) -> str:
  """Why a document is left out for its lines or paragraphs."""
  kinds = (
    (
      'paragraphs',
      _PARAGRAPHS.split(text.strip()),
      rule.paragraphs,
      rule.paragraph_characters,
    ),
    ('lines', _LINES.split(text), rule.lines, rule.line_characters),
  )
  for name, parts, share, of_characters in kinds:
    # Parts that stood before, whatever they are.
    again = len(parts) - len(set(parts))
    if again > share * len(parts):
      return f'repeated {name}'
    if again and repeated_characters(parts) > of_characters * len(text):
      return f'characters of repeated {name}'
  return ''


def _top_bound(batch: Batch, hashes, places, size: int) -> np.ndarray:
  """At most so many characters has the most frequent run of each document."""
  found = np.zeros(len(batch))
  if not len(hashes):
    return found
  documents = batch.documents[places]
  # Of each run of each document: how often it is there, times its characters.
  keys = hashes ^ mixed(documents.astype(np.uint64))
  _, first, counts = np.unique(keys, return_index=True, return_counts=True)
  # The characters before each word, so that a difference is those of a run.
  ends = np.concatenate([[0], np.cumsum(batch.lengths)])
  starts = places[first]
  # With a space between two words.
  characters = ends[starts + size] - ends[starts] + size - 1
  np.maximum.at(found, documents[first], counts * characters)
  return found


def _repeated_bound(batch: Batch, hashes, places, size: int) -> np.ndarray:
  """At most so many characters are in runs of each document that stood before."""
  if not len(hashes):
    return np.zeros(len(batch))
  documents = batch.documents[places]
  keys = hashes ^ mixed(documents.astype(np.uint64))
  # All but the first of equal runs.
  _, first = np.unique(keys, return_index=True)
  is_again = np.ones(len(keys), bool)
  is_again[first] = False
  # Every word of such a run, once: +1 where one begins, -1 behind it.
  change = np.zeros(len(batch.ids) + 1, np.int64)
  starts = places[is_again]
  np.add.at(change, starts, 1)
  np.add.at(change, starts + size, -1)
  is_covered = np.cumsum(change)[:-1] > 0
  weights = batch.lengths * is_covered
  return np.bincount(batch.documents, weights, minlength=len(batch))


def _top(words: Sequence[str], size: int) -> int:
  """The characters of the most frequent run of words, as often as it is there."""
  counts = Counter(
    ' '.join(words[place : place + size]) for place in _places(words, size)
  )
  if not counts:
    return 0
  [(run, count)] = counts.most_common(1)
  return len(run) * count


def _repeated(words: Sequence[str], size: int) -> int:
  """The characters of runs that stood before; of those that overlap the first counts."""
  seen = set()
  found = 0
  place = 0
  while place < len(_places(words, size)):
    run = ''.join(words[place : place + size])
    if run in seen:
      found += len(run)
      place += size
    else:
      seen.add(run)
      place += 1
  return found


def _places(words: Sequence[str], size: int) -> range:
  return range(len(words) - size + 1)
