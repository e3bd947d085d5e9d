"""Which examples: orders and subsets that depend on seeds and texts, never on the order
of a file.

>>> labels = [0, 1] * 8
>>> keys = fingerprints([f'text {i}' for i in range(16)])
>>> small, large = subset(labels, 4, 0, keys), subset(labels, 8, 0, keys)
>>> list(large[:4]) == list(small), [int(labels[i]) for i in small].count(0)
(True, 2)
"""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

_GOLDEN, _FIRST, _SECOND = (
  np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


def fingerprint(text: str) -> int:
  """A 64-bit number of a text, equal for texts that differ in case and spacing only."""
  normal = ' '.join(text.casefold().split())
  return int.from_bytes(
    hashlib.sha256(normal.encode('utf-8', 'surrogatepass')).digest()[:8], 'little'
  )


def fingerprints(texts: Iterable[str]) -> np.ndarray:
  """The fingerprints of many texts, uint64 (n,)."""
  return np.array([fingerprint(text) for text in texts], np.uint64)


def scramble(keys, seed: int) -> np.ndarray:
  """64-bit keys mixed with a seed (splitmix64, Steele et al. 2014): the same on every
  machine and numpy version.
  """
  with np.errstate(over='ignore'):
    mixed = (
      np.asarray(keys).astype(np.uint64) + np.uint64(seed % 2**64) * _FIRST + _GOLDEN
    )
    for shift, factor in ((30, _FIRST), (27, _SECOND)):
      mixed = (mixed ^ (mixed >> np.uint64(shift))) * factor
  return mixed ^ (mixed >> np.uint64(31))


def seed_of(seed: int, name: str, step: int = 0) -> int:
  """A 63-bit number from (seed, name, step): the host-side counterpart of a named
  stream.
  """
  digest = hashlib.sha256(f'{seed}/{name}/{step}'.encode()).digest()
  return int.from_bytes(digest[:8], 'little') >> 1


def permutation(count: int, seed: int, epoch: int = 0) -> np.ndarray:
  """The order of `count` examples in one epoch, int64 (count,): a function of (count,
  seed, epoch).
  """
  keys = scramble(np.arange(count, dtype=np.uint64), seed_of(seed, 'order', epoch))
  return np.argsort(keys, kind='stable')


def subset(
  labels: Sequence | None, count: int, seed: int, keys, *, by: str = 'balanced'
) -> np.ndarray:
  """Indices of `count` examples, int64 (count,), nested in `count`: a smaller subset is
  the beginning of a larger.

  `keys` (n,) are the fingerprints of the texts, so the same texts are chosen whatever
  the order of the file. `by='balanced'` takes classes in turn; `'stratified'` keeps
  their proportions; `'uniform'` ignores labels (for real values and for several labels
  per example). Raises ValueError that names the class with too few examples.
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
  turn = np.empty(len(keys))
  tie = np.empty(len(keys), np.uint64)
  for name in np.unique(names):
    members = np.flatnonzero(names == name)
    members = members[np.lexsort((keys[members], draws[members]))]
    turn[members] = (
      np.arange(len(members))
      if by == 'balanced'
      else (np.arange(len(members)) + 0.5) / len(members)
    )
    tie[members] = scramble(
      np.array([fingerprint(name)], np.uint64), seed_of(seed, 'classes')
    )[0]
  chosen = np.lexsort((tie, turn))[:count]
  if by == 'balanced':
    _require_balance(names, names[chosen], count)
  return chosen


def _require_balance(names: np.ndarray, chosen: np.ndarray, count: int) -> None:
  """Raises ValueError if a class had fewer examples than its turn asked for."""
  classes, sizes = np.unique(names, return_counts=True)
  share = count // len(classes)
  for name, size in zip(classes, sizes, strict=True):
    if np.count_nonzero(chosen == name) < share:
      raise ValueError(
        f'labels: {count} examples of {len(classes)} classes need {share} of class {str(name)!r}, '
        f"which has {size}; by='stratified' keeps the proportions of the set"
      )
