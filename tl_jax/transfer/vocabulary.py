"""A model moved to another vocabulary: tokens spelled alike keep their vectors, the
others get one made of old vectors.

>>> import numpy as np
>>> table, report = transfer_vocabulary(np.array([[1.0, 0.0], [3.0, 2.0]]), ['a', 'b'], ['b', 'c'])
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

# The leaves of our models that have a vocabulary axis, and which axis it is; a head of
# labels has another length.
VOCABULARY = (('embedding/tokens', 0), ('head/kernel', -1), ('head/bias', 0))
CHUNK = 512  # new tokens compared with the shared ones at once


class Report(NamedTuple):
  """How many of the new tokens were `copied`, `made` as asked, or are the plain `mean`
  for want of anything better.

  dropped: old tokens that the new vocabulary lacks; leaves: the names of the parameters
  that changed.
  """

  how: str
  copied: int
  made: int
  mean: int
  dropped: int
  leaves: tuple[str, ...] = ()


class Origin(NamedTuple):
  """Where every new row comes from: its old row or -1; and for some of the others,
  mixtures of old rows.

  rows: the old row (new tokens,) of each, or -1; mixtures: {new row: (old rows, weights
  that sum to 1)}.
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
  """The table of the new vocabulary, in the dtype of `table`, and a report; made on the
  host.

  table: an array whose `axis` is the old vocabulary: vectors (vocabulary, width), a
  bias (vocabulary,), or with axis=-1 an output kernel (width, vocabulary); rows beyond
  the last old token are padding and left out. The tokens are their spellings in the
  order of their ids. Tokens spelled alike are copied to the bit, so vocabularies that
  mark words differently (`##`, `Ġ`) must be respelled alike first. The others get, by
  `how`,

  - `mean`: the mean of the old rows (Hewitt 2021, "Initializing New Word Embeddings for
    Pretrained Language Models");
  - `covariance`: a draw from N(mean, spread * covariance) of the old rows (the same),
    which needs `key`;
  - `neighbours`, with `vectors` (new vocabulary, any width) that place all new tokens
    in one space: the mean of the
    old rows of the shared tokens, weighted by sparsemax of their cosines to the new one
    (FOCUS, Dobler and de Melo
    2023); a token whose vector is zero gets the mean. Without `vectors`, the mean of
    the old rows
    `pieces(token)`, the ids into which the old tokenizer cuts the new token; none, the
    mean of all.

  Errors: ValueError for a table with fewer rows than tokens, and for what `how` needs
  and was not given.
  """
  origin = match_tokens(old_tokens, new_tokens, how, vectors=vectors, pieces=pieces)
  if how == 'covariance' and key is None:
    raise ValueError(
      "transfer_vocabulary: how='covariance' draws at random, so it needs a key"
    )
  new = _filled(
    'table',
    table,
    axis,
    len(old_tokens),
    origin,
    key if how == 'covariance' else None,
    spread,
  )
  return new, _report(how, old_tokens, origin)


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
  """The parameters with every leaf of the vocabulary moved as by `transfer_vocabulary`,
  all other leaves as they were.

  places: pairs of (pattern of whole names, axis of the vocabulary). The first must
  match; its length is the rows of the old table, and a leaf of another length, as a
  head of labels, is left alone. The new model's architecture is the old one with
  `vocabulary=len(new_tokens)`. Errors: ValueError, also where the first pattern matches
  no leaf.
  """
  places = [(tree.matcher(pattern), pattern, axis) for pattern, axis in places]
  leaves = tree.flatten(params)
  tree.require_match([places[0][1]], leaves, 'transfer_vocabularies')
  rows = next(
    leaf.shape[places[0][2]] for name, leaf in leaves.items() if places[0][0](name)
  )
  if how == 'covariance' and key is None:
    raise ValueError(
      "transfer_vocabularies: how='covariance' draws at random, so it needs a key"
    )
  origin = match_tokens(old_tokens, new_tokens, how, vectors=vectors, pieces=pieces)
  changed = {}
  for name, leaf in leaves.items():
    axis = next((axis for matches, _, axis in places if matches(name)), None)
    if axis is not None and leaf.shape[axis] == rows:
      own_key = rng.stream(key, name) if how == 'covariance' else None
      changed[name] = _filled(
        name, leaf, axis, len(old_tokens), origin, own_key, spread
      )
  moved = tree.map_named(lambda name, leaf: changed.get(name, leaf), params)
  return moved, _report(how, old_tokens, origin)._replace(leaves=tuple(changed))


