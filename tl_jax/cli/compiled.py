"""Compiled programs are kept from one command to the next, in the user's cache folder.

>>> with_folder({'JAX_COMPILATION_CACHE_DIR': '/mine'})
{}
"""

import hashlib
import os
import pathlib
import platform
from collections.abc import Mapping

MOST_BYTES = 2**31  # the least recently used go first


def keep_compiled() -> None:
  """Tells jax, before it is imported, where to keep what it compiles.
  JAX_ENABLE_COMPILATION_CACHE=0 turns it off.
  """
  os.environ.update(with_folder(os.environ))


def with_folder(environment: Mapping[str, str]) -> dict[str, str]:
  """The variables to set: none where the user has a folder of their own or wants none,
  or none can be written.
  """
  wanted = environment.get('JAX_ENABLE_COMPILATION_CACHE', '1').lower() not in (
    '0',
    'false',
  )
  if not wanted or 'JAX_COMPILATION_CACHE_DIR' in environment:
    return {}
  home = environment.get('XDG_CACHE_HOME') or os.path.join(
    os.path.expanduser('~'), '.cache'
  )
  folder = pathlib.Path(home) / 'tl_jax' / 'compiled' / _machine()
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError:
    return {}
  if not os.access(folder, os.W_OK):
    return {}
  return {
    'JAX_COMPILATION_CACHE_DIR': str(folder),
    'JAX_COMPILATION_CACHE_MAX_SIZE': str(MOST_BYTES),
  }


def _machine() -> str:
  """A name for the instructions of this processor: a home may be shared by machines
  that differ.
  """
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
    known = next((line for line in lines if line.startswith(('flags', 'Features'))), '')
  except OSError:
    known = platform.processor()
  return hashlib.sha256(f'{platform.machine()} {known}'.encode()).hexdigest()[:12]
