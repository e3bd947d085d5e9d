"""Products in the forms that are fast where they run.

A product in bfloat16 accumulates in float32 and rounds once. On CPU the gradient of a
float32 weight is not rounded at all.

XLA on CPU has bfloat16 kernels for products with a float32 result whose left operand is
not transposed. It computes every other form in float32, at half the speed. So a left
operand that must be transposed is turned by hand. In float32 turning makes whole steps
faster, though no product alone. Elsewhere the natural forms stand.

A gradient that nobody asks for is not computed, and what only it would need is not
kept.

>>> x, w = jnp.ones((2, 3), jnp.bfloat16), jnp.ones((3, 4))
>>> total = lambda w: multiply(x, w).astype(jnp.float32).sum()
>>> multiply(x, w).dtype.name, jax.grad(total)(w).dtype.name
('bfloat16', 'float32')
"""

import functools

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from tl_jax.leaves.platforms import by_platform

NARROW = jnp.bfloat16
# The name of the results of products with weights, for a checkpoint policy that keeps
# them.
PRODUCT = 'product'
# Rows and columns that are copied together: 8 and 16 were faster than 32 and more.
TILE = 16
# So many rows had better be packed than a table of many; with 64 and more it is as well
# to pack the table.
FEW = 32


def _multiply(x, y, transposed: bool = False, dtype=NARROW):
  """x (..., k) times y (k, m): (..., m) in `dtype`, computed in bfloat16.

  With `transposed` y is (m, k). Leading axes of y (..., k, m) are those of x (..., n,
  k). A gradient has the dtype of its operand.
  """
  made = _contract(x, y, transposed)
  if dtype == made.dtype:
    return by_platform(made, cpu=_finished, default=lambda made: made)
  return made.astype(dtype)


multiply = jax.custom_vjp(_multiply, nondiff_argnums=(2, 3))


def _finished(made):
  """The result of a product on CPU, kept apart from what follows.

  If a transpose behind it became part of the product, XLA would have no kernel for it.
  """
  return jax.lax.optimization_barrier(made)


def _contract(x, y, transposed: bool):
  """The last axis of x against the first matrix axis of y, or its last one; float32."""
  stacked = tuple(range(y.ndim - 2))
  x_axis = x.ndim - 1
  y_axis = y.ndim - 1 if transposed else y.ndim - 2
  dimensions = ((x_axis,), (y_axis,)), (stacked, stacked)
  x, y = x.astype(NARROW), y.astype(NARROW)
  return jax.lax.dot_general(x, y, dimensions, preferred_element_type=jnp.float32)


@jax.custom_jvp
def multiply_wide(x, w):
  """x (..., in) times w (in, out), both float32: (..., out).

  The gradient of w is a product whose left operand is transposed, which XLA on CPU
  leaves to another kernel: there, the narrower of its two operands is turned by hand.
  Forward mode works, too.
  """
  return x @ w


def multiply_table(x, table):
  """x (..., width) times the transpose of a table (n, width): (..., n).

  Both have the same dtype. XLA on CPU packs what is on the right anew for every
  product. With a few rows of x, as in decoding, the table is therefore on the left, and
  the result is turned.
  """
  width = x.shape[-1]
  rows = x.size // width

  def contract(x, y):
    last_axes = ((x.ndim - 1,), (y.ndim - 1,))
    return jax.lax.dot_general(x, y, (last_axes, ((), ())))

  def on_cpu(x, table):
    turned = _finished(contract(table, x.reshape(rows, width)))
    shape = *x.shape[:-1], table.shape[0]
    return turned.T.reshape(shape)

  if 1 < rows <= min(FEW, table.shape[0]):
    return by_platform(x, table, cpu=on_cpu, default=contract)
  return contract(x, table)


def _outer(x, y, shared: int, dtype):
  """The product (..., k, m) of x (..., k) and y (..., m), summed over most axes.

  The sum is over all axes but the first `shared` ones and the last. Everywhere but on
  CPU it is rounded before it is widened, as XLA would: less to send between devices.
  """

  def on_cpu(x, y):
    x = x.reshape(*x.shape[:shared], -1, x.shape[-1])
    y = y.reshape(*y.shape[:shared], -1, y.shape[-1])
    # A narrow y, as of a factor of LoRA, is less to turn than x.
    if 8 * y.shape[-1] < x.shape[-1]:
      made = _finished(_contract(copy_transposed(y), x, False))
      made = jnp.swapaxes(made, -1, -2)
    else:
      made = _finished(_contract(copy_transposed(x), y, False))
    return made.astype(dtype)

  def natural(x, y):
    kept = tuple(range(shared))
    summed = tuple(range(shared, x.ndim - 1))
    dimensions = (summed, summed), (kept, kept)
    made = jax.lax.dot_general(x, y, dimensions, preferred_element_type=jnp.float32)
    return made.astype(NARROW).astype(dtype)

  x = x.astype(NARROW)
  y = y.astype(NARROW)
  return by_platform(x, y, cpu=on_cpu, default=natural)


