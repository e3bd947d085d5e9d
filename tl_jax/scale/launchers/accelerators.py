"""What the tools of clusters call the accelerators that users name `v5e:4x4` or `h100:8`.

>>> found = find('v5e:4x4')
>>> found.hosts, found.chips_per_host, found.tpu_type, found.gke
(4, 4, 'v5litepod-16', 'tpu-v5-lite-podslice')
>>> find('h100:8').chips_per_host
8
"""

import math
import re
from typing import NamedTuple

from tl_jax.config import ConfigError, nearest


class Kind(NamedTuple):
  """A kind of chip. gke: the value of GKE's node label. prefix: how a slice's type
  begins on Google Cloud. cores: how many such a type counts per chip. sides: of the
  torus of a slice; 0 for a GPU.
  """

  gke: str
  prefix: str = ''
  cores: int = 1
  sides: int = 0


# As xpk 1.16 has them (system_characteristics.py), and Google's documents of TPUs.
TPUS = {
  'v4': Kind('tpu-v4-podslice', 'v4', 2, 3),
  'v5e': Kind('tpu-v5-lite-podslice', 'v5litepod', 1, 2),
  'v5p': Kind('tpu-v5p-slice', 'v5p', 2, 3),
  'v6e': Kind('tpu-v6e-slice', 'v6e', 1, 2),
  'tpu7x': Kind('tpu7x', 'tpu7x', 2, 3),
}
GPUS = {
  'l4': Kind('nvidia-l4'),
  'a100': Kind('nvidia-tesla-a100'),
  'a100-80gb': Kind('nvidia-a100-80gb'),
  'h100': Kind('nvidia-h100-80gb'),
  'h200': Kind('nvidia-h200-141gb'),
  'b200': Kind('nvidia-b200'),
}
KINDS = {**TPUS, **GPUS}
# Of every TPU host but that of a single chip.
_CHIPS_PER_HOST = 4


class Accelerator(NamedTuple):
  """The accelerators of one slice, or of one machine.

  shape: the sides of a TPU's torus as its tools write it, '' for GPUs. tpu_type: what a
  slice is called on Google Cloud, '' for GPUs.
  """

  name: str
  gke: str
  shape: str
  chips: int
  hosts: int
  chips_per_host: int
  tpu_type: str

  @property
  def is_tpu(self) -> bool:
    return bool(self.tpu_type)


def find(text: str) -> Accelerator:
  """The accelerator of a name. Raises ConfigError for what is none."""
  where = 'launcher.accelerator'
  found = re.fullmatch(r'([a-z0-9-]+?):(\d+(?:x\d+)*)', text)
  if not found:
    raise ConfigError(
      f'{where}: {text!r}; give KIND:SHAPE, as v5e:4x4, or KIND:NUMBER, as h100:8'
    )
  name, shape = found.groups()
  if name not in KINDS:
    raise ConfigError(f'{where}: unknown {name!r}; nearest: {nearest(name, KINDS)}')
  kind = KINDS[name]
  sides = [int(side) for side in shape.split('x')]
  if min(sides) < 1:
    raise ConfigError(f'{where}: {text!r} has no chips')
  if not kind.sides:
    if len(sides) > 1:
      raise ConfigError(f'{where}: {text!r}; of a GPU give the number, as {name}:8')
    return Accelerator(name, kind.gke, '', sides[0], 1, sides[0], '')
  return _tpu(name, kind, sides, text)


def _tpu(name: str, kind: Kind, sides: list[int], text: str) -> Accelerator:
  """A slice of TPUs. Raises ConfigError where it is no whole number of hosts."""
  if len(sides) != kind.sides:
    example = 'x'.join(['4'] * kind.sides)
    raise ConfigError(
      f'launcher.accelerator: {text!r}: the shape of a {name} has {kind.sides} sides, '
      f'as {name}:{example}'
    )
  chips = math.prod(sides)
  per_host = 1 if chips == 1 else _CHIPS_PER_HOST
  if chips % per_host:
    raise ConfigError(
      f'launcher.accelerator: {text!r}: {chips} chips are no whole hosts of {per_host}'
    )
  return Accelerator(
    name,
    kind.gke,
    'x'.join(map(str, sides)),
    chips,
    chips // per_host,
    per_host,
    f'{kind.prefix}-{chips * kind.cores}',
  )
