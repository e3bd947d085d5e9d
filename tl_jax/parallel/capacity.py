"""How much memory a run may have, as far as that can be known.

>>> whole_machine() is None or whole_machine() > 2**20
True
"""

import importlib.metadata
import importlib.util
import os
import pathlib
import pkgutil
from typing import NamedTuple

import jax

from tl_jax.parallel import mesh, starting

try:
  import resource
except ImportError:
  # Windows
  resource = None

GIB = 2**30
CGROUPS = pathlib.Path('/sys/fs/cgroup')


class Capacity(NamedTuple):
  """Memory of one kind, and how many such memories share the arrays of a run.

  size: the bytes of one of them. owner: what has it, in words. axes: axis of the mesh
  -> how many of them share what this axis cuts. is_host: is it that of the machine?
  """

  size: int
  owner: str
  axes: dict[str, int]
  is_host: bool = True

  def __str__(self) -> str:
    return f'{self.owner} has {self.size / GIB:.1f} GiB'


def capacity_for(shape: mesh.MeshShape) -> Capacity | None:
  """The memory that holds the arrays of a run on a mesh; None where it is not known.

  Where there is nothing but the processor of this machine, that is the memory of the
  machine, and no device is touched. Accelerators tell theirs only when they are in use:
  before that, it is not known.
  """
  if is_host_alone():
    size = whole_machine()
    if size is None or not _is_alone():
      return None
    # Several devices of one processor share its memory.
    return Capacity(size, 'this machine', dict.fromkeys(mesh.AXES, 1))
  return _of_devices(shape) if _are_in_use() else None


def _is_alone() -> bool:
  """Does no other process share the run with this one?"""
  if jax.distributed.is_initialized():
    return False
  try:
    return starting.find_cluster() is None
  except (ValueError, RuntimeError):
    # Whoever starts the run says what is wrong with its cluster.
    return False


def _of_devices(shape: mesh.MeshShape) -> Capacity | None:
  """The memory of the smallest device."""
  stats = [device.memory_stats() or {} for device in jax.local_devices()]
  sizes = [stat.get('bytes_limit') for stat in stats]
  if not all(sizes):
    return None
  try:
    axes = mesh.resolve(shape, jax.device_count())
  except ValueError:
    # Whoever makes the mesh says what is wrong with it.
    return None
  return Capacity(min(sizes), 'a device', axes, is_host=False)


def _are_in_use() -> bool:
  """Has this process asked for its devices?"""
  # jax has no public way to ask without touching them.
  from jax._src import xla_bridge

  return xla_bridge.backends_are_initialized()


def is_host_alone() -> bool:
  """Can the devices be none but the processor of this machine?

  So it is where jax is told to take it, and where no accelerator's plugin is installed.
  """
  platforms = jax.config.jax_platforms
  return platforms == 'cpu' or not _has_plugin()


def _has_plugin() -> bool:
  """Is a library for accelerators installed?"""
  if importlib.util.find_spec('libtpu') is not None:
    return True
  # Registered in either of these ways.
  if list(importlib.metadata.entry_points(group='jax_plugins')):
    return True
  try:
    import jax_plugins
  except ImportError:
    return False
  return any(True for _ in pkgutil.iter_modules(jax_plugins.__path__))


def whole_machine() -> int | None:
  """The bytes that all of this process can ever have, whoever has them now.

  That is the memory of the machine with its swap, less what the system or the container
  withholds. None where the system does not say.
  """
  known = [size for size in (_physical(), _of_process()) if size is not None]
  return min(known, default=None)


def _physical() -> int | None:
  """The memory of the machine or the container, with the swap."""
  try:
    lines = pathlib.Path('/proc/meminfo').read_text().splitlines()
  except OSError:
    return _pages()
  sizes = {}
  for line in lines:
    name, _, rest = line.partition(':')
    words = rest.split()
    if words and words[0].isdecimal():
      sizes[name] = int(words[0]) * 1024
  if 'MemTotal' not in sizes:
    return None
  memory = min([sizes['MemTotal'], *_of_container()])
  return memory + sizes.get('SwapTotal', 0)


def _pages() -> int | None:
  """The memory of a system without /proc."""
  try:
    return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
  except (AttributeError, OSError, ValueError):
    return None


def _of_container() -> list[int]:
  """The limits of the control groups that this process is in."""
  found = []
  for path in _limit_files():
    try:
      text = path.read_text().strip()
    except OSError:
      continue
    # `max` stands for no limit.
    if text.isdecimal():
      found.append(int(text))
  return found


def _limit_files() -> list[pathlib.Path]:
  """Where control groups of the first and the second version keep their limits."""
  first = CGROUPS / 'memory'
  groups = {first: 'memory.limit_in_bytes', CGROUPS: 'memory.max'}
  try:
    lines = pathlib.Path('/proc/self/cgroup').read_text().splitlines()
  except OSError:
    lines = []
  for line in lines:
    number, controllers, path = line.split(':', 2)
    if 'memory' in controllers.split(','):
      groups[first / path.lstrip('/')] = 'memory.limit_in_bytes'
    if number == '0':
      own = CGROUPS / path.lstrip('/')
      # A group may take no more than those above it.
      above = [group for group in own.parents if CGROUPS in group.parents]
      groups |= dict.fromkeys([own, *above], 'memory.max')
  return [group / name for group, name in groups.items()]


def _of_process() -> int | None:
  """The limit of the addresses of this process (ulimit -v)."""
  if resource is None:
    return None
  limit, _ = resource.getrlimit(resource.RLIMIT_AS)
  return None if limit == resource.RLIM_INFINITY else limit
