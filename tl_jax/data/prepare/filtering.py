"""The rules on a chunk of documents, one after the other, and what is left of it.

>>> from tl_jax.data.prepare.settings import Corpus
>>> corpus = Corpus({'a': 'a.txt'}, steps=())
>>> found = filtered(corpus, [('a:1', 'One.'), ('a:2', ' ')], {})
>>> found.texts, found.removed
(['One.'], {'empty': 1})
"""

import dataclasses
import functools
import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from tl_jax.data.prepare import batch as batches
from tl_jax.data.prepare import (
  decontamination,
  duplicates,
  language,
  quality,
  repetition,
  statistics,
)
from tl_jax.data.prepare.batch import Batch
from tl_jax.data.prepare.decontamination import Runs
from tl_jax.data.prepare.settings import Corpus
from tl_jax.data.prepare.statistics import Statistics

# Characters of a document that a report shows.
SHOWN = 300


@dataclasses.dataclass(frozen=True)
class Filtered:
  """What is left of a chunk.

  places, texts: of the documents that stay, `file:line` and as they are now.
  cuts int64 (n, 4): the numbers of `quality.CUT` of each of them. fingerprints uint8
  (n, 16) and keys uint64 (n, buckets): as of `duplicates`. removed:
  how many documents each reason left out, examples: the beginnings of some of them, as
  (place, text). before, after: the chunk in numbers.
  """

  places: list[str]
  texts: list[str]
  cuts: np.ndarray
  fingerprints: np.ndarray
  keys: np.ndarray
  removed: dict[str, int]
  examples: dict[str, list[tuple[str, str]]]
  before: Statistics
  after: Statistics

  def to_bytes(self) -> bytes:
    """The chunk as a file."""
    said = dict(
      places=self.places,
      texts=self.texts,
      removed=self.removed,
      examples=self.examples,
    )
    text = json.dumps(said, ensure_ascii=True).encode()
    content = io.BytesIO()
    np.savez(
      content,
      said=np.frombuffer(text, np.uint8),
      cuts=self.cuts,
      fingerprints=self.fingerprints,
      keys=self.keys,
      **statistics.to_arrays(self.before, 'before'),
      **statistics.to_arrays(self.after, 'after'),
    )
    return content.getvalue()

  @classmethod
  def from_bytes(cls, content: bytes) -> 'Filtered':
    """The chunk of a file that `to_bytes` made. Raises ValueError for a damaged one."""
    with np.load(io.BytesIO(content)) as arrays:
      said = json.loads(arrays['said'].tobytes())
      examples = {}
      for reason, rows in said['examples'].items():
        examples[reason] = [tuple(row) for row in rows]
      return cls(
        said['places'],
        said['texts'],
        arrays['cuts'],
        arrays['fingerprints'],
        arrays['keys'],
        said['removed'],
        examples,
        statistics.from_arrays(arrays, 'before'),
        statistics.from_arrays(arrays, 'after'),
      )


class Removed:
  """Documents that are left out, counted by reason, with some of each.

  most: examples of a reason that are kept.
  """

  def __init__(self, most: int):
    self.counts: Counter = Counter()
    self.examples: dict[str, list[tuple[str, str]]] = {}
    self._most = most

  def add(self, reason: str, place: str, text: str) -> None:
    """Counts a document."""
    self.counts[reason] += 1
    own = self.examples.setdefault(reason, [])
    if len(own) < self._most:
      own.append((place, text[:SHOWN]))


class Document(NamedTuple):
  """A document as it is now: its place, its text, and all of the text that it had."""

  place: str
  text: str
  whole: str


# Gives for every document of a batch why it is left out, '' where it stays.
Rule = Callable[[Batch], Sequence[str]]


