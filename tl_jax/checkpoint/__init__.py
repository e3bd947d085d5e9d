"""Committed steps and the files of a workdir: what survives a crash.

>>> import tempfile
>>> from tl_jax.checkpoint import Store
>>> store = Store(tempfile.mkdtemp())
>>> store.steps()
[]
"""

import importlib

_HOME = {
  'Store': 'store',
  'CheckpointError': 'record',
  'DamagedStep': 'record',
  'SaveFailed': 'commit',
  'Verdict': 'store',
  'Workdir': 'workdir',
  'WorkdirBusy': 'lock',
  'config_hash': 'workdir',
  'share_files': 'sharing',
}

__all__ = sorted(_HOME)


def __getattr__(name: str):
  if name not in _HOME:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module(f'{__name__}.{_HOME[name]}'), name)


def __dir__():
  return __all__