def copy_swapped(x):
  """x (a, b, c, ...) as (a, c, b, ...).

  On CPU it is a copy that XLA does not fold into the product behind it.
  """

  def on_cpu(x):
    first, second, third, *rest = x.shape
    tile = _tile(second)
    tiles = x.reshape(first, second // tile, tile, third, *rest)
    swapped = tiles.transpose(0, 3, 1, 2, *range(4, tiles.ndim))
    return swapped.reshape(first, third, second, *rest)

  def natural(x):
    return jnp.swapaxes(x, 1, 2)

  return by_platform(x, cpu=on_cpu, default=natural)


def column_sums(x):
  """The sums (n,) in float32 over all axes of bfloat16 x (..., n) but the last.

  On CPU they are a product with ones, which has a fast kernel. Elsewhere XLA would put
  the operands of several such products side by side, in float32, because they share the
  ones; plain sums become part of what makes their operand.
  """
  x = x.reshape(-1, x.shape[-1])

  def on_cpu(x):
    ones = jnp.ones((1, x.shape[0]), NARROW)
    return _contract(ones, x, False)[0]

  def natural(x):
    return x.astype(jnp.float32).sum(0)

  return by_platform(x, cpu=on_cpu, default=natural)


def _tile(whole: int) -> int:
  """The largest size up to `TILE` that divides an axis."""
  sizes = range(min(TILE, whole), 0, -1)
  return next(size for size in sizes if whole % size == 0)


def copy_transposed(x):
  """The transpose (..., k, n) of x (..., n, k), as a copy in tiles.

  XLA does not fold such a copy into what uses it.
  """
  *batch, n, k = x.shape
  tall = _tile(n)
  wide = _tile(k)
  tiles = x.reshape(*batch, n // tall, tall, k // wide, wide)
  *stacked, row_tile, row, column_tile, column = range(tiles.ndim)
  turned = tiles.transpose(*stacked, column_tile, column, row_tile, row)
  return turned.reshape(*batch, k, n)


def _forward(x, y, transposed, dtype):
  # Not `multiply`: a checkpoint policy does not see the names inside of a rule of ours.
  made = _multiply(x.value, y.value, transposed, dtype)
  if y.value.ndim == 2:
    made = checkpoint_name(made, PRODUCT)
  # Always as many arrays: jax remembers the structure of what is kept for all uses of a
  # jitted function at once.
  like_x = jnp.zeros(0, x.value.dtype)
  like_y = jnp.zeros(0, y.value.dtype)
  # The gradient of x is a product with y, and the other way round.
  return made, (_kept(x, y.perturbed), _kept(y, x.perturbed), like_x, like_y)


def _kept(operand, needed: bool):
  """The operand as the products take it; where it is not needed, an array of as many
  axes without an element.
  """
  if needed:
    return operand.value.astype(NARROW)
  return jnp.zeros((0,) * operand.value.ndim, NARROW)


def _backward(transposed, dtype, kept, gradient):
  x, y, like_x, like_y = kept
  gradient = _solid(gradient)
  dx = None
  dy = None
  if y.size:
    dx = _contract(gradient, y, not transposed).astype(like_x.dtype)
  if x.size:
    shared = y.ndim - 2
    left, right = (gradient, x) if transposed else (x, gradient)
    dy = _outer(left, right, shared, like_y.dtype)
  return dx, dy


multiply.defvjp(_forward, _backward, symbolic_zeros=True)


@functools.partial(multiply_wide.defjvp, symbolic_zeros=True)
def _multiply_wide_jvp(primals, tangents):
  x, w = primals
  dx, dw = tangents
  x_is_constant = type(dx) is jax.custom_derivatives.SymbolicZero
  w_is_constant = type(dw) is jax.custom_derivatives.SymbolicZero
  # Not `multiply_wide`, for a checkpoint policy as above.
  made = checkpoint_name(x @ w, PRODUCT)
  change = jnp.zeros_like(made) if x_is_constant else dx @ w
  if not w_is_constant:
    change = change + _turned(x, dw)
  return made, change


def _turned(x, w):
  """x (..., in) times w (in, out).

  Its form is one whose transpose, the gradient of w, is a plain product on CPU.
  """

  def on_cpu(x, w):
    rows = x.reshape(-1, x.shape[-1])
    # The narrower of the operand and the result is turned.
    if w.shape[0] <= w.shape[1]:
      made = jax.lax.dot_general(copy_transposed(rows), w, (((0,), (0,)), ((), ())))
    else:
      made = jax.lax.dot_general(w, rows, (((0,), (1,)), ((), ())))
      made = copy_transposed(made)
    return made.reshape(*x.shape[:-1], w.shape[1])

  return by_platform(x, w, cpu=on_cpu, default=jnp.matmul)


@jax.custom_vjp
def add_bias(y, bias):
  """y (..., n) bfloat16 plus a bias (n,), whose gradient is a product with ones."""
  return y + bias.astype(y.dtype)


def _add_bias_forward(y, bias):
  # An array of one element, or none: is the gradient of the bias asked for?
  like = jnp.zeros(int(bias.perturbed), bias.value.dtype)
  return add_bias(y.value, bias.value), like


def _add_bias_backward(like, gradient):
  gradient = _solid(gradient)
  if not like.size:
    return gradient, None
  return gradient, column_sums(gradient).astype(like.dtype)


add_bias.defvjp(_add_bias_forward, _add_bias_backward, symbolic_zeros=True)


def _solid(gradient):
  """A gradient as an array, also where it is known to be zero."""
  if type(gradient) is jax.custom_derivatives.SymbolicZero:
    return jnp.zeros(gradient.shape, gradient.dtype)
  return gradient
