"""Products in the forms that are fast where they run.

Those in bfloat16 accumulate in float32 and round once; on CPU the gradient of a float32
weight is not rounded at all. There, XLA has bfloat16 kernels for products with a
float32 result whose left operand is not transposed, and computes every other form in
float32 at half the speed: so a left operand that must be transposed is turned by hand.
In float32 that makes whole steps faster, though no product alone. Elsewhere the natural
forms stand. A gradient that nobody asks for is not computed, and what only it would
need is not kept.

>>> x, w = jnp.ones((2, 3), jnp.bfloat16), jnp.ones((3, 4))
>>> multiply(x, w).dtype.name, jax.grad(lambda w: multiply(x, w).astype(jnp.float32).sum())(w).dtype.name
('bfloat16', 'float32')
"""

import functools

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

NARROW = jnp.bfloat16
# the results of products with weights, for a checkpoint policy that keeps them
PRODUCT = 'product'
# rows and columns that are copied together; 8 and 16 were faster than 32 and more
TILE = 16
# rows that had better be packed than a table of many; with 64 and more it is as well to
# pack the table
FEW = 32


def _multiply(x, y, transposed: bool = False, dtype=NARROW):
  """x (..., k) times y (k, m), or y (m, k) transposed: (..., m) in `dtype`, computed in
  bfloat16.

  Leading axes of y (..., k, m) are those of x (..., n, k). A gradient has the dtype of
  its operand.
  """
  made = _contract(x, y, transposed)
  if dtype == made.dtype:
    return jax.lax.platform_dependent(made, cpu=_finished, default=lambda made: made)
  return made.astype(dtype)


multiply = jax.custom_vjp(_multiply, nondiff_argnums=(2, 3))


def _finished(made):
  """The result of a product on CPU, where a transpose behind it must not become part of
  it: XLA then has no kernel.
  """
  return jax.lax.optimization_barrier(made)


def _contract(x, y, transposed: bool):
  """The last axis of x against the first matrix axis of y, or its last one; float32."""
  shared = tuple(range(y.ndim - 2))
  return jax.lax.dot_general(
    x.astype(NARROW),
    y.astype(NARROW),
    (((x.ndim - 1,), (y.ndim - 2 + transposed,)), (shared, shared)),
    preferred_element_type=jnp.float32,
  )


@jax.custom_jvp
def multiply_wide(x, w):
  """x (..., in) times w (in, out), both float32: (..., out).

  The gradient of w is a product whose left operand is transposed, which XLA on CPU
  leaves to another kernel: there, the narrower of its two operands is turned by hand.
  Forward mode works, too.
  """
  return x @ w


def multiply_table(x, table):
  """x (..., width) times the transpose of a table (n, width) in the same dtype: (...,
  n).

  XLA on CPU packs what is on the right anew for every product: with a few rows of x, as
  in decoding, the table is on the left and the result is turned.
  """
  width, rows = x.shape[-1], x.size // x.shape[-1]
  contract = lambda x, y: jax.lax.dot_general(
    x, y, (((x.ndim - 1,), (y.ndim - 1,)), ((), ()))
  )

  def on_cpu(x, table):
    return _finished(contract(table, x.reshape(rows, width))).T.reshape(
      *x.shape[:-1], table.shape[0]
    )

  if 1 < rows <= min(FEW, table.shape[0]):
    return jax.lax.platform_dependent(x, table, cpu=on_cpu, default=contract)
  return contract(x, table)


def _outer(x, y, shared: int, dtype):
  """The sum over all but the first `shared` axes and the last of x (..., k) times y
  (..., m): (..., k, m).

  Everywhere but on CPU it is rounded before it is widened, as XLA would: less to send
  between devices.
  """

  def on_cpu(x, y):
    x, y = (z.reshape(*z.shape[:shared], -1, z.shape[-1]) for z in (x, y))
    if 8 * y.shape[-1] < x.shape[-1]:  # as of a factor of LoRA: it is less to turn
      return jnp.swapaxes(
        _finished(_contract(copy_transposed(y), x, False)), -1, -2
      ).astype(dtype)
    return _finished(_contract(copy_transposed(x), y, False)).astype(dtype)

  def natural(x, y):
    kept, summed = tuple(range(shared)), tuple(range(shared, x.ndim - 1))
    made = jax.lax.dot_general(
      x, y, ((summed, summed), (kept, kept)), preferred_element_type=jnp.float32
    )
    return made.astype(NARROW).astype(dtype)

  return jax.lax.platform_dependent(
    x.astype(NARROW), y.astype(NARROW), cpu=on_cpu, default=natural
  )


