"""Texts as documents of sentences that are kept as tokens, and the pairs cut of them.

>>> found = Sentences([dict(text='One. Two.'), dict(text='Three.')], 'split')
>>> [example['text'] for example in found]
['One.', 'Two.', 'Three.']
"""

import array
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tl_jax.data import cuts, sentences, store, tokens
from tl_jax.data.segment_pairs import Documents, Rules, SegmentPairs, draw_pairs

BOUNDS = 'bounds.npy'


class Sentences(NamedTuple):
  """The sentences of all documents of a source of texts, one after the other.

  They are split when they are read: no more than a document is in memory.
  """

  source: object
  manner: sentences.Manner

  @property
  def name(self) -> str:
    return getattr(self.source, 'name', 'the source')

  @property
  def manifest(self) -> str:
    """What names the content; '' where the source has no name for its own."""
    own = getattr(self.source, 'manifest', '')
    return own and store.digest(own, 'sentences', self.manner)

  def documents(self) -> Iterator[list[str]]:
    """The sentences of one document after the other."""
    for example in self.source:
      yield from sentences.documents(str(example['text']), self.manner)

  def __iter__(self) -> Iterator[dict]:
    for document in self.documents():
      for sentence in document:
        yield dict(text=sentence)


def read(source, tokenizer, directory, manner: sentences.Manner) -> Documents:
  """The documents of a source as tokens, which are kept below `directory`.

  What was kept before is mapped, and no text is read again.
  """
  found = Sentences(source, manner)
  # Whole and without special pieces: segments are cut of them later.
  parts = tokens.tokenize(found, tokenizer, directory, special=False)

  def write(folder: pathlib.Path) -> None:
    np.save(folder / BOUNDS, _bounds(found, parts.index), allow_pickle=False)

  key = store.digest(parts.key, 'documents')
  folder = store.commit(pathlib.Path(directory) / f'documents-{key[:16]}', write)
  bounds = tokens.map_array(folder / BOUNDS)
  return Documents(parts, bounds, int(np.diff(bounds).max()))


def _bounds(found: Sentences, index: np.ndarray) -> np.ndarray:
  """At which of the sentences that have tokens each document begins; the end, too.

  index: the numbers of these sentences among all. A document without a token is none.
  """
  counts = array.array('q', [0])
  counts.extend(len(document) for document in found.documents())
  begins = np.cumsum(np.asarray(counts, np.int64))
  return np.unique(np.searchsorted(index, begins)).astype(np.int64)


def encode(
  source,
  tokenizer,
  directory,
  rules: Rules,
  *,
  manner: sentences.Manner,
  duplicates: int,
  whole: bool = False,
) -> SegmentPairs | cuts.Cuts:
  """The pairs of a source of texts, whose sentences are kept as tokens below
  `directory`.

  manner: as of `sentences.documents`. whole: are they planned now, however many? Raises
  ValueError where there is no room for two segments, and for a tokenizer without a
  frame for them.
  """
  # Without a piece between them no one could tell where the second begins.
  frame = tokenizer.pair
  slots = [slot for slot, _ in frame]
  if slots.index('B') == slots.index('A') + 1:
    raise ValueError('nothing stands between two texts of this tokenizer')
  if rules.room < 2:
    raise ValueError(f'rows of {rules.length} tokens have no room for two segments')
  documents = read(source, tokenizer, directory, manner)
  key = store.digest(documents.parts.key, list(rules), manner, duplicates)
  how = dict(duplicates=duplicates, key=key)
  if whole or cuts.fits_whole(duplicates * len(documents)):
    return draw_pairs(documents, frame, rules, **how)
  return cuts.Cuts(documents, frame, rules, **how)
