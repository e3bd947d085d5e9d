"""Text to batches: sources, tokenizers, token caches, packing, and the order of the
examples.

>>> from tl_jax.data import packing
>>> packing.plan([3, 5, 4, 4], 8).rows
2

Modules are imported when they are first named; grain, tensorflow-datasets and
tokenizers only where they are used.
"""

import importlib

MODULES = (
  'backends',
  'builders',
  'chats',
  'conversations',
  'cuts',
  'documents',
  'fetch',
  'files',
  'folders',
  'lines',
  'missing',
  'mixing',
  'packing',
  'pairs',
  'pipeline',
  'segment_pairs',
  'sentences',
  'separated',
  'sources',
  'store',
  'subsets',
  'tables',
  'texts',
  'tokenizers',
  'tokens',
  'vocabularies',
  'windows',
)
NAMES = {
  'load': 'sources',
  'Source': 'sources',
  'Tokenizer': 'tokenizers',
  'tokenize': 'tokens',
  'Tokens': 'tokens',
  'plan': 'packing',
  'Examples': 'pipeline',
  'stream': 'pipeline',
  'batches': 'pipeline',
  'evaluation': 'pipeline',
  'subset': 'subsets',
}

__all__ = [*MODULES, *NAMES]


def __getattr__(name: str):
  if name in MODULES:
    return importlib.import_module(f'tl_jax.data.{name}')
  if name in NAMES:
    return getattr(importlib.import_module(f'tl_jax.data.{NAMES[name]}'), name)
  raise AttributeError(
    f'module tl_jax.data has no attribute {name!r}; it has {", ".join(sorted(__all__))}'
  )


def __dir__():
  return sorted(__all__)
