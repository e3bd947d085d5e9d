"""Topologies by the names that users write, as devices that need not be here.

>>> parse('v5p-64')
Topology(chip='v5p', shape=(2, 4, 4), slices=1)
>>> parse('2xv5e:4x4').devices, parse('h100:8').name
(32, 'h100:8')
"""

import contextlib
import importlib.util
import logging
import math
import os
import re
import sys
from collections.abc import Iterator
from typing import NamedTuple

from tl_jax.config import ConfigError, nearest
from tl_jax.scale.chips import CHIPS, Chip
from tl_jax.scale.gpus import target_config

# Devices of the largest slice that is looked for a shape.
MOST = 16384
# What libtpu asks of the machine, where there is no TPU that could tell.
ENVIRONMENT = dict(
  TPU_SKIP_MDS_QUERY='1',
  TPU_ACCELERATOR_TYPE='v5litepod-16',
  TPU_WORKER_HOSTNAMES='localhost',
  # A plan must run beside whatever else has opened the library.
  ALLOW_MULTIPLE_LIBTPU_LOAD='1',
  TPU_MIN_LOG_LEVEL='3',
  TF_CPP_MIN_LOG_LEVEL='3',
)
EXTRAS = dict(tpu='tpu', cuda='cuda12')


class Topology(NamedTuple):
  """Devices of one kind, as they are wired.

  shape: the sides of the torus of a slice; of GPUs the number of devices. slices: how
  many there are, with the slower network between them.
  """

  chip: str
  shape: tuple[int, ...]
  slices: int = 1

  @property
  def kind(self) -> Chip:
    return CHIPS[self.chip]

  @property
  def devices(self) -> int:
    """All devices, of every slice."""
    return math.prod(self.shape) * self.slices * self.kind.per_chip

  @property
  def name(self) -> str:
    """As users write it."""
    # A slice of any size.
    if not self.shape:
      return self.chip
    slices = f'{self.slices}x' if self.slices > 1 else ''
    return f'{slices}{self.chip}:{"x".join(map(str, self.shape))}'


def parse(text: str, slices: int = 1) -> Topology:
  """The topology of a name: v5e:4x4, v5e-16, 2xv5e:4x4, h100:8.

  As in the names of Google Cloud, the number behind a dash counts chips of v5e and v6e,
  and cores, two to a chip, of v4, v5p and tpu7x. Raises ConfigError for what is none.
  """
  before, chip, joint, sizes = _parts_of(text)
  if before and slices > 1:
    raise ConfigError(f'--slices: {slices}, but {text!r} says it already')
  sides = tuple(map(int, sizes.split('x')))
  slices = int(before or slices)
  if min(*sides, slices, 1) < 1:
    raise ConfigError(f'--topology: {text!r}: no devices')
  kind = CHIPS[chip]
  if kind.platform == 'cuda':
    return Topology(chip, (math.prod(sides),), slices)
  is_number = joint == '-'
  if is_number and len(sides) > 1:
    raise ConfigError(f'--topology: {text!r}; a shape stands behind a colon')
  shape = _shape_of(kind, sides[0], text) if is_number else sides
  _require_dimensions(kind, shape, text)
  return Topology(chip, shape, slices)


def _parts_of(text: str) -> tuple[str | None, str, str, str]:
  """(slices or None, chip, colon or dash, sizes) of a name; raises ConfigError."""
  found = re.fullmatch(r'(?:(\d+)x)?([a-z]+\d+[a-z]*)([:-])(\d+(?:x\d+)*)', text)
  if not found:
    raise ConfigError(
      f'--topology: {text!r}; give CHIP:SHAPE or CHIP-NUMBER, as v5e:4x4, v5p-64, '
      f'2xv5e:4x4 or h100:8; chips: {", ".join(CHIPS)}'
    )
  chip = found.group(2)
  if chip not in CHIPS:
    raise ConfigError(
      f'--topology: unknown chip {chip!r}; nearest: {nearest(chip, CHIPS)}'
    )
  return found.groups()


def _require_dimensions(kind: Chip, shape: tuple[int, ...], text: str) -> None:
  """Raises ConfigError for a shape of another torus than the chip's."""
  if len(shape) != kind.dimensions:
    raise ConfigError(
      f'--topology: {text!r}: {kind.name} has {kind.dimensions} dimensions; nearest: '
      f'{_nearest_shape(kind, math.prod(shape))}'
    )


def _shape_of(kind: Chip, number: int, text: str) -> tuple[int, ...]:
  """The shape of a slice whose name counts `number` chips or cores."""
  per_chip = kind.cores * kind.per_chip
  chips = number // per_chip
  for shape in shapes(kind):
    if math.prod(shape) == chips and chips * per_chip == number:
      return shape
  # Nobody knows by heart which slices there are.
  sizes = [math.prod(shape) * per_chip for shape in shapes(kind)]
  near = min(sizes, key=lambda size: abs(size - number))
  raise ConfigError(f'--topology: {text!r}: no such slice; nearest: {kind.name}-{near}')


