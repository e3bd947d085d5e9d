"""What every structured leaf is, and the products of a model that do not ask which kind
of leaf they have.

>>> matmul(jnp.ones((2, 3)), jnp.ones((3, 4))).shape
(2, 4)
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.leaves import products

Array = Any


def structured(cls):
  """Makes a frozen dataclass a pytree node and a leaf of ours; fields with metadata
  `static` belong to the structure.

  Any field may be a hole (None) in a partial tree. A field `key` is None but while a
  step draws something.
  """
  cls = dataclasses.dataclass(frozen=True)(cls)
  fields = dataclasses.fields(cls)
  static = [field.name for field in fields if field.metadata.get('static')]
  cls.structured_leaf = True
  return jax.tree_util.register_dataclass(
    cls,
    data_fields=[field.name for field in fields if field.name not in static],
    meta_fields=static,
  )


def static(default):
  """A field of a structured leaf that is part of its type, not an array."""
  return dataclasses.field(default=default, metadata={'static': True})


def matrix(cls):
  """A structured leaf that stands for an array: it has `dense()`, and gets what arrays
  have and, where it has no cheaper one of its own, the `product(x)` with what it stands
  for.

  Its first field, `base`, is what stood there before: flax compares the shape of the
  first array of a leaf with the shape it wants. A foreign module that multiplies by it
  gets the dense array through `__jax_array__` (jax calls that before `__rmatmul__`):
  right, but at the price of the dense product; `matmul` is the cheap way.
  """
  cls = structured(cls)
  for name, function in ARRAY_PROTOCOL.items():
    if name not in cls.__dict__:
      setattr(cls, name, function)
  # numpy leaves `x @ leaf` to `__rmatmul__` for the priority.
  cls.__array_priority__ = 100
  return cls


ARRAY_PROTOCOL = {
  'product': lambda leaf, x: matmul(x, leaf.dense()),
  '__jax_array__': lambda leaf: leaf.dense(),
  '__array__': lambda leaf, dtype=None, copy=None: np.asarray(leaf.dense(), dtype),
  '__matmul__': lambda leaf, other: leaf.dense() @ other,
  '__rmatmul__': lambda leaf, other: matmul(other, leaf),
  '__getitem__': lambda leaf, index: leaf.dense()[index],
  'reshape': lambda leaf, *shape: leaf.dense().reshape(*shape),
  'astype': lambda leaf, dtype: cast(leaf, dtype),
  'T': property(lambda leaf: leaf.dense().T),
  'shape': property(lambda leaf: tuple(leaf.base.shape)),
  'ndim': property(lambda leaf: len(leaf.shape)),
  'size': property(lambda leaf: int(np.prod(leaf.shape))),
  'dtype': property(lambda leaf: leaf.base.dtype),
}


def require_whole(leaf, *fields: str) -> None:
  """ValueError for a leaf of a partial tree, which stands for nothing yet."""
  holes = [field for field in fields if getattr(leaf, field) is None]
  if holes:
    raise ValueError(
      f'a {type(leaf).__name__} leaf without {", ".join(holes)} is no matrix: '
      'merge trainable and frozen first'
    )


def is_structured(leaf) -> bool:
  """Is this leaf one of ours, rather than an array?"""
  return hasattr(type(leaf), 'structured_leaf')


def matmul(x: Array, w: Array) -> Array:
  """x (..., in) times w (in, out), whatever kind of leaf w is: the only product with a
  weight in `models/`.

  The result has the dtype of x, or of w where x is not floating.
  """
  x = jnp.asarray(x)
  if is_structured(w):
    return w.product(x)
  w = jnp.asarray(w)
  x = _floating(x, w)
  if w.ndim == 2 and x.dtype == jnp.bfloat16:
    return products.multiply(x, w)
  w = w.astype(x.dtype)
  return (
    products.multiply_wide(x, w) if w.ndim == 2 and x.dtype == jnp.float32 else x @ w
  )


def _floating(x: Array, w: Array) -> Array:
  """x, in the dtype of the weight where its own is not floating."""
  return x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(w.dtype)


def add_bias(y: Array, bias: Array) -> Array:
  """y (..., out) plus a bias (out,), whatever kind of leaf it is, in the dtype of y."""
  y, bias = jnp.asarray(y), dense(bias)
  return (
    products.add_bias(y, bias) if y.dtype == jnp.bfloat16 else y + bias.astype(y.dtype)
  )


def matmul_transposed(x: Array, table: Array) -> Array:
  """x (..., width) times the transpose of a table (rows, width): the output layer that
  is tied to an embedding.
  """
  if hasattr(table, 'product_transposed'):
    return table.product_transposed(x)
  table = jnp.asarray(dense(table))
  x = _floating(x, table)
  if x.dtype == jnp.bfloat16:
    return products.multiply(x, table, True)
  return products.multiply_table(x, table.astype(x.dtype))


def take(table: Array, index: Array) -> Array:
  """The rows `index` (...) of a table (rows, width), (..., width), whatever kind of
  leaf it is.
  """
  return (
    table.take(index)
    if is_structured(table) and hasattr(table, 'take')
    else dense(table)[index]
  )


def dense(leaf: Array) -> Array:
  """The plain array that a leaf stands for; the leaf itself where it stands for none."""
  return leaf.dense() if hasattr(leaf, 'dense') and is_structured(leaf) else leaf


def wide(leaf: Array) -> Array:
  """The plain array that a leaf stands for, in float32 or wider however narrow its base
  is.
  """
  if is_structured(leaf) and getattr(leaf, 'base', None) is not None:
    leaf = dataclasses.replace(leaf, base=wide(leaf.base))
  plain = jnp.asarray(dense(leaf))
  return plain.astype(jnp.promote_types(plain.dtype, jnp.float32))


def change(leaf: Array, start: Array) -> Array:
  """The array that `leaf` stands for less the one that `start` stands for, in float32
  or wider.

  `start` is the same leaf at an earlier time: of the same kind, over the same base.
  """
  if type(leaf) is type(start) and hasattr(leaf, 'change_since'):
    return leaf.change_since(start)
  return wide(leaf) - wide(start)


def squared_change(leaf: Array, start: Array) -> Array:
  """The sum of the squares of `change(leaf, start)`: a scalar, by the cheapest way that
  the kind of leaf has.
  """
  if type(leaf) is type(start) and hasattr(leaf, 'squared_change_since'):
    return leaf.squared_change_since(start)
  return jnp.square(change(leaf, start)).sum()


def is_edited(leaf) -> bool:
  """Is this leaf a matrix that is changed by what is trained beside its base?"""
  return is_structured(leaf) and hasattr(leaf, 'base')


def fuse(params):
  """The tree with every structured leaf replaced by the plain array that it stands for,
  if it stands for one.
  """
  return jax.tree.map(dense, params, is_leaf=is_structured)


def cast(leaf, dtype):
  """The leaf (or tree) with its floating-point arrays in another dtype, integer arrays
  untouched.
  """
  return jax.tree.map(
    lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, leaf
  )


def drop(x: Array, rate: float, key) -> Array:
  """Inverted dropout with the rate to the nearest 2^-16; no key, no dropout."""
  if key is None or rate == 0.0:
    return x
  keep = max(1, round((1.0 - rate) * 2**16))
  return jnp.where(
    short_integers(key, x.shape) < keep, x * (2**16 / keep), jnp.zeros_like(x)
  )


def short_integers(key, shape) -> Array:
  """Uniform integers below 2^16 (uint32) of this shape, two from each draw of 32 bits."""
  *before, last = shape or (1,)
  drawn = jax.random.bits(key, (*before, -(-last // 2)), jnp.uint32)
  both = jnp.concatenate([drawn & 0xFFFF, drawn >> 16], -1)
  return both[..., :last].reshape(shape)
