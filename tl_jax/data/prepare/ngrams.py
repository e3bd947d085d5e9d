"""A model of runs of words, which finds perplexities at the speed of a filter.

>>> score = learned(['the cat sat on the mat', 'the cat ran to the mat'] * 9)
>>> likely, shuffled, unknown = score(['the cat sat', 'mat the on', 'el gato corre'])
>>> bool(likely < shuffled < unknown)
True

The probability of a word behind two others is interpolated with that behind one and with
that of the word alone, by absolute discounting (Ney et al. 1994, equation 14; of Chen and
Goodman 1999 the section 2.6). Words are hashed, whatever their case, as in all filters.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from tl_jax.data.prepare import batch as batches
from tl_jax.data.prepare import reading
from tl_jax.data.prepare.batch import Batch, grams
from tl_jax.data.prepare.perplexity import Scorer

# Words of the longest runs.
LONGEST = 3
# What is taken off every count, for runs that were not seen.
DISCOUNT = 0.75


def scorer(reference: str, column: str = '', directory: str = '') -> Scorer:
  """A model of the texts of a source, which is read where it is first asked.

  column, directory: as those of a corpus. All texts of the source are in memory then.
  """

  @functools.cache
  def model() -> Callable[[Sequence[str]], np.ndarray]:
    return learned(reading.texts(reference, column, directory))

  digest = reading.digest(reference, directory)
  return Scorer(digest, lambda texts: model()(texts))


class Counts(NamedTuple):
  """What was seen of one length of runs, by hashes in order.

  runs, counts: how often each was seen. befores: what stands before the last word of a
  run; totals: how often it was seen there, kinds: before how many different words.
  """

  runs: np.ndarray
  counts: np.ndarray
  befores: np.ndarray
  totals: np.ndarray
  kinds: np.ndarray


def learned(texts: Sequence[str]) -> Callable[[Sequence[str]], np.ndarray]:
  """A function that gives the perplexity of each text, float64 (n,), by the word.

  It is NaN for a text without a word.
  """
  batch = batches.of(texts)
  known = [_counts_of(*_runs_of(batch, size)) for size in range(1, LONGEST + 1)]

  def score(others: Sequence[str]) -> np.ndarray:
    asked = batches.of(others)
    losses = -np.log(_chances(asked, known))
    sums = np.bincount(asked.documents, losses, minlength=len(asked))
    with np.errstate(invalid='ignore'):
      return np.exp(sums / asked.counts)

  return score


def _runs_of(batch: Batch, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """(the hash of every run of so many words, that of all its words but the last, the
  place of its last word).
  """
  words = batch.table.hashes[batch.ids]
  runs, places = grams(words, batch.documents, size)
  if size == 1:
    # Nothing stands before a word alone, which is the same for all.
    return runs, np.zeros_like(runs), places
  shorter, firsts = grams(words, batch.documents, size - 1)
  # A run begins where its beginning does, of which there are more.
  befores = shorter[np.searchsorted(firsts, places)]
  return runs, befores, places + size - 1


def _counts_of(runs: np.ndarray, befores: np.ndarray, _: np.ndarray) -> Counts:
  """What there is to know of the runs of a corpus."""
  distinct, firsts, counts = np.unique(runs, return_index=True, return_counts=True)
  begins, totals = np.unique(befores, return_counts=True)
  # Each different run counts once for what it begins with.
  _, kinds = np.unique(befores[firsts], return_counts=True)
  return Counts(distinct, counts, begins, totals, kinds)


def _chances(batch: Batch, known: Sequence[Counts]) -> np.ndarray:
  """The probability of every word of the documents, (words,)."""
  # Each word that was seen, and one that stands for all others.
  chances = np.full(len(batch.ids), 1 / (len(known[0].runs) + 1))
  for size, counts in enumerate(known, start=1):
    runs, befores, places = _runs_of(batch, size)
    totals = _found(befores, counts.befores, counts.totals)
    is_known = totals > 0
    seen = _found(runs, counts.runs, counts.counts)[is_known]
    kinds = _found(befores, counts.befores, counts.kinds)[is_known]
    totals, places = totals[is_known], places[is_known]
    # What was taken off goes to the shorter run.
    own = np.maximum(seen - DISCOUNT, 0) / totals
    chances[places] = own + DISCOUNT * kinds / totals * chances[places]
  return chances


def _found(keys: np.ndarray, known: np.ndarray, values: np.ndarray) -> np.ndarray:
  """The value of each key, 0 for one that is not known."""
  if not len(known):
    return np.zeros(len(keys), np.int64)
  places = np.minimum(np.searchsorted(known, keys), len(known) - 1)
  return np.where(known[places] == keys, values[places], 0)
