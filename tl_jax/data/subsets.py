"""Which examples, in which order: functions of seeds and texts.

The order of a file changes nothing.

>>> labels = [0, 1] * 8
>>> keys = fingerprints([f'text {i}' for i in range(16)])
>>> small, large = subset(labels, 4, 0, keys), subset(labels, 8, 0, keys)
>>> list(large[:4]) == list(small), [int(labels[i]) for i in small].count(0)
(True, 2)
"""

import hashlib
import math
from collections.abc import Iterable, Sequence

import numpy as np

# The constants of splitmix64: the golden ratio, and two factors that mix bits well.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
# Examples in a hundred that are for the test, where a set does not say itself.
TEST_PERCENT = 20
# Of the network that permutes without a list: each of two digits changes three times.
_ROUNDS = 6


def fingerprint(text: str) -> int:
  """A 64-bit number of a text, equal for texts that differ in case and spacing only."""
  normal = ' '.join(text.casefold().split())
  # A lone surrogate is no reason to fail: any text has a fingerprint.
  digest = hashlib.sha256(normal.encode('utf-8', 'surrogatepass')).digest()
  return int.from_bytes(digest[:8], 'little')


def fingerprints(texts: Iterable[str]) -> np.ndarray:
  """The fingerprints of many texts, uint64 (n,)."""
  return np.array([fingerprint(text) for text in texts], np.uint64)


def in_test(key: str) -> bool:
  """Does this text, or this group of texts, belong to the test split?

  Some 20 % do. It is a function of the key alone, so equal texts are never in both.
  """
  return is_of_test(fingerprint(key))


def is_of_test(number: int) -> bool:
  """Does the text with this fingerprint belong to the test split?"""
  return number % 100 < TEST_PERCENT


def scramble(keys, seed: int) -> np.ndarray:
  """64-bit keys mixed with a seed by splitmix64 (Steele et al. 2014), uint64.

  They are the same on every machine and with every version of numpy, which its own
  generators do not promise.
  """
  # Overflow is what mixes: all of this is arithmetic modulo 2^64.
  with np.errstate(over='ignore'):
    shift_by_seed = np.uint64(seed % 2**64) * _FIRST
    mixed = np.asarray(keys).astype(np.uint64) + shift_by_seed + _GOLDEN
    for shift, factor in ((30, _FIRST), (27, _SECOND)):
      mixed = (mixed ^ (mixed >> np.uint64(shift))) * factor
  return mixed ^ (mixed >> np.uint64(31))


def seed_of(seed: int, name: str, step: int = 0) -> int:
  """A 63-bit number from (seed, name, step): a named random stream on the host."""
  key = f'{seed}/{name}/{step}'
  digest = hashlib.sha256(key.encode()).digest()
  return int.from_bytes(digest[:8], 'little') >> 1


def permutation(count: int, seed: int, epoch: int = 0) -> np.ndarray:
  """The order of `count` examples in one epoch, int64 (count,).

  It is a function of (count, seed, epoch).
  """
  keys = scramble(np.arange(count, dtype=np.uint64), seed_of(seed, 'order', epoch))
  return np.argsort(keys, kind='stable')


