"""A held base in few bits, under methods that edit it.

>>> import jax.numpy as jnp
>>> params = {'kernel': jnp.ones((4, 2)), 'bias': jnp.ones(2)}
>>> _, frozen = quantized(r'kernel', kind='int8').init(None, params)
>>> frozen['kernel'].codes.dtype.name, frozen['bias'].dtype.name
('int8', 'float32')
"""

from jax.sharding import PartitionSpec

from tl_jax import leaves
from tl_jax.leaves.quantized import Kind
from tl_jax.transfer.method import TransferMethod, leaf_edit


def quantized(
  pattern: str = r'.*layers/.*/kernel', *, kind: Kind = 'int8'
) -> TransferMethod:
  """Trains nothing, and holds the matrices that the pattern matches in 16, 8 or 4 bits.

  Compose it before `lora` or `dora`. What `fuse` gives is the matrix that the codes
  stand for, not the one that they were made of. Under `lora`, a step that computes in
  bfloat16 gives the same bits with matrices that are held in bfloat16, at half their
  memory and without casts.
  Errors: ValueError for a matched leaf that is no matrix.
  """

  def edit(key, name, w):
    if len(w.shape) < 2:
      raise ValueError(f'quantized: {name!r} of shape {w.shape} is no matrix')
    return None, leaves.quantize(w, kind)

  def edit_axes(name, spec):
    # A spec may be shorter than the array: the axes that it leaves out are not sharded.
    missing = (None,) * (2 - len(spec))
    spec = PartitionSpec(*spec, *missing)
    scale = None
    if kind != 'bfloat16':
      # Inputs share their scales: all of them in int8, 64 of them in nf4. Those are too
      # few to be divided among devices.
      scale = PartitionSpec(*spec[:-2], None, spec[-1])
    return None, leaves.Quantized(spec, scale, kind)

  method = leaf_edit(edit, edit_axes, pattern, head=None, what='quantized')
  # It trains none of what it edits, so there is nothing that another method could drop.
  return method._replace(edits='')
