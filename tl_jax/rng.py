"""Named random streams: every draw is a function of (seed, name, step) and of nothing
else.

>>> import jax
>>> a, b = stream(0, 'dropout', 3), stream(jax.random.key(0), 'dropout', 3)
>>> bool(jax.random.uniform(a) == jax.random.uniform(b))
True
"""

import numbers
import zlib

import jax


def stream(seed, name: str, step=None):
  """The key of the stream `name` at `step`; `seed` is an integer or a jax key, `step`
  may be traced.
  """
  key = _root(int(seed)) if isinstance(seed, numbers.Integral) else seed
  key = jax.random.fold_in(key, zlib.crc32(name.encode()))
  return key if step is None else jax.random.fold_in(key, step)


def _root(seed: int):
  """`jax.random.key(seed)`, without its silent loss of all but the low 32 bits of a
  larger or negative seed.
  """
  key = jax.random.key(seed & 0xFFFFFFFF)
  high = seed >> 32
  return jax.random.fold_in(key, high & 0xFFFFFFFF) if high else key
