"""Trees taken to the host and back: a flat dict of arrays in one orbax folder, whatever
classes the tree has.

>>> leaves, arrays = take({'dense': {'kernel': np.ones((2, 3)), 'bias': np.zeros(3)}, 'hole': None})
>>> list(leaves), leaves['dense/bias']['shape'], list(arrays)
(['dense/bias', 'dense/kernel'], [3], ['small'])
"""

import asyncio
import functools
import hashlib
import os
import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from tl_jax import tree
from tl_jax.checkpoint.record import SMALL, CheckpointError

_MOST_LISTED = 4
_SMALL_BYTES = 1 << 16


def take(state: Any) -> tuple[dict[str, dict], dict[str, Any]]:
  """(what each leaf is, arrays by folder name), copied: the caller may donate or
  overwrite the state afterwards.

  An array that spans processes stays a jax.Array, for orbax to copy; see `write`.
  Raises ValueError that names a leaf which is no array, or two leaves of one name.
  """
  named = tree.flatten(state)
  raw = {name: _raw(name, leaf) for name, leaf in named.items()}
  for leaf in raw.values():
    if isinstance(leaf, jax.Array) and _fits_here(leaf):
      leaf.copy_to_host_async()
  leaves, arrays, used, small, end = {}, {}, {SMALL}, [], 0
  for name, leaf in raw.items():
    array = _copy(name, leaf)
    key = (
      {'impl': str(jax.random.key_impl(named[name]))} if _is_key(named[name]) else {}
    )
    shape, dtype = (
      (named[name].shape, named[name].dtype) if key else (array.shape, array.dtype)
    )
    leaves[name] = entry = {
      'shape': [int(size) for size in shape],
      'dtype': str(dtype),
      'folder': None,
      **key,
    }
    if array.nbytes > _SMALL_BYTES or not isinstance(array, np.ndarray):
      entry['folder'] = _folder(name, used)
      arrays[entry['folder']] = array
    elif array.size:
      # A file per bias would cost more than the bias: small leaves lie one after the
      # other in one array of bytes.
      entry |= {'folder': SMALL, 'start': end, 'bytes': array.nbytes}
      small.append(array.reshape(-1).view(np.uint8))
      end += array.nbytes
  if small:
    arrays[SMALL] = np.concatenate(small)
  return leaves, arrays


def seal(leaves: dict[str, dict], arrays: dict[str, Any]) -> dict[str, dict]:
  """The leaves with a checksum for each of the small ones, so that damage among them
  has a name.
  """
  sealed = {}
  for name, leaf in leaves.items():
    if leaf['folder'] == SMALL:
      content = arrays[SMALL][leaf['start'] : leaf['start'] + leaf['bytes']]
      leaf = {**leaf, 'sha256': hashlib.sha256(content).hexdigest()}
    sealed[name] = leaf
  return sealed


def _is_key(leaf) -> bool:
  return hasattr(leaf, 'dtype') and jax.dtypes.issubdtype(
    leaf.dtype, jax.dtypes.prng_key
  )


def _raw(name: str, leaf):
  if isinstance(leaf, jax.Array) and leaf.is_deleted():
    raise ValueError(f'the state cannot be saved: leaf {name!r} was donated or deleted')
  if _is_key(leaf):
    return jax.random.key_data(leaf)
  if isinstance(leaf, jax.Array):
    return leaf
  array = np.asarray(leaf)
  if array.dtype.kind in 'OUSMm':
    raise ValueError(
      f'the state cannot be saved: leaf {name!r} is no array but {type(leaf).__name__}; '
      'save the arrays alone, as equinox.partition(model, equinox.is_array)[0]'
    )
  return array


def _fits_here(array: jax.Array) -> bool:
  return array.is_fully_addressable or array.is_fully_replicated


def _copy(name: str, leaf):
  if isinstance(leaf, np.ndarray):
    return np.array(leaf, order='C')
  if _fits_here(leaf):
    host = np.asarray(leaf)
    # On the CPU backend this is a view of the buffer that the next step may be given.
    return (
      np.ascontiguousarray(host) if host.flags.owndata else np.array(host, order='C')
    )
  if all(shard.device.platform == 'cpu' for shard in leaf.addressable_shards):
    shards = [
      jax.device_put(np.array(shard.data), shard.device)
      for shard in leaf.addressable_shards
    ]
    return jax.make_array_from_single_device_arrays(leaf.shape, leaf.sharding, shards)
  return leaf


def _folder(name: str, used: set[str]) -> str:
  """A folder name that resembles the leaf's name; the record holds the real one, so no
  name becomes a path.
  """
  folder = (
    re.sub(r'[^A-Za-z0-9_.-]', '_', name.replace('/', '.'))[:150].lstrip('.') or 'leaf'
  )
  if folder.lower() in used or folder != name.replace('/', '.'):
    folder = f'{folder}-{hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]}'
  used.add(folder.lower())
  return folder


@functools.cache
def _handler():
  import orbax.checkpoint as ocp

  handlers = ocp.type_handlers
  # The arrays are copies already; orbax would copy them once more.
  registry = handlers.create_type_handler_registry(
    (np.ndarray, handlers.NumpyHandler(deepcopy_host_arrays=False)),
    (jax.Array, handlers.ArrayHandler()),
  )
  return ocp.PyTreeCheckpointHandler(
    use_ocdbt=False, use_compression=False, type_handler_registry=registry
  )


def write(
  folder: str | os.PathLike, arrays: dict[str, Any], copied: Callable[[], None]
) -> None:
  """Writes the arrays of this process into a folder that exists; calls `copied` once no
  device buffer is needed.
  """
  if not arrays:
    copied()
    return
  import orbax.checkpoint as ocp
  from etils import epath

  arguments = ocp.args.PyTreeSave(arrays)
  futures = asyncio.run(_handler().async_save(epath.Path(folder), args=arguments))
  copied()
  for future in futures:
    future.result()


