"""The header of a file of safetensors: what it says of each tensor, and whether it can.

>>> head = b'{"bias":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}'
>>> content = len(head).to_bytes(8, 'little') + head + b'abc'
>>> described, metadata = read_header(memoryview(content))
>>> described['bias'].shape, described['bias'].end - described['bias'].start
((3,), 3)

A header is scanned where it lies, a name at a time, so that a hostile one costs no more
than the tensors that it may have: of 94 MB, 0.4 s and 14 MB of memory, where the
library `safetensors` 0.8 takes 2.2 s and 1,178 MB. The library also accepts a name
twice, and names the tensor at fault only where its offsets are.
"""

import json
import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from tl_jax.config.disguises import START_BYTES, looks_like
from tl_jax.files import unique_keys

# What the reference library reads at most.
HEADER_BYTES = 100_000_000
METADATA_BYTES = 1_000_000
# In a file. The largest models have some thousand; so many take half a second to read.
MOST_TENSORS = 50_000
NAME_LENGTH = 1000
METADATA = '__metadata__'
# In the reference library's order, which is also that of tensors in a file: wide types
# first keeps all aligned.
TYPES = {
  'BOOL': np.dtype('?'),
  'U8': np.dtype('u1'),
  'I8': np.dtype('i1'),
  'F8_E5M2': np.dtype(ml_dtypes.float8_e5m2),
  'F8_E4M3': np.dtype(ml_dtypes.float8_e4m3fn),
  'F8_E8M0': np.dtype(ml_dtypes.float8_e8m0fnu),
  'F8_E4M3FNUZ': np.dtype(ml_dtypes.float8_e4m3fnuz),
  'F8_E5M2FNUZ': np.dtype(ml_dtypes.float8_e5m2fnuz),
  'I16': np.dtype('<i2'),
  'U16': np.dtype('<u2'),
  'F16': np.dtype('<f2'),
  'BF16': np.dtype(ml_dtypes.bfloat16),
  'I32': np.dtype('<i4'),
  'U32': np.dtype('<u4'),
  'F32': np.dtype('<f4'),
  'C64': np.dtype('<c8'),
  'F64': np.dtype('<f8'),
  'I64': np.dtype('<i8'),
  'U64': np.dtype('<u8'),
}

# The header begins after its own length, a number of 8 bytes.
_START = 8
# More axes than numpy has, so that an array of so many could not be made.
_AXES = 64
_FIELDS = {'dtype', 'shape', 'data_offsets'}
# In bytes: no name and no description of a tensor is longer, with all its escapes.
_WINDOW = 1 << 15
# These find where a name or a flat object ends; json judges what it is. They are
# possessive (*+, ++), so that no byte is tried twice and the time stays linear.
_SPACE = re.compile(rb'[ \t\n\r]*+')
_EMPTY = re.compile(rb'\{[ \t\n\r]*+(?=\})')
_KEY = re.compile(rb'[ \t\n\r]*+("(?:[^"\\]++|\\.)*+")[ \t\n\r]*+:[ \t\n\r]*+')
_FLAT = re.compile(rb'\{(?:[^"{}]++|"(?:[^"\\]++|\\.)*+")*+\}')
_NEXT = re.compile(rb'[ \t\n\r]*+([,}])')


class Described(NamedTuple):
  """What a header says of a tensor: it lies between two bytes of the file."""

  dtype: np.dtype
  shape: tuple[int, ...]
  start: int
  end: int


def shown(text: str | bytes) -> str:
  """A text from outside, short and on one line, for an error message."""
  if isinstance(text, bytes):
    text = text.decode('utf-8', 'replace')
  if len(text) <= 80:
    return repr(text)
  return f'{text[:60]!r}... ({len(text)} characters)'


def is_plain(name: str) -> bool:
  """Is this the name of a safetensors file that can only lie in the folder itself?"""
  if '/' in name or '\\' in name or name.startswith('.'):
    return False
  return name.endswith('.safetensors') and name.isprintable()


def read_header(content: memoryview) -> tuple[dict[str, Described], dict[str, str]]:
  """(what the header says of each tensor by name, the metadata) of a whole file.

  Raises ValueError, one line that names the tensor, for a header that is not right: the
  tensors must cover the rest of the file, each byte once.
  """
  end = _header_end(content)
  described = {}
  metadata = None
  for name, raw in _members(content, end):
    if name in described or (name == METADATA and metadata is not None):
      raise ValueError(f'{shown(name)} stands twice')
    if name != METADATA and len(described) == MOST_TENSORS:
      raise ValueError(f'more than {MOST_TENSORS} tensors')
    try:
      fields = parse(raw)
      if name == METADATA:
        metadata = fields
      else:
        described[name] = _describe(fields, end, len(content))
    except ValueError as error:
      raise ValueError(f'tensor {shown(name)}: {error}') from None
  metadata = metadata or {}
  _require_texts(metadata)
  _require_covered(described, end, len(content))
  return described, metadata


def _require_texts(metadata: dict[str, Any]) -> None:
  """Raises ValueError unless all that a file says of itself is text."""
  if not all(isinstance(text, str) for text in metadata.values()):
    raise ValueError(f'{METADATA}: every value must be a text')


def _header_end(content: memoryview) -> int:
  """Where the header ends. ValueError where the first bytes are no length of one."""
  length = int.from_bytes(content[:_START], 'little')
  size = len(content)
  if 2 <= length <= min(HEADER_BYTES, size - _START):
    return _START + length
  found = looks_like(bytes(content[:START_BYTES]))
  if found:
    raise ValueError(f'not safetensors, but {found}')
  raise ValueError(
    f'a header of {length} bytes; at most {HEADER_BYTES} are read, and the file has '
    f'{size}'
  )


