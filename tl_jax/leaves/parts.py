"""Parts that a layer uses if they stand among its parameters: bottleneck adapters and
prefixes of keys and values.

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
  """scale * (act(x down + down_bias) up + up_bias), (..., width) of (..., width): a
  bottleneck adapter.

  down (width, size), down_bias (size,), up (size, width), up_bias (width,). `place`
  says what a sublayer y = f(x) with the residual stream h gives it and where the result
  goes: 'output', y + adapter(y) (Houlsby et al. 2019, section 2.1); 'sum', y +
  adapter(norm(h + y)) (Pfeiffer et al. 2021; without a norm behind the sublayer, of the
  sum itself); 'parallel', y + adapter(x) (He et al. 2022).
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
    return self.scale * add_bias(
      matmul(ACTIVATIONS[self.activation](small), self.up), self.up_bias
    )


@structured
class Prefix:
  """Keys and values (n, key heads * head) that every query sees beside those of the
  tokens (Li and Liang 2021, 4.2).
  """

  keys: Array
  values: Array

  def put_before(
    self, keys: Array, values: Array, mask: Array
  ) -> tuple[Array, Array, Array]:
    """keys, values (batch, heads, m, head) and mask (batch, queries, m) with n more in
    front, visible to all.
    """
    require_whole(self, 'keys', 'values')
    rows, heads, _, head = keys.shape
    count = self.keys.shape[0]

    def extend(own, given):
      own = own.astype(given.dtype).reshape(count, heads, head).swapaxes(0, 1)
      return jnp.concatenate(
        [jnp.broadcast_to(own, (rows, heads, count, head)), given], 2
      )

    seen = jnp.ones((*mask.shape[:2], count), bool)
    return (
      extend(self.keys, keys),
      extend(self.values, values),
      jnp.concatenate([seen, mask], -1),
    )
