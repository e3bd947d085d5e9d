"""Text of evaluation sets within documents, by runs of 13 words (Brown et al. 2020,
appendix C).

>>> from tl_jax.data.prepare import batch
>>> asked = 'what did the quick brown fox do when it saw the lazy dog today'
>>> known = runs_of([asked])
>>> is_seen(batch.of(['He asked: ' + asked, 'something else']), known).tolist()
[True, False]
"""

from collections.abc import Sequence

import numpy as np

from tl_jax.data.prepare import batch as batches
from tl_jax.data.prepare.batch import Batch, grams

LONGEST = 13
# A text of fewer words says nothing that others do not say.
SHORTEST = 8

# Words of a run -> the hashes of such runs, in order.
Runs = dict[int, np.ndarray]


def runs_of(texts: Sequence[str]) -> Runs:
  """The runs of words of evaluation texts; of a short text, all of it."""
  batch = batches.of(texts)
  hashes, documents = _words(batch)
  counts = np.bincount(documents, minlength=len(texts))
  found = {}
  for size in range(SHORTEST, LONGEST + 1):
    # Texts of this number of words, or of at least the most.
    is_own = counts >= size if size == LONGEST else counts == size
    chosen = is_own[documents]
    runs, _ = grams(hashes[chosen], documents[chosen], size)
    if len(runs):
      found[size] = np.unique(runs)
  return found


def is_seen(batch: Batch, known: Runs) -> np.ndarray:
  """Has a document one of these runs? Boolean (documents,)."""
  hashes, documents = _words(batch)
  found = np.zeros(len(batch), bool)
  for size, runs in known.items():
    own, places = grams(hashes, documents, size)
    hits = np.isin(own, runs)
    found[documents[places[hits]]] = True
  return found


def _words(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
  """(the hashes of the words without signs, the documents that they are of)."""
  is_word = batch.table.is_word[batch.ids]
  return batch.table.hashes[batch.ids[is_word]], batch.documents[is_word]
