"""The last product of a language model, before it is computed: a loss need not have all
of its logits at once.

>>> readout = Readout(jnp.ones((1, 2, 3)), jnp.ones((5, 3)))
>>> readout.logits().shape
(1, 2, 5)
"""

import jax.numpy as jnp

from tl_jax.leaves.structure import (
  Array,
  add_bias,
  matmul,
  matmul_transposed,
  static,
  structured,
)


@structured
class Readout:
  """States and what makes logits over a vocabulary of them.

  hidden (..., width); weight: a table (vocabulary, width) where `tied`, else a kernel
  (width, vocabulary), of any kind of leaf; bias (vocabulary,) or None; cap: cap *
  tanh(logit / cap) as in Gemma 2, 0 for none.
  """

  hidden: Array
  weight: Array
  bias: Array = None
  tied: bool = static(True)
  cap: float = static(0.0)

  @property
  def vocabulary(self) -> int:
    return self.weight.shape[0 if self.tied else -1]

  def logits(self) -> Array:
    """The logits (..., vocabulary) of all the states, in float32."""
    logits = (matmul_transposed if self.tied else matmul)(self.hidden, self.weight)
    if self.bias is not None:
      logits = add_bias(logits, self.bias)
    logits = logits.astype(jnp.float32)
    return self.cap * jnp.tanh(logits / self.cap) if self.cap else logits
