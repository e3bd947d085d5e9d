"""What becomes of documents when all of them are looked at together.

>>> fates = ['', '', '']
>>> mark_again(fates, [b'a', b'b', b'a'])
>>> fates
['', '', 'exact']

Texts are read chunk by chunk: of every document a few bytes are kept, so that millions
of them fit into memory.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tl_jax.data.prepare import duplicates, perplexity, reading, weighing
from tl_jax.data.prepare.chunking import Chunk
from tl_jax.data.prepare.perplexity import Scorer
from tl_jax.data.prepare.settings import Corpus


def fates_of(
  corpus: Corpus, chunks: list[Chunk], scorer: Scorer | None, tell: Callable
) -> list[str]:
  """Why each document that the rules left is left out after all, '' where it stays."""
  prints = []
  keys = []
  for chunk in chunks:
    found = chunk.read()
    prints += [row.tobytes() for row in found.fingerprints]
    keys.append(found.keys)
  fates = [''] * len(prints)
  if 'exact' in corpus.steps:
    mark_again(fates, prints)
  if 'near' in corpus.steps and prints:
    _mark_near(fates, np.concatenate(keys))
  tell(f'{len(prints):,} documents compared, {sum(map(bool, fates)):,} are there twice')
  _mark_by_quality(fates, chunks, corpus)
  if scorer is not None and chunks:
    _mark_by_perplexity(fates, chunks, corpus, scorer, tell)
  _mark_by_target(fates, chunks, corpus)
  return fates


class Left:
  """The documents that have no fate yet.

  places (n,): the numbers of these. Gone through, as often as one wants, it gives the
  texts of one chunk after the other.
  """

  def __init__(self, chunks: Sequence[Chunk], fates: Sequence[str]):
    self._chunks = chunks
    self._stays = np.array([not fate for fate in fates], bool)
    self.places = np.flatnonzero(self._stays)

  def __iter__(self) -> Iterator[list[str]]:
    start = 0
    for chunk in self._chunks:
      texts = chunk.read().texts
      stays = self._stays[start : start + len(texts)]
      start += len(texts)
      yield [texts[place] for place in np.flatnonzero(stays)]


def mark_again(fates: list[str], prints: Sequence[bytes]) -> None:
  """Leaves out what stood before, but for case and white space."""
  seen = set()
  for place, own in enumerate(prints):
    if own in seen:
      fates[place] = 'exact'
    seen.add(own)


def _mark_near(fates: list[str], keys: np.ndarray) -> None:
  """Leaves out all but the first document of those that are nearly the same."""
  # What is out already is the first of no cluster.
  left = np.flatnonzero([not fate for fate in fates])
  firsts = duplicates.clusters(keys[left])
  for place in left[firsts != np.arange(len(left))]:
    fates[place] = 'near'


def _mark_by_quality(fates: list[str], chunks: Sequence[Chunk], corpus: Corpus) -> None:
  """Leaves out what a classifier takes for worse than good texts."""
  if not corpus.classifier.good:
    return
  left = Left(chunks, fates)
  if not len(left.places):
    return
  good = reading.texts(corpus.classifier.good, corpus.column, corpus.directory)
  scores = weighing.scores_of(left, len(left.places), good, corpus.seed)
  stays = weighing.kept_by(scores, corpus.classifier.alpha, corpus.seed)
  _mark(fates, left.places[~stays], 'classifier')


def _mark_by_perplexity(
  fates: list[str],
  chunks: Sequence[Chunk],
  corpus: Corpus,
  scorer: Scorer,
  tell: Callable,
) -> None:
  """Leaves out what a model finds too likely or too unlikely."""
  left = Left(chunks, fates)
  folder = chunks[0].path.parent
  scores = perplexity.remembered(left, len(left.places), scorer, folder, tell)
  rule = corpus.perplexity
  reasons = perplexity.reasons_of(scores, rule.keep, rule.share)
  for place, reason in zip(left.places, reasons, strict=True):
    fates[place] = reason


def _mark_by_target(fates: list[str], chunks: Sequence[Chunk], corpus: Corpus) -> None:
  """Leaves out what is less like a target's texts."""
  if not corpus.selection.target:
    return
  left = Left(chunks, fates)
  target = reading.texts(corpus.selection.target, corpus.column, corpus.directory)
  weights = weighing.weights_of(left, target)
  stays = weighing.chosen_by(weights, corpus.selection.share, corpus.seed)
  _mark(fates, left.places[~stays], 'selection')


def _mark(fates: list[str], places: np.ndarray, reason: str) -> None:
  for place in places:
    fates[place] = reason
