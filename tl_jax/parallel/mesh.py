"""The device mesh with its named axes.

>>> resolve(MeshShape(data=-1, fsdp=2), 8)['data']
4
"""

import collections
import dataclasses
import math

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh

AXES = ('cohort', 'data', 'fsdp', 'tensor', 'sequence')
# The axes that may span slices, those with the least traffic first: members of a cohort
# exchange nothing, and copies of a model their gradients once in a step.
SPANNING = ('cohort', 'data', 'fsdp')
# The kinds of chips whose wires may be shared by several axes of a mesh.
BENDING = ('TPU v5 lite', 'TPU v5e')


@dataclasses.dataclass(frozen=True)
class MeshShape:
  """How many devices each axis of the mesh takes.

  At most one axis may be -1, which takes what is left.

  data: copies of the model, each with rows of its own. fsdp: the same, with the weights
  cut between them. tensor: heads and hidden units of a layer. sequence: positions.
  cohort: models that are trained side by side.

  dcn is no axis. It says over how many slices the axes of SPANNING are laid, where the
  devices are in several: pods, each with wires of its own, which the network of a data
  centre joins. -1 stands for as many as there are. An axis counts the devices of all
  slices.
  """

  data: int = -1
  fsdp: int = 1
  tensor: int = 1
  sequence: int = 1
  cohort: int = 1
  dcn: int = 1

  def __post_init__(self):
    sizes = {axis: getattr(self, axis) for axis in AXES}
    numbers = sizes | {'dcn': self.dcn}
    for name, number in numbers.items():
      if number == 0 or number < -1:
        things = 'slices' if name == 'dcn' else 'devices'
        raise ValueError(
          f'{name}: {number} {things}; give a positive number, or -1 for what is left'
        )
    if list(sizes.values()).count(-1) > 1:
      raise ValueError('only one mesh axis can be -1')
    # Said before there are devices, as far as it is known.
    if all(sizes[axis] != -1 for axis in SPANNING):
      over_slices(sizes, max(1, self.dcn))

  @property
  def fixed(self) -> int | None:
    """The number of devices that the shape asks for.

    None where an axis is -1, so that it depends on the machine.
    """
    sizes = [getattr(self, axis) for axis in AXES]
    return None if -1 in sizes else math.prod(sizes)

  def axis_size(self, axis: str) -> int:
    """The size of an axis; 1 for an axis of -1, whose size no device has told yet."""
    return max(1, getattr(self, axis))


def resolve(shape: MeshShape, devices: int) -> dict[str, int]:
  """axis -> size on this many devices.

  Raises ValueError where the numbers do not fit.
  """
  sizes = {axis: getattr(shape, axis) for axis in AXES}
  known = math.prod(size for size in sizes.values() if size != -1)
  for axis, size in sizes.items():
    if size == -1:
      sizes[axis] = devices // known
  # Every device must have a place: sizes that fill only some of them do not fit either.
  if math.prod(sizes.values()) != devices:
    asked = _words(shape) or 'one device'
    raise ValueError(
      f'config.mesh: {asked} does not fit {devices} devices; nearest: '
      f'{_nearest(shape, devices)}'
    )
  return sizes


def _words(shape: MeshShape) -> str:
  """The axes that the shape sets, in words: `data 2 x fsdp 4`."""
  parts = []
  for axis in AXES:
    size = getattr(shape, axis)
    if size != 1:
      parts.append(f'{axis} {size}')
  return ' x '.join(parts)


def _nearest(shape: MeshShape, devices: int) -> str:
  """A size of one axis, in words, with which the shape fits this many devices."""
  found = []
  for axis in AXES:
    size = getattr(shape, axis)
    number = _fitting(shape, axis, devices)
    if number is not None:
      # What somebody has set may be mistyped; copies of a model suit every model.
      rank = (size == 1, abs(number - size), axis != 'data')
      found.append((rank, f'{axis} {number}'))
  if not found:
    return 'data -1, which takes all of them'
  return min(found)[1]


def _fitting(shape: MeshShape, axis: str, devices: int) -> int | None:
  """The nearest size of this axis with which the shape fits; None where none does."""
  size = getattr(shape, axis)
  others = [getattr(shape, other) for other in AXES if other != axis]
  known = math.prod(other for other in others if other != -1)
  if size == -1 or devices % known:
    return None
  room = devices // known
  if -1 not in others:
    return room
  # The other axis takes what a divisor leaves.
  fitting = divisors(room)
  return nearest_number(size, fitting)


def divisors(number: int) -> list[int]:
  """All divisors of a number, ascending.

  >>> divisors(12)
  [1, 2, 3, 4, 6, 12]
  """
  return [size for size in range(1, number + 1) if number % size == 0]


def nearest_number(wanted: int, numbers: list[int]) -> int:
  """The number that is nearest to the one that is wanted; of two, the smaller."""
  return min(numbers, key=lambda number: (abs(number - wanted), number))


