"""TPUs that are not there, for tests of programs that are only compiled for them.

They need the compiler: pip install '.[test,tpu]' (or the libtpu that this jax was built
with).
"""

import pytest

from tl_jax.scale import topology

# Fast to compile; what is gathered and exchanged is that of the full effort.
LOW_EFFORT = {'exec_time_optimization_effort': -1.0}


def devices(name='v5e:2x2'):
  """The chips of a topology, as far as their compiler is concerned."""
  pytest.importorskip('libtpu')
  return topology.devices_of(topology.parse(name))