def copy_swapped(x):
  """x (a, b, c, ...) as (a, c, b, ...): on CPU a copy that XLA does not fold into the
  product behind it.
  """

  def on_cpu(x):
    first, second, third, *rest = x.shape
    tile = _tile(second)
    x = x.reshape(first, second // tile, tile, third, *rest)
    return x.transpose(0, 3, 1, 2, *range(4, x.ndim)).reshape(
      first, third, second, *rest
    )

  return jax.lax.platform_dependent(
    x, cpu=on_cpu, default=lambda x: jnp.swapaxes(x, 1, 2)
  )


def column_sums(x):
  """The sums (n,) in float32 over all axes of bfloat16 x (..., n) but the last, as a
  product with ones.
  """
  x = x.reshape(-1, x.shape[-1])
  return _contract(jnp.ones((1, x.shape[0]), NARROW), x, False)[0]


def _tile(whole: int) -> int:
  return next(size for size in range(min(TILE, whole), 0, -1) if whole % size == 0)


def copy_transposed(x):
  """The transpose (..., k, n) of x (..., n, k) as a copy in tiles, which XLA does not
  fold into what uses it.
  """
  *batch, n, k = x.shape
  tall, wide = _tile(n), _tile(k)
  x = x.reshape(*batch, n // tall, tall, k // wide, wide)
  *before, a, b, c, d = range(x.ndim)
  return x.transpose(*before, c, d, a, b).reshape(*batch, k, n)


def _forward(x, y, transposed, dtype):
  # Not `multiply`: a checkpoint policy does not see the names inside of a rule of ours.
  # Always as many arrays: jax remembers the structure of what is kept for all uses of a
  # jitted function at once.
  likes = [jnp.zeros(0, operand.value.dtype) for operand in (x, y)]
  made = _multiply(x.value, y.value, transposed, dtype)
  made = checkpoint_name(made, PRODUCT) if y.value.ndim == 2 else made
  return made, (_kept(x, y.perturbed), _kept(y, x.perturbed), *likes)


def _kept(operand, needed: bool):
  """The operand as the products take it, or what has its number of axes and no element."""
  return (
    operand.value.astype(NARROW)
    if needed
    else jnp.zeros((0,) * operand.value.ndim, NARROW)
  )


def _backward(transposed, dtype, kept, gradient):
  x, y, like_x, like_y = kept
  gradient = _solid(gradient)
  dx = _contract(gradient, y, not transposed).astype(like_x.dtype) if y.size else None
  if not x.size:
    return dx, None
  return dx, _outer(
    *((gradient, x) if transposed else (x, gradient)), y.ndim - 2, like_y.dtype
  )


multiply.defvjp(_forward, _backward, symbolic_zeros=True)


@functools.partial(multiply_wide.defjvp, symbolic_zeros=True)
def _multiply_wide_jvp(primals, tangents):
  (x, w), (dx, dw) = primals, tangents
  still = [type(tangent) is jax.custom_derivatives.SymbolicZero for tangent in tangents]
  # Not `multiply_wide`, for a checkpoint policy as above.
  made = checkpoint_name(x @ w, PRODUCT)
  change = jnp.zeros_like(made) if still[0] else dx @ w
  return made, change if still[1] else change + _turned(x, dw)


def _turned(x, w):
  """x (..., in) times w (in, out), in a form whose transpose, the gradient of w, is a
  plain product on CPU.
  """

  def on_cpu(x, w):
    rows = x.reshape(-1, x.shape[-1])
    if w.shape[0] <= w.shape[1]:
      made = jax.lax.dot_general(copy_transposed(rows), w, (((0,), (0,)), ((), ())))
    else:
      made = copy_transposed(jax.lax.dot_general(w, rows, (((0,), (1,)), ((), ()))))
    return made.reshape(*x.shape[:-1], w.shape[1])

  return jax.lax.platform_dependent(x, w, cpu=on_cpu, default=jnp.matmul)


@jax.custom_vjp
def add_bias(y, bias):
  """y (..., n) bfloat16 plus a bias (n,), whose gradient is a product with ones."""
  return y + bias.astype(y.dtype)


def _add_bias_forward(y, bias):
  return add_bias(y.value, bias.value), jnp.zeros(int(bias.perturbed), bias.value.dtype)


def _add_bias_backward(like, gradient):
  gradient = _solid(gradient)
  return gradient, column_sums(gradient).astype(like.dtype) if like.size else None


add_bias.defvjp(_add_bias_forward, _add_bias_backward, symbolic_zeros=True)


def _solid(gradient):
  """A gradient as an array, also where it is known to be zero."""
  if type(gradient) is jax.custom_derivatives.SymbolicZero:
    return jnp.zeros(gradient.shape, gradient.dtype)
  return gradient
