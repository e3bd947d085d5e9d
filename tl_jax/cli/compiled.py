"""Compiled programs are kept from one command to the next, in the user's cache folder.

>>> with_folder({'JAX_COMPILATION_CACHE_DIR': '/mine'})
{}
"""

import hashlib
import os
import pathlib
import platform
from collections.abc import Mapping

# Size of the cache in bytes; jax deletes the least recently used programs first.
MOST_BYTES = 2**31


def keep_compiled() -> None:
  """Tells jax, before it is imported, where to keep what it compiles.

  JAX_ENABLE_COMPILATION_CACHE=0 turns it off.
  """
  os.environ.update(with_folder(os.environ))


def with_folder(environment: Mapping[str, str]) -> dict[str, str]:
  """The variables of jax to set, by name.

  None where the user wants no cache or has a folder for it, or where the folder cannot
  be written.
  """
  enabled = environment.get('JAX_ENABLE_COMPILATION_CACHE', '1')
  wanted = enabled.lower() not in ('0', 'false')
  if not wanted or 'JAX_COMPILATION_CACHE_DIR' in environment:
    return {}
  home = environment.get('XDG_CACHE_HOME')
  if not home:
    home = os.path.join(os.path.expanduser('~'), '.cache')
  folder = pathlib.Path(home) / 'tl_jax' / 'compiled' / _machine()
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError:
    return {}
  # jax warns at every program that it cannot keep.
  if not os.access(folder, os.W_OK):
    return {}
  return {
    'JAX_COMPILATION_CACHE_DIR': str(folder),
    'JAX_COMPILATION_CACHE_MAX_SIZE': str(MOST_BYTES),
  }


def _machine() -> str:
  """A name for the instructions of this processor.

  A home may be shared by machines that differ, and a program compiled for one may be
  illegal on another.
  """
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
    # `flags` on x86, `Features` on ARM; equal for all cores.
    features = [line for line in lines if line.startswith(('flags', 'Features'))]
    known = features[0] if features else ''
  except OSError:
    known = platform.processor()
  machine = f'{platform.machine()} {known}'
  return hashlib.sha256(machine.encode()).hexdigest()[:12]
