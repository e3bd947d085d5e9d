"""What the tools of clusters call the accelerators that users name `v5e:4x4` or `h100:8`.

>>> found = find('v5e:4x4')
>>> found.hosts, found.chips_per_host, found.tpu_type, found.gke
(4, 4, 'v5litepod-16', 'tpu-v5-lite-podslice')
>>> find('h100:8').chips_per_host, find('2xv5e-16').slices
(8, 2)
"""

import math
import re
from typing import NamedTuple

from tl_jax.config import ConfigError
from tl_jax.scale import topology

# As xpk 1.16 has them (system_characteristics.py), and Google's documents of TPUs:
# (value of the node label of GKE, how the type of a slice begins).
TPUS = {
  'v4': ('tpu-v4-podslice', 'v4'),
  'v5e': ('tpu-v5-lite-podslice', 'v5litepod'),
  'v5p': ('tpu-v5p-slice', 'v5p'),
  'v6e': ('tpu-v6e-slice', 'v6e'),
  'tpu7x': ('tpu7x', 'tpu7x'),
}
# Some that no plan is made for, too.
GPUS = {
  'l4': 'nvidia-l4',
  'a100': 'nvidia-tesla-a100',
  'a100-80gb': 'nvidia-a100-80gb',
  'h100': 'nvidia-h100-80gb',
  'h200': 'nvidia-h200-141gb',
  'b200': 'nvidia-b200',
}
# Of every TPU host but that of a single chip.
_CHIPS_PER_HOST = 4
_WHERE = 'launcher.accelerator'


class Accelerator(NamedTuple):
  """The accelerators of one slice, or of one machine.

  gke: the value of GKE's node label. shape: the sides of a TPU's torus as its tools
  write it, '' for GPUs. tpu_type: what a slice is called on Google Cloud, '' for GPUs.
  slices: as many as the name says.
  """

  name: str
  gke: str
  shape: str
  chips: int
  hosts: int
  chips_per_host: int
  tpu_type: str
  slices: int = 1

  @property
  def is_tpu(self) -> bool:
    return bool(self.tpu_type)


def find(text: str) -> Accelerator:
  """The accelerator of a name, as `tl-jax plan` has them, or of another GPU.

  Raises ConfigError for what is none.
  """
  gpu = re.fullmatch(r'([a-z0-9-]+):([1-9]\d*)', text)
  if gpu and gpu[1] in GPUS:
    count = int(gpu[2])
    return Accelerator(gpu[1], GPUS[gpu[1]], '', count, 1, count, '')
  try:
    found = topology.parse(text)
  except ConfigError as error:
    raise ConfigError(str(error).replace('--topology', _WHERE)) from error
  if found.chip not in TPUS:
    raise ConfigError(
      f'{_WHERE}: {text!r}; of a GPU give the number, as {found.chip}:8'
    )
  return _tpu(found, text)


def _tpu(found: topology.Topology, text: str) -> Accelerator:
  """A slice of TPUs. Raises ConfigError where it is no whole number of hosts."""
  chips = math.prod(found.shape)
  per_host = 1 if chips == 1 else _CHIPS_PER_HOST
  if chips % per_host:
    raise ConfigError(
      f'{_WHERE}: {text!r}: {chips} chips are no whole hosts of {per_host}'
    )
  gke, prefix = TPUS[found.chip]
  # The names of types count cores where a chip has two.
  counted = chips * found.kind.cores * found.kind.per_chip
  return Accelerator(
    name=found.chip,
    gke=gke,
    shape='x'.join(map(str, found.shape)),
    chips=chips,
    hosts=chips // per_host,
    chips_per_host=per_host,
    tpu_type=f'{prefix}-{counted}',
    slices=found.slices,
  )
