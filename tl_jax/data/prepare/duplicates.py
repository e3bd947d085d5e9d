"""Documents that are there twice: exactly, or nearly, by MinHash.

>>> from tl_jax.data.prepare import batch
>>> one = 'a quick brown fox jumps over the lazy dog and runs away from all of them'
>>> keys = signatures(batch.of([one, one + ' now', 'some other text of seven words here']))
>>> clusters(keys).tolist()
[0, 0, 2]

Two documents are nearly the same where in one of 14 buckets all 8 hashes of their runs of
five words agree (Broder 1997; the numbers are those of FineWeb): so nine of ten pairs are
found whose runs are the same to three quarters.
"""

import hashlib
import re

import numpy as np

from tl_jax.data.prepare.batch import Batch, grams, mixed

WORDS = 5
BUCKETS = 14
ROWS = 8
_SEED = 1
# Of a fingerprint.
BYTES = 16
_SPACES = re.compile(r'\s+')


def fingerprint(text: str) -> bytes:
  """`BYTES` bytes that documents share which differ in case and white space alone."""
  plain = _SPACES.sub(' ', text).strip().lower()
  return hashlib.blake2b(plain.encode('utf-8', 'replace'), digest_size=BYTES).digest()


def signatures(batch: Batch) -> np.ndarray:
  """The keys of every document in each bucket, uint64 (documents, BUCKETS).

  A document of fewer words than a run is a run by itself.
  """
  is_word = batch.table.is_word[batch.ids]
  documents = batch.documents[is_word]
  hashes = batch.table.hashes[batch.ids[is_word]]
  found, places = grams(hashes, documents, WORDS)
  owners = documents[places]
  least = _least(found, owners, len(batch))
  # What has no run of words has all of its text, as its only one.
  short = np.setdiff1d(np.arange(len(batch)), owners)
  whole = [fingerprint(batch.texts[document]) for document in short]
  parts = np.frombuffer(b''.join(whole), np.uint64)
  own = parts.reshape(len(short), -1)[:, 0] if len(short) else parts
  least[short] = _least(own, np.arange(len(short)), len(short))
  # A bucket has every eighth hash function, and a key in which all eight have a part.
  keys = np.zeros((len(batch), BUCKETS), np.uint64)
  for row in range(ROWS):
    keys = mixed(keys ^ least[:, row::ROWS])
  return keys


def _least(hashes: np.ndarray, owners: np.ndarray, count: int) -> np.ndarray:
  """The least value of every hash function on the runs of each document, uint64
  (count, ROWS * BUCKETS).

  owners (n,): the documents, in order.
  """
  generator = np.random.default_rng(_SEED)
  size = ROWS * BUCKETS
  factors = generator.integers(0, 2**63, size, dtype=np.uint64) * np.uint64(2)
  # An odd factor maps no two hashes to one.
  factors += np.uint64(1)
  shifts = generator.integers(0, 2**63, size, dtype=np.uint64)
  found = np.zeros((count, size), np.uint64)
  if not len(hashes):
    return found
  # The runs of a document stand side by side.
  present, starts = np.unique(owners, return_index=True)
  for column in range(size):
    values = hashes * factors[column] + shifts[column]
    # High bits depend on all bits below them.
    values >>= np.uint64(32)
    found[present, column] = np.minimum.reduceat(values, starts)
  return found


def clusters(keys: np.ndarray) -> np.ndarray:
  """The first document that each one is nearly the same as, itself for none, (n,).

  keys: as of `signatures`. What is like a document that is like a third one is of one
  cluster with it.
  """
  parents = np.arange(len(keys))
  for bucket in range(keys.shape[1]):
    # Equal keys come side by side, the first document first.
    order = np.argsort(keys[:, bucket], kind='stable')
    sorted_keys = keys[order, bucket]
    is_same = sorted_keys[1:] == sorted_keys[:-1]
    for place in np.flatnonzero(is_same):
      _join(parents, int(order[place]), int(order[place + 1]))
  return np.array([_root(parents, document) for document in range(len(keys))], np.int64)


def _root(parents: np.ndarray, document: int) -> int:
  while parents[document] != document:
    # The way becomes shorter for the next one.
    parents[document] = parents[parents[document]]
    document = int(parents[document])
  return document


def _join(parents: np.ndarray, one: int, other: int) -> None:
  """Makes the clusters of two documents one, which its first document names."""
  roots = _root(parents, one), _root(parents, other)
  parents[max(roots)] = min(roots)
