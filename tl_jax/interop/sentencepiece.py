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
# The sum of the pieces' squared lengths; 256,000 ordinary pieces make 15 million.
MOST_SPLITS = 200_000_000
# Wire types of protobuf: a varint, bytes after their length, fixed sizes in bytes.
_VARINT = 0
_LENGTH = 2
_SIZES = {1: 8, 5: 4}


class Pieces(NamedTuple):
  """A vocabulary of a sentencepiece model.

  kind: 'unigram' or 'bpe'.
  names, scores and types: of the pieces by their ids.
  unknown: the id of the unknown piece.
  byte_fallback: is a letter without a piece spelled in bytes?
  charsmap: the compiled normaliser, b'' for none.
  dummy_prefix: is a space put before a text?
  squeeze: do spaces at the ends of a text go, and do several in a row become one?
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
  """(number, value) of every field of a protobuf message, in order.

  A value is an int for a varint and bytes for all else, a fixed-width number included.
  Raises ValueError for a message that is cut.
  """
  position = 0
  end = len(message)

  def varint() -> int:
    """The number at `position`: seven bits a byte, the lowest ones first."""
    nonlocal position
    value = shift = 0
    # No number of the format has more than 64 bits.
    while position < end and shift < 64:
      byte = message[position]
      position += 1
      value |= (byte & 127) << shift
      # The eighth bit says that more bytes follow.
      if byte < 128:
        return value
      shift += 7
    raise ValueError('ends within a number')

  while position < end:
    key = varint()
    number = key >> 3
    wire = key & 7
    if wire == _VARINT:
      yield number, varint()
      continue
    size = varint() if wire == _LENGTH else _SIZES.get(wire)
    if size is None or not number:
      raise ValueError(f'no such field: number {number}, wire type {wire}')
    if size > end - position:
      raise ValueError(f'field {number} says {size} bytes, {end - position} are left')
    yield number, message[position : position + size]
    position += size


def read(data: bytes) -> Pieces:
  """The pieces of a model file's bytes.

  Raises ValueError, in one line, for anything else or a kind that we do not read.
  """
  names, scores, types = [], [], []
  trainer, normalizer = {}, {}
  # The field numbers are those of sentencepiece_model.proto.
  for number, value in fields(data):
    if number == 1:
      if len(names) == MOST_PIECES:
        raise ValueError(f'more than {MOST_PIECES} pieces')
      piece = dict(fields(_message(value)))
      names.append(_message(piece.get(1, b'')).decode())
      scores.append(_float(piece.get(2, bytes(4))))
      types.append(piece.get(3, NORMAL))
    elif number == 2:
      trainer = dict(fields(_message(value)))
    elif number == 3:
      normalizer = dict(fields(_message(value)))
  kind = _kind(trainer, normalizer)
  _check_pieces(names, scores, types)
  charsmap = _message(normalizer.get(2, b''))
  check_charsmap(charsmap)
  byte_fallback = bool(trainer.get(35, 0))
  dummy_prefix = bool(normalizer.get(3, 1))
  squeeze = bool(normalizer.get(4, 1))
  return Pieces(
    kind=kind,
    names=tuple(names),
    scores=tuple(scores),
    types=tuple(types),
    unknown=types.index(UNKNOWN),
    byte_fallback=byte_fallback,
    charsmap=charsmap,
    dummy_prefix=dummy_prefix,
    squeeze=squeeze,
  )


def _kind(trainer: dict, normalizer: dict) -> str:
  """'unigram' or 'bpe', by the fields of the trainer's and the normaliser's settings.

  Raises ValueError for another kind, and for spaces that are not prefixes of words.
  """
  kind = KINDS.get(trainer.get(3, 1))
  if kind not in ('unigram', 'bpe'):
    raise ValueError(f'model_type {kind or trainer[3]!r} is not one of unigram, bpe')
  suffixes = trainer.get(24, 0)
  escaped = normalizer.get(5, 1)
  if suffixes or not escaped:
    raise ValueError('spaces that are suffixes, or are not escaped, are not supported')
  return kind


def _message(value: int | bytes) -> bytes:
  if not isinstance(value, bytes):
    raise ValueError('a number stands where a text or a message should')
  return value


def _float(value: int | bytes) -> float:
  """A float32 field; nan, which `_check_pieces` refuses, for one of another type."""
  if not isinstance(value, bytes) or len(value) != 4:
    return math.nan
  return struct.unpack('<f', value)[0]


def _check_pieces(names: list[str], scores: list[float], types: list) -> None:
  """Raises ValueError that names a piece which is empty, twice there or no number."""
  if not names:
    raise ValueError('no pieces')
  seen = {}
  for i, (name, score, kind) in enumerate(zip(names, scores, types, strict=True)):
    shown = f'piece {i}, {name[:40]!r}'
    if not name:
      raise ValueError(f'{shown}, is empty')
    if name in seen:
      raise ValueError(f'{shown}, is piece {seen[name]} again')
    seen[name] = i
    if not math.isfinite(score) or kind not in range(NORMAL, BYTE + 1):
      raise ValueError(f'{shown}: score {score}, type {kind}')
  if types.count(UNKNOWN) != 1:
    raise ValueError(f'{types.count(UNKNOWN)} unknown pieces, not one')


def surrounded(
  pieces: Pieces, front: list[str], dropped: int, behind: list[str], unknown: int
) -> Pieces:
  """The pieces between others that a model has besides those of its model file.

  front: names that take the place of the first `dropped` pieces. behind: names after
  the last piece. unknown: the id of the unknown piece among them all.
  """
  before = len(front)
  after = len(behind)

  def between(first, own: tuple, last) -> tuple:
    return (*first, *own[dropped:], *last)

  # The others are never met in a text, so their scores say nothing.
  scores = between([0.0] * before, pieces.scores, [0.0] * after)
  types = between([CONTROL] * before, pieces.types, [CONTROL] * after)
  names = between(front, pieces.names, behind)
  return pieces._replace(names=names, scores=scores, types=types, unknown=unknown)


def merges(pieces: Pieces) -> list[tuple[str, str]]:
  """The merges of a BPE model, first ones first.

  A model file keeps no merges. They are all ways to make a piece of two others, in the
  order of the scores of what they make. Raises ValueError for pieces that would take
  too long.
  """
  ids = {}
  for i, (name, kind) in enumerate(zip(pieces.names, pieces.types, strict=True)):
    if kind == NORMAL:
      ids[name] = i
  if sum(len(name) ** 2 for name in ids) > MOST_SPLITS:
    raise ValueError('pieces too long to recover merges from')
  found = []
  for name, i in ids.items():
    for cut in range(1, len(name)):
      if name[:cut] in ids and name[cut:] in ids:
        # Sorted by score; of equal ones, by the id, then by the place of the cut.
        found.append((-pieces.scores[i], i, cut, name))
  found.sort()
  pairs = []
  for _, _, cut, name in found:
    pairs.append((name[:cut], name[cut:]))
  return pairs


def check_charsmap(charsmap: bytes) -> None:
  """Raises ValueError unless a compiled normaliser is whole.

  It is 4 bytes of size, then a trie (darts-clone) in units of 4 bytes, then the
  replacements, each of which ends in a zero byte. It is whole if every node of the trie
  leads to another node or to the first byte of a character in a replacement.
  """
  if not charsmap:
    return
  size = int.from_bytes(charsmap[:4], 'little')
  room = len(charsmap) - 4
  if len(charsmap) < 8 or size % 4 or not 4 <= size <= room:
    raise ValueError('a damaged charsmap')
  units = np.frombuffer(charsmap, '<u4', size // 4, 4)
  texts = charsmap[4 + size :]
  texts.decode()
  # In UTF-8, all bytes of a character but the first begin with the bits 10.
  starts = np.frombuffer(texts, np.uint8) & 0xC0 != 0x80
  # Of a unit: bits 10 to 30 are the offset to its children, bit 9 makes it 256 times as
  # large.
  offsets = (units >> 10) << ((units & 512) >> 6)
  visited = np.zeros(len(units), bool)
  labels = np.arange(1, 256, dtype=np.uint32)
  # `waiting` holds where the children of a node begin. They are taken in blocks, so
  # that 255 labels times all nodes never stand in memory at once.
  waiting = offsets[:1]
  while waiting.size:
    bases = waiting[:4096]
    waiting = waiting[4096:]
    if (bases | 255).max() >= len(units):
      raise ValueError('a damaged charsmap: its trie leads outside')
    nodes = bases[:, None] ^ labels
    # A child is there if its unit carries its own label and no value (the top bit).
    is_child = (units[nodes] & 0x800000FF) == labels
    nodes = np.unique(nodes[is_child])
    # A damaged trie can lead back to where it came from.
    nodes = nodes[~visited[nodes]]
    visited[nodes] = True
    below = nodes ^ offsets[nodes]
    has_leaf = units[nodes] >> 8 & 1 == 1
    _check_leaves(below[has_leaf], units, starts)
    waiting = np.concatenate([waiting, below])


def _check_leaves(leaves: np.ndarray, units: np.ndarray, starts: np.ndarray) -> None:
  """Raises ValueError unless each leaf leads to a character of a replacement.

  leaves: (n,) places in `units`, the units of a trie; the value of a leaf is its low 31
  bits. starts: for each byte of the replacements, is it the first of a character?
  """
  if not leaves.size:
    return
  values = units[leaves[leaves < len(units)]] & 0x7FFFFFFF
  outside = leaves.max() >= len(units) or values.max() >= len(starts)
  if outside or not starts[values].all():
    raise ValueError('a damaged charsmap: a replacement lies outside')
