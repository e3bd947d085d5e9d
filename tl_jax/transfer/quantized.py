"""A held base in few bits, under methods that edit it.

>>> import jax.numpy as jnp
>>> _, frozen = quantized(r'kernel', kind='int8').init(None, {'kernel': jnp.ones((4, 2)), 'bias': jnp.ones(2)})
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
  """Trains nothing; holds the matrices that the pattern matches in 16, 8 or 4 bits.
  Compose it before `lora` or `dora`.

  What `fuse` gives is the matrix that the codes stand for, not the one that they were
  made of. Under `lora`, a step that computes in bfloat16 is the same to the last bit
  with matrices held in it, at half their memory, and casts none.
  """

  def edit(key, name, w):
    if len(w.shape) < 2:
      raise ValueError(f'quantized: {name!r} of shape {w.shape} is no matrix')
    return None, leaves.quantize(w, kind)

  def edit_axes(name, spec):
    spec = PartitionSpec(*spec, *(None,) * (2 - len(spec)))
    scale = None if kind == 'bfloat16' else PartitionSpec(*spec[:-2], None, spec[-1])
    return None, leaves.Quantized(spec, scale, kind)

  # It trains none of what it edits, so there is nothing that another method could drop.
  return leaf_edit(edit, edit_axes, pattern, head=None, what='quantized')._replace(
    edits=''
  )
