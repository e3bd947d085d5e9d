"""Placement: rules become shardings, rows reach their devices, on one device and on
eight.
"""

import textwrap

import fake_devices
import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from tl_jax.parallel import (
  MeshShape,
  batch_sharding,
  host_rows,
  make_mesh,
  place_batch,
  shardings,
  to_host,
)
from tl_jax.parallel.placement import (
  RULES,
  _parameter_spec,
  _physical,
  cutting_axes,
  rules_of,
)


class FakeMesh:
  """A mesh of sizes alone: the rules look at nothing else."""

  shape = dict(cohort=1, data=2, fsdp=2, tensor=2, sequence=1)


@pytest.mark.parametrize(
  'logical, size, expected',
  [
    (('embed', 'mlp'), (4, 8), ('fsdp', 'tensor')),
    (('vocabulary', None), (8, 3), (('tensor', 'fsdp'), None)),
    # 6 rows divide by tensor, not by tensor x fsdp
    (('vocabulary', None), (6, 3), ('tensor', None)),
    (('embed', 'mlp'), (3, 8), (None, 'tensor')),
    ((), (3,), (None,)),
  ],
)
def test_rules(logical, size, expected):
  assert _physical(
    PartitionSpec(*logical), size, FakeMesh(), RULES['fsdp_tensor']
  ) == PartitionSpec(*expected)


@pytest.mark.parametrize(
  'preset, kernel, table',
  [
    ('replicate', (None, None), None),
    ('replicated', (None, None), None),
    ('fsdp', ('fsdp', None), 'fsdp'),
    ('tensor', (None, 'tensor'), 'tensor'),
    ('fsdp_tensor', ('fsdp', 'tensor'), ('tensor', 'fsdp')),
    ('sequence', (('fsdp', 'sequence'), 'tensor'), ('tensor', 'fsdp', 'sequence')),
  ],
)
def test_presets_cut_what_they_say(preset, kernel, table):
  class Everywhere:
    shape = dict(cohort=1, data=1, fsdp=2, tensor=2, sequence=2)

  if preset == 'fsdp':
    Everywhere.shape['tensor'] = 1
  rules = rules_of(preset, Everywhere.shape)
  cut = lambda *names: _physical(PartitionSpec(*names), (8, 8), Everywhere(), rules)
  whole = {1: None}
  expected = tuple(whole.get(Everywhere.shape.get(axis), axis) for axis in kernel)
  assert tuple(cut('embed', 'mlp'))[: len(kernel)] == expected
  assert cut('vocabulary', None)[0] == table
  assert cut('batch', 'length') == PartitionSpec(('data', 'fsdp'), 'sequence')


def test_fsdp_on_a_mesh_with_a_tensor_axis_is_what_it_was():
  """An earlier version cut along both under this name, and configs have it."""
  wide = dict(fsdp=2, tensor=2)
  assert rules_of('fsdp', wide) == RULES['fsdp_tensor']
  assert rules_of('fsdp', dict(fsdp=2, tensor=1)) == RULES['fsdp']
  assert cutting_axes('fsdp', dict(fsdp=2, tensor=1)) == {'fsdp'}
  assert cutting_axes('fsdp', wide) == {'fsdp', 'tensor'}
  assert cutting_axes('replicated', wide) == set()
  with pytest.raises(
    ValueError, match="unknown preset 'fdsp'; one of: replicate, fsdp"
  ):
    rules_of('fdsp', wide)


class PodMesh:
  """Sixteen devices along fsdp, in sizes alone."""

  shape = dict(cohort=1, data=1, fsdp=16, tensor=1, sequence=1)


