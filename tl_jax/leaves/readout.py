"""The last product of a language model, before it is computed.

A loss takes it part by part, so that it need not have all logits at once.

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
  """States, and the output layer that makes logits over a vocabulary of them.

  hidden: (..., width).
  weight: a table (vocabulary, width) where `tied`, else a kernel (width, vocabulary).
    It may be any kind of leaf.
  bias: (vocabulary,) or None.
  cap: the logits become cap * tanh(logit / cap), as in Gemma 2; 0 for none.
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
    if self.tied:
      logits = matmul_transposed(self.hidden, self.weight)
    else:
      logits = matmul(self.hidden, self.weight)
    if self.bias is not None:
      logits = add_bias(logits, self.bias)
    # Before the cap and any softmax, which bfloat16 would round too much.
    logits = logits.astype(jnp.float32)
    if self.cap:
      logits = self.cap * jnp.tanh(logits / self.cap)
    return logits