def _members(content: memoryview, end: int) -> Iterator[tuple[str, bytes]]:
  """(name, JSON object) of each member of the header, in their order.

  Each pattern is tried at one place and within a window, so that the time is linear in
  the length of the header. Raises ValueError for what is no object of flat objects.
  """
  at = _START
  if content[at] != ord('{'):
    raise ValueError(f'the header is no JSON object, but {_near(content, at, end)}')
  empty = _EMPTY.match(content, at, end)
  if empty:
    at = empty.end()
  # `at` is at the brace or comma before a name, or at the last brace.
  while content[at] != ord('}'):
    name, at = _name_at(content, at + 1, end)
    window = METADATA_BYTES if name == METADATA else _WINDOW
    value = _FLAT.match(content, at, min(end, at + window))
    if not value:
      raise ValueError(
        f'tensor {shown(name)}: no flat JSON object of bounded length at '
        f'{_near(content, at, end)}'
      )
    yield name, value[0]
    mark = _NEXT.match(content, value.end(), end)
    if not mark:
      where = _near(content, value.end(), end)
      raise ValueError(f'the header breaks off after {shown(name)}: {where}')
    at = mark.end() - 1
  # Writers fill up with spaces, so that the data begins at a multiple of 8 bytes.
  if not _SPACE.fullmatch(content, at + 1, end):
    where = _near(content, at + 1, end)
    raise ValueError(f'the header goes on after its last brace: {where}')


def _name_at(content: memoryview, at: int, end: int) -> tuple[str, int]:
  """(the name that begins at a byte of the header, the byte where its value begins)."""
  limit = min(end, at - 1 + _WINDOW)
  key = _KEY.match(content, at, limit)
  name = parse(key[1]) if key else None
  if name is None or len(name) > NAME_LENGTH:
    raise ValueError(
      f'the header has no name of at most {NAME_LENGTH} characters at '
      f'{_near(content, at, end)}'
    )
  return name, key.end()


def _near(content: memoryview, at: int, end: int) -> str:
  """The text at a byte of the header, for an error message."""
  text = bytes(content[at : min(at + 60, end)])
  return f'{shown(text)} (byte {at})'


def _require_covered(described: dict[str, Described], at: int, size: int) -> None:
  """Raises ValueError unless the tensors cover the bytes from `at` to `size` once each.

  An overlap would read one tensor's numbers as another's; a hole may hide anything.
  """
  for name in sorted(described, key=lambda name: described[name][2:4]):
    start = described[name].start
    if start != at:
      fault = 'overlaps the one before it'
      if start > at:
        fault = 'leaves a hole before it'
      raise ValueError(
        f'tensor {shown(name)}: starts at byte {start} of the file, not {at}: {fault}'
      )
    at = described[name].end
  if at != size:
    raise ValueError(f'trailing bytes: the tensors end at byte {at} of {size}')


def _describe(fields: dict[str, Any], base: int, size: int) -> Described:
  """What the three fields of a tensor say.

  base: the byte where the data begins. size: of the file in bytes. Raises ValueError
  where the file cannot hold such a tensor.
  """
  if fields.keys() != _FIELDS:
    raise ValueError(
      f'has {shown(", ".join(fields))} and not just dtype, shape, data_offsets'
    )
  code = fields['dtype']
  dtype = TYPES.get(code) if isinstance(code, str) else None
  if dtype is None:
    raise ValueError(f'dtype {shown(str(code))} is none of {", ".join(TYPES)}')
  shape = fields['shape']
  offsets = fields['data_offsets']
  _require_whole('shape', shape, _AXES)
  _require_whole('data_offsets', offsets, 2)
  if len(offsets) != 2 or not offsets[0] <= offsets[1] <= size - base:
    raise ValueError(
      f'data_offsets {shown(str(offsets))} are no start and end within {size - base} '
      'bytes of data'
    )
  # numpy multiplies the sizes that are not zero, even those of an empty array.
  elements = math.prod(extent or 1 for extent in shape)
  if elements * dtype.itemsize >= 1 << 63:
    raise ValueError(f'shape {shown(str(shape))} is larger than any memory')
  start, end = offsets
  if math.prod(shape) * dtype.itemsize != end - start:
    raise ValueError(
      f'data_offsets {offsets} do not match shape {shown(str(shape))} of {dtype}'
    )
  return Described(dtype, tuple(shape), base + start, base + end)


def _require_whole(field: str, value: Any, most: int) -> None:
  """Raises ValueError unless a field is a list of at most so many whole numbers."""
  listed = isinstance(value, list) and len(value) <= most
  # By type, because to Python `true` is a whole number.
  if listed and all(type(number) is int and number >= 0 for number in value):
    return
  raise ValueError(
    f'{field} {shown(str(value))} is not a list of at most {most} whole numbers'
  )


_JSON = json.JSONDecoder(object_pairs_hook=unique_keys)


def parse(raw: bytes) -> Any:
  """The value of a JSON text.

  Raises ValueError for what is none, with a name twice, too deep, or with text that
  cannot be written again.
  """
  try:
    value = _JSON.decode(raw.decode())
    # json lets half a surrogate pair pass, which is no text: encoding finds it.
    if b'\\u' in raw:
      text = value
      if not isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
      text.encode()
    return value
  except RecursionError:
    raise ValueError('nested too deeply') from None
