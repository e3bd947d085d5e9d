"""Bottleneck adapters: small networks put into every layer.

>>> import jax, jax.numpy as jnp
>>> params = {'layers': {'0': {'mlp': {'out': {'kernel': jnp.ones((8, 4))}}}}}
>>> trainable, _ = adapter(kind='pfeiffer', size=2).init(jax.random.key(0), params)
>>> trainable['layers']['0']['mlp_adapter'].down.shape
(4, 2)
"""

import re
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from tl_jax import tree
from tl_jax.config import Count, Positive
from tl_jax.leaves import Bottleneck
from tl_jax.transfer.insertion import inserting_method, last_axis, require_kernel
from tl_jax.transfer.method import HEAD, TransferMethod
from tl_jax.transfer.partitions import NORMS

# The last kernel of a sublayer; {} is the pattern of the sublayers.
KERNELS = r'(?P<part>(.*/)?layers/\d+/({}))/out/kernel'
# The names of all adapters and of their arrays.
INSERTED = r'(.*/)?layers/\d+/(attention|mlp)_adapter(/.*)?'


class Shape(NamedTuple):
  """What tells one kind of adapter from another.

  place: where the result goes, as `leaves.Bottleneck` reads it. sublayers: which of a
  layer's sublayers have one, as a pattern. scale: what the result is multiplied by.
  norms: are the norms of the model trained too?
  """

  place: str
  sublayers: str
  activation: str
  scale: float = 1.0
  norms: bool = False


KINDS = {
  'houlsby': Shape('output', 'attention|mlp', 'gelu', norms=True),
  'pfeiffer': Shape('sum', 'mlp', 'relu'),
  'parallel': Shape('parallel', 'mlp', 'relu', scale=4.0),
}


def adapter(
  *,
  kind: Literal['houlsby', 'pfeiffer', 'parallel'] = 'houlsby',
  size: Count = 64,
  scale: Positive | None = None,
  std: Positive = 1e-2,
  head: str | None = HEAD,
) -> TransferMethod:
  """Trains a bottleneck of `size` in every layer.

  Each has 2 size width + size + width parameters.

  kind: `houlsby` stands behind the attention and the MLP of every layer, before the
  residual sum, and the norms are trained too (Houlsby et al. 2019, section 2.1).
  `pfeiffer` stands behind the MLP alone (Pfeiffer et al. 2021). `parallel` stands
  beside the MLP, with a scale of 4 (He et al. 2022).
  scale: replaces that of the kind.
  std: the way down is drawn from a normal of this deviation, truncated at two
  deviations. The way up is zero, so that the function does not change at first (Houlsby
  draws it from the same normal).
  Errors: ValueError for params without layers of ours, because only our models look for
  adapters.
  """
  if kind not in KINDS:
    raise ValueError(
      f'adapter: kind is {kind!r}, but must be one of {", ".join(KINDS)}'
    )
  shape = KINDS[kind]
  pattern = KERNELS.format(shape.sublayers)
  # What a bottleneck says of itself beside its arrays.
  facts = (shape.scale if scale is None else scale, shape.activation, shape.place)

  def places(named):
    # The kernel at the end of a sublayer says how wide the stream is.
    found = {}
    for name in named:
      match = re.fullmatch(pattern, name)
      if match:
        kernel = require_kernel(named, name, 'adapter')
        found[f'{match["part"]}_adapter'] = kernel
    # It raises, with the nearest names.
    if not found:
      tree.require_match([pattern], named, 'adapter')
    return found

  def make(key, kernel):
    width = kernel.shape[-1]
    dtype = jnp.promote_types(kernel.dtype, jnp.float32)
    draws = jax.random.truncated_normal(key, -2.0, 2.0, (width, size), dtype)
    down = std * draws, jnp.zeros(size, dtype)
    up = jnp.zeros((size, width), dtype), jnp.zeros(width, dtype)
    return Bottleneck(*down, *up, *facts)

  def make_axes(spec):
    # The bottleneck is small; only the width is sharded, as the stream is.
    width = last_axis(spec)
    down = PartitionSpec(width, None), PartitionSpec(None)
    up = PartitionSpec(None, width), PartitionSpec(width)
    return Bottleneck(*down, *up, *facts)

  is_norm = tree.matcher(NORMS) if shape.norms else lambda name: False
  return inserting_method(
    places,
    make,
    make_axes,
    head=head,
    what='adapter',
    inserts=INSERTED,
    also=is_norm,
  )
