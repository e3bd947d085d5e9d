"""Saved on one arrangement of devices or processes, restored on another, bit for bit."""

import os
import socket
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax.checkpoint.store import Store

COMMON = """
import sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from tl_jax.checkpoint.store import Store

def mesh(*shape):
  return jax.make_mesh(shape, ('x', 'y'), axis_types=(jax.sharding.AxisType.Auto,) * 2)

def state():
  table = np.random.default_rng(0).standard_normal((320, 160)).astype(np.float32)
  return {'table': table, 'half': table.astype(jnp.bfloat16), 'bias': table[0, :64], 'replicated': table[:3],
          'key': jax.random.key_data(jax.random.split(jax.random.key(5), 8)), 'step': np.int32(4)}

SPECS = {'table': P('x', 'y'), 'half': P('y', 'x'), 'bias': P(('x', 'y')), 'replicated': P(), 'key': P('x'),
         'step': P()}

def place(mesh):
  make = lambda name, value: jax.make_array_from_callback(
      value.shape, NamedSharding(mesh, SPECS[name]), lambda index: np.asarray(value)[index])
  return {name: make(name, np.asarray(value)) for name, value in state().items()}

def check(store, mesh, step=4):
  like = {name: jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=NamedSharding(mesh, SPECS[name]))
          for name, value in state().items()}
  for restored in (store.restore(step, like), store.restore_latest(like).state):
    for name, value in state().items():
      assert restored[name].sharding == like[name].sharding, name
      assert restored[name].dtype == value.dtype
      for shard in restored[name].addressable_shards:
        assert np.asarray(shard.data).tobytes() == np.asarray(value)[shard.index].tobytes(), name
"""


def start(script, *arguments, devices):
  variables = {
    **os.environ,
    'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}',
  }
  return subprocess.Popen(
    [sys.executable, '-c', COMMON + script, *map(str, arguments)],
    env=variables,
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
  )


def finish(*runs):
  """Waits for processes that depend on each other: what all of them said is in the
  failure, also when one hangs.
  """
  deadline, said = time.monotonic() + 120, []
  while (
    time.monotonic() < deadline
    and any(run.poll() is None for run in runs)
    and not any(run.poll() for run in runs)
  ):
    time.sleep(0.1)
  for run in runs:
    try:
      said.append(run.communicate(timeout=10)[0])
    except subprocess.TimeoutExpired:
      run.kill()
      said.append(run.communicate()[0])
  assert [run.returncode for run in runs] == [0] * len(runs), '\n-----\n'.join(
    text[-3000:] for text in said
  )


def check_here(path):
  store = Store(path)
  table = np.random.default_rng(0).standard_normal((320, 160)).astype(np.float32)
  local = store.restore(
    4,
    {
      'table': jax.ShapeDtypeStruct((320, 160), jnp.float32),
      'half': jax.ShapeDtypeStruct((320, 160), jnp.bfloat16),
    },
  )
  assert np.asarray(local['table']).tobytes() == table.tobytes()
  assert np.asarray(local['half']).tobytes() == table.astype(jnp.bfloat16).tobytes()


ONE = """
store = Store(sys.argv[1])
placed = place(mesh(4, 2))
store.save(4, placed)
update = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf * 0, tree), donate_argnums=0)
jax.block_until_ready(update(placed))
store.wait()
check(store, mesh(2, 4)); check(store, mesh(8, 1)); check(store, mesh(4, 2))
like = jax.ShapeDtypeStruct((8,), jax.random.key(0).dtype, sharding=NamedSharding(mesh(2, 4), P('x')))
store.save(5, {'keys': jax.device_put(jax.random.split(jax.random.key(5), 8), NamedSharding(mesh(4, 2), P('x')))})
store.wait()
keys = store.restore(5, {'keys': like})['keys']
assert keys.sharding.is_equivalent_to(like.sharding, 1), keys.sharding
assert (jax.random.key_data(keys) == state()['key']).all()
"""


def test_one_process_many_devices_other_meshes(tmp_path):
  finish(start(ONE, tmp_path, devices=8))
  check_here(tmp_path)


TWO = """
rank, port = int(sys.argv[2]), sys.argv[3]
jax.distributed.initialize(f'localhost:{port}', 2, rank)
store = Store(sys.argv[1], keep=2)
assert store.restore_latest({'step': 0}) is None
for step in (2, 3, 4):
  placed = place(mesh(4, 2))
  store.save(step, placed, {'rank': 'both'})
  update = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf * 0, tree), donate_argnums=0)
  jax.block_until_ready(update(placed))
store.wait()
assert store.steps() == [3, 4] and store.meta(4) == {'rank': 'both'}
check(store, mesh(2, 4)); check(store, mesh(8, 1))
if rank == 1:
  import tl_jax.checkpoint.arrays as arrays
  def fail(*_):
    raise OSError(28, 'No space left on device')
  arrays.write = fail
store.save(5, place(mesh(4, 2)))
try:
  store.wait(); raise SystemExit('the failure of one process is the failure of the step')
except Exception as error:
  assert 'No space left' in str(error) and (rank == 1 or 'process 1' in str(error)), error
assert store.steps() == [3, 4]
"""

AFTER = """
check(Store(sys.argv[1]), mesh(2, 2))
"""


@pytest.mark.slow
def test_two_processes_save_together_and_one_restores(tmp_path):
  with socket.socket() as free:
    free.bind(('localhost', 0))
    port = free.getsockname()[1]
  finish(*[start(TWO, tmp_path, rank, port, devices=4) for rank in range(2)])
  finish(start(AFTER, tmp_path, devices=4))
  check_here(tmp_path)
