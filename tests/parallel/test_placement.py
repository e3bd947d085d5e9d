"""Placement: rules become shardings, rows reach their devices, on one device and on eight."""

import os
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from tl_jax.parallel import MeshShape, batch_sharding, host_rows, make_mesh, place_batch, shardings, to_host
from tl_jax.parallel.placement import RULES, _physical


class FakeMesh:
  """A mesh of sizes alone: the rules look at nothing else."""
  shape = dict(cohort=1, data=2, fsdp=2, tensor=2, sequence=1)


@pytest.mark.parametrize('logical, size, expected', [
    (('embed', 'mlp'), (4, 8), ('fsdp', 'tensor')),
    (('vocabulary', None), (8, 3), (('tensor', 'fsdp'), None)),
    (('vocabulary', None), (6, 3), ('tensor', None)),      # 6 rows divide by tensor, not by tensor x fsdp
    (('embed', 'mlp'), (3, 8), (None, 'tensor')),
    ((), (3,), (None,))])
def test_rules(logical, size, expected):
  assert _physical(PartitionSpec(*logical), size, FakeMesh(), RULES['fsdp']) == PartitionSpec(*expected)


def test_a_batch_comes_back_whole():
  sharding = batch_sharding(make_mesh(MeshShape()))
  batch = {'tokens': np.arange(24).reshape(8, 3)}
  first, end = host_rows(sharding, 8)
  placed = place_batch({name: array[first:end] for name, array in batch.items()}, sharding, 8, first)
  assert (first, end) == (0, 8)
  np.testing.assert_array_equal(to_host(placed)['tokens'], batch['tokens'])


def test_eight_devices_hold_their_own_rows_and_columns():
  program = textwrap.dedent('''
      import jax, numpy as np
      from jax.sharding import PartitionSpec
      from tl_jax.parallel import *
      mesh = make_mesh(MeshShape(data=2, fsdp=2, tensor=2))
      placed = place_batch({'x': np.arange(32).reshape(8, 4)}, batch_sharding(mesh), 8)['x']
      assert {shard.data.shape for shard in placed.addressable_shards} == {(2, 4)}
      np.testing.assert_array_equal(to_host(placed), np.arange(32).reshape(8, 4))
      w = np.ones((4, 6))
      where = shardings(mesh, {'w': PartitionSpec('embed', 'mlp')}, {'w': jax.ShapeDtypeStruct(w.shape, w.dtype)})
      assert place({'w': w}, where)['w'].addressable_shards[0].data.shape == (2, 3)
      ''')
  env = os.environ | {'XLA_FLAGS': '--xla_force_host_platform_device_count=8', 'JAX_PLATFORMS': 'cpu'}
  done = subprocess.run([sys.executable, '-c', program], env=env, capture_output=True, text=True, timeout=120)
  assert done.returncode == 0, done.stderr


def test_shardings_mirror_the_tree():
  mesh = make_mesh(MeshShape())
  abstract = {'a': {'kernel': jax.ShapeDtypeStruct((4, 8), 'float32')}}
  found = shardings(mesh, {'a': {'kernel': PartitionSpec('embed', 'mlp')}}, abstract)
  assert found['a']['kernel'].spec == PartitionSpec('fsdp', 'tensor')
