"""Folders of safetensors: read as views of a memory map, and never trusted.

>>> import tempfile
>>> folder = tempfile.mkdtemp()
>>> _ = save_tensors(folder, {'bias': np.arange(3, dtype='float32')})
>>> open_tensors(folder).read('bias').tolist()
[0.0, 1.0, 2.0]

The library `safetensors` 0.8 copies each array, 191 MB of memory for one of 200 MB
where a view takes none, and its numpy has none of the five types of float8. To read
200 MB in 200 tensors, it takes 0.06 s and this 0.07 s.
"""

import codecs
import os
import pathlib
import stat
import weakref
from collections.abc import Callable
from typing import NamedTuple

import ml_dtypes
import numpy as np

from tl_jax import files
from tl_jax.config import nearest
from tl_jax.config.disguises import START_BYTES, looks_like, stands_in
from tl_jax.interop.tensor_header import (
  MOST_TENSORS,
  TYPES,
  Described,
  is_plain,
  parse,
  read_header,
  shown,
)
from tl_jax.interop.tensor_writing import PYTORCH, Lazy, save_tensors

__all__ = [
  'INDEX_BYTES',
  'MOST_LISTED',
  'MOST_TENSORS',
  'PYTORCH',
  'REFUSED',
  'TYPES',
  'Lazy',
  'Tensors',
  'open_tensors',
  'require_finite',
  'save_tensors',
]

INDEX_BYTES = 25_000_000
# In an index: mixtures of 400 experts have 140,000.
MOST_LISTED = 200_000
# By the end of the file's name: what is never opened.
REFUSED = {
  '.bin': 'pickle',
  '.pt': 'pickle',
  '.pth': 'pickle',
  '.ckpt': 'pickle',
  '.pkl': 'pickle',
  '.pickle': 'pickle',
  '.joblib': 'pickle',
  '.msgpack': 'msgpack',
  '.h5': 'HDF5',
  '.hdf5': 'HDF5',
  '.keras': 'Keras',
}

_ADVICE = (
  'is refused, because opening it can run code; where it is trusted, convert it with '
  'save_pretrained(safe_serialization=True), and open the safetensors that this writes'
)
# Numbers that are looked at together, so that they stay in the cache.
_CACHED = 1 << 16


class Tensors(NamedTuple):
  """The tensors of a file or folder, by name.

  names: all, sorted. shape(name): a tuple. dtype(name): of numpy or ml_dtypes.
  read(name): a read-only np.memmap. It is a view of the map of its file, which is let
  go with the last view. metadata: what the files say of themselves.

  ValueError is raised for a name that is not there, and for a file that was replaced
  since. A file that is shortened in place under a view ends the process.
  """

  names: tuple[str, ...]
  shape: Callable[[str], tuple[int, ...]]
  dtype: Callable[[str], np.dtype]
  read: Callable[[str], np.ndarray]
  metadata: dict[str, str]


class _File:
  """A file of safetensors, which is mapped as long as a view of it is left.

  A map that were kept would count all that was read as memory of this process.
  """

  def __init__(self, path: pathlib.Path):
    self.path = path
    self.held = lambda: None
    self.known = None

  def load(self) -> np.memmap:
    """The bytes of the file. ValueError where it is another than at the first time."""
    whole = self.held()
    if whole is not None:
      return whole
    whole, identity = _map(self.path)
    if self.known not in (None, identity):
      raise ValueError(
        f'{_named(self.path)}: was replaced or changed since it was opened'
      )
    self.held = weakref.ref(whole)
    self.known = identity
    return whole


class _Entry(NamedTuple):
  """A tensor, and the file that it lies in."""

  described: Described
  file: _File


def _named(path) -> str:
  """A path for an error message, on one line."""
  text = str(path)
  return text if text.isprintable() else repr(text)


def open_tensors(path, *, stem: str = 'model') -> Tensors:
  """The tensors of a .safetensors file, or of a folder.

  A folder has `STEM.safetensors`, or `STEM.safetensors.index.json` and shards. Headers
  are read and checked at once, tensors when they are asked for.

  Raises ValueError, one line that names the file, for all that is damaged or hostile.
  Pickles and other formats that can run code are refused unopened.
  """
  path = pathlib.Path(path)
  if not is_plain(f'{stem}.safetensors'):
    raise ValueError(
      f"stem: {shown(str(stem))} is not how the name of a file begins, as 'model' is"
    )
  try:
    entries, metadata = _open(path, stem)
  except OSError as error:
    where = _named(error.filename or path)
    raise ValueError(f'{where}: {error.strerror or error}') from error
  return _tensors(path, entries, metadata)