def match(
  saved: dict[str, dict],
  like: Any,
  where: str,
  cast: bool = False,
  whole: bool = False,
) -> list[str]:
  """The names of the leaves of `like`, all of which `saved` has with the same shape and
  dtype.

  `whole`: `saved` has no others.

  Raises CheckpointError of one line: the first leaves that differ, with both shapes or
  dtypes, or the nearest names.
  """
  wanted = tree.flatten(like)
  problems = []
  for name, leaf in wanted.items():
    if name not in saved:
      problems.append(f'it has no leaf {name!r}; nearest: {tree.nearest(name, saved)}')
      continue
    entry = saved[name]
    shape = tuple(np.shape(leaf))
    if tuple(entry['shape']) != shape:
      problems.append(
        f'leaf {name!r} has the shape {tuple(entry["shape"])}, asked for {shape}'
      )
    elif not _same_dtype(entry['dtype'], leaf, cast):
      asked = str(leaf.dtype) if hasattr(leaf, 'dtype') else type(leaf).__name__
      problems.append(
        f'leaf {name!r} has the dtype {entry["dtype"]}, asked for {asked}'
      )
  if whole:
    surplus = [name for name in saved if name not in wanted]
    problems += [f'leaf {name!r} is not asked for' for name in surplus]
  if problems:
    more = (
      f'; and {len(problems) - _MOST_LISTED} more leaves'
      if len(problems) > _MOST_LISTED
      else ''
    )
    raise CheckpointError(f'{where}: {"; ".join(problems[:_MOST_LISTED])}{more}')
  return list(wanted)


def _same_dtype(saved: str, leaf, cast: bool) -> bool:
  if not hasattr(leaf, 'dtype'):
    return _dtype(saved) is not None and np.can_cast(
      _dtype(saved), np.asarray(leaf).dtype, 'same_kind'
    )
  if str(leaf.dtype) == saved:
    return True
  floating = [
    dtype is not None and jax.dtypes.issubdtype(dtype, np.floating)
    for dtype in (_dtype(saved), leaf.dtype)
  ]
  return cast and all(floating)


def _dtype(name: str):
  return None if name.startswith('key<') else jax.numpy.dtype(name)


def read(folder: str | os.PathLike, saved: dict[str, dict], like: Any) -> Any:
  """The tree `like` with the saved values: each leaf where the sharding of its
  counterpart puts it.

  A numpy array or Python number gives one of its kind; an abstract leaf without
  sharding gives a jax.Array on the default device. Call `match` first.
  """
  wanted = tree.flatten(like)
  plain = {name: leaf for name, leaf in wanted.items() if saved[name]['folder']}
  values = _read_orbax(folder, {name: saved[name] for name in plain}, plain)
  return tree.map_named(
    lambda name, leaf: _place(values.get(name), saved[name], leaf), like
  )


def _read_orbax(
  folder, saved: dict[str, dict], wanted: dict[str, Any]
) -> dict[str, Any]:
  if not wanted:
    return {}
  import orbax.checkpoint as ocp
  from etils import epath

  arguments = {}
  for name, leaf in wanted.items():
    place = saved[name]['folder']
    sharding = getattr(leaf, 'sharding', None)
    if place == SMALL or sharding is None or _is_key(leaf):
      arguments[place] = ocp.RestoreArgs(restore_type=np.ndarray)
    else:
      arguments[place] = ocp.ArrayRestoreArgs(
        sharding=sharding, global_shape=tuple(leaf.shape), dtype=leaf.dtype
      )
  restored = _handler().restore(
    epath.Path(folder),
    args=ocp.args.PyTreeRestore(
      item=dict.fromkeys(arguments, 0), restore_args=arguments, partial_restore=True
    ),
  )
  return {name: _part(restored, saved[name]) for name in wanted}


def _part(restored: dict[str, Any], entry: dict):
  if entry['folder'] != SMALL:
    return restored[entry['folder']]
  content = restored[SMALL][entry['start'] : entry['start'] + entry['bytes']]
  dtype = _dtype(entry['dtype']) or np.dtype(np.uint32)
  shape = (*entry['shape'], -1) if 'impl' in entry else entry['shape']
  return np.frombuffer(content.tobytes(), dtype).reshape(shape).copy()


def _place(value, entry: dict, leaf):
  if value is None:
    value = np.zeros(entry['shape'], _dtype(entry['dtype']) or np.uint32)
  if 'impl' in entry:
    return _place_key(value, entry, getattr(leaf, 'sharding', None))
  if isinstance(leaf, bool | int | float | complex):
    return type(leaf)(value.item())
  if isinstance(leaf, np.generic):
    return leaf.dtype.type(value)
  if isinstance(leaf, np.ndarray):
    return np.asarray(value, leaf.dtype)
  if isinstance(value, jax.Array):
    return value
  value = np.asarray(value, leaf.dtype)
  sharding = getattr(leaf, 'sharding', None)
  return (
    jax.numpy.asarray(value)
    if sharding is None
    else jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])
  )


def _place_key(data, entry: dict, sharding):
  wrap = functools.partial(jax.random.wrap_key_data, impl=entry['impl'])
  if not entry['folder']:
    data = np.zeros(
      (
        *entry['shape'],
        jax.random.key_data(jax.random.key(0, impl=entry['impl'])).size,
      ),
      np.uint32,
    )
  return (
    wrap(jax.numpy.asarray(data))
    if sharding is None
    else jax.jit(wrap, out_shardings=sharding)(data)
  )
