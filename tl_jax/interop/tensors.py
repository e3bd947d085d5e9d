"""Folders of safetensors: read as views of a memory map, written one tensor at a time,
never trusted.

>>> import tempfile
>>> _ = save_tensors(folder := tempfile.mkdtemp(), {'bias': np.arange(3, dtype='float32')})
>>> open_tensors(folder).read('bias').tolist()
[0.0, 1.0, 2.0]

A file's JSON header is scanned where it lies, a name at a time: a hostile one costs
what the tensors in it would.
"""

import codecs
import collections
import json
import math
import os
import pathlib
import re
import stat
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from tl_jax.checkpoint import files
from tl_jax.config import nearest

HEADER_BYTES = 100_000_000  # what the reference library reads at most
METADATA_BYTES, INDEX_BYTES = 1_000_000, 25_000_000
# in a file: the largest models have some thousand; so many take a second to read
MOST_TENSORS = 50_000
MOST_LISTED = 200_000  # in an index: mixtures of 400 experts have 140,000
NAME_LENGTH = 1000
# transformers refuses a file that does not say how its weights are laid out
PYTORCH = {'format': 'pt'}
# In the reference library's order, which is also that of tensors in a file: wide types
# first keeps all aligned.
TYPES = {
  code: np.dtype(getattr(ml_dtypes, kind, kind))
  for code, kind in {
    'BOOL': '?',
    'U8': 'u1',
    'I8': 'i1',
    'F8_E5M2': 'float8_e5m2',
    'F8_E4M3': 'float8_e4m3fn',
    'F8_E8M0': 'float8_e8m0fnu',
    'F8_E4M3FNUZ': 'float8_e4m3fnuz',
    'F8_E5M2FNUZ': 'float8_e5m2fnuz',
    'I16': '<i2',
    'U16': '<u2',
    'F16': '<f2',
    'BF16': 'bfloat16',
    'I32': '<i4',
    'U32': '<u4',
    'F32': '<f4',
    'C64': '<c8',
    'F64': '<f8',
    'I64': '<i8',
    'U64': '<u8',
  }.items()
}
REFUSED = dict.fromkeys(
  ('.bin', '.pt', '.pth', '.ckpt', '.pkl', '.pickle', '.joblib'), 'pickle'
) | {'.msgpack': 'msgpack', '.h5': 'HDF5', '.hdf5': 'HDF5', '.keras': 'Keras'}

_CODES = {dtype: code for code, dtype in TYPES.items()}
_ADVICE = (
  'is refused, because opening it can run code; where it is trusted, convert it with '
  'save_pretrained(safe_serialization=True), and open the safetensors that this writes'
)
_BLOCK = 1 << 24
_CACHED = 1 << 16  # numbers that are looked at together
_NARROW = {dtype for code, dtype in TYPES.items() if code.startswith(('BF', 'F8'))}
# bytes: no name and no description of a tensor is longer, with all its escapes
_WINDOW = 1 << 15
# Possessive, so that no byte is tried twice. These find where a name or a flat object
# ends; json judges what it is.
_SPACE = re.compile(rb'[ \t\n\r]*+')
_KEY = re.compile(rb'[ \t\n\r]*+("(?:[^"\\]++|\\.)*+")[ \t\n\r]*+:[ \t\n\r]*+')
_FLAT = re.compile(rb'\{(?:[^"{}]++|"(?:[^"\\]++|\\.)*+")*+\}')
_NEXT = re.compile(rb'[ \t\n\r]*+([,}])')
_named = lambda path: str(path) if str(path).isprintable() else repr(str(path))
_size = lambda tensor: math.prod(tensor.shape) * tensor.dtype.itemsize


class Tensors(NamedTuple):
  """The tensors of a file or folder, by name.

  names: sorted; shape(name) -> tuple; dtype(name) -> of numpy or ml_dtypes; read(name)
  -> read-only np.memmap, a view of its file's map, which is let go with the last view;
  metadata: what the files say of themselves. ValueError for a name that is not there,
  and for a file replaced since; one shortened in place under a view ends the process.
  """

  names: tuple[str, ...]
  shape: Callable[[str], tuple[int, ...]]
  dtype: Callable[[str], np.dtype]
  read: Callable[[str], np.ndarray]
  metadata: dict[str, str]


