"""Parts that a layer uses if they stand among its parameters.

They are bottleneck adapters and prefixes of keys and values.

>>> part = Bottleneck(jnp.ones((4, 2)), jnp.zeros(2), jnp.zeros((2, 4)), jnp.zeros(4))
>>> part(jnp.ones((1, 4))).tolist()
[[0.0, 0.0, 0.0, 0.0]]
"""

import functools

import jax
import jax.numpy as jnp

from tl_jax.leaves.structure import (
  Array,
  add_bias,
  matmul,
  require_whole,
  static,
  structured,
)

# As in transformers `gelu` is the exact one; the default of jax is the approximation.
ACTIVATIONS = {
  'gelu': functools.partial(jax.nn.gelu, approximate=False),
  'gelu_tanh': functools.partial(jax.nn.gelu, approximate=True),
  'quick_gelu': lambda x: x * jax.nn.sigmoid(1.702 * x),
  'relu': jax.nn.relu,
  'silu': jax.nn.silu,
  'tanh': jnp.tanh,
}


@structured
class Bottleneck:
  """A bottleneck adapter: scale * (act(x down + down_bias) up + up_bias).

  It takes x (..., width) and returns (..., width). down (width, size), down_bias
  (size,), up (size, width), up_bias (width,). `place` says what a sublayer y = f(x)
  with the residual stream h gives it, and where the result goes:

  'output': y + adapter(y) (Houlsby et al. 2019, section 2.1).
  'sum': y + adapter(norm(h + y)) (Pfeiffer et al. 2021). Without a norm behind the
    sublayer it is the adapter of the sum itself.
  'parallel': y + adapter(x) (He et al. 2022).
  """

  down: Array
  down_bias: Array
  up: Array
  up_bias: Array
  scale: float = static(1.0)
  activation: str = static('relu')
  place: str = static('output')

  def __call__(self, x: Array) -> Array:
    require_whole(self, 'down', 'down_bias', 'up', 'up_bias')
    small = add_bias(matmul(x, self.down), self.down_bias)
    active = ACTIVATIONS[self.activation](small)
    return self.scale * add_bias(matmul(active, self.up), self.up_bias)


@structured
class Prefix:
  """Keys and values that every query sees beside those of the tokens (prefix tuning,
  Li and Liang 2021, section 4.2).

  Both are (n, key heads * head).
  """

  keys: Array
  values: Array

  def put_before(self, keys: Array, values: Array) -> tuple[Array, Array]:
    """The keys and values of attention with this prefix in front.

    keys, values: (batch, heads, m, head). The results have n + m in place of m.
    """
    require_whole(self, 'keys', 'values')
    rows, heads, _, head = keys.shape
    count = self.keys.shape[0]

    def extend(own, given):
      own = own.astype(given.dtype).reshape(count, heads, head)
      own = own.swapaxes(0, 1)
      own = jnp.broadcast_to(own, (rows, heads, count, head))
      return jnp.concatenate([own, given], 2)

    return extend(self.keys, keys), extend(self.values, values)