@pytest.mark.parametrize(
  'logical, shape, expected, cannot',
  [
    # 30522 rows do not divide; 1024 columns do.
    (('vocabulary', None), (30522, 1024), (None, 'fsdp'), []),
    # The largest of the others, here the vocabulary.
    (('embed', None), (1000, 128256), (None, 'fsdp'), []),
    (('embed', None), (1001, 50257), (None, None), ['fsdp']),
    # What is small may be whole.
    (('embed', None), (1001, 64), (None, None), []),
  ],
)
def test_a_big_array_is_cut_along_another_dimension(logical, shape, expected, cannot):
  logical = PartitionSpec(*logical)
  found = _parameter_spec(logical, shape, PodMesh(), RULES['fsdp'])
  assert found == (PartitionSpec(*expected), cannot)


def test_a_batch_comes_back_whole():
  sharding = batch_sharding(make_mesh(MeshShape()))
  batch = {'tokens': np.arange(24).reshape(8, 3)}
  assert host_rows(sharding, 8).tolist() == list(range(8))
  placed = place_batch(batch, sharding, 8)
  np.testing.assert_array_equal(to_host(placed)['tokens'], batch['tokens'])


def test_a_row_that_was_not_read_is_named():
  sharding = batch_sharding(make_mesh(MeshShape()))
  with pytest.raises(ValueError, match='row 2 of a batch of 4 is needed'):
    place_batch({'tokens': np.zeros((3, 5))}, sharding, 4, held=[0, 1, 3])


def test_eight_devices_hold_their_own_rows_and_columns():
  program = textwrap.dedent("""
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
      """)
  fake_devices.run(program)


def test_hosts_read_the_rows_of_their_devices_in_any_order_of_devices():
  """The law: all rows are read, every device finds its own, the batch is whole."""
  program = textwrap.dedent("""
      import jax, numpy as np
      from tl_jax.parallel import *
      from tl_jax.parallel.placement import part_of
      V5E = [0, 0, 1, 1, 1, 1, 0, 2, 3, 3, 3, 3, 2, 2, 2, 0]   # as jax.make_mesh has it
      draw = np.random.default_rng(0)
      orders = [V5E, sorted(V5E), list(range(4)) * 4, *(draw.permutation(V5E) for _ in range(3))]
      shapes = [dict(data=16), dict(data=2, fsdp=8), dict(data=4, tensor=4), dict(fsdp=2, sequence=8),
                dict(cohort=4, data=4), dict(cohort=2, data=2, fsdp=2, tensor=2), dict(tensor=16)]
      rows = 32
      batch = np.arange(rows * 3).reshape(rows, 3)
      for order in orders:
        for shape in shapes:
          mesh = make_mesh(MeshShape(**shape | dict(data=shape.get('data', 1))))
          sharding = batch_sharding(mesh)
          hosts = [[device for device, host in zip(mesh.devices.flat, order) if host == wanted]
                   for wanted in range(4)]
          places = sharding.devices_indices_map(batch.shape)
          read, parts = set(), []
          for devices in hosts:
            held = host_rows(sharding, rows, devices)
            assert held.tolist() == sorted(set(held.tolist()))
            read |= set(held.tolist())
            for device in devices:
              part = part_of(batch[held], held, rows, places[device])
              parts.append(jax.device_put(part, device))
            needed = {row for device in devices for row in range(rows)[places[device][0]]}
            assert set(held.tolist()) == needed
          assert read == set(range(rows))
          whole = jax.make_array_from_single_device_arrays(batch.shape, sharding, parts)
          np.testing.assert_array_equal(whole, batch)
          for shard in whole.addressable_shards:
            np.testing.assert_array_equal(shard.data, batch[shard.index])
      mesh = make_mesh(MeshShape())
      first = [device for device, host in zip(mesh.devices.flat, V5E) if host == 0]
      assert host_rows(batch_sharding(mesh), 16, first).tolist() == [0, 1, 6, 15]
      """)
  fake_devices.run(program, count=16)


def test_shardings_mirror_the_tree():
  mesh = make_mesh(MeshShape())
  abstract = {'a': {'kernel': jax.ShapeDtypeStruct((4, 8), 'float32')}}
  found = shardings(mesh, {'a': {'kernel': PartitionSpec('embed', 'mlp')}}, abstract)
  assert found['a']['kernel'].spec == PartitionSpec('fsdp', 'tensor')
