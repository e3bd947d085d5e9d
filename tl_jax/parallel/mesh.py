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
  """How many devices each axis of the mesh takes; -1, at most once, takes what is left."""

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
    """The number of devices that the shape asks for; None where an axis is -1 and
    depends on the machine.
    """
    sizes = [getattr(self, axis) for axis in AXES]
    return None if -1 in sizes else math.prod(sizes)

  def axis_size(self, axis: str) -> int:
    """The size of an axis as far as it is known without a device: 1 for an axis of -1."""
    return max(1, getattr(self, axis))


def resolve(shape: MeshShape, devices: int) -> dict[str, int]:
  """The size of every axis on this many devices. Raises ValueError where the numbers do
  not fit.
  """
  sizes = {axis: getattr(shape, axis) for axis in AXES}
  known = math.prod(size for size in sizes.values() if size != -1)
  for axis, size in sizes.items():
    if size == -1:
      sizes[axis] = devices // known
  if math.prod(sizes.values()) != devices:
    asked = ' x '.join(
      f'{axis} {getattr(shape, axis)}' for axis in AXES if getattr(shape, axis) != 1
    )
    raise ValueError(
      f'config.mesh: {asked or "one device"} does not fit {devices} devices'
    )
  return sizes


def make_mesh(shape: MeshShape, devices=None) -> Mesh:
  """The mesh over all devices. Axes are Auto: the explicit axes that jax.make_mesh
  defaults to refuse linen.
  """
  devices = jax.devices() if devices is None else devices
  sizes = resolve(shape, len(devices))
  return jax.make_mesh(
    tuple(sizes.values()),
    AXES,
    axis_types=(AxisType.Auto,) * len(AXES),
    devices=devices,
  )
