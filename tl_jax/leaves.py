"""Leaves with structure: they stand where a matrix stood, and one product knows them.

>>> import jax.numpy as jnp
>>> w = LowRank(jnp.eye(4), jnp.ones((4, 1)), jnp.zeros((1, 4)), scale=2.0)
>>> bool((matmul(jnp.ones((3, 4)), w) == 1.0).all())
True
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Array = Any


def structured(cls):
  """Makes a frozen dataclass a pytree node; fields with metadata `static` belong to the structure."""
  cls = dataclasses.dataclass(frozen=True)(cls)
  fields = dataclasses.fields(cls)
  static = [field.name for field in fields if field.metadata.get('static')]
  return jax.tree_util.register_dataclass(
      cls, data_fields=[field.name for field in fields if field.name not in static], meta_fields=static)


def static(default):
  """A field of a structured leaf that is part of its type, not an array."""
  return dataclasses.field(default=default, metadata={'static': True})


# A structured leaf has `dense()` and `product(x)`. Its first field, `base`, is what stood there before: flax compares
# the shape of the first array of a leaf with the shape it wants. Any field may be a hole (None) in a partial tree.


@structured
class LowRank:
  """base + scale * a @ b (LoRA, Hu et al. 2021, eq. 3), never formed inside a model of ours.

  base (..., in, out); a (..., in, rank); b (..., rank, out). Leading axes, if any, are stacked layers.
  A foreign module that multiplies by it gets the dense sum through `__jax_array__` (jax calls that before
  `__rmatmul__`): right, but at the price of the dense product; `matmul` is the cheap way.
  """
  base: Array
  a: Array
  b: Array
  scale: float = static(1.0)

  def dense(self) -> Array:
    """The plain array (..., in, out), in the dtype of the base, that this leaf stands for."""
    self._require_whole()
    base = jnp.asarray(dense(self.base))
    # Full precision where `@` has less (TPU): what is fused must agree with what was trained.
    change = self.scale * jnp.matmul(self.a, self.b, precision='highest')
    wide = jnp.promote_types(base.dtype, change.dtype)
    # Not `base + change`: a change of +0.0 would turn a -0.0 of the base into +0.0, and nothing trained is no change.
    return (base.astype(wide) - (0 - change)).astype(base.dtype)

  def product(self, x: Array) -> Array:
    """x (..., in) times this leaf, (..., out) in the dtype of x, by way of the rank."""
    self._require_whole()
    return matmul(x, self.base) + self.scale * matmul(matmul(x, self.a), self.b)

  def _require_whole(self):
    holes = [field for field in ('base', 'a', 'b') if getattr(self, field) is None]
    if holes:
      raise ValueError(f'a LowRank leaf without {", ".join(holes)} is no matrix: merge trainable and frozen first')

  def __jax_array__(self) -> Array:
    return self.dense()

  # What numpy and hand-written models ask of a matrix. numpy leaves `x @ leaf` to `__rmatmul__` for the priority.
  __array_priority__ = 100

  def __array__(self, dtype=None, copy=None):
    return np.asarray(self.dense(), dtype)

  def __matmul__(self, other) -> Array:
    return self.dense() @ other

  def __rmatmul__(self, other) -> Array:
    return matmul(other, self)

  def __getitem__(self, index) -> Array:
    return self.dense()[index]

  def reshape(self, *shape) -> Array:
    return self.dense().reshape(*shape)

  def astype(self, dtype) -> 'LowRank':
    return cast(self, dtype)

  @property
  def T(self) -> Array:  # noqa: N802
    return self.dense().T

  @property
  def shape(self) -> tuple[int, ...]:
    return (*self.a.shape[:-1], self.b.shape[-1]) if self.base is None else self.base.shape

  @property
  def ndim(self) -> int:
    return len(self.shape)

  @property
  def size(self) -> int:
    return int(np.prod(self.shape))

  @property
  def dtype(self):
    return self.a.dtype if self.base is None else self.base.dtype


STRUCTURED = (LowRank,)


def is_structured(leaf) -> bool:
  """Is this leaf one of ours, rather than an array?"""
  return isinstance(leaf, STRUCTURED)


def matmul(x: Array, w: Array) -> Array:
  """x (..., in) times w (in, out), whatever kind of leaf w is: the only product with a weight in `models/`.

  The result has the dtype of x, or of w where x is not floating.
  """
  x = jnp.asarray(x)
  if is_structured(w):
    return w.product(x)
  w = jnp.asarray(w)
  dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.inexact) else w.dtype
  return x.astype(dtype) @ w.astype(dtype)


def dense(leaf: Array) -> Array:
  """The plain array that a leaf stands for."""
  return leaf.dense() if is_structured(leaf) else leaf


def fuse(tree):
  """The tree with every structured leaf replaced by the plain array that it stands for."""
  return jax.tree.map(dense, tree, is_leaf=is_structured)


def cast(leaf, dtype):
  """The leaf (or tree) with its floating-point arrays in another dtype, integer arrays untouched."""
  return jax.tree.map(lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, leaf)
