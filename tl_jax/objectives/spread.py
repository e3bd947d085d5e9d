"""A sum over the positions of a batch in parts, spread over the devices of a mesh.

What all parts share, the output layer of a language model, is cut along the vocabulary:
no device holds the whole of it, nor of its gradient. On one device nothing is cut.

>>> double = lambda x: (x.sum(), 2 * x)
>>> total, doubled = add_up(double, 2, None, jnp.arange(6).reshape(2, 3))
>>> int(total), doubled.tolist()
(15, [[0, 2, 4], [6, 8, 10]])
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from tl_jax import parallel
from tl_jax.objectives.types import Array

# A group with so many times as many positions as the vocabulary has entries moves less
# where each device has rows of its own and the whole output layer.
FAR_MORE = 8
CUTS_VOCABULARY = ('tensor', 'sequence', 'fsdp')
# The axes that may cut the width of parameters, in their order.
CUTS_WIDTH = ('fsdp', 'sequence')


class Spread(NamedTuple):
  """How the logits (rows, n, vocabulary) lie on the axes of a mesh.

  groups: the axes between which the rows are parted into groups. Each group adds up the
    gradient of the output layer by itself; these sums are added once, after the last
    part.
  count: how many groups there are.
  rows, length: the axes between which a group parts its rows and their length.
  vocabulary: the axes between which the vocabulary is parted. Their devices gather the
    states of their group, and give back the gradient of these.
  """

  groups: tuple[str, ...]
  count: int
  rows: tuple[str, ...]
  length: tuple[str, ...]
  vocabulary: tuple[str, ...]


def spread_of(rows: int, n: int, vocabulary: int) -> Spread | None:
  """The layout of logits (rows, n, vocabulary) on the mesh in force.

  None on a single device. Where `fsdp` parts the vocabulary, each position moves: its
  state comes to every device of the group, and a gradient leaves it. Where `fsdp` parts
  the rows alone, the output layer moves, and a sum of its gradient. Both are whole on
  each device then, so that this is for large groups only.
  """
  if parallel.activation_shards() == 1:
    return None
  sizes = parallel.axis_sizes()
  groups = ('data',)
  if rows * n > FAR_MORE * vocabulary * sizes['data']:
    groups = ('data', 'fsdp')
  # Rows that do not divide lie whole on every device.
  if rows % (sizes['data'] * sizes['fsdp']):
    groups = ()
  count = math.prod(sizes[axis] for axis in groups)
  cut = tuple(axis for axis in CUTS_VOCABULARY if axis not in groups)
  inner_rows = ('fsdp',) if groups == ('data',) else ()
  length = () if n % sizes['sequence'] else ('sequence',)
  return Spread(groups, count, inner_rows, length, cut)


def lay_out(tree, vocabulary: int, spread: Spread | None):
  """A tree of arrays, each cut along an axis that is as long as the vocabulary."""
  if spread is None:
    return tree

  def cut(leaf):
    axes = [()] * leaf.ndim
    if vocabulary in leaf.shape:
      axes[leaf.shape.index(vocabulary)] = spread.vocabulary
    return parallel.lay(leaf, *axes)

  return jax.tree.map(cut, tree)


def bring(tree, vocabulary: int, spread: Spread | None, back: bool = False):
  """`lay_out` of what lies as parameters do, or its way `back` from there.

  It goes by layouts each of which is one exchange, along one axis of the mesh, from the
  next. On a straight way XLA may gather a whole matrix in between.
  """
  if spread is None:
    return tree
  sizes = parallel.axis_sizes()
  devices = math.prod(sizes[axis] for axis in spread.vocabulary)
  across_devices = math.prod(sizes[axis] for axis in CUTS_WIDTH)

  def move(leaf):
    if leaf.ndim != 2 or vocabulary not in leaf.shape:
      return lay_out(leaf, vocabulary, spread)
    is_table = leaf.shape[0] == vocabulary
    # A factor of a low rank is small, and lies whole.
    if leaf.shape[1 if is_table else 0] % across_devices:
      return lay_out(leaf, vocabulary, spread)
    missing = -vocabulary % devices
    padding = ((0, missing), (0, 0)) if is_table else ((0, 0), (0, missing))
    # Parts of one size, whose borders agree on the way.
    moved = jnp.pad(leaf, padding)
    stages = _stages(spread.vocabulary)
    for along, across in reversed(stages) if back else stages:
      moved = parallel.lay(moved, *(along, across) if is_table else (across, along))
    return moved[: leaf.shape[0], : leaf.shape[1]]

  return jax.tree.map(move, tree)


def _stages(vocabulary: tuple[str, ...]) -> list:
  """The axes (of the vocabulary, of the width) of each layout, from that of parameters
  to that of logits.
  """
  stages = []
  for end in range(1, len(vocabulary) + 1):
    along = vocabulary[:end]
    across = tuple(axis for axis in CUTS_WIDTH if axis not in along)
    stages.append((along, across))
  return [*stages, (vocabulary, ())]


def add_up(function, parts: int, spread: Spread | None, *arrays: Array):
  """Calls function(*part) -> (sums, kept) for every part of arrays (rows, n, ...).

  Returns the totals of `sums`, and what was `kept`, (rows, part of n, ...), put
  together to (rows, n, ...). A part takes positions at equal steps, so that a device
  which holds some rows, or some of the length, has its share of each. What is padded
  has the weight 0.

  With a `spread` the function gets the rows of one group at a time. All devices that
  part the vocabulary hold these rows while they are at it.
  """
  if spread is None:
    return _scan(function, parts, 1, arrays)
  where = spread.groups, spread.rows, spread.length
  of_groups = jax.vmap(function, spmd_axis_name=spread.groups or None)

  def group(x):
    """(groups, rows of a group, n, ...) of x (rows, n, ...)."""
    x = x.reshape(spread.count, -1, *x.shape[1:])
    return parallel.lay(x, *where)

  def ungroup(x):
    x = parallel.lay(x, *where)
    return x.reshape(-1, *x.shape[2:])

  def together(*part):
    gathered = [parallel.lay(x, spread.groups) for x in part]
    sums, kept = of_groups(*gathered)
    # Each device takes back what is of its own rows.
    return sums, jax.tree.map(lambda x: parallel.lay(x, *where), kept)

  grouped = [group(x) for x in arrays]
  sums, kept = _scan(together, parts, 2, grouped)
  totals = jax.tree.map(lambda x: x.sum(0), sums)
  return totals, jax.tree.map(ungroup, kept)


def _scan(function, parts: int, axis: int, arrays):
  """`add_up` over the parts of one axis of the arrays."""
  n = arrays[0].shape[axis]

  def split(x):
    """(..., n, ...) as (parts, ..., part of n, ...), padded to parts of one length."""
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    missing = -n % parts
    whole = [(0, 0)]
    widths = whole * len(before) + [(0, missing)] + whole * len(after)
    x = jnp.pad(x, widths)
    # Neighbours go to different parts: part i has the positions i, i + parts, ...
    x = x.reshape(*before, -1, parts, *after)
    return jnp.moveaxis(x, axis + 1, 0)

  def join(x):
    """The reverse of `split`: (..., n, ...) again, without the padding."""
    x = jnp.moveaxis(x, 0, axis + 1)
    before, after = x.shape[:axis], x.shape[axis + 2 :]
    x = x.reshape(*before, -1, *after)
    return jax.lax.slice_in_dim(x, 0, n, axis=axis)

  def add(total, part):
    sums, kept = function(*part)
    return jax.tree.map(jnp.add, total, sums), kept

  split_arrays = [split(x) for x in arrays]
  first_part = [x[0] for x in split_arrays]
  # Only the shapes: nothing is computed here.
  sums, _ = jax.eval_shape(function, *first_part)
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), sums)
  totals, kept = jax.lax.scan(add, zeros, split_arrays)
  return totals, jax.tree.map(join, kept)
