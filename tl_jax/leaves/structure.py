"""What every structured leaf is, and the products that take any kind of leaf.

>>> matmul(jnp.ones((2, 3)), jnp.ones((3, 4))).shape
(2, 4)
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.leaves import products

Array = Any


def structured(cls):
  """Makes a frozen dataclass a pytree node and a structured leaf.

  Fields with metadata `static` belong to the structure. Any other field may be a hole
  (None) in a partial tree. A field `key` is None except while a step draws something.
  """
  cls = dataclasses.dataclass(frozen=True)(cls)
  arrays = []
  static_fields = []
  for field in dataclasses.fields(cls):
    of_kind = static_fields if field.metadata.get('static') else arrays
    of_kind.append(field.name)
  cls.structured_leaf = True
  return jax.tree_util.register_dataclass(
    cls, data_fields=arrays, meta_fields=static_fields
  )


def static(default):
  """A field of a structured leaf that is part of its type, not an array."""
  return dataclasses.field(default=default, metadata={'static': True})


def matrix(cls):
  """Makes a structured leaf that stands for an array.

  The class has `dense()`. It gets what arrays have from `_ArrayProtocol`, and the
  `product(x)` with what it stands for where it has no cheaper one of its own.

  Its first field, `base`, is what stood there before: flax compares the shape of the
  first array of a leaf with the shape it wants.
  """
  cls = structured(cls)
  # Copied rather than inherited: what the class itself has goes before.
  for name, member in vars(_ArrayProtocol).items():
    if name not in vars(cls):
      setattr(cls, name, member)
  return cls


class _ArrayProtocol:
  """What a matrix has because it stands for an array.

  A foreign module that multiplies by it gets the dense array through `__jax_array__`
  (jax calls that before `__rmatmul__`): right, but at the price of the dense product.
  `matmul` is the cheap way.
  """

  # numpy leaves `x @ leaf` to `__rmatmul__` for the priority.
  __array_priority__ = 100

  def product(self, x):
    return matmul(x, self.dense())

  def __jax_array__(self):
    return self.dense()

  def __array__(self, dtype=None, copy=None):
    return np.asarray(self.dense(), dtype)

  def __matmul__(self, other):
    return self.dense() @ other

  def __rmatmul__(self, other):
    return matmul(other, self)

  def __getitem__(self, index):
    return self.dense()[index]

  def reshape(self, *shape):
    return self.dense().reshape(*shape)

  def astype(self, dtype):
    return cast(self, dtype)

  @property
  def T(self):
    return self.dense().T

  @property
  def shape(self):
    return tuple(self.base.shape)

  @property
  def ndim(self):
    return len(self.shape)

  @property
  def size(self):
    return int(np.prod(self.shape))

  @property
  def dtype(self):
    return self.base.dtype


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
  """x (..., in) times w (in, out), whatever kind of leaf w is.

  It is the only product with a weight in `models/`. The result has the dtype of x, or
  of w where x is not floating.
  """
  x = jnp.asarray(x)
  if is_structured(w):
    return w.product(x)
  w = jnp.asarray(w)
  x = _floating(x, w)
  # The forms of `products` are for matrices; stacked layers take the plain one.
  if w.ndim != 2:
    return x @ w.astype(x.dtype)
  if x.dtype == jnp.bfloat16:
    # Not cast here: so the gradient of a float32 weight is not rounded.
    return products.multiply(x, w)
  w = w.astype(x.dtype)
  if x.dtype == jnp.float32:
    return products.multiply_wide(x, w)
  return x @ w


def _floating(x: Array, w: Array) -> Array:
  """x, in the dtype of the weight where its own is not floating."""
  if jnp.issubdtype(x.dtype, jnp.inexact):
    return x
  return x.astype(w.dtype)


def add_bias(y: Array, bias: Array) -> Array:
  """y (..., out) plus a bias (out,), whatever kind of leaf it is, in the dtype of y."""
  y = jnp.asarray(y)
  bias = dense(bias)
  if y.dtype == jnp.bfloat16:
    return products.add_bias(y, bias)
  return y + bias.astype(y.dtype)


def matmul_transposed(x: Array, table: Array) -> Array:
  """x (..., width) times the transpose of a table (rows, width): (..., rows).

  This is the output layer that is tied to an embedding.
  """
  # Of leaves without such a product, the dense table is formed.
  if hasattr(table, 'product_transposed'):
    return table.product_transposed(x)
  table = jnp.asarray(dense(table))
  x = _floating(x, table)
  if x.dtype == jnp.bfloat16:
    return products.multiply(x, table, True)
  return products.multiply_table(x, table.astype(x.dtype))


def take(table: Array, index: Array) -> Array:
  """The rows `index` (...) of a table (rows, width), whatever kind of leaf it is.

  The result is (..., width).
  """
  # Arrays have a method `take`, too, which means something else.
  if is_structured(table) and hasattr(table, 'take'):
    return table.take(index)
  return dense(table)[index]


def dense(leaf: Array) -> Array:
  """The plain array that a leaf stands for; the leaf itself if it stands for none."""
  if is_structured(leaf) and hasattr(leaf, 'dense'):
    return leaf.dense()
  return leaf


def wide(leaf: Array) -> Array:
  """The plain array that a leaf stands for, in float32 or wider.

  The base is widened before anything is added: a small change would be lost in the
  narrow sum.
  """
  if is_structured(leaf) and getattr(leaf, 'base', None) is not None:
    leaf = dataclasses.replace(leaf, base=wide(leaf.base))
  plain = jnp.asarray(dense(leaf))
  return plain.astype(jnp.promote_types(plain.dtype, jnp.float32))


def change(leaf: Array, start: Array) -> Array:
  """The array that `leaf` stands for less the one that `start` stands for.

  It is float32 or wider. `start` is the same leaf at an earlier time: of the same kind,
  over the same base.
  """
  if type(leaf) is type(start) and hasattr(leaf, 'change_since'):
    return leaf.change_since(start)
  return wide(leaf) - wide(start)


def squared_change(leaf: Array, start: Array) -> Array:
  """The sum of the squares of `change(leaf, start)`, a scalar.

  It is computed in the cheapest way that the kind of leaf has.
  """
  if type(leaf) is type(start) and hasattr(leaf, 'squared_change_since'):
    return leaf.squared_change_since(start)
  return jnp.square(change(leaf, start)).sum()


def is_edited(leaf) -> bool:
  """Is this leaf a matrix that is changed by what is trained beside its base?"""
  # A quantized matrix has no base: it is only held.
  return is_structured(leaf) and hasattr(leaf, 'base')


def fuse(params):
  """The tree with a plain array for every structured leaf that stands for one."""
  return jax.tree.map(dense, params, is_leaf=is_structured)


def cast(leaf, dtype):
  """The leaf (or tree) with its floating-point arrays in another dtype."""

  def cast_array(array):
    # Integers are indices or codes, which another dtype would not hold.
    if jnp.issubdtype(array.dtype, jnp.floating):
      return array.astype(dtype)
    return array

  return jax.tree.map(cast_array, leaf)


def drop(x: Array, rate: float, key) -> Array:
  """Inverted dropout with the rate to the nearest 2^-16; no key, no dropout."""
  if key is None or rate == 0.0:
    return x
  # Of 2^16 numbers, this many keep an entry; at least one, or the scale would be 1 / 0.
  keep = max(1, round((1.0 - rate) * 2**16))
  kept = short_integers(key, x.shape) < keep
  scaled = x * (2**16 / keep)
  return jnp.where(kept, scaled, jnp.zeros_like(x))


def short_integers(key, shape) -> Array:
  """Uniform integers below 2^16, uint32, two from each draw of 32 bits."""
  # A dropout needs no more than 16 bits, and drawing is what it costs.
  *before, last = shape or (1,)
  half = math.ceil(last / 2)
  drawn = jax.random.bits(key, (*before, half), jnp.uint32)
  low_bits = drawn & 0xFFFF
  high_bits = drawn >> 16
  both = jnp.concatenate([low_bits, high_bits], -1)
  return both[..., :last].reshape(shape)
