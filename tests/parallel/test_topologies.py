"""The rows of hosts on real TPU pods, whose devices a mesh orders by their wires.

Needs the compiler: pip install '.[test,tpu]' (or the libtpu that this jax was built
with).
"""

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.slow
ENVIRONMENT = dict(
  JAX_PLATFORMS='cpu',
  TPU_SKIP_MDS_QUERY='1',
  TPU_ACCELERATOR_TYPE='v5litepod-16',
  TPU_WORKER_HOSTNAMES='localhost',
  ALLOW_MULTIPLE_LIBTPU_LOAD='1',
)
PROGRAM = textwrap.dedent("""
    import sys
    import numpy as np
    from jax.experimental import topologies
    from tl_jax.parallel import MeshShape, batch_sharding, host_rows, make_mesh
    name, shapes = sys.argv[1], eval(sys.argv[2])
    devices = topologies.get_topology_desc(name, 'tpu').devices
    hosts = sorted({device.process_index for device in devices})
    assert len(hosts) > 1
    for shape in shapes:
      mesh = make_mesh(MeshShape(**shape), devices)
      sharding = batch_sharding(mesh)
      rows = 2 * mesh.shape['data'] * mesh.shape['fsdp']
      places = sharding.devices_indices_map((rows,))
      read = set()
      for host in hosts:
        own = [device for device in devices if device.process_index == host]
        held = host_rows(sharding, rows, own).tolist()
        needed = {row for device in own for row in range(rows)[places[device][0]]}
        assert held == sorted(needed)
        read |= needed
      assert read == set(range(rows))
      order = [device.process_index for device in mesh.devices.flat]
      print(order)
    """)


@pytest.mark.parametrize(
  'topology, shapes',
  [
    (
      'v5e:4x4',
      [
        dict(),
        dict(data=1, fsdp=16),
        dict(data=4, fsdp=4),
        dict(tensor=4),
        dict(data=2, sequence=2, tensor=4),
        dict(cohort=4),
      ],
    ),
    ('v5e:8x8', [dict(), dict(tensor=8)]),
    ('v5p:2x2x4', [dict(), dict(tensor=4), dict(fsdp=4)]),
    ('v6e:4x8', [dict(), dict(data=8, sequence=4)]),
  ],
)
def test_hosts_of_a_pod_read_the_rows_of_their_devices(topology, shapes):
  pytest.importorskip('libtpu')
  done = subprocess.run(
    [sys.executable, '-c', PROGRAM, topology, repr(shapes)],
    env=os.environ | ENVIRONMENT,
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr
  if topology == 'v5e:4x4':
    order = '[0, 0, 1, 1, 1, 1, 0, 2, 3, 3, 3, 3, 2, 2, 2, 0]'
    assert done.stdout.splitlines()[0] == order


SLICES = textwrap.dedent("""
    import numpy as np
    from jax.experimental import topologies
    from tl_jax.parallel import AXES, MeshShape, make_mesh
    found = topologies.get_topology_desc('v5e:2x2', 'tpu', num_slices=2)
    for shape, spanning in (
      (dict(dcn=2), 'data'),
      (dict(dcn=-1, data=2, tensor=4), 'data'),
      (dict(dcn=2, data=1, fsdp=-1), 'fsdp'),
    ):
      mesh = make_mesh(MeshShape(**shape), found.devices)
      assert mesh.size == 8, mesh
      place = AXES.index(spanning)
      halves = np.split(mesh.devices, 2, place)
      for half in halves:
        assert len({device.slice_index for device in half.flat}) == 1
      assert halves[0].flat[0].slice_index != halves[1].flat[0].slice_index
    try:
      make_mesh(MeshShape(), found.devices)
    except ValueError as error:
      assert str(error).endswith('are in 2 slices; nearest: 2'), error
    else:
      raise AssertionError('slices were taken for one')
    """)


def test_two_slices_of_chips_are_spanned_by_one_axis():
  pytest.importorskip('libtpu')
  done = subprocess.run(
    [sys.executable, '-c', SLICES],
    env=os.environ | ENVIRONMENT | dict(TPU_ACCELERATOR_TYPE='v5litepod-4'),
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr
