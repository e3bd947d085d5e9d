"""Trees taken to the host and back, as a flat dict of arrays in one orbax folder.

What is on the disk does not depend on the classes of the tree.

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

# Leaves that an error names before it counts the rest.
_MOST_LISTED = 4
# A file per bias would cost more than the bias. Leaves up to this size lie one after
# the other in one array of bytes.
_SMALL_BYTES = 1 << 16


def take(state: Any) -> tuple[dict[str, dict], dict[str, Any]]:
  """(what each leaf is, arrays by folder name) of a state, copied to the host.

  The caller may donate or overwrite the state afterwards. An array that spans processes
  stays a jax.Array, for orbax to copy; see `write`. Raises ValueError that names a leaf
  which is no array, or two leaves of one name.
  """
  named = tree.flatten(state)
  raw = {name: _raw(name, leaf) for name, leaf in named.items()}
  # All copies are under way before the first one is waited for.
  for leaf in raw.values():
    if isinstance(leaf, jax.Array) and _fits_here(leaf):
      leaf.copy_to_host_async()
  leaves: dict[str, dict] = {}
  arrays: dict[str, Any] = {}
  used = {SMALL}
  small: list[np.ndarray] = []
  end = 0
  for name, leaf in raw.items():
    array = _copy(leaf)
    entry = _entry(named[name], array)
    leaves[name] = entry
    # An array that spans processes has parts elsewhere: orbax writes it, however small.
    if array.nbytes > _SMALL_BYTES or not isinstance(array, np.ndarray):
      entry['folder'] = _folder(name, used)
      arrays[entry['folder']] = array
    elif array.size:
      entry |= {'folder': SMALL, 'start': end, 'bytes': array.nbytes}
      small.append(array.reshape(-1).view(np.uint8))
      end += array.nbytes
  if small:
    arrays[SMALL] = np.concatenate(small)
  return leaves, arrays


def _entry(leaf, array) -> dict:
  """What the record says of a leaf: shape, dtype, and the kind of a random key.

  `array` is the leaf's content. Of a random key that is the key data, while shape and
  dtype are those of the key itself.
  """
  key = {}
  shape = array.shape
  dtype = array.dtype
  if _is_key(leaf):
    key = {'impl': str(jax.random.key_impl(leaf))}
    shape = leaf.shape
    dtype = leaf.dtype
  return {
    'shape': [int(size) for size in shape],
    'dtype': str(dtype),
    'folder': None,
    **key,
  }


def seal(leaves: dict[str, dict], arrays: dict[str, Any]) -> dict[str, dict]:
  """The leaves with a checksum for each of the small ones.

  They share a file, whose checksum does not say which of them is damaged.
  """
  sealed = {}
  for name, leaf in leaves.items():
    if leaf['folder'] == SMALL:
      start = leaf['start']
      content = arrays[SMALL][start : start + leaf['bytes']]
      leaf = {**leaf, 'sha256': hashlib.sha256(content).hexdigest()}
    sealed[name] = leaf
  return sealed


def _is_key(leaf) -> bool:
  """Is this an array of random keys?"""
  return hasattr(leaf, 'dtype') and jax.dtypes.issubdtype(
    leaf.dtype, jax.dtypes.prng_key
  )


def _raw(name: str, leaf):
  """The array of a leaf; of random keys their data.

  Raises ValueError that names the leaf for anything else.
  """
  if isinstance(leaf, jax.Array) and leaf.is_deleted():
    raise ValueError(f'the state cannot be saved: leaf {name!r} was donated or deleted')
  if _is_key(leaf):
    return jax.random.key_data(leaf)
  if isinstance(leaf, jax.Array):
    return leaf
  array = np.asarray(leaf)
  # numpy makes an array of any object; these kinds are objects, texts and times.
  if array.dtype.kind in 'OUSMm':
    raise ValueError(
      f'the state cannot be saved: leaf {name!r} is no array but {type(leaf).__name__}; '
      'save the arrays alone, as equinox.partition(model, equinox.is_array)[0]'
    )
  return array


def _fits_here(array: jax.Array) -> bool:
  """Does this process have all of the array?"""
  return array.is_fully_addressable or array.is_fully_replicated


def _copy(leaf):
  """A copy that nothing else writes to, on the host if this process has all of it."""
  if isinstance(leaf, np.ndarray):
    return np.array(leaf, order='C')
  if _fits_here(leaf):
    host = np.asarray(leaf)
    # On the CPU backend this is a view of the buffer that the next step may be given.
    if not host.flags.owndata:
      return np.array(host, order='C')
    return np.ascontiguousarray(host)
  # orbax copies shards of other devices itself, but takes a view of those on a CPU.
  if all(shard.device.platform == 'cpu' for shard in leaf.addressable_shards):
    shards = []
    for shard in leaf.addressable_shards:
      own = np.array(shard.data)
      shards.append(jax.device_put(own, shard.device))
    return jax.make_array_from_single_device_arrays(leaf.shape, leaf.sharding, shards)
  return leaf


def _folder(name: str, used: set[str]) -> str:
  """A folder name that resembles the leaf's name, not among `used`, which it joins.

  The record holds the real name, so that no name of a leaf becomes a path.
  """
  dotted = name.replace('/', '.')
  folder = re.sub(r'[^A-Za-z0-9_.-]', '_', dotted)[:150].lstrip('.') or 'leaf'
  # Some file systems do not tell upper case from lower.
  if folder.lower() in used or folder != dotted:
    checksum = hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()
    folder = f'{folder}-{checksum[:12]}'
  used.add(folder.lower())
  return folder


# Made once, and only where something is read or written: orbax is slow to import.
@functools.cache
def _handler():
  """orbax's handler of trees, one folder per array."""
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
  """Writes the arrays of this process into a folder that exists.

  Calls `copied` once no device buffer is needed any more.
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
  """The names of the leaves of `like`, which `saved` has with the same shape and dtype.

  With `cast` floating-point leaves may differ in their dtype. With `whole` there may be
  no others in `saved`. Raises CheckpointError of one line: the first leaves that
  differ, with both shapes or dtypes, or the nearest names.
  """
  wanted = tree.flatten(like)
  problems = []
  for name, leaf in wanted.items():
    if name not in saved:
      problems.append(f'it has no leaf {name!r}; nearest: {tree.nearest(name, saved)}')
    else:
      problems += _differences(name, saved[name], leaf, cast)
  if whole:
    surplus = [name for name in saved if name not in wanted]
    problems += [f'leaf {name!r} is not asked for' for name in surplus]
  if problems:
    listed = '; '.join(problems[:_MOST_LISTED])
    if len(problems) > _MOST_LISTED:
      listed += f'; and {len(problems) - _MOST_LISTED} more leaves'
    raise CheckpointError(f'{where}: {listed}')
  return list(wanted)


def _differences(name: str, entry: dict, leaf, cast: bool) -> list[str]:
  """The first difference of a saved leaf from the one asked for; [] for none."""
  saved_shape = tuple(entry['shape'])
  shape = tuple(np.shape(leaf))
  if saved_shape != shape:
    return [f'leaf {name!r} has the shape {saved_shape}, asked for {shape}']
  if not _same_dtype(entry['dtype'], leaf, cast):
    asked = str(leaf.dtype) if hasattr(leaf, 'dtype') else type(leaf).__name__
    return [f'leaf {name!r} has the dtype {entry["dtype"]}, asked for {asked}']
  return []


def _same_dtype(saved: str, leaf, cast: bool) -> bool:
  """May a leaf that was saved with this dtype be restored as `leaf`?"""
  kept = _dtype(saved)
  # A Python number has no dtype: any that keeps its kind will do.
  if not hasattr(leaf, 'dtype'):
    return kept is not None and np.can_cast(kept, np.asarray(leaf).dtype, 'same_kind')
  if str(leaf.dtype) == saved:
    return True
  if not cast or kept is None:
    return False
  # jax's own test: to numpy bfloat16 is no floating-point type.
  floating = jax.dtypes.issubdtype
  return floating(kept, np.floating) and floating(leaf.dtype, np.floating)


def _dtype(name: str):
  """The dtype of this name; None for the dtype of a random key."""
  return None if name.startswith('key<') else jax.numpy.dtype(name)


def read(folder: str | os.PathLike, saved: dict[str, dict], like: Any) -> Any:
  """The tree `like` with the saved values, each where the sharding of its leaf puts it.

  A numpy array or Python number gives one of its kind. An abstract leaf without
  sharding gives a jax.Array on the default device. Call `match` first.
  """
  wanted = tree.flatten(like)
  # A leaf without elements has no folder, and nothing to read.
  plain = {name: leaf for name, leaf in wanted.items() if saved[name]['folder']}
  values = _read_orbax(folder, {name: saved[name] for name in plain}, plain)

  def place(name, leaf):
    return _place(values.get(name), saved[name], leaf)

  return tree.map_named(place, like)


def _read_orbax(
  folder, saved: dict[str, dict], wanted: dict[str, Any]
) -> dict[str, Any]:
  """The values of the leaves by name, read together."""
  if not wanted:
    return {}
  import orbax.checkpoint as ocp
  from etils import epath

  arguments = {}
  for name, leaf in wanted.items():
    place = saved[name]['folder']
    sharding = getattr(leaf, 'sharding', None)
    # Read to the host: small leaves are cut out of their bundle, and the data of keys
    # has another shape than the keys.
    if place == SMALL or sharding is None or _is_key(leaf):
      arguments[place] = ocp.RestoreArgs(restore_type=np.ndarray)
    else:
      arguments[place] = ocp.ArrayRestoreArgs(
        sharding=sharding, global_shape=tuple(leaf.shape), dtype=leaf.dtype
      )
  # Partial: the folder may hold leaves that nobody asks for.
  request = ocp.args.PyTreeRestore(
    item=dict.fromkeys(arguments, 0), restore_args=arguments, partial_restore=True
  )
  restored = _handler().restore(epath.Path(folder), args=request)
  return {name: _part(restored, saved[name]) for name in wanted}


def _part(restored: dict[str, Any], entry: dict):
  """The value of one leaf among the arrays of the folder."""
  if entry['folder'] != SMALL:
    return restored[entry['folder']]
  start = entry['start']
  content = restored[SMALL][start : start + entry['bytes']]
  dtype = _dtype(entry['dtype']) or np.dtype(np.uint32)
  # Key data has one more axis than the keys.
  shape = (*entry['shape'], -1) if 'impl' in entry else entry['shape']
  return np.frombuffer(content.tobytes(), dtype).reshape(shape).copy()


def _place(value, entry: dict, leaf):
  """A saved value as what `leaf` is; `value` is None for a leaf without elements."""
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
  if sharding is None:
    return jax.numpy.asarray(value)
  # Every process has the whole value, and places the shards of its own devices.
  return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])


def _place_key(data, entry: dict, sharding):
  """Random keys of their data."""
  impl = entry['impl']
  wrap = functools.partial(jax.random.wrap_key_data, impl=impl)
  if not entry['folder']:
    # Without a key there is no data: its last axis is as long as that of any key.
    size = jax.random.key_data(jax.random.key(0, impl=impl)).size
    data = np.zeros((*entry['shape'], size), np.uint32)
  if sharding is None:
    return wrap(jax.numpy.asarray(data))
  return jax.jit(wrap, out_shardings=sharding)(data)
