"""Sparse changes: a random subset of the entries, and a change whose gates are learned.

>>> import jax, jax.numpy as jnp
>>> params = {'kernel': jnp.ones((4, 3))}
>>> trainable, frozen = subset(r'kernel', count=5).init(jax.random.key(0), params)
>>> tree.flatten(trainable)['kernel/change'].shape
(5,)
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from tl_jax import tree
from tl_jax.config import Count, NonNegative
from tl_jax.leaves import Gated, Subset
from tl_jax.transfer.method import (
  HEAD,
  TransferMethod,
  leaf_edit,
  named_leaves,
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

  pattern: the leaves. The entries are spread over them in proportion to their size, at
  least one in each.
  count: how many entries; by default as many as the leaves that `equal` matches have.
  """
  select = select_names(pattern, what='subset')
  select_equal = select_names(equal, what='subset')
  select_head = select_names_of_head(head, 'subset')

  def numbers_of(params) -> dict[str, int]:
    """How many entries of each leaf are trained."""
    named = named_leaves(params)
    # The head is trained in full anyway.
    heads = set(select_head(named))

    def sizes_of(names):
      # A hole is another method's.
      found = {}
      for name in names:
        if named[name] is not None and name not in heads:
          found[name] = int(np.prod(named[name].shape))
      return found

    sizes = sizes_of(select(named))
    if not sizes:
      return {}
    total = count
    if total is None:
      total = sum(sizes_of(select_equal(named)).values())
    return apportion(sizes, total)

  def init(key, params, axes=None):
    # The numbers depend on all leaves, so the edit is made when they are known.
    numbers = numbers_of(params)

    def edit(key, name, w):
      number = numbers[name]
      index = jax.random.choice(key, w.size, (number,), replace=False)
      # Of one type, whether or not jax has 64-bit integers on.
      index = index.astype(jnp.int32)
      wide = jnp.promote_types(w.dtype, jnp.float32)
      trained = Subset(None, jnp.zeros(number, wide), None)
      return trained, Subset(w, None, index)

    return leaf_edit(edit, None, pattern, head=head, what='subset').init(key, params)

  def edit_axes(name, spec):
    return Subset(None, PartitionSpec(), None), Subset(spec, None, PartitionSpec())

  method = leaf_edit(None, edit_axes, pattern, head=head, what='subset')
  return method._replace(init=init)


def apportion(sizes: dict[str, int], total: int) -> dict[str, int]:
  """How many of `total` entries fall to each leaf, in proportion to its size.

  Largest remainders come first, and each leaf has at least one. Errors: ValueError
  where there are fewer than one for each, or more than there are entries.
  """
  available = sum(sizes.values())
  if not len(sizes) <= total <= available:
    raise ValueError(
      f'subset: {total} entries of {len(sizes)} leaves with {available} entries: must '
      'be from one for each leaf to all'
    )
  exact = {name: total * size / available for name, size in sizes.items()}
  # Rounded down, but for the smallest leaves, which get their one entry.
  shares = {}
  for name, share in exact.items():
    at_least_one = max(1, int(share))
    shares[name] = min(sizes[name], at_least_one)
  # What the rounding left over is given to the leaves that are furthest below their
  # exact share; what it took too much is taken from those that are furthest above.
  while (rest := total - sum(shares.values())) != 0:
    sign = 1 if rest > 0 else -1
    excess = {}
    for name, share in shares.items():
      if 1 <= share + sign <= sizes[name]:
        excess[name] = sign * (share - exact[name])
    for name in sorted(excess, key=excess.get)[: abs(rest)]:
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

  penalty: times the expected number of open gates, it is added to the loss.
  start: the first log alpha of all gates. The change starts at zero, so the start is
  the pre-trained model to the bit.
  """
  wanted = tree.matcher(pattern)

  def edit(key, name, w):
    wide = jnp.promote_types(w.dtype, jnp.float32)
    change = jnp.zeros(w.shape, wide)
    gates = jnp.full(w.shape, start, wide)
    return Gated(None, change, gates), Gated(w, None, None)

  def edit_axes(name, spec):
    return Gated(None, spec, spec), Gated(spec, None, None)

  def expected(trainable, frozen):
    # By name, because another `diff` beside this one counts its own gates.
    total = jnp.zeros(())
    for name, leaf in named_leaves(trainable).items():
      if isinstance(leaf, Gated) and wanted(name):
        total = total + leaf.expected()
    return penalty * total

  method = leaf_edit(edit, edit_axes, pattern, head=head, what='diff')
  return method._replace(penalty=expected)
