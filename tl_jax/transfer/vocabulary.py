"""A model moved to another vocabulary.

Tokens spelled alike keep their vectors, and the others get vectors made of old ones.

>>> import numpy as np
>>> old = np.array([[1.0, 0.0], [3.0, 2.0]])
>>> table, report = transfer_vocabulary(old, ['a', 'b'], ['b', 'c'])
>>> table.tolist(), report.copied, report.made
([[3.0, 2.0], [2.0, 1.0]], 1, 1)
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import rng, tree

Tree = Any
How = Literal['mean', 'covariance', 'neighbours']

# The leaves of our models that have a vocabulary axis, and which axis it is. A head of
# labels has the same names, but another length.
VOCABULARY = (('embedding/tokens', 0), ('head/kernel', -1), ('head/bias', 0))
# How many new tokens are compared with the shared ones at once: the cosines to all
# shared tokens would not fit in memory for all.
CHUNK = 512


class Report(NamedTuple):
  """What became of the new tokens, as counts.

  copied: those with the vector of an old token. made: those with a vector made as
  asked.
  mean: those with the plain mean, for want of anything better.
  dropped: old tokens that the new vocabulary lacks.
  leaves: the names of the parameters that changed.
  """

  how: str
  copied: int
  made: int
  mean: int
  dropped: int
  leaves: tuple[str, ...] = ()


class Origin(NamedTuple):
  """Where every new row comes from.

  rows: integers (new tokens,), the old row of each token, or -1 for one that has none.
  mixtures: for some of those, {new row: (old rows, their weights, which sum to 1)}.
  """

  rows: np.ndarray
  mixtures: dict[int, tuple[np.ndarray, np.ndarray]]


def transfer_vocabulary(
  table,
  old_tokens: Sequence[str],
  new_tokens: Sequence[str],
  how: How = 'mean',
  *,
  key=None,
  spread: float = 1.0,
  vectors=None,
  pieces: Callable[[str], Sequence[int]] | None = None,
  axis: int = 0,
) -> tuple[jax.Array, Report]:
  """The table of the new vocabulary, in the dtype of `table`, and a report.

  It is made on the host, in float64.

  table: an array whose `axis` is the old vocabulary: vectors (vocabulary, width), a
  bias (vocabulary,), or with axis=-1 an output kernel (width, vocabulary). Rows beyond
  the last old token are padding and left out.
  old_tokens, new_tokens: spellings in the order of the ids. Tokens spelled alike are
  copied to the bit, so vocabularies that mark words differently (`##`, `Ġ`) must be
  respelled alike first.
  how: what vector the other tokens get.

  - `mean`: the mean of the old rows (Hewitt 2021, "Initializing New Word Embeddings for
    Pretrained Language Models").
  - `covariance`: a draw from N(mean, spread * covariance) of the old rows (the same),
    which needs `key`.
  - `neighbours` with `vectors` (new vocabulary, any width), which place all new tokens
    in one space: the mean of the old rows of the shared tokens, weighted by sparsemax
    of their cosines to the new one (FOCUS, Dobler and de Melo 2023). A token whose
    vector is zero gets the mean.
  - `neighbours` without `vectors`: the mean of the old rows `pieces(token)`, the ids
    into which the old tokenizer cuts the new token. Where there are none, the mean of
    all.

  Errors: ValueError for a table with fewer rows than tokens, and for what `how` needs
  and was not given.
  """
  origin = match_tokens(old_tokens, new_tokens, how, vectors=vectors, pieces=pieces)
  # A key that was not asked for changes nothing.
  if how != 'covariance':
    key = None
  elif key is None:
    raise ValueError(
      "transfer_vocabulary: how='covariance' draws at random, so it needs a key"
    )
  count = len(old_tokens)
  new = _filled('table', table, axis, count, origin, key, spread)
  return new, _report(how, count, origin)


def transfer_vocabularies(
  params: Tree,
  old_tokens: Sequence[str],
  new_tokens: Sequence[str],
  how: How = 'mean',
  *,
  key=None,
  spread: float = 1.0,
  vectors=None,
  pieces: Callable[[str], Sequence[int]] | None = None,
  places: Iterable[tuple[str, int]] = VOCABULARY,
) -> tuple[Tree, Report]:
  """The parameters with every leaf of the vocabulary moved as by `transfer_vocabulary`.

  All other leaves stay as they were. The new model's architecture is the old one with
  `vocabulary=len(new_tokens)`.
  places: pairs of (pattern of whole names, axis of the vocabulary); the first that
  matches counts. The first pair must match, and the length of its leaf is the number of
  rows. A leaf of another length, such as a head of labels, is left alone.
  Errors: ValueError as of `transfer_vocabulary`, and where the first pattern matches no
  leaf.
  """
  places = [(tree.matcher(pattern), pattern, axis) for pattern, axis in places]
  is_table, first_pattern, first_axis = places[0]
  leaves = tree.flatten(params)
  tree.require_match([first_pattern], leaves, 'transfer_vocabularies')
  tables = [leaf for name, leaf in leaves.items() if is_table(name)]
  rows = tables[0].shape[first_axis]
  if how == 'covariance' and key is None:
    raise ValueError(
      "transfer_vocabularies: how='covariance' draws at random, so it needs a key"
    )
  origin = match_tokens(old_tokens, new_tokens, how, vectors=vectors, pieces=pieces)
  count = len(old_tokens)
  changed = {}
  for name, leaf in leaves.items():
    axis = _vocabulary_axis(name, places)
    # A head of labels has the name of a head over the vocabulary, but other rows.
    if axis is None or leaf.shape[axis] != rows:
      continue
    # The table and an untied head get draws of their own.
    own_key = rng.stream(key, name) if how == 'covariance' else None
    changed[name] = _filled(name, leaf, axis, count, origin, own_key, spread)
  moved = tree.map_named(lambda name, leaf: changed.get(name, leaf), params)
  report = _report(how, count, origin)
  return moved, report._replace(leaves=tuple(changed))


def _vocabulary_axis(name: str, places) -> int | None:
  """The axis of the vocabulary of a leaf, None for one that has none.

  places: (predicate of names, pattern, axis) of each.
  """
  for matches, _, axis in places:
    if matches(name):
      return axis
  return None


def match_tokens(
  old_tokens: Sequence[str],
  new_tokens: Sequence[str],
  how: How,
  *,
  vectors=None,
  pieces: Callable[[str], Sequence[int]] | None = None,
) -> Origin:
  """Which old rows each new row is made of.

  Errors: ValueError for an unknown `how`, for what it needs and was not given, and for
  an empty vocabulary.
  """
  if how not in ('mean', 'covariance', 'neighbours'):
    nearest = tree.nearest(how, ('mean', 'covariance', 'neighbours'), most=1)
    raise ValueError(
      f'how: {how!r} is none of mean, covariance, neighbours; nearest: {nearest}'
    )
  if not len(old_tokens) or not len(new_tokens):
    raise ValueError(
      f'old_tokens, new_tokens: {len(old_tokens)} and {len(new_tokens)}, but neither '
      'may be empty'
    )
  # Of old tokens that are spelled alike the first is meant.
  first = {}
  for row, token in enumerate(old_tokens):
    first.setdefault(token, row)
  rows = np.array([first.get(token, -1) for token in new_tokens], np.int64)
  if how != 'neighbours':
    return Origin(rows, {})
  if vectors is not None:
    return Origin(rows, _nearest_mixtures(rows, np.asarray(vectors, np.float32)))
  if pieces is None:
    raise ValueError(
      "how='neighbours' needs vectors of the new tokens, or pieces, which cuts one "
      'into old ids'
    )
  return Origin(rows, _piece_mixtures(rows, new_tokens, pieces, len(old_tokens)))


def _nearest_mixtures(rows: np.ndarray, vectors: np.ndarray) -> dict:
  """For every token without an old row, a mixture of the shared tokens by sparsemax of
  their cosines to it.

  vectors: float32 (new tokens, any width). Tokens whose vector is zero have no
  direction: they get no mixture and are in none.
  """
  if vectors.ndim != 2 or len(vectors) != len(rows):
    raise ValueError(
      f'vectors: the shape is {vectors.shape}, but must be ({len(rows)}, any width), '
      'one a new token'
    )
  lengths = np.linalg.norm(vectors, axis=1)
  # A vector of zero stays zero instead of becoming nan.
  units = vectors / np.maximum(lengths, 1e-12)[:, None]
  has_direction = lengths > 0
  shared = np.flatnonzero((rows >= 0) & has_direction)
  wanted = np.flatnonzero((rows < 0) & has_direction)
  mixtures = {}
  if not len(shared):
    return mixtures
  for start in range(0, len(wanted), CHUNK):
    chunk = wanted[start : start + CHUNK]
    cosines = units[chunk] @ units[shared].T
    for row, weights in zip(chunk, sparsemax(cosines), strict=True):
      # Sparsemax is exactly 0 for most.
      chosen = np.flatnonzero(weights)
      mixtures[int(row)] = rows[shared[chosen]], weights[chosen]
  return mixtures


def _piece_mixtures(
  rows: np.ndarray, new_tokens: Sequence[str], pieces: Callable, count: int
) -> dict:
  """For every token without an old row, the plain mean of its pieces, if it has some.

  count: how many old tokens there are.
  """
  mixtures = {}
  for row in np.flatnonzero(rows < 0):
    token = new_tokens[row]
    ids = np.asarray(pieces(token), np.int64)
    if not ids.size:
      continue
    if not 0 <= ids.min() <= ids.max() < count:
      raise ValueError(
        f'pieces: {token!r} gives {ids.tolist()}, but the old ids are 0 to {count - 1}'
      )
    weights = np.full(ids.size, 1 / ids.size)
    mixtures[int(row)] = ids, weights
  return mixtures


def sparsemax(scores: np.ndarray) -> np.ndarray:
  """The point of the simplex nearest to each row of scores (rows, n): weights with the
  sum 1, most of them 0 (Martins and Astudillo 2016, algorithm 1).
  """
  ordered = -np.sort(-np.asarray(scores, np.float64), axis=1)
  sums = np.cumsum(ordered, axis=1)
  counts = np.arange(1, ordered.shape[1] + 1)
  # How many of the largest scores keep a weight.
  is_supported = 1 + counts * ordered > sums
  support = np.sum(is_supported, axis=1)[:, None]
  kept = np.take_along_axis(sums, support - 1, axis=1)
  threshold = (kept - 1) / support
  return np.maximum(scores - threshold, 0.0)


def _filled(
  name: str, table, axis: int, count: int, origin: Origin, key, spread: float
) -> jax.Array:
  """The new table, in the dtype of the old one.

  Rows without an origin are the mean of the old ones, or drawn around it where there is
  a key. count: how many old tokens there are.
  """
  dtype = jnp.asarray(table).dtype
  old = np.moveaxis(np.asarray(table), axis, 0)
  if len(old) < count:
    raise ValueError(f'{name}: {len(old)} rows on axis {axis} for {count} old tokens')
  old = old[:count]
  # Sums over a whole vocabulary need more than the digits of float32.
  wide = old.astype(np.float64).reshape(count, -1)
  mean = wide.mean(0)

  shape = len(origin.rows), *mean.shape
  new = np.broadcast_to(mean, shape).copy()
  missing = np.flatnonzero(origin.rows < 0)
  if key is not None and missing.size:
    noise = _noise(wide - mean, key, missing.size)
    new[missing] += noise * np.sqrt(spread)
  for row, (ids, weights) in origin.mixtures.items():
    new[row] = weights @ wide[ids]
  new = new.reshape(-1, *old.shape[1:]).astype(dtype)

  # Last and from the table itself, so that no bit of them is rounded.
  kept = origin.rows >= 0
  new[kept] = old[origin.rows[kept]]
  return jnp.asarray(np.moveaxis(new, 0, axis))


def _noise(centred: np.ndarray, key, count: int) -> np.ndarray:
  """Draws (count, width) from N(0, covariance) of centred rows.

  By eigenvectors, because a covariance of few rows has no Cholesky root.
  """
  covariance = centred.T @ centred / len(centred)
  values, directions = np.linalg.eigh(covariance)
  draws = jax.random.normal(key, (count, len(values)))
  draws = np.asarray(draws, np.float64)
  # An eigenvalue of 0 may come out below it.
  deviations = np.sqrt(np.maximum(values, 0.0))
  return (draws * deviations) @ directions.T


def _report(how: str, old: int, origin: Origin) -> Report:
  """The counts of a transfer from `old` tokens."""
  is_kept = origin.rows >= 0
  kept = set(origin.rows[is_kept].tolist())
  missing = int((~is_kept).sum())
  made = len(origin.mixtures) if how == 'neighbours' else missing
  return Report(
    how,
    copied=len(origin.rows) - missing,
    made=made,
    mean=missing - made,
    dropped=old - len(kept),
  )
