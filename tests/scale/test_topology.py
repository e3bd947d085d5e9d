"""Names of topologies, and what is said of those that are none."""

import pytest

from tl_jax.scale import topology


@pytest.mark.parametrize(
  ('text', 'shape', 'devices'),
  [
    ('v5e:4x4', (4, 4), 16),
    ('v5e-16', (4, 4), 16),
    ('v5e-8', (2, 4), 8),
    ('v5e-1', (1, 1), 1),
    ('v6e-256', (16, 16), 256),
    ('v5p-8', (2, 2, 1), 4),
    # Cores are counted, two to a chip.
    ('v5p-64', (2, 4, 4), 32),
    ('v4-128', (4, 4, 4), 64),
    ('v5p-2048', (8, 8, 16), 1024),
    # Both halves of a chip are devices.
    ('tpu7x-8', (2, 2, 1), 8),
    ('tpu7x:2x2x1', (2, 2, 1), 8),
    ('h100:8', (8,), 8),
    ('a100-16', (16,), 16),
    ('2xv5e:4x4', (4, 4), 32),
  ],
)
def test_names_as_users_write_them(text, shape, devices):
  found = topology.parse(text)
  assert found.shape == shape
  assert found.devices == devices
  assert topology.parse(found.name) == found


@pytest.mark.parametrize(
  ('text', 'said'),
  [
    ('v5e', 'CHIP:SHAPE'),
    ('v5f:4x4', "unknown chip 'v5f'"),
    ('v5e-17', 'nearest: v5e-16'),
    ('v5p:4x4', 'v5p has 3 dimensions; nearest: v5p:2x2x4'),
    ('v5e:0x4', 'no devices'),
    ('v5e-4x4', 'behind a colon'),
  ],
)
def test_names_of_nothing(text, said):
  with pytest.raises(ValueError, match=said):
    topology.parse(text)


def test_slices_are_said_once():
  assert topology.parse('v5e:2x2', slices=2) == topology.parse('2xv5e:2x2')
  with pytest.raises(ValueError, match='--slices'):
    topology.parse('2xv5e:2x2', slices=4)


def test_a_roomier_topology_has_as_many_devices():
  small = topology.parse('2xv5e:4x4')
  large = topology.roomier(small)
  assert large.devices == small.devices and large.kind.hbm > small.kind.hbm
  assert topology.roomier(large) is None
  assert topology.roomier(topology.parse('h100:8')) is None


def test_a_compiler_that_is_not_installed_is_named(monkeypatch):
  monkeypatch.setattr(topology, '_is_installed', lambda module: False)
  with pytest.raises(ValueError, match=r"pip install 'tl-jax\[tpu\]'"):
    topology.devices_of(topology.parse('v5e:4x4'))
  with pytest.raises(ValueError, match=r"pip install 'tl-jax\[cuda12\]'"):
    topology.devices_of(topology.parse('h100:8'))
