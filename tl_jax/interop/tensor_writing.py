"""Folders of safetensors written one tensor at a time, so that a save never mixes two.

>>> import tempfile
>>> (file,) = save_tensors(tempfile.mkdtemp(), {'bias': np.arange(3, dtype='float32')})
>>> file.name
'model.safetensors'

The library `safetensors` 0.8 needs all tensors in memory at once: 201 MB for 200 of
1 MB that are made one by one, where this takes 2 MB and half the time (0.2 s). It also
writes an array that is not contiguous as other numbers, without a word.
"""

import json
import math
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from tl_jax import files
from tl_jax.interop.tensor_header import (
  HEADER_BYTES,
  METADATA,
  METADATA_BYTES,
  MOST_TENSORS,
  NAME_LENGTH,
  TYPES,
  is_plain,
  shown,
)

# transformers refuses a file that does not say how its weights are laid out.
PYTORCH = {'format': 'pt'}
CODES = {dtype: code for code, dtype in TYPES.items()}

# In bytes: as much of an array that is not contiguous is copied at a time.
_BLOCK = 1 << 24


class Lazy(NamedTuple):
  """A tensor to be written: `read()` gives the array when its turn comes."""

  shape: tuple[int, ...]
  dtype: Any
  read: Callable[[], Any]


def save_tensors(
  folder,
  tensors: Mapping[str, Any] | Iterable[tuple[str, Any]],
  *,
  stem: str = 'model',
  shard_bytes: int = 5_000_000_000,
  metadata: Mapping[str, str] | None = PYTORCH,
) -> list[pathlib.Path]:
  """Writes named arrays as Hugging Face does, and returns the files.

  They are `STEM.safetensors`, or shards and their index. A value is an array of numpy
  or jax, or `Lazy`, one of which is in memory at a time. Shards take tensors in the
  given order; one that is larger than `shard_bytes` has its own.

  Whenever a save stops, the folder opens to the old tensors, to the new ones, or not at
  all. All is on the disk under temporary names before a file is renamed. The index
  comes last. Then what older saves of this stem left is deleted.

  Raises ValueError that names a tensor which cannot be held or is not as announced.
  """
  folder = pathlib.Path(folder)
  planned = _planned(tensors)
  _require_options(stem, shard_bytes, metadata)
  shards = _shards(planned, shard_bytes)
  names = _file_names(stem, len(shards))
  index = folder / f'{stem}.safetensors.index.json'
  folder.mkdir(parents=True, exist_ok=True)
  named = dict(zip(names, shards, strict=True))
  _write_files(folder, named, metadata, index)
  if len(names) > 1:
    _write_index(index, dict(zip(names, shards, strict=True)))
    names.append(index.name)
  _delete_older(folder, stem, names)
  return [folder / name for name in names]


def _require_options(stem: str, shard_bytes: int, metadata) -> None:
  """Raises ValueError for options of a save that make no file, or none to be opened."""
  whole = isinstance(shard_bytes, int) and shard_bytes >= 1
  if not is_plain(f'{stem}.safetensors') or not whole:
    raise ValueError(
      f'stem {shown(str(stem))} or shard_bytes {shard_bytes!r}: no file name, or no '
      'number of bytes'
    )
  texts = []
  for pair in (metadata or {}).items():
    texts += pair
  # Half of what can be read again: the header has more around the texts than a list.
  small = all(isinstance(text, str) for text in texts)
  if not small or len(json.dumps(texts)) > METADATA_BYTES // 2:
    raise ValueError(
      f'metadata: {shown(str(metadata))} is not a small dict from text to text'
    )


def _planned(tensors) -> dict[str, Lazy]:
  """Every tensor as it will be written, by name; nothing is read yet.

  Raises ValueError for a name twice, and for a type that safetensors does not have.
  """
  planned = {}
  pairs = tensors.items() if isinstance(tensors, Mapping) else tensors
  for name, value in pairs:
    is_short = isinstance(name, str) and len(name) <= NAME_LENGTH
    fits = is_short and name != METADATA
    if not fits or name in planned:
      raise ValueError(
        f'tensor {shown(str(name))}: the name is given twice, or no text of at most '
        f'{NAME_LENGTH}'
      )
    dtype = _dtype_of(value)
    if dtype not in CODES:
      raise ValueError(
        f'tensor {shown(name)}: safetensors holds no {dtype}, only '
        f'{", ".join(map(str, CODES))}'
      )
    # Bound by a default, because `value` is another one in the next round.
    read = value.read if isinstance(value, Lazy) else lambda value=value: value
    shape = tuple(map(int, value.shape))
    planned[name] = Lazy(shape, dtype, read)
  return planned


def _dtype_of(value):
  """The little-endian type of an array; a name to be shown, for what is no array."""
  try:
    return np.dtype(value.dtype).newbyteorder('<')
  except (AttributeError, TypeError):
    return getattr(value, 'dtype', type(value).__name__)


def _size(tensor: Lazy) -> int:
  """The bytes of a tensor."""
  return math.prod(tensor.shape) * tensor.dtype.itemsize


