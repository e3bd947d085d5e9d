"""Arrays onto the mesh: logical axis names become mesh axes by one table of rules.

What the presets of config.sharding cut, by the axes of the mesh:

| preset | rows | positions | width of embeddings | width | heads, hidden units |
|---|---|---|---|---|---|
| replicate | data, fsdp | sequence | | | |
| fsdp | data, fsdp | sequence | fsdp | fsdp | |
| tensor | data, fsdp | sequence | tensor | | tensor |
| fsdp_tensor | data, fsdp | sequence | fsdp, tensor | fsdp | tensor |
| sequence | data, fsdp | sequence | fsdp, sequence, tensor | fsdp, sequence | tensor |

Rows and positions are of batches and activations, the others of weights, which are
whole along the axes that a preset does not name. What a cohort has one of for each
member is cut along cohort besides. An axis of size 1 cuts nothing, so that one device
is the same under every preset.

An axis of the mesh that does not divide its dimension of a big array cuts another one,
the largest that it divides. `uncut` says which big arrays stay whole nevertheless.

>>> from tl_jax.parallel.mesh import MeshShape, make_mesh
>>> kernel = jax.ShapeDtypeStruct((4, 8), 'float32')
>>> found = shardings(make_mesh(MeshShape()), PartitionSpec('embed', 'mlp'), kernel)
>>> tuple(found.spec)
('fsdp', 'tensor')
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tl_jax import tree
from tl_jax.parallel.mesh import AXES

# Batches and activations are cut in the same way whatever the parameters are.
_ACTIVATIONS = {
  'batch': ('data', 'fsdp'),
  'length': 'sequence',
  'cohort': 'cohort',
}
# preset -> logical axis -> mesh axis or axes
RULES = {
  'replicate': _ACTIVATIONS,
  'fsdp': {
    **_ACTIVATIONS,
    'columns': 'fsdp',
    'vocabulary': 'fsdp',
    'embed': 'fsdp',
  },
  'tensor': {
    **_ACTIVATIONS,
    'columns': 'tensor',
    'vocabulary': 'tensor',
    'heads': 'tensor',
    'mlp': 'tensor',
  },
  'fsdp_tensor': {
    **_ACTIVATIONS,
    'columns': ('fsdp', 'tensor'),
    'vocabulary': ('tensor', 'fsdp'),
    'embed': 'fsdp',
    'heads': 'tensor',
    'mlp': 'tensor',
  },
  'sequence': {
    **_ACTIVATIONS,
    'columns': ('fsdp', 'sequence', 'tensor'),
    'vocabulary': ('tensor', 'fsdp', 'sequence'),
    'embed': ('fsdp', 'sequence'),
    'heads': 'tensor',
    'mlp': 'tensor',
  },
}
# A name that an earlier version had -> that of today.
FORMER_PRESETS = {'replicated': 'replicate'}
# Arrays of so many entries are big: 4 MiB in float32.
BIG = 2**20
# What config.sharding may be.
PRESETS = (*RULES, *FORMER_PRESETS)


def rules_of(preset: str, axes: Mapping[str, int]) -> dict:
  """The rules of a preset, on a mesh with axes of these sizes.

  `fsdp` once stood for what is called `fsdp_tensor` today. A mesh with a tensor axis is
  cut along it under either name: else its devices would all do the same.
  Raises ValueError for a name that is none.
  """
  name = FORMER_PRESETS.get(preset, preset)
  if name not in RULES:
    raise ValueError(f'sharding: unknown preset {preset!r}; one of: {", ".join(RULES)}')
  if name == 'fsdp' and axes.get('tensor', 1) > 1:
    name = 'fsdp_tensor'
  return RULES[name]


def cutting_axes(preset: str, axes: Mapping[str, int]) -> set[str]:
  """The mesh axes along which a preset cuts weights."""
  rules = rules_of(preset, axes)
  found = set()
  for logical in rules.keys() - _ACTIVATIONS.keys():
    cut_by = _axes_in(rules[logical])
    found.update(cut_by)
  return found


def _axes_in(entry) -> tuple[str, ...]:
  """The mesh axes in one entry of a spec: None, a name, or several names."""
  if entry is None:
    return ()
  return (entry,) if isinstance(entry, str) else tuple(entry)


def _physical(
  logical: PartitionSpec, shape: tuple[int, ...], mesh: Mesh, rules: dict
) -> PartitionSpec:
  """The mesh axes of one array, from the logical names of its dimensions.

  A mesh axis that does not divide its dimension is left out, so that the dimension stays
  whole on it.
  """
  axes = []
  # A logical spec may name the first dimensions only.
  names = tuple(logical) + (None,) * len(shape)
  for size, name in zip(shape, names, strict=False):
    wanted = _wanted(name, rules)
    kept, parts = (), 1
    for axis in wanted:
      if size % (parts * mesh.shape[axis]) == 0:
        kept += (axis,)
        parts *= mesh.shape[axis]
    axes.append(_bare(kept))
  return PartitionSpec(*axes)


def _parameter_spec(logical, shape, mesh, rules) -> tuple[PartitionSpec, list[str]]:
  """`_physical` of a parameter, and the mesh axes that should cut it but cannot.

  What is big is cut along another dimension where an axis does not divide its own.
  """
  spec = _physical(logical, shape, mesh, rules)
  if math.prod(shape) < BIG:
    return spec, []
  cut_by = [_axes_in(entry) for entry in spec]
  placed = {axis for axes in cut_by for axis in axes}
  cannot = []
  for name in logical:
    for axis in _wanted(name, rules):
      if axis in placed or mesh.shape[axis] == 1:
        continue
      placed.add(axis)
      dimension = _largest_divided(shape, cut_by, axis, mesh)
      if dimension is None:
        cannot.append(axis)
      else:
        cut_by[dimension] += (axis,)
  return PartitionSpec(*map(_bare, cut_by)), cannot


def _largest_divided(shape, cut_by, axis: str, mesh: Mesh) -> int | None:
  """The dimension whose parts are the largest of those that an axis can cut further."""
  best, largest = None, 0
  for dimension, (size, axes) in enumerate(zip(shape, cut_by, strict=True)):
    parts = math.prod(mesh.shape[name] for name in axes)
    if size % (parts * mesh.shape[axis]) == 0 and size // parts > largest:
      best, largest = dimension, size // parts
  return best


def _bare(axes: tuple[str, ...]):
  """Some axes as an entry of a spec: a single one stands bare, and none is None."""
  return axes[0] if len(axes) == 1 else axes or None


def _wanted(entry, rules: dict) -> tuple[str, ...]:
  """The mesh axes that cut a dimension.

  entry: its logical name; or, from an override, the axis of the mesh itself or several.
  """
  found = ()
  for name in _axes_in(entry):
    own = name if name in AXES else None
    found += _axes_in(rules.get(name, own))
  return found


def shardings(mesh: Mesh, axes, abstract, preset: str = 'fsdp_tensor'):
  """The NamedSharding of every leaf.

  axes: a tree like `abstract`, with a PartitionSpec of logical names for each leaf; a
  name of a mesh axis, which an override may have, stands for itself.
  abstract: a tree of arrays or of their shapes. preset: a name of `RULES`.
  """
  rules = rules_of(preset, mesh.shape)

  def sharding(logical, leaf):
    spec, _ = _parameter_spec(logical, leaf.shape, mesh, rules)
    return NamedSharding(mesh, spec)

  # A spec is one leaf, although it has parts.
  is_spec = lambda node: isinstance(node, PartitionSpec)
  return jax.tree.map(sharding, axes, abstract, is_leaf=is_spec)


class Uncut(NamedTuple):
  """A big array that lies whole along axes of the mesh that should cut it."""

  name: str
  shape: tuple[int, ...]
  bytes: int
  axes: tuple[str, ...]


def uncut(mesh: Mesh, axes, abstract, preset: str = 'fsdp_tensor') -> list[Uncut]:
  """The big arrays that no dimension of theirs lets some axes cut; as `shardings`."""
  rules = rules_of(preset, mesh.shape)
  found = []

  def look(path, logical, leaf):
    _, cannot = _parameter_spec(logical, leaf.shape, mesh, rules)
    if cannot:
      size = math.prod(leaf.shape) * leaf.dtype.itemsize
      one = Uncut(tree.name_of(path), tuple(leaf.shape), size, tuple(cannot))
      found.append(one)

  is_spec = lambda node: isinstance(node, PartitionSpec)
  jax.tree_util.tree_map_with_path(look, axes, abstract, is_leaf=is_spec)
  return found


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """The rows of a batch over data and fsdp.

  XLA spreads the positions over the sequence axis, from the constraint inside the model.
  """
  return NamedSharding(mesh, PartitionSpec(('data', 'fsdp')))


def place(tree, sharding):
  """Puts every leaf where its sharding says.

  tree: arrays that every process holds in full. sharding: one for all leaves, or a tree
  with one for each.
  """

  def put(leaf, where):
    if where.is_fully_addressable:
      return jax.device_put(leaf, where)
    # device_put would compare the leaf between all processes first.
    whole = np.asarray(leaf)
    return jax.make_array_from_callback(whole.shape, where, whole.__getitem__)

  if isinstance(sharding, NamedSharding):
    return jax.tree.map(lambda leaf: put(leaf, sharding), tree)
  return jax.tree.map(put, tree, sharding)


def host_rows(sharding: NamedSharding, rows: int, devices=None) -> np.ndarray:
  """The numbers of the rows of a global batch that a host must read, ascending.

  A mesh orders devices by how they are wired, not by host. So the rows of a host need
  not be neighbours. Hosts share a row where a mesh axis that cuts no rows spans them.

  Args:
    sharding: of a batch, over all devices of the run.
    rows: how many rows the global batch has.
    devices: the devices of the host; those of this process by default.
  """
  places = sharding.devices_indices_map((rows,))
  devices = sharding.addressable_devices if devices is None else devices
  numbers = np.arange(rows)
  held = [numbers[places[device]] for device in devices]
  return np.unique(np.concatenate(held))


def place_batch(batch: dict, sharding: NamedSharding, rows: int, held=None) -> dict:
  """The global batch on the mesh, from the rows that this process has read.

  Args:
    batch: arrays whose first axis counts the rows that this process has.
    sharding: where the rows of the global batch belong.
    rows: how many rows the global batch has.
    held: the numbers of the rows that are in `batch`, ascending; all by default.
  Raises ValueError for a row that a device needs and this process has not.
  """
  held = np.arange(rows) if held is None else np.asarray(held)

  def put(array):
    shape = rows, *array.shape[1:]
    part = lambda index: part_of(array, held, rows, index)
    return jax.make_array_from_callback(shape, sharding, part)

  return {name: put(np.asarray(array)) for name, array in batch.items()}


def part_of(array: np.ndarray, held: np.ndarray, rows: int, index) -> np.ndarray:
  """What `index` cuts out of a global array of which only the rows `held` are here.

  Raises ValueError that names a missing row.
  """
  wanted = np.arange(rows)[index[0]]
  missing = np.setdiff1d(wanted, held)
  if len(missing):
    raise ValueError(
      f'row {missing[0]} of a batch of {rows} is needed by a device of '
      f'process {jax.process_index()}, which has not read it'
    )
  places = np.searchsorted(held, wanted)
  # The rows are cut already; the other axes are cut as `index` says.
  return array[places][(slice(None), *index[1:])]


def constrain(x, *logical: str | None, preset: str = 'fsdp_tensor'):
  """Names the logical axes of an activation, which XLA then cuts by the rules.

  Without a mesh in force (`jax.set_mesh`) it changes nothing.
  """
  spec = activation_spec(x.shape, *logical, preset=preset)
  if spec is None:
    return x
  return jax.lax.with_sharding_constraint(x, spec)


def activation_spec(
  shape: tuple[int, ...], *logical: str | None, preset: str = 'fsdp_tensor'
) -> PartitionSpec | None:
  """How an activation with these logical axes is cut by the mesh in force.

  None where there is nothing to cut: without a mesh, or on one device.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return None
  rules = rules_of(preset, mesh.shape)
  return _physical(PartitionSpec(*logical), shape, mesh, rules)


