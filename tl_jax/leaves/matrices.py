"""Matrices that are a held array and a small trained change of it.

>>> w = Scaled(jnp.ones((2, 3)), jnp.array([1.0, 2.0, 3.0]))
>>> matmul(jnp.ones((1, 2)), w).tolist(), w.dense().tolist()
([[2.0, 4.0, 6.0]], [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
"""

import jax
import jax.numpy as jnp

from tl_jax.leaves.structure import (
  Array,
  dense,
  drop,
  matmul,
  matmul_transposed,
  matrix,
  require_whole,
  static,
  take,
)


@matrix
class LowRank:
  """base + scale * a @ b (LoRA, Hu et al. 2021, eq. 3).

  base (..., in, out); a (..., in, rank); b (..., rank, out). Leading axes, if any, are
  stacked layers. The sum is never formed inside a model of ours. `rate` is the dropout
  of what goes into a, while a key is there. As an embedding, base is a table (rows,
  width), and so is the sum.
  """

  base: Array
  a: Array
  b: Array
  scale: float = static(1.0)
  rate: float = static(0.0)
  key: Array = None

  def dense(self) -> Array:
    """The plain array (..., in, out) that this leaf stands for, in the base's dtype."""
    require_whole(self, 'base', 'a', 'b')
    return changed(self.base, self.scale * low_rank(self.a, self.b))

  def product(self, x: Array) -> Array:
    """x (..., in) times this leaf, (..., out) in the dtype of x, by way of the rank."""
    require_whole(self, 'base', 'a', 'b')
    # The held product sees no dropout.
    small = matmul(drop(x, self.rate, self.key), self.a)
    change = matmul(small, self.b)
    return matmul(x, self.base) + self.scale * change

  def product_transposed(self, x: Array) -> Array:
    """x (..., width) times the transpose of this table, (..., rows)."""
    require_whole(self, 'base', 'a', 'b')
    small = matmul_transposed(x, self.b)
    change = matmul_transposed(small, self.a)
    return matmul_transposed(x, self.base) + self.scale * change

  def take(self, index: Array) -> Array:
    """The rows `index` (...) of this table, (..., width)."""
    require_whole(self, 'base', 'a', 'b')
    change = matmul(self.a[index], self.b)
    return take(self.base, index) + self.scale * change

  def change_since(self, start) -> Array:
    """scale * (a @ b - a0 @ b0), the base left out."""
    left, right = self._factors_since(start)
    return self.scale * low_rank(left, right)

  def squared_change_since(self, start) -> Array:
    """The squared norm of the change, from products no larger than (in, rank).

    It is |u v|^2 = sum(u^T u * v v^T).
    """
    left, right = self._factors_since(start)
    left_gram = low_rank(jnp.swapaxes(left, -1, -2), left)
    right_gram = low_rank(right, jnp.swapaxes(right, -1, -2))
    return self.scale**2 * (left_gram * right_gram).sum()

  def _factors_since(self, start) -> tuple[Array, Array]:
    """Two factors whose product is a @ b - a0 @ b0.

    They are (..., in, 2 rank) and (..., 2 rank, out), and stand for (a - a0) @ b + a0 @
    (b - b0). Both terms are small near the start, so nothing large cancels.
    """
    require_whole(self, 'a', 'b')
    left = jnp.concatenate([self.a - start.a, start.a], -1)
    right = jnp.concatenate([self.b, self.b - start.b], -2)
    return left, right

  @property
  def draws(self) -> bool:
    return self.rate > 0

  @property
  def shape(self) -> tuple[int, ...]:
    # In the trained part of a tree the base is a hole.
    if self.base is None:
      return (*self.a.shape[:-1], self.b.shape[-1])
    return tuple(self.base.shape)

  @property
  def dtype(self):
    return self.a.dtype if self.base is None else self.base.dtype


@matrix
class Directed:
  """magnitude * v / |v| by columns, with v = base + scale * a @ b.

  This is DoRA (Liu et al. 2024, eq. 5). base (..., in, out); a (..., in, rank); b (...,
  rank, out); magnitude (..., out). The norm |v| counts as a constant in the gradient
  (section 4.3), and v is not formed for it.
  """

  base: Array
  a: Array
  b: Array
  magnitude: Array
  scale: float = static(1.0)
  rate: float = static(0.0)
  key: Array = None

  def dense(self) -> Array:
    require_whole(self, 'base', 'a', 'b', 'magnitude')
    base = dense(self.base)
    # In the width of the trained factors, beside which their small change is not lost.
    change = low_rank(self.a, self.b)
    direction = base.astype(self.a.dtype) + self.scale * change
    gain = self._gain()[..., None, :]
    return (direction * gain).astype(base.dtype)

  def product(self, x: Array) -> Array:
    require_whole(self, 'base', 'a', 'b', 'magnitude')
    small = matmul(drop(x, self.rate, self.key), self.a)
    change = matmul(small, self.b)
    plain = matmul(x, self.base) + self.scale * change
    return plain * self._gain().astype(plain.dtype)

  def _gain(self) -> Array:
    """What the columns of v are multiplied with: (..., out)."""
    norms = column_norms(self.base, self.a, self.b, self.scale)
    return self.magnitude / jax.lax.stop_gradient(norms)

  @property
  def draws(self) -> bool:
    return self.rate > 0