def _open(path: pathlib.Path, stem: str) -> tuple[dict[str, _Entry], dict[str, str]]:
  """(the tensors by name, the metadata) of a file or a folder."""
  if not os.path.isdir(path):
    return _open_file(path)
  single = path / f'{stem}.safetensors'
  # A link to nowhere is said, and not passed over for an index.
  if os.path.lexists(single):
    return _open_file(single)
  index = path / f'{single.name}.index.json'
  # A pipe is no file: open() would wait for it.
  if index.is_file():
    return _open_index(index)
  raise ValueError(f'{_named(path)}: {_nothing(path, single.name)}')


def _nothing(folder: pathlib.Path, single: str) -> str:
  """What to say of a folder without the wanted weights, the file `single`."""
  names = sorted(os.listdir(folder))
  looked = f'no {single} and no {single}.index.json'
  for name in names:
    if name.endswith(('.safetensors', '.safetensors.index.json')):
      return (
        f'{looked}; it holds {shown(name)}, which is opened by its path or by `stem`'
      )
  refused = []
  for name in names:
    _, ending = os.path.splitext(name)
    if ending in REFUSED:
      refused.append(name)
  if not refused:
    return f'no weights: {looked}'
  # What is called after the model is what was meant, before an optimizer's state.
  first = min(refused, key=lambda name: ('model' not in name, name))
  reason = _refusal(folder / first)
  return f'{looked}, only {shown(first)}: {reason}'


def _refusal(path: pathlib.Path) -> str:
  """Why a file is not opened that by the end of its name can run code.

  Its first bytes are looked at, which runs nothing: what is no such file is said too.
  """
  refusal = f'{REFUSED[path.suffix]} {_ADVICE}'
  if not path.is_file():
    return refusal
  with open(path, 'rb') as file:
    found = stands_in(file.read(START_BYTES))
  return f'{found}; even then, {refusal}' if found else refusal


def _tensors(
  path: pathlib.Path, entries: dict[str, _Entry], metadata: dict[str, str]
) -> Tensors:
  """The view from outside of opened files."""
  names = tuple(sorted(entries))

  def find(name: str) -> _Entry:
    if name not in entries:
      near = _nearest(str(name), names)
      raise ValueError(f'{_named(path)}: no tensor {shown(str(name))}; nearest: {near}')
    return entries[name]

  def shape(name: str) -> tuple[int, ...]:
    return find(name).described.shape

  def dtype(name: str) -> np.dtype:
    return find(name).described.dtype

  def read(name: str) -> np.ndarray:
    tensor, file = find(name)
    flat = file.load()[tensor.start : tensor.end]
    # As a boolean, another byte would be true, and unequal to `True`.
    if tensor.dtype.kind == 'b' and flat.size and flat.max() > 1:
      raise ValueError(
        f'{_named(path)}: tensor {shown(name)} is BOOL and holds bytes that are '
        'neither 0 nor 1'
      )
    return flat.view(tensor.dtype).reshape(tensor.shape)

  return Tensors(names, shape, dtype, read, metadata)


def _nearest(name: str, names: tuple[str, ...]) -> str:
  """The names that a wrong one may have stood for, those of the same leaf first."""
  leaf = name.rpartition('.')[2]
  near = [other for other in names if other.endswith(leaf)]
  # To compare two long lists of texts takes minutes.
  return nearest(name[:100], (near or names)[:1000])


def _open_index(index: pathlib.Path) -> tuple[dict[str, _Entry], dict[str, str]]:
  """(the tensors by name, the metadata) of all shards.

  Raises ValueError for a shard that does not hold exactly the tensors that the index
  says.
  """
  try:
    wanted = _read_index(index)
  except ValueError as error:
    raise ValueError(f'{_named(index)}: {error}') from None
  entries, metadata = {}, {}
  for shard, expected in sorted(wanted.items()):
    path = index.with_name(shard)
    found, of_shard = _open_file(path)
    differing = found.keys() ^ expected
    if differing:
      name = min(differing)
      fault = 'the index does not list it here'
      if name in expected:
        fault = 'the index lists it here, the file lacks it'
      raise ValueError(f'{_named(path)}: tensor {shown(name)}: {fault}')
    entries |= found
    metadata = of_shard | metadata
  return entries, metadata