def make_mesh(shape: MeshShape, devices=None) -> Mesh:
  """The mesh over these devices, by default over all.

  Raises ValueError as `resolve`, and for slices that are not those of the devices.
  Raises RuntimeError where other processes share the devices and this one has not
  joined them.
  """
  if devices is None:
    _require_joined()
    devices = jax.devices()
  sizes = resolve(shape, len(devices))
  # Explicit axes, which jax would take by itself, are refused by linen.
  types = (AxisType.Auto,) * len(AXES)
  counts = tuple(sizes.values())
  numbers = {slice_of(device) for device in devices}
  if shape.dcn == 1 and len(numbers) == 1:
    return jax.make_mesh(counts, AXES, axis_types=types, devices=devices)
  if shape.dcn == 1 and devices[0].platform != 'tpu':
    # Slices of a GPU are its machines, in whose order the devices come: nothing need be
    # said of them. jax.make_mesh refuses slices of any kind.
    order = mesh_utils.create_device_mesh(counts, devices)
    return Mesh(order, AXES, axis_types=types)
  order = _over_slices(shape, sizes, devices)
  return Mesh(order, AXES, axis_types=types)


def slice_of(device) -> int:
  """The number of the slice that a device is in; 0 of one that has no slices."""
  return getattr(device, 'slice_index', None) or 0


def _over_slices(shape: MeshShape, sizes: dict[str, int], devices) -> np.ndarray:
  """The devices of several slices, in an array with the axes of the mesh.

  Raises ValueError that names config.mesh.dcn.
  """
  numbers = [slice_of(device) for device in devices]
  counts = collections.Counter(numbers)
  slices = len(counts)
  if shape.dcn not in (-1, slices):
    raise ValueError(
      f'config.mesh.dcn: {shape.dcn}, but the {len(devices)} devices are in {slices} '
      f'slices; nearest: {slices}'
    )
  least = min(counts.values())
  if least * slices < len(devices):
    parts = [f'{count} in slice {number}' for number, count in counts.items()]
    told = ', '.join(parts)
    raise ValueError(f'config.mesh.dcn: slices must have as many devices each: {told}')
  try:
    outer = over_slices(sizes, slices)
  except ValueError as error:
    raise ValueError(f'config.mesh.{error}') from error
  inner = [sizes[axis] // outer[axis] for axis in AXES]
  # Of these chips a mesh may bend an axis around a corner, as jax.make_mesh has it.
  bends = devices[0].device_kind in BENDING
  if slices == 1:
    return mesh_utils.create_device_mesh(
      inner, devices, allow_split_physical_axes=bends
    )
  spread = list(outer.values())
  return mesh_utils.create_hybrid_device_mesh(
    inner, spread, devices, allow_split_physical_axes=bends
  )


def over_slices(sizes: dict[str, int], slices: int) -> dict[str, int]:
  """axis -> over how many slices it is laid.

  Raises ValueError for slices that do not divide the axes of SPANNING.

  >>> over_slices({'cohort': 1, 'data': 2, 'fsdp': 8, 'tensor': 1, 'sequence': 1}, 4)
  {'cohort': 1, 'data': 2, 'fsdp': 2, 'tensor': 1, 'sequence': 1}
  """
  left = slices
  found = dict.fromkeys(AXES, 1)
  for axis in SPANNING:
    found[axis] = math.gcd(sizes[axis], left)
    left //= found[axis]
  if left == 1:
    return found
  parts = [f'{axis} {sizes[axis]}' for axis in SPANNING]
  asked = ' x '.join(parts)
  together = math.prod(sizes[axis] for axis in SPANNING)
  fitting = divisors(together)
  best = nearest_number(slices, fitting)
  raise ValueError(
    f'dcn: {slices} slices do not divide {asked}, the axes that may span them; nearest: '
    f'{best}'
  )


def _require_joined() -> None:
  """Raises RuntimeError where this process would wait in vain for others.

  A host of a pod sees the devices of all hosts, whether it has joined them or not.
  """
  processes = jax.process_count()
  if processes == 1 or jax.distributed.is_initialized():
    return
  raise RuntimeError(
    f'the devices belong to {processes} processes, of which this is number '
    f'{jax.process_index()}, but it has not joined them: nothing told it of the others '
    'before the devices were in use; call tl_jax.parallel.start() first, or set '
    'JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID in every process'
  )


def in_force(mesh: Mesh | AbstractMesh):
  """A context in which a mesh is in force, also one of shapes alone, without devices."""
  if isinstance(mesh, Mesh):
    return jax.set_mesh(mesh)
  return jax.sharding.use_abstract_mesh(mesh)


def target_platform() -> str:
  """The platform that what is traced now will run on: cpu, gpu, tpu.

  It is that of the mesh in force, which may be of devices that are not here, as when a
  program is compiled ahead of time. Without a mesh it is that of the default devices.
  Where no device is in use yet, it is the one that jax is told to take, or else cpu,
  whose programs run anywhere: shapes are traced before a device may be touched.
  """
  # jax has no public way to ask without touching them.
  from jax._src import xla_bridge

  device = jax.sharding.get_abstract_mesh().abstract_device
  if device is not None:
    return device.platform
  if xla_bridge.backends_are_initialized():
    return jax.default_backend()
  told = jax.config.jax_platforms or 'cpu'
  first = told.split(',')[0]
  return 'gpu' if first in ('cuda', 'rocm') else first