def match_tokens(
  old_tokens: Sequence[str],
  new_tokens: Sequence[str],
  how: How,
  *,
  vectors=None,
  pieces: Callable[[str], Sequence[int]] | None = None,
) -> Origin:
  """Which old rows each new row is made of. ValueError for an unknown `how`, and for
  what it needs.
  """
  if how not in ('mean', 'covariance', 'neighbours'):
    raise ValueError(
      f'how: {how!r} is none of mean, covariance, neighbours; nearest: '
      f'{tree.nearest(how, ("mean", "covariance", "neighbours"), most=1)}'
    )
  if not len(old_tokens) or not len(new_tokens):
    raise ValueError(
      f'old_tokens, new_tokens: {len(old_tokens)} and {len(new_tokens)}, but neither may be empty'
    )
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
      "how='neighbours' needs vectors of the new tokens, or pieces, which cuts one into old ids"
    )
  return Origin(rows, _piece_mixtures(rows, new_tokens, pieces, len(old_tokens)))


def _nearest_mixtures(rows: np.ndarray, vectors: np.ndarray) -> dict:
  """For each row of -1, the shared tokens' old rows with the sparsemax of their
  cosines.
  """
  if vectors.ndim != 2 or len(vectors) != len(rows):
    raise ValueError(
      f'vectors: the shape is {vectors.shape}, but must be ({len(rows)}, any width), one a new token'
    )
  lengths = np.linalg.norm(vectors, axis=1)
  units = vectors / np.maximum(lengths, 1e-12)[:, None]
  shared = np.flatnonzero((rows >= 0) & (lengths > 0))
  wanted = np.flatnonzero((rows < 0) & (lengths > 0))
  mixtures = {}
  for start in range(0, len(wanted) if len(shared) else 0, CHUNK):
    some = wanted[start : start + CHUNK]
    for row, weights in zip(
      some, sparsemax(units[some] @ units[shared].T), strict=True
    ):
      chosen = np.flatnonzero(weights)
      mixtures[int(row)] = rows[shared[chosen]], weights[chosen]
  return mixtures


def _piece_mixtures(
  rows: np.ndarray, new_tokens: Sequence[str], pieces: Callable, count: int
) -> dict:
  mixtures = {}
  for row in np.flatnonzero(rows < 0):
    ids = np.asarray(pieces(new_tokens[row]), np.int64)
    if ids.size and not 0 <= ids.min() <= ids.max() < count:
      raise ValueError(
        f'pieces: {new_tokens[row]!r} gives {ids.tolist()}, but the old ids are 0 to {count - 1}'
      )
    if ids.size:
      mixtures[int(row)] = ids, np.full(ids.size, 1 / ids.size)
  return mixtures


def sparsemax(scores: np.ndarray) -> np.ndarray:
  """The point of the simplex nearest to each row of scores (rows, n) (Martins and
  Astudillo 2016, algorithm 1).
  """
  ordered = -np.sort(-np.asarray(scores, np.float64), axis=1)
  sums, counts = np.cumsum(ordered, axis=1), np.arange(1, ordered.shape[1] + 1)
  support = np.sum(1 + counts * ordered > sums, axis=1)
  threshold = (np.take_along_axis(sums, support[:, None] - 1, axis=1) - 1) / support[
    :, None
  ]
  return np.maximum(scores - threshold, 0.0)


def _filled(
  name: str, table, axis: int, count: int, origin: Origin, key, spread: float
) -> jax.Array:
  """The new table; rows without an origin are the mean of the old ones, or drawn around
  it where there is a key.
  """
  dtype = jnp.asarray(table).dtype
  old = np.moveaxis(np.asarray(table), axis, 0)
  if len(old) < count:
    raise ValueError(f'{name}: {len(old)} rows on axis {axis} for {count} old tokens')
  old = old[:count]
  wide = old.astype(np.float64).reshape(count, -1)
  mean = wide.mean(0)
  new = np.broadcast_to(mean, (len(origin.rows), *mean.shape)).copy()
  missing = np.flatnonzero(origin.rows < 0)
  if key is not None and missing.size:
    new[missing] += _noise(wide - mean, key, missing.size) * np.sqrt(spread)
  for row, (ids, weights) in origin.mixtures.items():
    new[row] = weights @ wide[ids]
  new = new.reshape(-1, *old.shape[1:]).astype(dtype)
  kept = origin.rows >= 0
  new[kept] = old[origin.rows[kept]]
  return jnp.asarray(np.moveaxis(new, 0, axis))


def _noise(centred: np.ndarray, key, count: int) -> np.ndarray:
  """Draws (count, width) from N(0, covariance) of centred rows; a covariance of few
  rows has no Cholesky root.
  """
  values, directions = np.linalg.eigh(centred.T @ centred / len(centred))
  draws = np.asarray(jax.random.normal(key, (count, len(values))), np.float64)
  return (draws * np.sqrt(np.maximum(values, 0.0))) @ directions.T


def _report(how: str, old_tokens: Sequence[str], origin: Origin) -> Report:
  kept = set(origin.rows[origin.rows >= 0].tolist())
  missing = int((origin.rows < 0).sum())
  made = len(origin.mixtures) if how == 'neighbours' else missing
  return Report(
    how, len(origin.rows) - missing, made, missing - made, len(old_tokens) - len(kept)
  )
