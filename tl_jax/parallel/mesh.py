"""The device mesh with its named axes.

>>> resolve(MeshShape(data=-1, fsdp=2), 8)['data']
4
"""

import dataclasses
import math

import jax
from jax.sharding import AxisType, Mesh

AXES = ('cohort', 'data', 'fsdp', 'tensor', 'sequence')


@dataclasses.dataclass(frozen=True)
class MeshShape:
  """How many devices each axis of the mesh takes.

  At most one axis may be -1, which takes what is left.

  data: copies of the model, each with rows of its own. fsdp: the same, with the weights
  cut between them. tensor: heads and hidden units of a layer. sequence: positions.
  cohort: models that are trained side by side.
  """

  data: int = -1
  fsdp: int = 1
  tensor: int = 1
  sequence: int = 1
  cohort: int = 1

  def __post_init__(self):
    sizes = {axis: getattr(self, axis) for axis in AXES}
    for axis, size in sizes.items():
      if size != -1 and size < 1:
        raise ValueError(
          f'{axis}: {size} devices; give a positive number, or -1 for what is left'
        )
    if sum(size == -1 for size in sizes.values()) > 1:
      raise ValueError('only one mesh axis can be -1')

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
    raise ValueError(f'config.mesh: {asked} does not fit {devices} devices')
  return sizes


def _words(shape: MeshShape) -> str:
  """The axes that the shape sets, in words: `data 2 x fsdp 4`."""
  parts = []
  for axis in AXES:
    size = getattr(shape, axis)
    if size != 1:
      parts.append(f'{axis} {size}')
  return ' x '.join(parts)


def make_mesh(shape: MeshShape, devices=None) -> Mesh:
  """The mesh over these devices, by default over all. Raises ValueError as `resolve`."""
  devices = jax.devices() if devices is None else devices
  sizes = resolve(shape, len(devices))
  # jax.make_mesh would make explicit axes, which linen refuses.
  types = (AxisType.Auto,) * len(AXES)
  return jax.make_mesh(tuple(sizes.values()), AXES, axis_types=types, devices=devices)


def target_platform() -> str:
  """The platform that what is traced now will run on: cpu, gpu, tpu.

  It is that of the mesh in force, which may be of devices that are not here, as when a
  program is compiled ahead of time. Without a mesh it is that of the default devices.
  """
  device = jax.sharding.get_abstract_mesh().abstract_device
  return jax.default_backend() if device is None else device.platform