class Lazy(NamedTuple):
  """A tensor to be written, of known shape and dtype: `read()` gives the array when its
  turn comes.
  """

  shape: tuple[int, ...]
  dtype: Any
  read: Callable[[], Any]


class _Entry(NamedTuple):
  """A tensor of a file: it lies between two bytes of what `load()` maps."""

  dtype: np.dtype
  shape: tuple[int, ...]
  start: int
  end: int
  load: Callable[[], np.memmap]


def _shown(text: str | bytes) -> str:
  """A text from outside, short and on one line."""
  text = text.decode('utf-8', 'replace') if isinstance(text, bytes) else text
  return repr(text) if len(text) <= 80 else f'{text[:60]!r}... ({len(text)} characters)'


def open_tensors(path, *, stem: str = 'model') -> Tensors:
  """The tensors of a .safetensors file, or of a folder: `STEM.safetensors`, or
  `STEM.safetensors.index.json` + shards.

  Headers are read and checked at once, tensors when they are asked for. ValueError, one
  line that names the file, for all that is damaged or hostile; pickles and other
  formats that can run code are refused unopened.
  """
  path, single = pathlib.Path(path), f'{stem}.safetensors'
  if not _is_plain(single):
    raise ValueError(
      f"stem: {_shown(str(stem))} is not how the name of a file begins, as 'model' is"
    )
  index = path / f'{single}.index.json'
  try:
    if os.path.lexists(path / single) or not os.path.isdir(path):
      return _tensors(path, *_open_file(path / single if os.path.isdir(path) else path))
    if index.is_file():  # and no pipe, which would make open() wait
      return _tensors(path, *_open_index(index))
    raise ValueError(f'{_named(path)}: {_nothing(sorted(os.listdir(path)), single)}')
  except OSError as error:
    raise ValueError(
      f'{_named(error.filename or path)}: {error.strerror or error}'
    ) from error


def _is_plain(name: str) -> bool:
  """Is this the name of a safetensors file that can only lie in the folder itself?"""
  return (
    name.endswith('.safetensors')
    and name.isprintable()
    and not name.startswith('.')
    and not set(name) & {*'/\\'}
  )


def _nothing(names: list[str], single: str) -> str:
  """What to say of a folder without the wanted weights; only the names of its files are
  looked at.
  """
  looked = f'no {single} and no {single}.index.json'
  others = [
    name for name in names if name.endswith(('.safetensors', '.safetensors.index.json'))
  ]
  refused = [name for name in names if os.path.splitext(name)[1] in REFUSED]
  if others:
    return f'{looked}; it holds {_shown(others[0])}, which is opened by its path or by `stem`'
  if refused:
    first = min(refused, key=lambda name: ('model' not in name, name))
    return (
      f'{looked}, only {_shown(first)}: {REFUSED[os.path.splitext(first)[1]]} {_ADVICE}'
    )
  return f'no weights: {looked}'


def _tensors(
  path: pathlib.Path, entries: dict[str, _Entry], metadata: dict[str, str]
) -> Tensors:
  names = tuple(sorted(entries))

  def find(name):
    if name not in entries:
      near = [
        other for other in names if other.endswith(str(name).rpartition('.')[2])
      ] or names
      near = nearest(str(name)[:100], near[:1000])
      raise ValueError(
        f'{_named(path)}: no tensor {_shown(str(name))}; nearest: {near}'
      )
    return entries[name]

  def read(name):
    dtype, shape, start, end, load = find(name)
    flat = load()[start:end]
    if dtype.kind == 'b' and flat.size and flat.max() > 1:
      raise ValueError(
        f'{_named(path)}: tensor {_shown(name)} is BOOL and holds bytes that are neither 0 nor 1'
      )
    return flat.view(dtype).reshape(shape)

  return Tensors(
    names, lambda name: find(name).shape, lambda name: find(name).dtype, read, metadata
  )