def shapes(kind: Chip) -> list[tuple[int, ...]]:
  """The usual slices of a kind of TPU, from small to large: as square as they can be."""
  found = [(1, 1), (2, 2)] if kind.dimensions == 2 else [(2, 2, 1)]
  last = (2,) * kind.dimensions
  while math.prod(last) <= MOST:
    if last not in found:
      found.append(last)
    # Of the shortest sides the last one is doubled.
    sides = list(last)
    place = max(i for i, side in enumerate(sides) if side == min(sides))
    sides[place] *= 2
    last = tuple(sides)
  return found


def _nearest_shape(kind: Chip, chips: int) -> str:
  """The usual slice of about so many chips, as users write it."""
  shape = min(shapes(kind), key=lambda shape: abs(math.prod(shape) - chips))
  return Topology(kind.name, shape).name


def roomier(topology: Topology, chip: str = 'v5p') -> Topology | None:
  """As many devices of a chip with more memory; None where there is none."""
  kind = CHIPS[chip]
  if topology.kind.platform != 'tpu' or topology.kind.hbm >= kind.hbm:
    return None
  # Other slices would exchange other bytes.
  wanted = topology.devices // topology.slices
  for shape in shapes(kind):
    if math.prod(shape) == wanted:
      return Topology(chip, shape, topology.slices)
  return None


def require_compiler(topology: Topology) -> None:
  """Raises ConfigError where the compiler for a topology is not installed."""
  platform = topology.kind.platform
  module = 'libtpu' if platform == 'tpu' else 'jax_plugins.xla_cuda12'
  if _is_installed(module):
    return
  raise ConfigError(
    f'--topology: {topology.name} needs the compiler of its maker, which is not '
    f"installed: pip install 'tl-jax[{EXTRAS[platform]}]'; --no-compile goes without"
  )


def _is_installed(module: str) -> bool:
  try:
    return importlib.util.find_spec(module) is not None
  except ModuleNotFoundError:
    # The package that it would be in is not there either.
    return False


def devices_of(topology: Topology) -> list:
  """The devices of a topology, for programs that are only compiled.

  Raises ConfigError where the compiler is not installed, or knows no such shape.
  """
  require_compiler(topology)
  prepare_environment()
  try:
    with hushed():
      return _devices(topology)
  except ConfigError:
    raise
  # Whatever the library of the maker raises: its message is all there is.
  except Exception as error:  # noqa: BLE001
    said = ' '.join(str(error).split())
    raise ConfigError(f'--topology: {topology.name}: {said}') from error


def _devices(topology: Topology) -> list:
  """`devices_of`, where all is prepared."""
  from jax.experimental import topologies

  if topology.kind.platform == 'tpu':
    return _tpus(topologies, topology)
  nodes = max(1, -(-topology.devices // topology.kind.node))
  on_node = topology.devices // nodes
  found = topologies.get_topology_desc(
    '',
    'cuda',
    target_config=target_config(topology.chip),
    topology=f'1x{nodes}x{on_node}',
  )
  return found.devices


def _tpus(topologies, topology: Topology) -> list:
  """The devices of slices of TPUs."""
  how = {}
  shape = topology.shape
  few = math.prod(shape) < 4
  if few:
    # The library describes whole hosts; of one we take what is wanted.
    shape = (2,) * 2 + (1,) * (topology.kind.dimensions - 2)
  if topology.chip == 'v4':
    # As clouds rent it: both cores of a chip are one device.
    how['chip_config_name'] = 'megacore'
  if topology.slices > 1:
    how['num_slices'] = topology.slices
  name = f'{topology.chip}:{"x".join(map(str, shape))}'
  found = topologies.get_topology_desc(name, 'tpu', **how).devices
  if few:
    found = found[: topology.devices]
  # Some shapes are read as others, without a word.
  if len(found) != topology.devices:
    raise ConfigError(
      f'--topology: {topology.name} has {topology.devices} devices, but the compiler '
      f'knows {len(found)}'
    )
  return found


@contextlib.contextmanager
def hushed() -> Iterator[None]:
  """Keeps what libraries write to descriptor 2 themselves away from the user.

  A compiler for a device that is not here says so in many lines. Its errors come as
  exceptions.
  """
  sys.stderr.flush()
  kept = os.dup(2)
  nowhere = os.open(os.devnull, os.O_WRONLY)
  os.dup2(nowhere, 2)
  try:
    yield
  finally:
    os.dup2(kept, 2)
    os.close(nowhere)
    os.close(kept)


def prepare_environment() -> None:
  """Tells the libraries of the makers that no device is here, and jax to look for none.

  Before the first program is traced: a plan must not take a TPU that others want.
  """
  for name, value in ENVIRONMENT.items():
    os.environ.setdefault(name, value)
  # Libraries that find no device say so as soon as they are loaded.
  with hushed():
    import jax

    jax.config.update('jax_platforms', 'cpu')
    logging.getLogger('jax._src.xla_bridge').setLevel(logging.ERROR)
    # The first look at any device loads the compilers; a second one would load those
    # for GPUs twice.
    jax.devices('cpu')
