"""Where arrays live: the mesh, the rules from logical axes to mesh axes, and the start
of many hosts.

>>> mesh = make_mesh(MeshShape(data=-1))
>>> mesh.axis_names
('cohort', 'data', 'fsdp', 'tensor', 'sequence')
"""

from tl_jax.parallel.capacity import GIB, Capacity, capacity_for
from tl_jax.parallel.meeting import meet, telling_failures
from tl_jax.parallel.memory import keep_freed_memory
from tl_jax.parallel.mesh import (
  AXES,
  MeshShape,
  divisors,
  in_force,
  make_mesh,
  nearest_number,
  resolve,
  target_platform,
)
from tl_jax.parallel.overrides import (
  Override,
  overridden,
  parse_overrides,
  require_matches,
)
from tl_jax.parallel.placement import (
  PRESETS,
  RULES,
  Uncut,
  activation_shards,
  activation_spec,
  axis_sizes,
  batch_sharding,
  constrain,
  cutting_axes,
  host_rows,
  lay,
  place,
  place_batch,
  replicated,
  shardings,
  to_host,
  uncut,
)
from tl_jax.parallel.starting import start
from tl_jax.parallel.watching import Watchdog

__all__ = [
  'AXES',
  'GIB',
  'PRESETS',
  'RULES',
  'Capacity',
  'MeshShape',
  'Override',
  'Uncut',
  'Watchdog',
  'activation_shards',
  'activation_spec',
  'axis_sizes',
  'batch_sharding',
  'capacity_for',
  'constrain',
  'cutting_axes',
  'divisors',
  'host_rows',
  'in_force',
  'keep_freed_memory',
  'lay',
  'make_mesh',
  'meet',
  'nearest_number',
  'overridden',
  'parse_overrides',
  'place',
  'place_batch',
  'replicated',
  'require_matches',
  'resolve',
  'shardings',
  'start',
  'target_platform',
  'telling_failures',
  'to_host',
  'uncut',
]