def _open_index(index: pathlib.Path) -> tuple[dict[str, _Entry], dict[str, str]]:
  """(entries, metadata) of all shards; each holds exactly the tensors that the index
  says.
  """
  wanted, entries, metadata = {}, {}, {}
  try:
    content = files.read_bounded(index, INDEX_BYTES)
    # Every JSON value but the first follows one of these bytes.
    if sum(map(content.count, (b',', b'[', b'{'))) > MOST_LISTED + 1000:
      raise ValueError(f'lists more than {MOST_LISTED} tensors')
    parsed = _parse(content.removeprefix(codecs.BOM_UTF8))
    listed = parsed.get('weight_map') if isinstance(parsed, dict) else None
    if not isinstance(listed, dict) or not listed:
      raise ValueError("has no 'weight_map' from names of tensors to files")
    for name, shard in listed.items():
      if not isinstance(shard, str) or not _is_plain(shard):
        raise ValueError(
          f'tensor {_shown(name)} is in {_shown(str(shard))}, no safetensors file of this folder'
        )
      wanted.setdefault(shard, set()).add(name)
  except ValueError as error:
    raise ValueError(f'{_named(index)}: {error}') from None
  for shard, expected in sorted(wanted.items()):
    found, said = _open_file(index.with_name(shard))
    for name in sorted(found.keys() ^ expected)[:1]:
      fault = (
        'the index lists it here, the file lacks it'
        if name in expected
        else 'the index does not list it here'
      )
      raise ValueError(
        f'{_named(index.with_name(shard))}: tensor {_shown(name)}: {fault}'
      )
    entries |= found
    metadata = said | metadata
  return entries, metadata


def _open_file(path: pathlib.Path) -> tuple[dict[str, _Entry], dict[str, str]]:
  """(entries, metadata) of a file that is whole; its map is made anew whenever no view
  of it is left.
  """
  held, known = (lambda: None), None

  def load():
    nonlocal held, known
    whole = held()
    if whole is None:
      whole, identity = _map(path)
      if known not in (None, identity):
        raise ValueError(f'{_named(path)}: was replaced or changed since it was opened')
      held, known = weakref.ref(whole), identity
    return whole

  try:
    return _read_header(memoryview(load()), load)
  except ValueError as error:
    raise ValueError(f'{_named(path)}: {error}') from None


def _map(path: pathlib.Path) -> tuple[np.memmap, tuple]:
  """The bytes of a regular file, and what tells it from a file that takes its place."""
  if path.suffix in REFUSED:
    raise ValueError(f'{REFUSED[path.suffix]} {_ADVICE}')
  if path.suffix != '.safetensors' or '\0' in str(path):
    raise ValueError('neither a folder nor a .safetensors file')
  status = os.stat(path)
  if not stat.S_ISREG(status.st_mode) or status.st_size < 10:
    raise ValueError(
      f'not a regular file that could hold a header; it has {status.st_size} bytes'
    )
  return np.memmap(path, np.uint8, 'r'), (
    status.st_dev,
    status.st_ino,
    status.st_size,
    status.st_mtime_ns,
  )