def _read_index(index: pathlib.Path) -> dict[str, set[str]]:
  """The names of the tensors of each shard, by the name of its file."""
  content = files.read_bounded(index, INDEX_BYTES)
  found = stands_in(content)
  if found:
    raise ValueError(found)
  # Every JSON value but the first follows one of these bytes, so that they bound what
  # parsing costs before it is done.
  listed = sum(map(content.count, (b',', b'[', b'{')))
  if listed > MOST_LISTED + 1000:
    raise ValueError(f'lists more than {MOST_LISTED} tensors')
  parsed = parse(content.removeprefix(codecs.BOM_UTF8))
  listed = parsed.get('weight_map') if isinstance(parsed, dict) else None
  if not isinstance(listed, dict) or not listed:
    raise ValueError("has no 'weight_map' from names of tensors to files")
  wanted = {}
  for name, shard in listed.items():
    # Another name could lead out of the folder.
    if not isinstance(shard, str) or not is_plain(shard):
      raise ValueError(
        f'tensor {shown(name)} is in {shown(str(shard))}, no safetensors file of this '
        'folder'
      )
    wanted.setdefault(shard, set()).add(name)
  return wanted


def _open_file(path: pathlib.Path) -> tuple[dict[str, _Entry], dict[str, str]]:
  """(the tensors by name, the metadata) of a file that is whole."""
  file = _File(path)
  try:
    described, metadata = read_header(memoryview(file.load()))
  except ValueError as error:
    raise ValueError(f'{_named(path)}: {error}') from None
  entries = {}
  for name, tensor in described.items():
    entries[name] = _Entry(tensor, file)
  return entries, metadata


def _map(path: pathlib.Path) -> tuple[np.memmap, tuple]:
  """The bytes of a regular file, and what tells it from a file that takes its place."""
  if path.suffix in REFUSED:
    raise ValueError(_refusal(path))
  if path.suffix != '.safetensors' or '\0' in str(path):
    raise ValueError('neither a folder nor a .safetensors file')
  status = os.stat(path)
  size = status.st_size
  is_regular = stat.S_ISREG(status.st_mode)
  if not is_regular or size < 10:
    # A pipe is not read: it would wait for a writer.
    found = looks_like(path.read_bytes()) if is_regular else ''
    raise ValueError(
      f'not a regular file that could hold a header; it has {size} bytes'
      + (f': {found}' if found else '')
    )
  identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
  return np.memmap(path, np.uint8, 'r'), identity


def require_finite(name: str, array: np.ndarray) -> None:
  """Raises ValueError for a tensor that holds NaN or an infinity, and says where.

  One pass over the bits, in blocks that stay in the cache: a number is finite where
  its exponent is not all ones. It takes a fraction of the time of reading the file.
  """
  # To numpy, bfloat16 and most of the types of 8 bits are of kind V.
  if array.dtype.kind not in 'fV':
    return
  array = np.asarray(array)
  # Each type of 8 bits marks NaN in a way of its own, and some have no infinity.
  if array.dtype.itemsize == 1:
    wrong = not np.isfinite(array.astype(np.float32)).all()
  else:
    wrong = _has_full_exponent(array.reshape(-1))
  if wrong:
    is_wrong = ~np.isfinite(array.astype(np.float64))
    at = np.argwhere(is_wrong)[0].tolist()
    found = array[tuple(at)]
    raise ValueError(f'tensor {shown(name)} holds {found} at {at}: no weight')


def _has_full_exponent(flat: np.ndarray) -> bool:
  """Are there numbers (n,) of 16, 32 or 64 bits whose exponent is all ones?"""
  bits = 8 * flat.dtype.itemsize
  exponent = int(ml_dtypes.finfo(flat.dtype).nexp)
  least = ((1 << exponent) - 1) << (bits - exponent)
  words = flat.view(f'u{flat.dtype.itemsize}')
  shifted = np.empty(min(_CACHED, words.size), words.dtype)
  for start in range(0, words.size, _CACHED):
    block = words[start : start + _CACHED]
    # Without its sign, the bits of a number grow with it.
    unsigned = np.left_shift(block, 1, out=shifted[: block.size])
    if unsigned.max() >= least:
      return True
  return False
