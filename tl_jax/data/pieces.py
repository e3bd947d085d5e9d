"""Documents laid out as pieces: cut to a length or split, with special tokens around.

The tokens of many documents lie one after the other, and so do those of the pieces.

>>> layout = Layout(prefix=(1,), suffix=(2,), most=4)
>>> found = lay(np.array([7, 8, 9, 7]), np.array([3, 1]), layout)
>>> found.ids.tolist(), found.lengths.tolist()
([1, 7, 8, 2, 1, 7, 2], [4, 3])
"""

from typing import NamedTuple

import numpy as np


class Layout(NamedTuple):
  """What pieces look like.

  `prefix` and `suffix` are ids around every piece. A piece has at most `most` tokens,
  these included; None for any number. What is longer is cut or, with `split`, becomes
  several pieces. With `ends_once` they are around the document, not around the piece.
  """

  prefix: tuple[int, ...] = ()
  suffix: tuple[int, ...] = ()
  most: int | None = None
  split: bool = False
  ends_once: bool = False

  @property
  def framed(self) -> int:
    """How many ids are around a piece."""
    return len(self.prefix) + len(self.suffix)


class Pieces(NamedTuple):
  """The ids of all pieces, the length of each, and the number of its document."""

  ids: np.ndarray
  lengths: np.ndarray
  documents: np.ndarray


def lay(ids: np.ndarray, lengths: np.ndarray, layout: Layout) -> Pieces:
  """The pieces of documents of these lengths (n,), whose ids lie one after the other."""
  if layout.most is None:
    return _framed(ids, lengths, np.arange(len(lengths)), layout)
  room = layout.most - layout.framed
  if not layout.split:
    kept = np.minimum(lengths, room)
    heads = _heads(ids, lengths, kept)
    return _framed(heads, kept, np.arange(len(lengths)), layout)
  # An encoder sees its frame around every piece.
  if not layout.ends_once:
    parts, documents = _split(lengths, room)
    return _framed(ids, parts, documents, layout)
  # A decoder reads on from piece to piece, so the end is marked once.
  framed = _framed(ids, lengths, np.arange(len(lengths)), layout)
  parts, documents = _split(framed.lengths, layout.most)
  return Pieces(framed.ids, parts, documents)


def _heads(ids: np.ndarray, lengths: np.ndarray, kept: np.ndarray) -> np.ndarray:
  """The first `kept` (n,) ids of every document."""
  starts = np.cumsum(lengths) - lengths
  inside = np.arange(len(ids)) - np.repeat(starts, lengths)
  return ids[inside < np.repeat(kept, lengths)]


def _split(lengths: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
  """(lengths, documents) of parts of at most `room` ids; an empty document is one."""
  counts = np.maximum(1, -(-lengths // room))
  parts = np.full(counts.sum(), room)
  # What is left for the last part of each.
  parts[np.cumsum(counts) - 1] = lengths - (counts - 1) * room
  return parts, np.repeat(np.arange(len(lengths)), counts)


def _framed(
  ids: np.ndarray, lengths: np.ndarray, documents: np.ndarray, layout: Layout
) -> Pieces:
  """Parts of these lengths with the prefix and the suffix around each."""
  whole = lengths + layout.framed
  if not layout.framed:
    return Pieces(ids, whole, documents)
  ends = np.cumsum(whole)
  starts = ends - whole
  found = np.empty(len(ids) + layout.framed * len(lengths), ids.dtype)
  for place, i in enumerate(layout.prefix):
    found[starts + place] = i
  for place, i in enumerate(reversed(layout.suffix), 1):
    found[ends - place] = i
  # What is around the parts before, and before this one, moves its ids on.
  moved = layout.framed * np.arange(len(lengths)) + len(layout.prefix)
  found[np.arange(len(ids)) + np.repeat(moved, lengths)] = ids
  return Pieces(found, whole, documents)
