"""Pieces of documents: what a plain loop over each of them gives."""

import numpy as np
import pytest

from tl_jax.data import pieces

DOCUMENTS = [[5], [], [5, 6, 7, 8, 9], [6, 7], list(range(10, 31)), [9] * 8]


def cut(ids, size):
  return [ids[start : start + size] for start in range(0, len(ids), size)]


def plainly(document, layout):
  """The pieces of one document, as lists."""
  prefix, suffix = list(layout.prefix), list(layout.suffix)
  whole = prefix + document + suffix
  if layout.most is None or len(whole) <= layout.most:
    return [whole]
  room = layout.most - layout.framed
  if not layout.split:
    return [prefix + document[:room] + suffix]
  if layout.ends_once:
    return cut(whole, layout.most)
  return [prefix + part + suffix for part in cut(document, room)]


@pytest.mark.parametrize('frame', [((), ()), ((1,), (2,)), ((), (3, 2)), ((4, 1), ())])
@pytest.mark.parametrize('most', [None, 4, 5, 8, 40])
@pytest.mark.parametrize(
  'split, ends_once', [(False, True), (True, True), (True, False)]
)
def test_pieces_are_those_of_a_plain_loop(frame, most, split, ends_once):
  layout = pieces.Layout(*frame, most, split, ends_once)
  wanted, owners = [], []
  for number, document in enumerate(DOCUMENTS):
    parts = plainly(document, layout)
    wanted += parts
    owners += [number] * len(parts)
  ids = np.array([i for document in DOCUMENTS for i in document], np.int32)
  lengths = np.array([len(document) for document in DOCUMENTS])
  found = pieces.lay(ids, lengths, layout)
  assert found.documents.tolist() == owners
  assert found.lengths.tolist() == [len(piece) for piece in wanted]
  assert found.ids.tolist() == [i for piece in wanted for i in piece]
  assert found.ids.dtype == np.int32