@matrix
class Scaled:
  """base with every output, or every input, multiplied by a number.

  This is (IA)^3 (Liu et al. 2022, section 3.3). base (..., in, out) or a bias (...,
  out); scale (..., out), or (..., in) for side 'in'.
  """

  base: Array
  scale: Array
  side: str = static('out')

  def dense(self) -> Array:
    require_whole(self, 'base', 'scale')
    base = dense(self.base)
    scale = self.scale.astype(base.dtype)
    # A bias has one number for each of its entries.
    if base.ndim == scale.ndim:
      return base * scale
    if self.side == 'out':
      return base * scale[..., None, :]
    return base * scale[..., None]

  def product(self, x: Array) -> Array:
    require_whole(self, 'base', 'scale')
    # Scaling what goes in or comes out leaves the base as it is, of whatever kind.
    scale = self.scale.astype(x.dtype)
    if self.side == 'in':
      return matmul(x * scale, self.base)
    return matmul(x, self.base) * scale


@matrix
class Subset:
  """base with `change` (k,) added to k of its entries.

  The entries are those at `index` (k,) of the flattened array. The others are held.
  """

  base: Array
  change: Array
  index: Array

  def dense(self) -> Array:
    require_whole(self, 'base', 'change', 'index')
    # Scattered into zeros and then added: the change keeps its width however narrow the
    # base is.
    return changed(self.base, self._scattered(self.change))

  def change_since(self, start) -> Array:
    """The change of the chosen entries, zero elsewhere."""
    return self._scattered(self.change - start.change)

  def squared_change_since(self, start) -> Array:
    """The squares of the chosen entries alone."""
    return jnp.square(self.change - start.change).sum()

  def _scattered(self, values: Array) -> Array:
    """An array of the shape of the base with these values at the chosen entries."""
    zeros = jnp.zeros(self.size, values.dtype)
    return zeros.at[self.index].add(values).reshape(self.shape)


# The hard concrete distribution (Louizos et al. 2018, section 4): the interval that the
# gates are stretched to, and the temperature.
LOW = -0.1
HIGH = 1.1
TEMPERATURE = 2 / 3


@matrix
class Gated:
  """base + z * change with gates z in [0, 1] (diff pruning, Guo et al. 2021).

  base, change, gate: one shape; `gate` is the log of alpha of the gates' distribution,
  the hard concrete one (Louizos et al. 2018). With a key z is drawn from it. Without a
  key z is its deterministic form (their eq. 13).
  """

  base: Array
  change: Array
  gate: Array
  key: Array = None

  def dense(self) -> Array:
    require_whole(self, 'base', 'change', 'gate')
    return changed(self.base, self._passed())

  def change_since(self, start) -> Array:
    """How much more is let through than at the start."""
    return self._passed() - start._passed()

  def _passed(self) -> Array:
    """What the gates let through of the change."""
    if self.key is None:
      soft = jax.nn.sigmoid(self.gate)
    else:
      # Away from 0 and 1, whose logarithms are infinite.
      shape, dtype = self.gate.shape, self.gate.dtype
      noise = jax.random.uniform(self.key, shape, dtype, 1e-6, 1 - 1e-6)
      logistic = jnp.log(noise) - jnp.log1p(-noise)
      soft = jax.nn.sigmoid((logistic + self.gate) / TEMPERATURE)
    stretched = soft * (HIGH - LOW) + LOW
    return jnp.clip(stretched, 0.0, 1.0) * self.change

  def expected(self) -> Array:
    """The expected number of gates that are not zero (Louizos et al. 2018, eq. 12)."""
    open_chance = jax.nn.sigmoid(self.gate - TEMPERATURE * jnp.log(-LOW / HIGH))
    return open_chance.sum()

  # Gates are drawn in every step, with or without dropout.
  draws = True


def low_rank(a: Array, b: Array) -> Array:
  """a @ b, in full precision where `@` has less, as on TPUs.

  What is fused must agree with what was trained.
  """
  return jnp.matmul(a, b, precision='highest')


def changed(base: Array, change: Array) -> Array:
  """base + change in the dtype of the base, the very base where the change is zero."""
  base = jnp.asarray(dense(base))
  wide = jnp.promote_types(base.dtype, change.dtype)
  # Not `base + change`: a change of +0.0 would turn a -0.0 of the base into +0.0, and
  # nothing trained is no change.
  total = base.astype(wide) - (0 - change)
  return total.astype(base.dtype)


def column_norms(
  base: Array, a: Array | None = None, b: Array | None = None, scale: float = 1.0
) -> Array:
  """The norms (..., out) of the columns of base + scale * a @ b, float32.

  The sum is not formed: |w + s a b|^2 = |w|^2 + 2 s (a^T w) b + s^2 (a^T a b) b, by
  columns. No product is larger than (in, rank).
  """
  base = dense(base)
  base = base.astype(jnp.promote_types(base.dtype, jnp.float32))
  square = jnp.square(base).sum(-2)
  if a is not None:
    transposed = jnp.swapaxes(a, -1, -2)
    # Of shapes (..., rank, out) and (..., rank, rank): neither is as large as w.
    mixed = low_rank(transposed, base)
    gram = low_rank(transposed, a)
    cross = (mixed * b).sum(-2)
    square = square + 2 * scale * cross
    change = (low_rank(gram, b) * b).sum(-2)
    square = square + scale**2 * change
  # Above 0: rounding might leave less, and the norm is divided by.
  return jnp.sqrt(jnp.maximum(square, jnp.finfo(square.dtype).tiny))
