"""Sparse changes: a random subset of the entries, and a change whose gates are learned.

>>> import jax, jax.numpy as jnp
>>> trainable, frozen = subset(r'kernel', count=5).init(jax.random.key(0), {'kernel': jnp.ones((4, 3))})
>>> tree.flatten(trainable)['kernel/change'].shape
(5,)
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from tl_jax import leaves, tree
from tl_jax.config import Count, NonNegative
from tl_jax.leaves import Gated, Subset
from tl_jax.transfer.method import (
  HEAD,
  TransferMethod,
  is_whole,
  leaf_edit,
  select_names,
  select_names_of_head,
)
from tl_jax.transfer.partitions import BIASES

MATRICES = r'.*kernel'


def subset(
  pattern: str = MATRICES,
  *,
  count: Count | None = None,
  equal: str = BIASES,
  head: str | None = HEAD,
) -> TransferMethod:
  """Trains a random subset of the entries of some leaves: BitFit's control (Ben Zaken
  et al. 2021).

  `count` entries, by default as many as the leaves that `equal` matches have, spread
  over the leaves that the pattern matches in proportion to their size, at least one in
  each.
  """
  select, select_head = (
    select_names(pattern, what='subset'),
    select_names_of_head(head, 'subset'),
  )

  def shares(params) -> dict[str, int]:
    flat = {
      tree.name_of(path): leaf
      for path, leaf in jax.tree_util.tree_leaves_with_path(params, is_leaf=is_whole)
    }
    heads, there = (
      set(select_head(flat)),
      lambda name: flat[name] is not None and name not in heads,
    )
    size = lambda name: int(np.prod(flat[name].shape))
    sizes = {name: size(name) for name in filter(there, select(flat))}
    if not sizes:
      return {}  # all of them are another method's
    total = count
    if total is None:
      total = sum(map(size, filter(there, select_names(equal, what='subset')(flat))))
    return apportion(sizes, total)

  def init(key, params, axes=None):
    numbers = shares(params)

    def edit(key, name, w):
      index = jax.random.choice(key, w.size, (numbers[name],), replace=False).astype(
        jnp.int32
      )
      wide = jnp.promote_types(w.dtype, jnp.float32)
      return Subset(None, jnp.zeros(numbers[name], wide), None), Subset(w, None, index)

    return leaf_edit(edit, None, pattern, head=head, what='subset').init(key, params)

  def edit_axes(name, spec):
    return Subset(None, PartitionSpec(), None), Subset(spec, None, PartitionSpec())

  return leaf_edit(None, edit_axes, pattern, head=head, what='subset')._replace(
    init=init
  )


def apportion(sizes: dict[str, int], total: int) -> dict[str, int]:
  """How many of `total` fall to each, in proportion to its size (largest remainders
  first), at least one to each.

  ValueError where there are fewer than one for each, or more than there are entries.
  """
  if not len(sizes) <= total <= sum(sizes.values()):
    raise ValueError(
      f'subset: {total} entries of {len(sizes)} leaves with {sum(sizes.values())} entries: must be '
      'from one for each leaf to all'
    )
  exact = {name: total * size / sum(sizes.values()) for name, size in sizes.items()}
  shares = {name: min(sizes[name], max(1, int(share))) for name, share in exact.items()}
  # What the rounding left over, or took too much.
  while (rest := total - sum(shares.values())) != 0:
    sign = 1 if rest > 0 else -1
    free = [
      name
      for name in shares
      if (shares[name] < sizes[name] if sign > 0 else shares[name] > 1)
    ]
    for name in sorted(free, key=lambda name: sign * (shares[name] - exact[name]))[
      : abs(rest)
    ]:
      shares[name] += sign
  return shares


def diff(
  pattern: str = MATRICES,
  *,
  penalty: NonNegative = 1e-7,
  start: float = 0.0,
  head: str | None = HEAD,
) -> TransferMethod:
  """Trains a change of every matched leaf and the gates that let it through (diff
  pruning, Guo et al. 2021).

  `penalty` times the expected number of open gates is added to the loss; `start` is the
  first log alpha of all gates, the change starts at zero, so the start is the
  pre-trained model to the bit.
  """

  def edit(key, name, w):
    wide = jnp.promote_types(w.dtype, jnp.float32)
    return Gated(None, jnp.zeros(w.shape, wide), jnp.full(w.shape, start, wide)), Gated(
      w, None, None
    )

  def edit_axes(name, spec):
    return Gated(None, spec, spec), Gated(spec, None, None)

  wanted = tree.matcher(pattern)

  def expected(trainable, frozen):
    # By name, because another `diff` beside this one counts its own gates.
    flat = jax.tree_util.tree_leaves_with_path(trainable, is_leaf=leaves.is_structured)
    gates = [
      leaf.expected()
      for path, leaf in flat
      if isinstance(leaf, Gated) and wanted(tree.name_of(path))
    ]
    return penalty * sum(gates, jnp.zeros(()))

  return leaf_edit(edit, edit_axes, pattern, head=head, what='diff')._replace(
    penalty=expected
  )
