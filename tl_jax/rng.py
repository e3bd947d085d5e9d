"""Named random streams.

Every draw is a function of (seed, name, step) and of nothing else.

>>> import jax
>>> a, b = stream(0, 'dropout', 3), stream(jax.random.key(0), 'dropout', 3)
>>> bool(jax.random.uniform(a) == jax.random.uniform(b))
True
"""

import numbers
import zlib

import jax


def stream(seed, name: str, step=None):
  """The key of the stream `name` at `step`.

  `seed` is an integer or a jax key; `step` may be traced.
  """
  key = _root(int(seed)) if isinstance(seed, numbers.Integral) else seed
  # Not `hash`, which differs from one process to the next.
  key = jax.random.fold_in(key, zlib.crc32(name.encode()))
  if step is None:
    return key
  return jax.random.fold_in(key, step)


def _root(seed: int):
  """`jax.random.key(seed)` of an integer of any size.

  jax itself takes 32 bits of a larger or negative seed and silently drops the rest.
  """
  key = jax.random.key(seed & 0xFFFFFFFF)
  high = seed >> 32
  # A seed of 32 bits has the key that jax gives it.
  if not high:
    return key
  return jax.random.fold_in(key, high & 0xFFFFFFFF)
