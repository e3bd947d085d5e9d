"""What nothing trains, kept in fewer bytes.

>>> held = {'layers': {'0': {'mlp': {'in': {'kernel': jnp.ones((2, 2))}}}}}
>>> narrow = kept_in(held, 'bfloat16')
>>> tree.flatten(narrow)['layers/0/mlp/in/kernel'].dtype.name
'bfloat16'
"""

from typing import Any

import jax.numpy as jnp

from tl_jax import tree

# A regularizer holds what its method holds beside where the weights started, which are
# trained, so that these are not rounded. The base of an edited kernel is in the kernel.
_KERNELS = tree.matcher(
  r'(frozen/)?((encoder|decoder)/)?(layers/.*|head)/kernel(/base)?'
)


def kept_in(frozen: Any, dtype: str) -> Any:
  """The frozen tree of a method with the kernels of layers and head in another dtype.

  These are only multiplied by: a product in bfloat16 rounds a float32 kernel to what is
  kept here, so that the losses are the same, bit for bit. Norms, biases and tables stay
  as they are, for they are read in float32. So does what a method has packed. DoRA reads
  the norms of the kept kernels, and a sparse change is added to them: there the base is
  the rounded one, as in QLoRA.

  A checkpoint has the kernels in this dtype. Whoever opens it gets them in float32
  again (`kept_in(frozen, 'float32')`), before what was trained is added to them.
  """

  def keep(name, leaf):
    is_kernel = _KERNELS(name) and leaf.dtype in (jnp.float32, jnp.bfloat16)
    return leaf.astype(dtype) if is_kernel else leaf

  return tree.map_named(keep, frozen)
