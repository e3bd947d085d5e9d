"""(IA)^3: what a layer computes, multiplied by trained vectors.

>>> import jax, jax.numpy as jnp
>>> params = {'key': {'kernel': jnp.ones((4, 2)), 'bias': jnp.ones(2)}, 'out': {'kernel': jnp.ones((2, 4))}}
>>> trainable, _ = ia3(outputs=r'key/kernel', inputs=r'out/kernel').init(None, params)
>>> {name: leaf.shape for name, leaf in tree.flatten(trainable).items()}
{'key/kernel/scale': (2,), 'out/kernel/scale': (2,)}
"""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from tl_jax import tree
from tl_jax.leaves import Scaled
from tl_jax.transfer.method import HEAD, TransferMethod, is_whole, leaf_edit


def ia3(
  *,
  outputs: str = r'.*/(key|value)/kernel',
  inputs: str = r'.*/mlp/out/kernel',
  head: str | None = HEAD,
) -> TransferMethod:
  """Trains a vector for the outputs of some matrices and for the inputs of others (Liu
  et al. 2022, section 3.3).

  The defaults are the paper's: keys and values of every attention, that to another
  stack included, and what the second layer of the MLP is given. A vector of outputs
  multiplies the bias too, which stands beside the kernel. All vectors start at one, so
  the start is the pre-trained model to the bit.
  """
  scales_output = tree.matcher(outputs)

  def side(name):
    return 'out' if scales_output(name) else 'in'

  def edit(key, name, w):
    if not is_kernel(name):
      return None, Scaled(w, None)
    size = w.shape[-1] if side(name) == 'out' else w.shape[-2]
    return (
      Scaled(
        None,
        jnp.ones((*w.shape[:-2], size), jnp.promote_types(w.dtype, jnp.float32)),
        side(name),
      ),
      Scaled(w, None, side(name)),
    )

  def edit_axes(name, spec):
    if not is_kernel(name):
      return None, Scaled(spec, None)
    *stack, axis_in, axis_out = (*spec, *(None,) * (2 - len(spec)))
    axis = PartitionSpec(*stack, axis_out if side(name) == 'out' else axis_in)
    return Scaled(None, axis, side(name)), Scaled(spec, None, side(name))

  def is_kernel(name):
    return scales_output(name) or scales_input(name)

  scales_input = tree.matcher(inputs)
  beside = lambda name: (
    name.endswith('bias') and scales_output(f'{name[: -len("bias")]}kernel')
  )
  return leaf_edit(
    edit, edit_axes, outputs, inputs, beside, head=head, what='ia3', settle=scale_biases
  )


def scale_biases(params):
  """Gives the bias beside a kernel with scaled outputs that kernel's vector."""
  kernels = {
    tree.name_of(path): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(params, is_leaf=is_whole)
  }

  def share(name, leaf):
    kernel = (
      kernels.get(f'{name[: -len("bias")]}kernel') if name.endswith('bias') else None
    )
    return (
      Scaled(leaf.base, kernel.scale)
      if isinstance(leaf, Scaled) and isinstance(kernel, Scaled)
      else leaf
    )

  return tree.map_named(share, params, is_leaf=is_whole)
