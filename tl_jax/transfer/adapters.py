"""Bottleneck adapters: small networks put into every layer.

>>> import jax, jax.numpy as jnp
>>> params = {'layers': {'0': {'mlp': {'out': {'kernel': jnp.ones((8, 4))}}}}}
>>> trainable, _ = adapter(kind='pfeiffer', size=2).init(jax.random.key(0), params)
>>> sorted(tree.flatten(trainable))[0], trainable['layers']['0']['mlp_adapter'].down.shape
('layers/0/mlp_adapter/down', (4, 2))
"""

import re
from typing import Literal

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from tl_jax import tree
from tl_jax.config import Count, Positive
from tl_jax.leaves import Bottleneck
from tl_jax.transfer.insertion import inserting_method, last_axis, require_kernel
from tl_jax.transfer.method import HEAD, TransferMethod
from tl_jax.transfer.partitions import NORMS

KERNELS = r'(?P<part>(.*/)?layers/\d+/({}))/out/kernel'
INSERTED = r'(.*/)?layers/\d+/(attention|mlp)_adapter(/.*)?'
# For each kind: where its result goes, which sublayers have one, its activation, its
# scale, are norms trained too.
KINDS = {
  'houlsby': ('output', 'attention|mlp', 'gelu', 1.0, True),
  'pfeiffer': ('sum', 'mlp', 'relu', 1.0, False),
  'parallel': ('parallel', 'mlp', 'relu', 4.0, False),
}


def adapter(
  *,
  kind: Literal['houlsby', 'pfeiffer', 'parallel'] = 'houlsby',
  size: Count = 64,
  scale: Positive | None = None,
  std: Positive = 1e-2,
  head: str | None = HEAD,
) -> TransferMethod:
  """Trains a bottleneck of `size` in every layer; 2 size width + size + width
  parameters each.

  houlsby: behind attention and MLP of every layer, before the residual sum; the norms
  are trained too (Houlsby et al.
  2019, section 2.1). pfeiffer: behind the MLP alone (Pfeiffer et al. 2021). parallel:
  beside the MLP, with a scale of 4 (He et al. 2022). The way down is drawn from a
  normal of deviation `std`, truncated at two deviations; the way up is zero, so that
  the function does not change at first (Houlsby draws it from the same normal). Only
  models that look for adapters have them: ours. ValueError for params without layers of
  ours.
  """
  if kind not in KINDS:
    raise ValueError(
      f'adapter: kind is {kind!r}, but must be one of {", ".join(KINDS)}'
    )
  place, sublayers, activation, usual, norms = KINDS[kind]
  pattern = KERNELS.format(sublayers)
  facts = (usual if scale is None else scale, activation, place)

  def places(named):
    found = {}
    for name in named:
      match = re.fullmatch(pattern, name)
      if match:
        found[f'{match["part"]}_adapter'] = require_kernel(named, name, 'adapter')
    if not found:
      tree.require_match([pattern], named, 'adapter')
    return found

  def make(key, kernel):
    width, dtype = kernel.shape[-1], jnp.promote_types(kernel.dtype, jnp.float32)
    down = std * jax.random.truncated_normal(key, -2.0, 2.0, (width, size), dtype)
    return Bottleneck(
      down,
      jnp.zeros(size, dtype),
      jnp.zeros((size, width), dtype),
      jnp.zeros(width, dtype),
      *facts,
    )

  def make_axes(spec):
    width = last_axis(spec)
    return Bottleneck(
      PartitionSpec(width, None),
      PartitionSpec(None),
      PartitionSpec(None, width),
      PartitionSpec(width),
      *facts,
    )

  return inserting_method(
    places,
    make,
    make_axes,
    head=head,
    what='adapter',
    inserts=INSERTED,
    also=tree.matcher(NORMS) if norms else lambda name: False,
  )
