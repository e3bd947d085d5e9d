"""Attention in blocks with a running softmax (Dao et al. 2022): of long rows no array of
all pairs of queries and keys is kept, neither forward nor backward.

>>> block_length(8192, heads=32)
512
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from tl_jax import leaves, parallel
from tl_jax.leaves.products import PRODUCT
from tl_jax.models.operands import (
  SEEN_BY_ALL,
  Operands,
  on_every_device,
  pad_positions,
)
from tl_jax.models.relative import PositionBias, bucket_of
from tl_jax.models.scores import LOWEST, masked_scores, weighted_values
from tl_jax.models.sight import Sight

# Bytes of the float32 scores of a device that whole products may take.
MOST = 64 * 2**20
# From so many keys on: below, whole products are faster, and what a CPU computed before
# keeps its bits.
LONG = dict(cpu=2048)
LONG_ELSEWHERE = 1024
# Bytes of the scores of a block.
BLOCK_BYTES = 32 * 2**20


def is_long(rows: int, queries: int, heads: int, keys: int) -> bool:
  """Would the scores of all pairs take too much room on a device?"""
  least = LONG.get(parallel.target_platform(), LONG_ELSEWHERE)
  everywhere = 4 * rows * heads * queries * keys
  return keys >= least and everywhere > MOST * parallel.activation_shards()


def block_length(length: int, heads: int) -> int:
  """Queries and keys of a block, for so many heads of all rows of a device."""
  most = math.isqrt(BLOCK_BYTES // (4 * heads))
  size = 2 ** max(7, min(9, most.bit_length() - 1))
  return min(size, length)


class _Plan(NamedTuple):
  """What is known before the arrays are: causality, the cap of the scores, the rate of
  dropout, the lengths of blocks, and what `relative_bucket` must know of a bias.
  """

  causal: bool
  cap: float
  rate: float
  queries: int
  keys: int
  both_ways: bool = False
  farthest: int = 0


class _Block(NamedTuple):
  """What a block has of its queries, or of its keys, as `Operands` names them."""

  index: Any
  parts: tuple
  segments: Any
  positions: Any = None


def attend(
  operands: Operands,
  *,
  causal: bool,
  cap: float = 0.0,
  rate: float = 0.0,
  distance: PositionBias | None = None,
):
  """What every query gathers (batch, queries, key heads, groups, head).

  distance: what the table of the operands is looked up by.

  Blocks of which no query sees a key are skipped. Dropout draws a mask for every block
  from a key of its own, so the units that it drops are not those of whole products, and
  depend on the lengths of blocks and on the mesh. Gradients are first-order and in
  reverse: they recompute the scores from what every query gathered and the logarithm of
  its sum.
  """

  def run(local: Operands, _):
    rows, queries, heads, groups, _ = local.query.shape
    size = functools.partial(block_length, heads=rows * heads * groups)
    keys = local.keys.shape[2]
    plan = _Plan(causal, cap, rate, size(queries), size(keys))
    if distance is not None:
      plan = plan._replace(both_ways=distance.both_ways, farthest=distance.farthest)
    whole_queries = _round_up(queries, plan.queries)
    whole_keys = _round_up(keys, plan.keys)
    padded = pad_positions(local, whole_queries, whole_keys)
    return _attend(plan, padded)[:, :queries]

  return on_every_device(run, operands)


def _round_up(length: int, multiple: int) -> int:
  return -(-length // multiple) * multiple


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(plan: _Plan, operands: Operands):
  out, _ = _forward(plan, operands)
  return out


def _attend_forward(plan: _Plan, operands: Operands):
  out, logsum = _forward(plan, operands)
  # Where products are kept for the gradient, these are.
  out = checkpoint_name(out, PRODUCT)
  logsum = checkpoint_name(logsum, PRODUCT)
  return out, (operands, out, logsum)


def _cut(x, axis: int, size: int):
  """x in blocks of `size` along an axis, the blocks first; None stays None."""
  if x is None:
    return None
  count = x.shape[axis] // size
  blocks = x.reshape(*x.shape[:axis], count, size, *x.shape[axis + 1 :])
  return jnp.moveaxis(blocks, axis, 0)


def _joined(blocks, axis: int):
  """The inverse of `_cut`."""
  x = jnp.moveaxis(blocks, 0, axis)
  return x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])


def _query_blocks(plan: _Plan, operands: Operands, *more) -> _Block:
  """The blocks of the queries; more: further arrays with queries along axis 1."""
  size = plan.queries
  index = jnp.arange(operands.query.shape[1] // size)
  parts = [_cut(operands.query, 1, size), _cut(operands.bias, 3, size)]
  parts += [_cut(x, 1, size) for x in more]
  segments = _cut(operands.query_segments, 1, size)
  positions = _cut(operands.query_positions, 1, size)
  return _Block(index, tuple(parts), segments, positions)


def _key_blocks(plan: _Plan, operands: Operands) -> _Block:
  size = plan.keys
  index = jnp.arange(operands.keys.shape[2] // size)
  parts = _cut(operands.keys, 2, size), _cut(operands.values, 2, size)
  segments = _cut(operands.key_segments, 1, size)
  positions = _cut(operands.key_positions, 1, size)
  return _Block(index, parts, segments, positions)


def _seen(plan: _Plan, operands: Operands, queries: _Block, keys: _Block):
  """Boolean (batch, queries, keys) of a block."""
  positions = None
  if queries.positions is not None:
    positions = queries.positions, keys.positions
  segments = queries.segments, keys.segments
  sight = Sight(segments, positions, plan.causal, operands.window)
  is_for_all = keys.segments == SEEN_BY_ALL
  return sight.mask() | is_for_all[:, None]


def _bias(plan: _Plan, queries: _Block, keys: _Block, bias, table):
  """The bias of a block: what is given of it, or looked up in a table."""
  if table is None:
    return bias
  bucket = bucket_of(
    queries.positions,
    keys.positions,
    both_ways=plan.both_ways,
    buckets=table.shape[-1],
    farthest=plan.farthest,
  )
  # Heads, groups, rows, queries, keys: rows are first in a bias.
  return jnp.moveaxis(table[:, :, bucket], 2, 0)


def _dropout_key(operands: Operands, queries: _Block, keys: _Block):
  if operands.key is None:
    return None
  key = jax.random.fold_in(operands.key, queries.index)
  return jax.random.fold_in(key, keys.index)


def _gathered(plan: _Plan, weights, values, key):
  """What weights, not yet over their sum, gather of the values, in float32."""
  weights = leaves.drop(weights.astype(values.dtype), plan.rate, key)
  return weighted_values(weights, values).astype(jnp.float32)


def _forward(plan: _Plan, operands: Operands):
  """(out like query, the logarithm of the summed exponentials (batch, key heads,
  groups, queries) in float32).
  """
  rows, queries, heads, groups, head = operands.query.shape
  key_blocks = _key_blocks(plan, operands)

  def attend_block(_, block: _Block):
    query, bias = block.parts
    biases = _cut(bias, 4, plan.keys)
    of_queries = rows, heads, groups, plan.queries
    start = (
      jnp.full(of_queries, LOWEST, jnp.float32),
      jnp.zeros(of_queries, jnp.float32),
      jnp.zeros((rows, plan.queries, heads, groups, head), jnp.float32),
    )

    def see(running, further):
      keys, bias = further
      seen = _seen(plan, operands, block, keys)

      def add(running):
        highest, total, gathered = running
        own_keys, values = keys.parts
        own_bias = _bias(plan, block, keys, bias, operands.table)
        scores = masked_scores(query, own_keys, seen, own_bias, plan.cap)
        new_highest = jnp.maximum(highest, scores.max(-1))
        weights = jnp.exp(scores - new_highest[..., None])
        shrink = jnp.exp(highest - new_highest)
        total = shrink * total + weights.sum(-1)
        key = _dropout_key(operands, block, keys)
        more = _gathered(plan, weights, values, key)
        gathered = _per_query(shrink) * gathered + more
        return new_highest, total, gathered

      return jax.lax.cond(seen.any(), add, lambda running: running, running), None

    running, _ = jax.lax.scan(see, start, (key_blocks, biases))
    highest, total, gathered = running
    # The total of a query that sees nothing may be zero.
    total = jnp.maximum(total, jnp.finfo(jnp.float32).tiny)
    out = gathered / _per_query(total)
    return None, (out.astype(operands.query.dtype), highest + jnp.log(total))

  _, (out, logsum) = jax.lax.scan(attend_block, None, _query_blocks(plan, operands))
  return _joined(out, 1), _joined(logsum, 3)


def _per_query(x):
  """x (batch, key heads, groups, queries) as (batch, queries, key heads, groups, 1)."""
  return x.transpose(0, 3, 1, 2)[..., None]


def _attend_backward(plan: _Plan, kept, gradient):
  """The gradients (Dao et al. 2022, algorithm 4), block by block."""
  operands, out, logsum = kept
  key_blocks = _key_blocks(plan, operands)
  wide = gradient.astype(jnp.float32)
  # What every query's output changes along itself.
  along = (out.astype(jnp.float32) * wide).sum(-1).transpose(0, 2, 3, 1)
  logsums = _cut(logsum, 3, plan.queries)
  alongs = _cut(along, 3, plan.queries)

  def pull_block(gathered, further):
    block, logsum, along = further
    query, bias, gradient = block.parts
    biases = _cut(bias, 4, plan.keys)

    def pull(dquery, further):
      keys, bias, dkeys, dvalues = further
      seen = _seen(plan, operands, block, keys)
      own_keys, values = keys.parts

      def change(_):
        def score(query, own_keys, bias, table):
          bias = _bias(plan, block, keys, bias, table)
          return masked_scores(query, own_keys, seen, bias, plan.cap)

        table = operands.table
        scores, pull_scores = jax.vjp(score, query, own_keys, bias, table)
        weights = jnp.exp(scores - logsum[..., None])
        key = _dropout_key(operands, block, keys)
        _, pull_gathered = jax.vjp(
          lambda weights, values: _gathered(plan, weights, values, key),
          weights,
          values,
        )
        dweights, dvalues = pull_gathered(gradient.astype(jnp.float32))
        dscores = weights * (dweights - along[..., None])
        return *pull_scores(dscores), dvalues

      like = query, own_keys, bias, operands.table, values
      none = lambda _: jax.tree.map(jnp.zeros_like, like)
      changes = jax.lax.cond(seen.any(), change, none, None)
      query_change, key_change, *bias_changes, value_change = changes
      dkeys = dkeys + key_change.astype(jnp.float32)
      dvalues = dvalues + value_change.astype(jnp.float32)
      dquery = dquery + query_change.astype(jnp.float32)
      return dquery, (dkeys, dvalues, *bias_changes)

    dkeys, dvalues = gathered
    start = jnp.zeros(query.shape, jnp.float32)
    dquery, made = jax.lax.scan(pull, start, (key_blocks, biases, dkeys, dvalues))
    dkeys, dvalues, dbias, dtable = made
    if dbias is not None:
      dbias = _joined(dbias, 4)
    if dtable is not None:
      dtable = dtable.sum(0)
    return (dkeys, dvalues), (dquery, dbias, dtable)

  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), key_blocks.parts)
  blocks = _query_blocks(plan, operands, gradient)
  further = blocks, logsums, alongs
  (dkeys, dvalues), made = jax.lax.scan(pull_block, zeros, further)
  dquery, dbias, dtable = made
  if dtable is not None:
    dtable = dtable.sum(0)
  if dbias is not None:
    dbias = _joined(dbias, 3)
  changed = Operands(
    _joined(dquery, 1).astype(operands.query.dtype),
    _joined(dkeys, 2).astype(operands.keys.dtype),
    _joined(dvalues, 2).astype(operands.values.dtype),
    *(None,) * 4,
    bias=dbias,
    table=dtable,
  )
  return (changed,)


_attend.defvjp(_attend_forward, _attend_backward)
