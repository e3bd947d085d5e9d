"""The mesh: sizes that fit, sizes that are refused."""

import types

import jax
import numpy as np
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


@pytest.mark.parametrize(
  'shape, devices, nearest',
  [
    (MeshShape(data=3), 8, 'data 8'),
    (MeshShape(data=-1, fsdp=3), 8, 'fsdp 2'),
    (MeshShape(data=-1, tensor=5), 8, 'tensor 4'),
    (MeshShape(data=2, fsdp=3), 8, 'fsdp 4'),
    (MeshShape(data=1), 8, 'data 8'),
    (MeshShape(data=3, fsdp=5), 8, 'data -1'),
  ],
)
def test_the_nearest_size_that_fits_is_named(shape, devices, nearest):
  with pytest.raises(ValueError, match=f'nearest: {nearest}'):
    resolve(shape, devices)


class Chip:
  """A device of a slice, as far as a mesh looks at it."""

  platform, device_kind, process_index = 'tpu', 'TPU v5 lite', 0
  core_on_chip = 0

  def __init__(self, number, slices):
    self.id = number
    # The slices have the chips in turn, so that the order of the devices alone would
    # mix them. Those of a slice stand in a row.
    self.slice_index = number % slices
    self.coords = [number // slices, 0, 0]

  def __repr__(self):
    return f'{self.slice_index}:{self.id}'


def slices_along(mesh, axis):
  """How many slices a device meets along an axis of a mesh, its own included."""
  place = mesh.axis_names.index(axis)
  line = np.moveaxis(mesh.devices, place, -1).reshape(-1, mesh.devices.shape[place])
  return {len({chip.slice_index for chip in row}) for row in line}


def other_axes(mesh, *spanning):
  return [axis for axis in AXES if axis not in spanning]


@pytest.mark.parametrize(
  'shape, slices, spanning',
  [
    (dict(dcn=2), 2, dict(data=2)),
    (dict(dcn=2, data=2, fsdp=4), 2, dict(data=2)),
    (dict(dcn=-1, data=2, tensor=4), 2, dict(data=2)),
    (dict(dcn=4, data=-1, fsdp=2), 4, dict(data=4)),
    (dict(dcn=2, data=1, fsdp=8), 2, dict(fsdp=2)),
    (dict(dcn=4, data=2, fsdp=4), 4, dict(data=2, fsdp=2)),
    (dict(dcn=2, cohort=2, data=-1), 2, dict(cohort=2)),
  ],
)
def test_slices_are_spanned_by_the_axes_with_the_least_traffic(shape, slices, spanning):
  chips = [Chip(number, slices) for number in range(8)]
  mesh = make_mesh(MeshShape(**shape), chips)
  assert mesh.shape == resolve(MeshShape(**shape), 8)
  assert set(mesh.devices.flat) == set(chips)
  for axis, count in spanning.items():
    assert slices_along(mesh, axis) == {count}
  for axis in other_axes(mesh, *spanning):
    assert slices_along(mesh, axis) == {1}


@pytest.mark.parametrize(
  'shape, slices, message',
  [
    (dict(), 2, 'config.mesh.dcn: 1, but the 8 devices are in 2 slices; nearest: 2'),
    (dict(dcn=4), 2, 'config.mesh.dcn: 4, but .* in 2 slices; nearest: 2'),
    (dict(dcn=2), 1, 'config.mesh.dcn: 2, but .* in 1 slices; nearest: 1'),
    (
      dict(dcn=2, data=1, tensor=8),
      2,
      'dcn: 2 slices do not divide cohort 1 x data 1 x fsdp 1.*; nearest: 1',
    ),
    (
      dict(dcn=2, data=-1, tensor=8),
      2,
      'config.mesh.dcn: 2 slices do not divide cohort 1 x data 1 x fsdp 1.*; nearest: 1',
    ),
    (
      dict(dcn=3),
      3,
      'config.mesh.dcn: slices must have as many devices each: 3 in slice 0, 3 in',
    ),
    (dict(dcn=0), 1, 'dcn: 0 slices'),
  ],
)
def test_slices_that_do_not_fit_are_named(shape, slices, message):
  with pytest.raises(ValueError, match=message) as caught:
    make_mesh(MeshShape(**shape), [Chip(number, slices) for number in range(8)])
  assert '\n' not in str(caught.value)


def test_devices_without_slices_are_one():
  mesh = make_mesh(MeshShape(dcn=-1))
  assert mesh.devices.tolist() == make_mesh(MeshShape()).devices.tolist()
  with pytest.raises(ValueError, match='dcn: 2, but the . devices are in 1 slices'):
    make_mesh(MeshShape(dcn=2))


def test_cards_that_are_numbered_by_machines_need_no_dcn():
  cards = [Chip(number, 2) for number in range(8)]
  for card in cards:
    card.platform = 'gpu'
  assert set(make_mesh(MeshShape(), cards).devices.flat) == set(cards)
  spread = make_mesh(MeshShape(dcn=2, data=2, fsdp=4), cards)
  assert slices_along(spread, 'data') == {2} and slices_along(spread, 'fsdp') == {1}


def test_a_host_that_has_not_joined_the_others_is_not_alone(monkeypatch):
  """It sees the devices of all of them, and its first program would wait for them."""
  monkeypatch.setattr(jax, 'process_count', lambda: 4)
  with pytest.raises(RuntimeError, match='belong to 4 processes.*has not joined them'):
    make_mesh(MeshShape())


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


@pytest.mark.parametrize(
  'told, expected',
  [
    (None, 'cpu'),
    ('tpu,cpu', 'tpu'),
    ('cuda', 'gpu'),
    ('no-such-device', 'no-such-device'),
  ],
)
def test_the_platform_is_known_before_a_device_is_touched(told, expected, monkeypatch):
  from jax._src import xla_bridge

  monkeypatch.setattr(xla_bridge, 'backends_are_initialized', lambda: False)
  monkeypatch.setattr(jax, 'default_backend', None)
  before = jax.config.jax_platforms
  jax.config.update('jax_platforms', told)
  try:
    assert target_platform() == expected
  finally:
    jax.config.update('jax_platforms', before)


def test_the_platform_is_that_of_the_mesh_in_force(monkeypatch):
  assert target_platform() == 'cpu'
  with jax.set_mesh(make_mesh(MeshShape())):
    assert target_platform() == 'cpu'
  elsewhere = types.SimpleNamespace(
    abstract_device=types.SimpleNamespace(platform='tpu')
  )
  monkeypatch.setattr(jax.sharding, 'get_abstract_mesh', lambda: elsewhere)
  assert target_platform() == 'tpu'