def _shards(planned: dict[str, Lazy], most: int) -> list[dict[str, Lazy]]:
  """Tensors in their order, as many to a shard as fit in `most` bytes.

  One that does not fit by itself has its own, which comes before the shard that is
  being filled, as with Hugging Face. There is at least one shard.
  """
  whole = []
  current = {}
  room = most
  for name, tensor in planned.items():
    size = _size(tensor)
    if size > most:
      whole.append({name: tensor})
      continue
    if size > room:
      whole.append(current)
      current = {}
      room = most
    current[name] = tensor
    room -= size
  if current or not whole:
    whole.append(current)
  return whole


def _file_names(stem: str, count: int) -> list[str]:
  """What Hugging Face calls the files of so many shards."""
  if count == 1:
    return [f'{stem}.safetensors']
  found = []
  for number in range(1, count + 1):
    found.append(f'{stem}-{number:05d}-of-{count:05d}.safetensors')
  return found


def _write_files(
  folder: pathlib.Path, shards: dict[str, dict[str, Lazy]], metadata, index
) -> None:
  """Writes all shards, by the names of their files, and only then puts them in place.

  Until then an error leaves the folder as it was.
  """
  temporary = {name: folder / f'.{name}.tmp' for name in shards}
  try:
    for name, shard in shards.items():
      # A save that was killed may have left one.
      temporary[name].unlink(missing_ok=True)
      _write(temporary[name], shard, metadata)
    if len(shards) > 1:
      # The index of older shards must never find some of the new ones.
      index.unlink(missing_ok=True)
    for name in shards:
      os.replace(temporary[name], folder / name)
    files.flush(folder)
  finally:
    for path in temporary.values():
      path.unlink(missing_ok=True)


def _write_index(index: pathlib.Path, shards: dict[str, dict[str, Lazy]]) -> None:
  """Writes which file each tensor is in, and the bytes of all together."""
  where = {}
  total = 0
  for file, shard in shards.items():
    for name, tensor in shard.items():
      where[name] = file
      total += _size(tensor)
  content = {'metadata': {'total_size': total}, 'weight_map': where}
  text = json.dumps(content, indent=2, sort_keys=True) + '\n'
  files.write_atomically(index, text.encode())


def _delete_older(folder: pathlib.Path, stem: str, names: list[str]) -> None:
  """Deletes the files of older saves of a stem, and of killed ones, but those named.

  Files of a longer stem, such as `model-extra`, stay.
  """
  begin = re.escape(stem)
  shard = rf'{begin}(-\d{{5,}}-of-\d{{5,}})?\.safetensors'
  index = rf'{begin}\.safetensors\.index\.json'
  ours = re.compile(rf'{shard}|\.{shard}\.tmp|{index}')
  for name in os.listdir(folder):
    if ours.fullmatch(name) and name not in names:
      (folder / name).unlink()


def _write(
  path: pathlib.Path, shard: dict[str, Lazy], metadata: Mapping[str, str] | None
) -> None:
  """Writes a file, and waits until it is on the disk.

  Raises ValueError for more tensors than can be read again, and for an array that is
  not as announced.
  """
  # The order of the reference library, which makes the same bytes: wide types first.
  ranks = {dtype: rank for rank, dtype in enumerate(CODES)}

  def place(name: str):
    return -ranks[shard[name].dtype], name

  order = sorted(shard, key=place)
  head = _header({name: shard[name] for name in order}, metadata)
  # Never over a file, or through a link, that is there.
  with open(path, 'xb') as file:
    file.write(len(head).to_bytes(8, 'little'))
    file.write(head)
    for name in order:
      _write_array(file, name, shard[name])
    # A rename may outlive a crash that takes what was not on the disk yet.
    file.flush()
    os.fsync(file.fileno())


def _header(shard: dict[str, Lazy], metadata: Mapping[str, str] | None) -> bytes:
  """The header of a file of these tensors, in their order."""
  described = {}
  if metadata:
    described[METADATA] = dict(metadata)
  at = 0
  for name, tensor in shard.items():
    end = at + _size(tensor)
    described[name] = {
      'dtype': CODES[tensor.dtype],
      'shape': tensor.shape,
      'data_offsets': (at, end),
    }
    at = end
  text = json.dumps(described, ensure_ascii=False, separators=(',', ':'))
  head = text.encode()
  # The data begins at a multiple of 8 bytes, so that a view of it is aligned.
  head += b' ' * (-len(head) % 8)
  if len(head) > HEADER_BYTES or len(shard) > MOST_TENSORS:
    raise ValueError(
      f'{len(shard)} tensors with a header of {len(head)} bytes are more than can be '
      'read again'
    )
  return head


def _write_array(file: BinaryIO, name: str, tensor: Lazy) -> None:
  """Writes the numbers of a tensor, row-major and little-endian."""
  array = np.asarray(tensor.read())
  dtype = array.dtype.newbyteorder('<')
  if array.shape != tensor.shape or dtype != tensor.dtype:
    raise ValueError(
      f'tensor {shown(name)}: announced as {tensor.dtype}{tensor.shape}, '
      f'is {array.dtype}{array.shape}'
    )
  rows = np.atleast_1d(array)
  step = len(rows)
  # In steps, so that a transposed array is never copied whole.
  if not rows.flags.c_contiguous:
    step = len(rows) * _BLOCK // max(1, rows.nbytes)
  step = max(1, step)
  for row in range(0, len(rows), step):
    part = rows[row : row + step]
    block = np.ascontiguousarray(part, tensor.dtype)
    # As bytes, because the types of ml_dtypes have no buffer that a file takes.
    file.write(block.reshape(-1).view(np.uint8))
