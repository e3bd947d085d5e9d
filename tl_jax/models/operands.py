"""What a form of attention works on, and the same on every device of a mesh.

>>> rows = jnp.ones((2, 4), jnp.int32)
>>> x = jnp.ones((2, 1, 4, 8))
>>> operands = Operands(jnp.ones((2, 4, 1, 3, 8)), x, x, rows, rows)
>>> on_every_device(lambda local, extra: local.query, operands).shape
(2, 4, 1, 3, 8)
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from tl_jax import parallel
from tl_jax.models.relative import PositionBias
from tl_jax.models.sight import Sight

# The mesh axis along which positions are cut.
SEQUENCE = 'sequence'
# The segment of keys that every query sees.
SEEN_BY_ALL = -1


class Operands(NamedTuple):
  """The arrays of one attention.

  query (batch, queries, key heads, groups, head), scaled; keys and values (batch, key
  heads, keys, head). Segments and positions (batch, queries) or (batch, keys); no
  positions where they hide nothing.
  bias (batch or 1, key heads, groups, queries, keys): what is added to the scores.
  table (key heads, groups, buckets): the same by the distance of query and key.
  window: a traced span. key: of dropout, the same on all devices.
  """

  query: Any
  keys: Any
  values: Any
  query_segments: Any
  key_segments: Any
  query_positions: Any = None
  key_positions: Any = None
  bias: Any = None
  table: Any = None
  window: Any = None
  key: Any = None


# The logical axes of the operands.
_AXES = Operands(
  query=('batch', 'length', 'heads', None, None),
  keys=('batch', 'heads', 'length', None),
  values=('batch', 'heads', 'length', None),
  query_segments=('batch', 'length'),
  key_segments=('batch', None),
  query_positions=('batch', 'length'),
  key_positions=('batch', None),
  bias=('batch', 'heads', None, 'length', None),
  table=('heads', None, None),
  window=(),
  key=(),
)


def gather(query, keys, values, sight: Sight, bias=None, key=None) -> Operands:
  """The operands of an attention, from what `Sight` says; the keys of a prefix are in
  front of `keys` already.

  bias: an array as in `Operands`, a `PositionBias`, or None.
  """
  query_segments, key_segments = sight.segments
  if sight.prefix:
    key_segments = _in_front(key_segments, sight.prefix, SEEN_BY_ALL)
  operands = Operands(query, keys, values, query_segments, key_segments, key=key)
  if sight.hides_by_position:
    query_positions, key_positions = sight.positions
    operands = operands._replace(
      query_positions=query_positions,
      # Where a prefix stands hides nothing.
      key_positions=_in_front(key_positions, sight.prefix, 0),
      window=jnp.asarray(sight.window, jnp.int32),
    )
  if not isinstance(bias, PositionBias):
    return operands._replace(bias=bias)
  # Its positions are those of `sight`, and of a prefix besides.
  window = jnp.int32(0) if operands.window is None else operands.window
  heads = query.shape[2:4]
  return operands._replace(
    query_positions=bias.query_positions,
    key_positions=bias.key_positions,
    window=window,
    table=bias.table.T.reshape(*heads, -1),
  )


def _in_front(x, count: int, value: int):
  """x (batch, n) behind so many columns of one value."""
  return jnp.pad(x, ((0, 0), (count, 0)), constant_values=value)


def sequence_shards() -> int:
  """Over how many devices of the mesh in force the positions of a row are spread."""
  if parallel.activation_spec(()) is None:
    return 1
  return jax.sharding.get_abstract_mesh().shape.get(SEQUENCE, 1)


def on_every_device(run, operands: Operands, extra=None, extra_specs=None):
  """run(operands, extra) -> (batch, queries, key heads, groups, head), on the share of
  each device of the mesh in force.

  Rows are cut over data and fsdp, heads over tensor, queries over the sequence axis:
  what does not divide stays whole. Every device has the keys and values of whole rows:
  they are gathered along the sequence axis, and their gradients are summed and
  scattered along it (context parallelism).
  extra: arrays beside the operands, which `extra_specs` cut.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if parallel.activation_spec(()) is None or mesh.manual_axes:
    return run(operands, extra)
  heads = operands.query.shape[2:4]
  operands = _with_divisible_heads(operands, mesh.shape['tensor'])
  specs = {}
  for name, array in operands._asdict().items():
    if array is not None:
      axes = getattr(_AXES, name)
      specs[name] = parallel.activation_spec(array.shape, *axes)
  in_specs = Operands(**({name: None for name in Operands._fields} | specs))
  # Along an axis of one device there is nothing to gather, and a compiler may fail at it.
  gathers = in_specs.keys[2] == SEQUENCE and sequence_shards() > 1

  def local(operands, extra):
    if gathers:
      keys = _gather_positions(operands.keys)
      values = _gather_positions(operands.values)
      operands = operands._replace(keys=keys, values=values)
    if operands.key is not None:
      operands = operands._replace(key=_own_key(operands.key, in_specs.query))
    return run(operands, extra)

  spread = jax.shard_map(
    local,
    in_specs=(in_specs, extra_specs),
    out_specs=in_specs.query,
    check_vma=False,
  )
  made = spread(operands, extra)
  return made.reshape(*made.shape[:2], *heads, made.shape[-1])


def _own_key(key, spec: PartitionSpec):
  """The key of this device: those that have other rows, heads or queries draw apart."""
  for part in spec:
    axes = (part,) if isinstance(part, str) else part or ()
    for axis in axes:
      key = jax.random.fold_in(key, jax.lax.axis_index(axis))
  return key


def _gather_positions(x):
  return jax.lax.all_gather(x, SEQUENCE, axis=2, tiled=True)


def _with_divisible_heads(operands: Operands, parts: int) -> Operands:
  """The operands with a key head to every query head, where the key heads are too few
  to be cut into `parts` and the query heads are not.
  """
  rows, queries, heads, groups, head = operands.query.shape
  if heads % parts == 0 or (heads * groups) % parts:
    return operands
  bias = operands.bias
  if bias is not None:
    bias = bias.reshape(bias.shape[0], heads * groups, 1, *bias.shape[3:])
  table = operands.table
  if table is not None:
    table = table.reshape(heads * groups, 1, -1)
  return operands._replace(
    query=operands.query.reshape(rows, queries, heads * groups, 1, head),
    keys=jnp.repeat(operands.keys, groups, 1),
    values=jnp.repeat(operands.values, groups, 1),
    bias=bias,
    table=table,
  )


def pad_positions(operands: Operands, queries: int, keys: int) -> Operands:
  """The operands with so many queries and keys; those that are new are padding."""
  more_queries = queries - operands.query.shape[1]
  more_keys = keys - operands.keys.shape[2]
  bias = _pad(operands.bias, 3, more_queries)
  return operands._replace(
    query=_pad(operands.query, 1, more_queries),
    keys=_pad(operands.keys, 2, more_keys),
    values=_pad(operands.values, 2, more_keys),
    query_segments=_pad(operands.query_segments, 1, more_queries),
    key_segments=_pad(operands.key_segments, 1, more_keys),
    query_positions=_pad(operands.query_positions, 1, more_queries),
    key_positions=_pad(operands.key_positions, 1, more_keys),
    bias=_pad(bias, 4, more_keys),
  )


def _pad(x, axis: int, count: int):
  """x, or None, with `count` zeros behind it along an axis."""
  if x is None or count == 0:
    return x
  widths = [(0, 0)] * x.ndim
  widths[axis] = 0, count
  return jnp.pad(x, widths)