def lay(x, *axes: tuple[str, ...]):
  """Cuts each of the first dimensions of x between some axes of the mesh in force.

  Dimensions that are not named stay whole. One that the devices do not divide is padded
  by XLA while it lies so. Without a mesh it changes nothing.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return x
  spec = PartitionSpec(*axes)
  return jax.lax.with_sharding_constraint(x, spec)


def axis_sizes() -> dict[str, int]:
  """axis -> size of the mesh in force; 1 for every axis without one."""
  return dict.fromkeys(AXES, 1) | dict(jax.sharding.get_abstract_mesh().shape)


def activation_shards() -> int:
  """Over how many devices of the mesh in force an activation of one model is spread.

  At best: an axis that does not divide it leaves it whole. 1 without a mesh.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    return 1
  # The members of a cohort are models of their own.
  return mesh.size // mesh.shape.get('cohort', 1)


def to_host(tree):
  """Every leaf as a numpy array, on every process."""
  return jax.tree.map(_fetch, tree)


def _fetch(leaf) -> np.ndarray:
  """One leaf in full."""
  if not isinstance(leaf, jax.Array):
    return np.asarray(leaf)
  # Any device has all of it.
  if leaf.is_fully_replicated:
    return np.asarray(leaf.addressable_data(0))
  if leaf.is_fully_addressable:
    return np.asarray(leaf)
  from jax.experimental import multihost_utils

  # Each process has a part only, so they all exchange theirs.
  return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))
