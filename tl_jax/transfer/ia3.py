"""(IA)^3: what a layer computes, multiplied by trained vectors.

>>> import jax, jax.numpy as jnp
>>> key = {'kernel': jnp.ones((4, 2)), 'bias': jnp.ones(2)}
>>> params = {'key': key, 'out': {'kernel': jnp.ones((2, 4))}}
>>> trainable, _ = ia3(outputs=r'key/kernel', inputs=r'out/kernel').init(None, params)
>>> {name: leaf.shape for name, leaf in tree.flatten(trainable).items()}
{'key/kernel/scale': (2,), 'out/kernel/scale': (2,)}
"""

import jax.numpy as jnp
from jax.sharding import PartitionSpec

from tl_jax import tree
from tl_jax.leaves import Scaled
from tl_jax.transfer.method import (
  HEAD,
  TransferMethod,
  is_whole,
  leaf_edit,
  named_leaves,
)


def ia3(
  *,
  outputs: str = r'.*/(key|value)/kernel',
  inputs: str = r'.*/mlp/out/kernel',
  head: str | None = HEAD,
) -> TransferMethod:
  """Trains a vector for the outputs of some matrices and for the inputs of others (Liu
  et al. 2022, section 3.3).

  outputs, inputs: patterns of the names of kernels. The defaults are the paper's: keys
  and values of every attention, that to another stack included, and what the second
  layer of the MLP is given. A vector of outputs multiplies the bias beside the kernel
  too. All vectors start at one, so the start is the pre-trained model to the bit.
  """
  scales_output = tree.matcher(outputs)
  scales_input = tree.matcher(inputs)

  def is_kernel(name):
    return scales_output(name) or scales_input(name)

  def is_bias(name):
    """Does it stand beside a kernel whose outputs are scaled?"""
    return name.endswith('bias') and scales_output(kernel_beside(name))

  def side(name):
    return 'out' if scales_output(name) else 'in'

  def edit(key, name, w):
    if not is_kernel(name):
      # A bias has no vector of its own; `scale_biases` gives it its kernel's.
      return None, Scaled(w, None)
    size = w.shape[-1] if side(name) == 'out' else w.shape[-2]
    wide = jnp.promote_types(w.dtype, jnp.float32)
    # One vector for every layer of a stack.
    shape = *w.shape[:-2], size
    vector = jnp.ones(shape, wide)
    return Scaled(None, vector, side(name)), Scaled(w, None, side(name))

  def edit_axes(name, spec):
    if not is_kernel(name):
      return None, Scaled(spec, None)
    # A spec may be shorter than the array: the axes that it leaves out are not sharded.
    missing = (None,) * (2 - len(spec))
    *stack, axis_in, axis_out = (*spec, *missing)
    axis = axis_out if side(name) == 'out' else axis_in
    vector = PartitionSpec(*stack, axis)
    return Scaled(None, vector, side(name)), Scaled(spec, None, side(name))

  return leaf_edit(
    edit,
    edit_axes,
    outputs,
    inputs,
    is_bias,
    head=head,
    what='ia3',
    settle=scale_biases,
  )


def kernel_beside(name: str) -> str:
  """The name of the kernel beside a bias."""
  return f'{name.removesuffix("bias")}kernel'


def scale_biases(params):
  """The params with the vector of a kernel's outputs in the bias beside it too."""
  kernels = named_leaves(params)

  def share(name, leaf):
    if not isinstance(leaf, Scaled) or not name.endswith('bias'):
      return leaf
    kernel = kernels.get(kernel_beside(name))
    # Another method trains the kernel in full, without a vector.
    if not isinstance(kernel, Scaled):
      return leaf
    return Scaled(leaf.base, kernel.scale)

  return tree.map_named(share, params, is_leaf=is_whole)
