"""A sentencepiece model file, read as the protobuf message it is: nothing of it is run,
and the library is not needed.

>>> list(fields(b'\\x0a\\x02hi\\x10\\x07'))
[(1, b'hi'), (2, 7)]
"""

import math
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

# The types of a piece; OWN: symbols of the user.
NORMAL = 1
UNKNOWN = 2
CONTROL = 3
OWN = 4
UNUSED = 5
BYTE = 6
# The types that are looked for in a text before it is cut.
APART = (UNKNOWN, CONTROL, OWN)
KINDS = {1: 'unigram', 2: 'bpe', 3: 'word', 4: 'char'}
MOST_PIECES = 1 << 21
# the sum of the pieces' squared lengths; 256,000 ordinary pieces make 15 million
MOST_SPLITS = 200_000_000
_SIZES = {1: 8, 5: 4}


class Pieces(NamedTuple):
  """A vocabulary: names, scores and types by id; `unknown` is an id, `charsmap` a
  compiled normaliser or b''.

  `dummy_prefix`: a space is put before a text; `squeeze`: spaces at its ends go, others
  become one.
  """

  kind: str
  names: tuple[str, ...]
  scores: tuple[float, ...]
  types: tuple[int, ...]
  unknown: int
  byte_fallback: bool
  charsmap: bytes
  dummy_prefix: bool
  squeeze: bool


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
  """(number, value) of every field of a protobuf message in order; a fixed-width value
  is bytes. ValueError if cut.
  """
  position, end = 0, len(message)

  def varint():
    nonlocal position
    value = shift = 0
    while position < end and shift < 64:
      byte = message[position]
      position += 1
      value |= (byte & 127) << shift
      if byte < 128:
        return value
      shift += 7
    raise ValueError('ends within a number')

  while position < end:
    key = varint()
    number, wire = key >> 3, key & 7
    if wire == 0:
      yield number, varint()
      continue
    size = varint() if wire == 2 else _SIZES.get(wire)
    if size is None or not number:
      raise ValueError(f'no such field: number {number}, wire type {wire}')
    if size > end - position:
      raise ValueError(f'field {number} says {size} bytes, {end - position} are left')
    yield number, message[position : position + size]
    position += size


def read(data: bytes) -> Pieces:
  """The pieces of a model file's bytes. Raises ValueError, in one line, for anything
  else or a kind we do not read.
  """
  names, scores, types, trainer, normalizer = [], [], [], {}, {}
  for number, value in fields(data):
    if number == 1 and len(names) == MOST_PIECES:
      raise ValueError(f'more than {MOST_PIECES} pieces')
    if number == 1:
      piece = dict(fields(_message(value)))
      names.append(_message(piece.get(1, b'')).decode())
      scores.append(_number(piece.get(2, bytes(4))))
      types.append(piece.get(3, NORMAL))
    elif number == 2:
      trainer = dict(fields(_message(value)))
    elif number == 3:
      normalizer = dict(fields(_message(value)))
  kind = KINDS.get(trainer.get(3, 1))
  if kind not in ('unigram', 'bpe'):
    raise ValueError(f'model_type {kind or trainer[3]!r} is not one of unigram, bpe')
  if trainer.get(24, 0) or not normalizer.get(5, 1):
    raise ValueError('spaces that are suffixes, or are not escaped, are not supported')
  _check_pieces(names, scores, types)
  charsmap = _message(normalizer.get(2, b''))
  check_charsmap(charsmap)
  return Pieces(
    kind,
    tuple(names),
    tuple(scores),
    tuple(types),
    types.index(UNKNOWN),
    bool(trainer.get(35, 0)),
    charsmap,
    bool(normalizer.get(3, 1)),
    bool(normalizer.get(4, 1)),
  )


def _message(value) -> bytes:
  if not isinstance(value, bytes):
    raise ValueError('a number stands where a text or a message should')
  return value


def _number(value) -> float:
  return (
    struct.unpack('<f', value)[0]
    if isinstance(value, bytes) and len(value) == 4
    else math.nan
  )


def _check_pieces(names, scores, types) -> None:
  if not names:
    raise ValueError('no pieces')
  seen = {}
  for i, (name, score, kind) in enumerate(zip(names, scores, types, strict=True)):
    if not name or seen.setdefault(name, i) != i:
      raise ValueError(
        f'piece {i}, {name[:40]!r}, is {"empty" if not name else f"piece {seen[name]} again"}'
      )
    if not math.isfinite(score) or kind not in range(NORMAL, BYTE + 1):
      raise ValueError(f'piece {i}, {name[:40]!r}: score {score}, type {kind}')
  if types.count(UNKNOWN) != 1:
    raise ValueError(f'{types.count(UNKNOWN)} unknown pieces, not one')


def merges(pieces: Pieces) -> list[tuple[str, str]]:
  """The merges of a BPE model, first ones first: every way to make a piece of two, in
  the order of its score.
  """
  ids = {
    name: i
    for i, (name, kind) in enumerate(zip(pieces.names, pieces.types, strict=True))
    if kind == NORMAL
  }
  if sum(len(name) ** 2 for name in ids) > MOST_SPLITS:
    raise ValueError('pieces too long to recover merges from')
  found = []
  for name, i in ids.items():
    for cut in range(1, len(name)):
      if name[:cut] in ids and name[cut:] in ids:
        found.append((-pieces.scores[i], i, cut, name))
  return [(name[:cut], name[cut:]) for _, _, cut, name in sorted(found)]


def check_charsmap(charsmap: bytes) -> None:
  """Raises ValueError unless a compiled normaliser is whole: every node of its trie
  (darts-clone) leads somewhere.

  4 bytes of size, the trie's units of 4 bytes, then replacements that end in a zero
  byte each.
  """
  if not charsmap:
    return
  size = int.from_bytes(charsmap[:4], 'little')
  if len(charsmap) < 8 or size % 4 or not 4 <= size <= len(charsmap) - 4:
    raise ValueError('a damaged charsmap')
  units = np.frombuffer(charsmap, '<u4', size // 4, 4)
  texts = charsmap[4 + size :]
  texts.decode()
  starts = np.frombuffer(texts, np.uint8) & 0xC0 != 0x80  # where a character starts
  offsets = (units >> 10) << ((units & 512) >> 6)
  visited = np.zeros(len(units), bool)
  labels = np.arange(1, 256, dtype=np.uint32)
  waiting = offsets[:1]
  while waiting.size:
    bases, waiting = waiting[:4096], waiting[4096:]
    if (bases | 255).max() >= len(units):
      raise ValueError('a damaged charsmap: its trie leads outside')
    nodes = bases[:, None] ^ labels
    nodes = np.unique(nodes[(units[nodes] & 0x800000FF) == labels])
    nodes = nodes[~visited[nodes]]
    visited[nodes] = True
    below = nodes ^ offsets[nodes]
    leaves = below[units[nodes] >> 8 & 1 == 1]
    if leaves.size:
      values = units[leaves[leaves < len(units)]] & 0x7FFFFFFF
      if (
        leaves.max() >= len(units)
        or values.max() >= len(texts)
        or not starts[values].all()
      ):
        raise ValueError('a damaged charsmap: a replacement lies outside')
    waiting = np.concatenate([waiting, below])