def _read_header(
  content: memoryview, load: Callable
) -> tuple[dict[str, _Entry], dict[str, str]]:
  """(entries, metadata); each pattern is tried at one place, within a window: the time
  is linear.
  """
  length, size = int.from_bytes(content[:8], 'little'), len(content)
  if not 2 <= length <= min(HEADER_BYTES, size - 8):
    start = bytes(content[:64])
    kind = (
      'a Git LFS pointer, which `git lfs pull` replaces by the weights: '
      if b'git-lfs' in start
      else (
        'a pickle, refused because opening it can run code: '
        if start[0] == 0x80 or start[:4] == b'PK\3\4'
        else ''
      )
    )
    raise ValueError(
      f'{kind}a header of {length} bytes; at most {HEADER_BYTES} are read, and the file has {size}'
    )
  at, end, entries = 8, 8 + length, {}
  shown = lambda at: f'{_shown(bytes(content[at : min(at + 60, end)]))} (byte {at})'
  if content[at] != ord('{'):
    raise ValueError(f'the header is no JSON object, but {shown(at)}')
  if empty := re.compile(rb'\{[ \t\n\r]*+(?=\})').match(content, at, end):
    at = empty.end()
  while content[at] != ord('}'):
    key = _KEY.match(content, at + 1, min(end, at + _WINDOW))
    name = _parse(key[1]) if key else None
    if name is None or len(name) > NAME_LENGTH:
      raise ValueError(
        f'the header has no name of at most {NAME_LENGTH} characters at {shown(at + 1)}'
      )
    at, special = key.end(), name == '__metadata__'
    most = MOST_TENSORS + (special or '__metadata__' in entries)
    if name in entries or len(entries) == most:
      raise ValueError(
        f'{_shown(name)} stands twice'
        if name in entries
        else f'more than {MOST_TENSORS} tensors'
      )
    value = _FLAT.match(
      content, at, min(end, at + (METADATA_BYTES if special else _WINDOW))
    )
    if not value:
      raise ValueError(
        f'tensor {_shown(name)}: no flat JSON object of bounded length at {shown(at)}'
      )
    try:
      entries[name] = (
        _parse(value[0]) if special else _entry(_parse(value[0]), end, size, load)
      )
    except ValueError as error:
      raise ValueError(f'tensor {_shown(name)}: {error}') from None
    mark = _NEXT.match(content, value.end(), end)
    if not mark:
      raise ValueError(
        f'the header breaks off after {_shown(name)}: {shown(value.end())}'
      )
    at = mark.end() - 1
  if not _SPACE.fullmatch(content, at + 1, end):
    raise ValueError(f'the header goes on after its last brace: {shown(at + 1)}')
  metadata = entries.pop('__metadata__', {})
  if {*map(type, metadata.values())} - {str}:
    raise ValueError('__metadata__: every value must be a text')
  at = end
  for name in sorted(entries, key=lambda name: entries[name][2:4]):
    if entries[name].start != at:
      fault = (
        'overlaps the one before it'
        if entries[name].start < at
        else 'leaves a hole before it'
      )
      raise ValueError(
        f'tensor {_shown(name)}: starts at byte {entries[name].start} of the file, not {at}: {fault}'
      )
    at = entries[name].end
  if at != size:
    raise ValueError(f'trailing bytes: the tensors end at byte {at} of {size}')
  return entries, metadata


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  if len(value := dict(pairs)) < len(pairs):
    raise ValueError(
      f'{_shown(collections.Counter(key for key, _ in pairs).most_common(1)[0][0])} stands twice'
    )
  return value


_JSON = json.JSONDecoder(object_pairs_hook=_unique)


def _parse(raw: bytes) -> Any:
  try:
    value = _JSON.decode(raw.decode())
    if b'\\u' in raw:
      # half a pair is no text
      (
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
      ).encode()
    return value
  except RecursionError:
    raise ValueError('nested too deeply') from None


def _entry(fields: dict[str, Any], base: int, size: int, load: Callable) -> _Entry:
  """What the three fields of a tensor say, if the file can hold that."""
  if fields.keys() != {'dtype', 'shape', 'data_offsets'}:
    raise ValueError(
      f'has {_shown(", ".join(fields))} and not just dtype, shape, data_offsets'
    )
  code, shape, offsets = fields['dtype'], fields['shape'], fields['data_offsets']
  dtype = TYPES.get(code) if isinstance(code, str) else None
  if dtype is None:
    raise ValueError(f'dtype {_shown(str(code))} is none of {", ".join(TYPES)}')
  for field, most in (('shape', 64), ('data_offsets', 2)):
    value = fields[field]
    if (
      not isinstance(value, list)
      or len(value) > most
      or {*map(type, value)} - {int}
      or min(value, default=0) < 0
    ):
      raise ValueError(
        f'{field} {_shown(str(value))} is not a list of at most {most} whole numbers'
      )
  if len(offsets) != 2 or not offsets[0] <= offsets[1] <= size - base:
    raise ValueError(
      f'data_offsets {_shown(str(offsets))} are no start and end within {size - base} bytes of data'
    )
  # numpy multiplies the sizes that are not zero, even those of an empty array.
  if math.prod(extent or 1 for extent in shape) * dtype.itemsize >= 1 << 63:
    raise ValueError(f'shape {_shown(str(shape))} is larger than any memory')
  if math.prod(shape) * dtype.itemsize != offsets[1] - offsets[0]:
    raise ValueError(
      f'data_offsets {offsets} do not match shape {_shown(str(shape))} of {dtype}'
    )
  return _Entry(dtype, tuple(shape), base + offsets[0], base + offsets[1], load)