def filtered(
  corpus: Corpus, documents: Sequence[tuple[str, str]], known: Runs
) -> Filtered:
  """What the rules leave of documents (place, text).

  known: runs of words of evaluation texts.
  """
  removed = Removed(corpus.examples)
  # A text that a rule leaves as it is has its words already.
  words_of = functools.cache(batches.split)
  every = [Document(place, text, text) for place, text in documents]
  reasons = ['' if text.strip() else 'empty' for _, text in documents]
  kept = _left(every, reasons, removed)
  batch = _batch(kept, words_of)
  before = statistics.of(batch)
  kept = _judged(kept, batch, _rules_on_documents(corpus), removed)
  if 'c4' in corpus.steps:
    kept = _cleaned(kept, corpus.c4, removed)
  # The lines that C4's rule left are what the others look at.
  batch = _batch(kept, words_of)
  kept = _judged(kept, batch, _rules_on_lines(corpus, known), removed)
  batch = _batch(kept, words_of)
  # What is compared with all other documents later.
  prints = [duplicates.fingerprint(document.text) for document in kept]
  digests = np.frombuffer(b''.join(prints), np.uint8)
  cuts = [quality.cut_of(document.whole, document.text) for document in kept]
  return Filtered(
    [document.place for document in kept],
    [document.text for document in kept],
    np.array(cuts, np.int64).reshape(-1, len(quality.CUT)),
    digests.reshape(-1, duplicates.BYTES),
    duplicates.signatures(batch),
    dict(removed.counts),
    removed.examples,
    before,
    statistics.of(batch),
  )


def _batch(
  documents: Sequence[Document], words_of: Callable[[str], Sequence[str]]
) -> Batch:
  return batches.of([document.text for document in documents], words_of)


def _left(
  documents: Sequence[Document], reasons: Sequence[str], removed: Removed
) -> list[Document]:
  """The documents without a reason; the others are counted."""
  found = []
  for document, reason in zip(documents, reasons, strict=True):
    if reason:
      removed.add(reason, document.place, document.text)
    else:
      found.append(document)
  return found


def _judged(
  documents: Sequence[Document], batch: Batch, rules: Sequence[Rule], removed: Removed
) -> list[Document]:
  """The documents that no rule leaves out; of several reasons the first counts."""
  first = [''] * len(documents)
  for rule in rules:
    for place, reason in enumerate(rule(batch)):
      first[place] = first[place] or reason
  return _left(documents, first, removed)


def _rules_on_documents(corpus: Corpus) -> list[Rule]:
  rules: list[Rule] = []
  if corpus.languages:
    rules.append(lambda batch: _of_languages(batch, corpus.languages))
  if 'gopher' in corpus.steps:
    rules.append(lambda batch: quality.gopher(batch, corpus.gopher))
  if 'repetition' in corpus.steps:
    rules.append(lambda batch: repetition.reasons(batch, corpus.repetition))
  return rules


def _of_languages(batch: Batch, wanted: Sequence[str]) -> list[str]:
  """Why each document is left out for its language."""
  names, _ = language.languages(batch)
  found = []
  for name in names:
    said = name or 'unknown'
    found.append('' if name in wanted else f'language: {said}')
  return found


def _rules_on_lines(corpus: Corpus, known: Runs) -> list[Rule]:
  rules: list[Rule] = []
  if 'fineweb' in corpus.steps:
    rules.append(lambda batch: quality.fineweb(batch, corpus.fineweb))
  if known:
    rules.append(lambda batch: _of_evaluation(batch, known))
  return rules


def _of_evaluation(batch: Batch, known: Runs) -> list[str]:
  """Why each document is left out for text of evaluation sets."""
  is_seen = decontamination.is_seen(batch, known)
  return ['evaluation: text of an evaluation set' if seen else '' for seen in is_seen]


def _cleaned(
  documents: Sequence[Document], rule: quality.C4, removed: Removed
) -> list[Document]:
  """The documents with the lines that C4's rule leaves."""
  found = []
  for document in documents:
    lines, reason = quality.clean(document.text, rule)
    if reason:
      removed.add(reason, document.place, document.text)
    else:
      found.append(document._replace(text=lines))
  return found
