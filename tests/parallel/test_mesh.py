"""The mesh: sizes that fit, sizes that are refused."""

import types

import jax
import pytest

from tl_jax.parallel import (
  AXES,
  MeshShape,
  activation_shards,
  make_mesh,
  resolve,
  target_platform,
)


def test_minus_one_takes_what_is_left():
  assert resolve(MeshShape(data=-1, fsdp=2, tensor=2), 8) == dict(
    cohort=1, data=2, fsdp=2, tensor=2, sequence=1
  )


@pytest.mark.parametrize(
  'shape, devices',
  [
    (MeshShape(data=3), 8),
    (MeshShape(data=-1, fsdp=3), 8),
    (MeshShape(data=2, fsdp=1), 1),
  ],
)
def test_a_shape_that_does_not_fit_is_named(shape, devices):
  with pytest.raises(ValueError, match=f'does not fit {devices} devices'):
    resolve(shape, devices)


@pytest.mark.parametrize(
  'fields', [dict(data=0), dict(tensor=-2), dict(data=-1, fsdp=-1)]
)
def test_bad_sizes_are_refused(fields):
  with pytest.raises(ValueError, match='data|tensor|only one'):
    MeshShape(**fields)


def test_the_number_of_devices_is_known_only_without_minus_one():
  assert MeshShape().fixed is None
  assert MeshShape(data=2, fsdp=4).fixed == 8


def test_the_mesh_has_all_axes_over_all_devices():
  mesh = make_mesh(MeshShape())
  assert mesh.axis_names == AXES and mesh.size == len(jax.devices())


def test_an_activation_is_shared_by_all_devices_of_the_mesh_in_force():
  assert activation_shards() == 1
  mesh = make_mesh(MeshShape())
  with jax.set_mesh(mesh):
    assert activation_shards() == mesh.size


def test_the_platform_is_that_of_the_mesh_in_force(monkeypatch):
  assert target_platform() == 'cpu'
  with jax.set_mesh(make_mesh(MeshShape())):
    assert target_platform() == 'cpu'
  elsewhere = types.SimpleNamespace(
    abstract_device=types.SimpleNamespace(platform='tpu')
  )
  monkeypatch.setattr(jax.sharding, 'get_abstract_mesh', lambda: elsewhere)
  assert target_platform() == 'tpu'