def require_finite(name: str, array: np.ndarray) -> None:
  """Raises ValueError for a tensor that holds NaN or an infinity, and says where.

  One pass over the bits, in blocks that stay in the cache: a number is finite where
  its exponent is not all ones. It takes a fraction of the time of reading the file.
  """
  if array.dtype.kind not in 'fV' and array.dtype not in _NARROW:
    return
  array = np.asarray(array)
  if array.dtype.itemsize == 1:  # of 8 bits, each kind is its own
    wrong = not np.isfinite(array.astype(np.float32)).all()
  else:
    wrong = _has_full_exponent(array.reshape(-1))
  if wrong:
    at = np.argwhere(~np.isfinite(array.astype(np.float64)))[0].tolist()
    raise ValueError(
      f'tensor {_shown(name)} holds {array[tuple(at)]} at {at}: no weight'
    )


def _has_full_exponent(flat: np.ndarray) -> bool:
  """Are there numbers (n,) of 16, 32 or 64 bits whose exponent is all ones?"""
  bits, exponent = 8 * flat.dtype.itemsize, int(ml_dtypes.finfo(flat.dtype).nexp)
  least = ((1 << exponent) - 1) << (bits - exponent)
  words = flat.view(f'u{flat.dtype.itemsize}')
  shifted = np.empty(min(_CACHED, words.size), words.dtype)
  for start in range(0, words.size, _CACHED):
    block = words[start : start + _CACHED]
    # Without its sign, the bits of a number grow with it.
    if np.left_shift(block, 1, out=shifted[: block.size]).max() >= least:
      return True
  return False


def save_tensors(
  folder,
  tensors: Mapping[str, Any] | Iterable[tuple[str, Any]],
  *,
  stem: str = 'model',
  shard_bytes: int = 5_000_000_000,
  metadata: Mapping[str, str] | None = PYTORCH,
) -> list[pathlib.Path]:
  """Writes named arrays as Hugging Face does, and returns the files:
  `STEM.safetensors`, or shards and their index.

  A value is an array of numpy or jax, or `Lazy`, one of which is in memory at a time.
  Shards take tensors in the given order; one larger than `shard_bytes` has its own. All
  is on the disk under temporary names before a file is renamed; the index comes last,
  then what older saves of this stem left is deleted: whenever it stops, the folder
  opens to the old tensors, the new ones, or not at all. ValueError names a tensor that
  cannot be held or is not as announced.
  """
  folder, single, planned = (
    pathlib.Path(folder),
    f'{stem}.safetensors',
    _planned(tensors),
  )
  if not _is_plain(single) or not isinstance(shard_bytes, int) or shard_bytes < 1:
    raise ValueError(
      f'stem {_shown(str(stem))} or shard_bytes {shard_bytes!r}: no file name, or no number of bytes'
    )
  texts = [text for pair in (metadata or {}).items() for text in pair]
  if (
    not all(isinstance(text, str) for text in texts)
    or len(json.dumps(texts)) > METADATA_BYTES // 2
  ):
    raise ValueError(
      f'metadata: {_shown(str(metadata))} is not a small dict from text to text'
    )
  shards = _shards(planned, shard_bytes)
  count, index = len(shards), folder / f'{single}.index.json'
  names = (
    [f'{stem}-{i:05d}-of-{count:05d}.safetensors' for i in range(1, count + 1)]
    if count > 1
    else [single]
  )
  temporary = [folder / f'.{name}.tmp' for name in names]
  folder.mkdir(parents=True, exist_ok=True)
  try:
    for path, shard in zip(temporary, shards, strict=True):
      path.unlink(missing_ok=True)  # of a save that was killed
      _write(path, shard, metadata)
    if len(names) > 1:
      # that of older shards must never find some of these
      index.unlink(missing_ok=True)
    for path, name in zip(temporary, names, strict=True):
      os.replace(path, folder / name)
    files.flush(folder)
  finally:
    for path in temporary:
      path.unlink(missing_ok=True)
  if len(names) > 1:
    where = {
      name: file for file, shard in zip(names, shards, strict=True) for name in shard
    }
    content = {
      'metadata': {'total_size': sum(map(_size, planned.values()))},
      'weight_map': where,
    }
    files.write_atomically(
      index, (json.dumps(content, indent=2, sort_keys=True) + '\n').encode()
    )
    names.append(index.name)
  ours = rf'(\.)?{re.escape(stem)}(-\d{{5,}}-of-\d{{5,}})?\.safetensors(?(1)\.tmp)|{re.escape(index.name)}'
  for name in {name for name in os.listdir(folder) if re.fullmatch(ours, name)} - {
    *names
  }:
    (folder / name).unlink()
  return [folder / name for name in names]


