"""How much memory there is, told without touching a device; unknown where nobody says."""

import importlib.metadata
import types

import jax
import pytest

from tl_jax.parallel import MeshShape, capacity, capacity_for, starting

pytestmark = pytest.mark.skipif(
  capacity.whole_machine() is None, reason='this system does not say what it has'
)


@pytest.fixture
def accelerators(monkeypatch):
  """Four devices of another kind, which tell what they have."""

  def present(**stats):
    devices = [types.SimpleNamespace(memory_stats=lambda: stats or None)] * 4
    monkeypatch.setattr(capacity, 'is_host_alone', lambda: False)
    monkeypatch.setattr(capacity, '_are_in_use', lambda: True)
    monkeypatch.setattr(jax, 'local_devices', lambda: devices)
    monkeypatch.setattr(jax, 'device_count', lambda: 4)

  return present


def test_processors_share_the_memory_of_their_machine():
  found = capacity_for(MeshShape(fsdp=8))
  assert found.size == capacity.whole_machine()
  assert set(found.axes.values()) == {1}
  assert 'this machine has ' in str(found)


def test_devices_tell_theirs(accelerators):
  accelerators(bytes_limit=2**30)
  found = capacity_for(MeshShape(fsdp=2))
  assert (found.size, found.axes['fsdp'], found.axes['data']) == (2**30, 2, 2)


def test_what_nobody_tells_is_not_known(accelerators, monkeypatch):
  accelerators()
  assert capacity_for(MeshShape()) is None
  accelerators(bytes_limit=2**30)
  assert capacity_for(MeshShape(data=3)) is None
  monkeypatch.setattr(capacity, '_are_in_use', lambda: False)
  assert capacity_for(MeshShape()) is None


def test_a_run_of_several_processes_is_not_known(monkeypatch):
  monkeypatch.setattr(starting, 'find_cluster', lambda: object())
  assert capacity_for(MeshShape()) is None


def test_a_plugin_may_bring_devices(monkeypatch):
  monkeypatch.setattr(capacity, '_has_plugin', lambda: True)
  assert capacity.is_host_alone()
  monkeypatch.setattr(capacity.jax, 'config', types.SimpleNamespace(jax_platforms=None))
  assert not capacity.is_host_alone()
  monkeypatch.undo()
  monkeypatch.setattr(importlib.metadata, 'entry_points', lambda group: [object()])
  assert capacity._has_plugin()


def test_a_container_may_have_less_than_its_machine(tmp_path, monkeypatch):
  whole = capacity._physical()
  monkeypatch.setattr(capacity, 'CGROUPS', tmp_path)
  (tmp_path / 'memory.max').write_text('max\n')
  assert capacity._physical() == whole
  (tmp_path / 'memory.max').write_text(f'{2**20}\n')
  assert capacity._physical() < whole


def test_a_process_may_have_less_than_its_container(monkeypatch):
  limited = types.SimpleNamespace(
    RLIMIT_AS=0, RLIM_INFINITY=-1, getrlimit=lambda kind: (2**20, -1)
  )
  monkeypatch.setattr(capacity, 'resource', limited)
  assert capacity.whole_machine() == 2**20
