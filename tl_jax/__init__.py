"""Pre-train small language models and transfer them, every part usable alone.

>>> import tl_jax
>>> tl_jax.__version__
'0.1.0'

Nothing heavy is imported until a name is used: `import tl_jax` does not load jax.
"""

import importlib

__version__ = '0.1.0'

ROOMS = (
  'checkpoint',
  'config',
  'data',
  'decode',
  'evals',
  'interop',
  'leaves',
  'metrics',
  'models',
  'objectives',
  'optim',
  'parallel',
  'report',
  'rng',
  'scale',
  'tasks',
  'train',
  'transfer',
  'tree',
)
NAMES = {
  'load': 'tl_jax.train',
  'restore': 'tl_jax.train',
  'save': 'tl_jax.interop',
  'ConfigError': 'tl_jax.config',
}

__all__ = ['__version__', *ROOMS, *NAMES]


def __getattr__(name: str):
  if name in ROOMS:
    return importlib.import_module(f'tl_jax.{name}')
  if name in NAMES:
    return getattr(importlib.import_module(NAMES[name]), name)
  raise AttributeError(
    f'module tl_jax has no attribute {name!r}; it has {", ".join(sorted(__all__))}'
  )


def __dir__():
  return sorted(__all__)