def _planned(tensors) -> dict[str, Lazy]:
  """Every tensor as it will be written, by name; nothing is read yet."""
  planned = {}
  for name, value in tensors.items() if isinstance(tensors, Mapping) else tensors:
    if (
      not isinstance(name, str)
      or name in planned
      or name == '__metadata__'
      or len(name) > NAME_LENGTH
    ):
      raise ValueError(
        f'tensor {_shown(str(name))}: the name is given twice, or no text of at most {NAME_LENGTH}'
      )
    try:
      dtype = np.dtype(value.dtype).newbyteorder('<')
    except (AttributeError, TypeError):
      dtype = getattr(value, 'dtype', type(value).__name__)
    if dtype not in _CODES:
      raise ValueError(
        f'tensor {_shown(name)}: safetensors holds no {dtype}, only {", ".join(map(str, _CODES))}'
      )
    read = value.read if isinstance(value, Lazy) else lambda value=value: value
    planned[name] = Lazy(tuple(map(int, value.shape)), dtype, read)
  return planned


def _shards(planned: dict[str, Lazy], most: int) -> list[dict[str, Lazy]]:
  """Tensors in their order, as many to a shard as fit; one that does not fit by itself
  has its own.
  """
  whole, current, room = [], {}, most
  for name, tensor in planned.items():
    if _size(tensor) > most:
      whole.append({name: tensor})
    else:
      if _size(tensor) > room:
        whole.append(current)
        current, room = {}, most
      current[name], room = tensor, room - _size(tensor)
  return [*whole, current] if current or not whole else whole


def _write(
  path: pathlib.Path, shard: dict[str, Lazy], metadata: Mapping[str, str] | None
) -> None:
  """Writes a file and waits until it is on the disk; its data starts at a multiple of 8
  bytes.
  """
  ranks = list(_CODES)
  order = sorted(shard, key=lambda name: (-ranks.index(shard[name].dtype), name))
  described, at = {'__metadata__': dict(metadata)} if metadata else {}, 0
  for name in order:
    end = at + _size(shard[name])
    described[name] = {
      'dtype': _CODES[shard[name].dtype],
      'shape': shard[name].shape,
      'data_offsets': (at, end),
    }
    at = end
  head = json.dumps(described, ensure_ascii=False, separators=(',', ':')).encode()
  head += b' ' * (-len(head) % 8)
  if len(head) > HEADER_BYTES or len(shard) > MOST_TENSORS:
    raise ValueError(
      f'{len(shard)} tensors with a header of {len(head)} bytes are more than can be read again'
    )
  with open(path, 'xb') as file:
    file.write(len(head).to_bytes(8, 'little') + head)
    for name in order:
      array = np.asarray(shard[name].read())
      if (
        array.shape != shard[name].shape
        or array.dtype.newbyteorder('<') != shard[name].dtype
      ):
        raise ValueError(
          f'tensor {_shown(name)}: announced as {shard[name].dtype}{shard[name].shape}, '
          f'is {array.dtype}{array.shape}'
        )
      # in steps, so that a transposed one is never copied whole
      rows = np.atleast_1d(array)
      step = max(
        1,
        len(rows)
        if rows.flags.c_contiguous
        else len(rows) * _BLOCK // max(1, rows.nbytes),
      )
      for row in range(0, len(rows), step):
        file.write(
          np.ascontiguousarray(rows[row : row + step], shard[name].dtype)
          .reshape(-1)
          .view(np.uint8)
        )
    file.flush()
    os.fsync(file.fileno())
