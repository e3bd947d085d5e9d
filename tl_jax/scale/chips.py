"""The accelerators that programs are planned for, and what each of them can do.

Figures of TPUs are those of cloud.google.com/tpu/docs/v5e, /v5p, /v6e and /tpu7x; those
of v4, of the data-center network of v4 and v6e, and of NVIDIA's A100 (80 GB SXM), H100
(SXM) and H200 were not looked up again. Bandwidths of interconnects are one way: half of
what is printed where both ways are added up.

>>> chip_of('v5e').hbm / GIB
16.0
"""

from typing import NamedTuple

from tl_jax.config import lookup
from tl_jax.parallel import GIB


class Chip(NamedTuple):
  """One device of a kind, as jax sees devices.

  platform: whose compiler makes programs for it. dimensions: of the torus, or 0 where
  every device reaches every other. hbm: bytes of memory. flops: products of bfloat16 a
  second, a multiplication and an addition counted as two. bandwidth: of the memory,
  bytes a second. ici: of all links to the neighbours together, one way. dcn: of the
  network between slices or nodes. cores: what a name as v5p-64 counts for one device.
  node: devices that are connected without `dcn`; 0 for a whole slice. price: the key in
  the table of prices, which is of chips. per_chip: devices of one priced chip.
  """

  name: str
  platform: str
  dimensions: int
  hbm: float
  flops: float
  bandwidth: float
  ici: float
  dcn: float
  cores: int = 1
  node: int = 0
  per_chip: int = 1


# 6 links; 2,400 Gbps.
_V4 = Chip('v4', 'tpu', 3, 32 * GIB, 275e12, 1228e9, 300e9, 3.1e9, cores=2)
# 4 links; 400 GB/s both ways; 6.4 Tbps for a pod of 256 chips.
_V5E = Chip('v5e', 'tpu', 2, 16 * GIB, 197e12, 819e9, 200e9, 3.1e9)
# 6 links; 1,200 GB/s both ways; 50 Gbps.
_V5P = Chip('v5p', 'tpu', 3, 95 * GIB, 459e12, 2765e9, 600e9, 6.2e9, cores=2)
# 4 links; 800 GB/s both ways; 25.6 Tbps for a pod of 256 chips.
_V6E = Chip('v6e', 'tpu', 2, 32 * GIB, 918e12, 1638e9, 400e9, 12.5e9)
# A chip is two devices, each with half of all that is printed of the chip.
_TPU7X = Chip('tpu7x', 'tpu', 3, 96 * GIB, 1153.5e12, 3690e9, 300e9, 6.2e9, per_chip=2)
# NVLink 4, 900 GB/s both ways; a network card of 400 Gbps for each device.
_H100 = Chip('h100', 'cuda', 0, 80e9, 989e12, 3350e9, 450e9, 50e9, node=8)
_H200 = Chip('h200', 'cuda', 0, 141e9, 989e12, 4800e9, 450e9, 50e9, node=8)
# NVLink 3, 600 GB/s both ways; a network card of 200 Gbps for each device.
_A100 = Chip('a100', 'cuda', 0, 80e9, 312e12, 2039e9, 300e9, 25e9, node=8)
_ALL = (_V4, _V5E, _V5P, _V6E, _TPU7X, _H100, _H200, _A100)
CHIPS = {chip.name: chip for chip in _ALL}


def chip_of(name: str) -> Chip:
  """The chip of a name. Raises ConfigError with the nearest names."""
  return lookup(CHIPS, name, '--topology')