def permuted(places, count: int, seed: int, epoch: int = 0) -> np.ndarray:
  """The examples at some `places` of an order of `count` examples, int64 (n,).

  It is for orders too long to be held: any part of one is computed alone. The order is
  a function of (count, seed, epoch), and another one than that of `permutation`. It is
  a Feistel network over two digits, repeated while a number is no example's (Black and
  Rogaway 2002, "Ciphers with arbitrary finite domains").
  """
  places = np.asarray(places, np.uint64)
  # Two bases whose product is hardly more than the count: few numbers are no example's.
  low = math.isqrt(count - 1) + 1
  high = -(-count // low)
  seeds = [seed_of(seed, f'order/{turn}', epoch) for turn in range(_ROUNDS)]
  found = _mixed(places, low, high, seeds)
  outside = np.flatnonzero(found >= count)
  while len(outside):
    found[outside] = _mixed(found[outside], low, high, seeds)
    outside = outside[found[outside] >= count]
  return found.astype(np.int64)


def _mixed(numbers: np.ndarray, low: int, high: int, seeds) -> np.ndarray:
  """A permutation of the numbers below low * high: two digits, changed in turn.

  Each is moved by a hash of the other, which can be undone.
  """
  base = np.uint64(low)
  top, bottom = np.divmod(numbers, base)
  for turn, seed in enumerate(seeds):
    if turn % 2:
      moved = scramble(bottom, seed) % np.uint64(high)
      top = (top + moved) % np.uint64(high)
    else:
      bottom = (bottom + scramble(top, seed) % base) % base
  return top * base + bottom


def spread(count: int, enough: int) -> range:
  """Which of `count` examples stand for all: all, or at least `enough` evenly spread."""
  return range(0, count, max(1, count // enough))


def indices(count: int, chosen=None) -> np.ndarray:
  """The `chosen` of `count` examples, int64 (n,); without `chosen`, all of them."""
  return np.arange(count) if chosen is None else np.asarray(chosen, np.int64)


def subset(
  labels: Sequence | None, count: int, seed: int, keys, *, by: str = 'balanced'
) -> np.ndarray:
  """Indices of `count` examples, int64 (count,).

  A smaller subset is the beginning of a larger one. `keys` (n,) are the fingerprints of
  the texts, so that the same texts are chosen whatever the order of the file.

  `by='balanced'` takes classes in turn. `'stratified'` keeps their proportions.
  `'uniform'` ignores labels: for real values and for several labels per example. Raises
  ValueError that names the class with too few examples.
  """
  keys = np.asarray(keys, np.uint64)
  if not 0 < count <= len(keys):
    raise ValueError(f'labels: {count} examples asked for, {len(keys)} are there')
  draws = scramble(keys, seed_of(seed, 'subset'))
  if by == 'uniform' or labels is None:
    return np.lexsort((keys, draws))[:count]
  if by not in ('balanced', 'stratified'):
    raise ValueError(f"by: {by!r} is not one of 'balanced', 'stratified', 'uniform'")
  names = np.array([str(label) for label in labels])
  # When each example has its turn. Examples with the same turn, one of each class, go
  # in an order of the classes that the seed draws.
  turn = np.empty(len(keys))
  tie = np.empty(len(keys), np.uint64)
  for name in np.unique(names):
    members = np.flatnonzero(names == name)
    members = members[np.lexsort((keys[members], draws[members]))]
    places = np.arange(len(members))
    if by == 'stratified':
      # Evenly over (0, 1): a class with twice as many has its turns twice as often.
      places = (places + 0.5) / len(members)
    turn[members] = places
    key = np.array([fingerprint(name)], np.uint64)
    tie[members] = scramble(key, seed_of(seed, 'classes'))[0]
  chosen = np.lexsort((tie, turn))[:count]
  if by == 'balanced':
    _require_balance(names, names[chosen], count)
  return chosen


def _require_balance(names: np.ndarray, chosen: np.ndarray, count: int) -> None:
  """Raises ValueError if a class had fewer examples than its turn asked for."""
  # Balanced means the same number of each, so the rest of a division is no one's due.
  classes, sizes = np.unique(names, return_counts=True)
  share = count // len(classes)
  for name, size in zip(classes, sizes, strict=True):
    if np.count_nonzero(chosen == name) < share:
      raise ValueError(
        f'labels: {count} examples of {len(classes)} classes need {share} of class '
        f"{str(name)!r}, which has {size}; by='stratified' keeps the proportions of "
        'the set'
      )


def spans(sizes, numbers) -> np.ndarray:
  """The numbers of the parts of the chosen examples, example after example, int64.

  sizes (n,): how many parts each of all examples has; these count through.

  >>> spans([2, 1, 3], [2, 0]).tolist()
  [3, 4, 5, 0, 1]
  """
  sizes = np.asarray(sizes, np.int64)
  ends = np.cumsum(sizes)
  chosen = np.asarray(numbers, np.int64)
  counts = sizes[chosen]
  starts = ends[chosen] - counts
  total = int(counts.sum())
  # Where each example begins in what is returned.
  before = np.cumsum(counts) - counts
  shift = np.repeat(starts - before, counts)
  return np.arange(total) + shift
