"""Splash attention: the kernel for TPUs that holds no scores.

It is jax's own (jax.experimental.pallas.ops.tpu.splash_attention), after Dao et al.
2022. On a CPU it is interpreted, which is slow and meant for tests.

>>> tile(2048), tile(384), tile(128)
(512, 384, 128)
"""

import jax
from jax.experimental.pallas.ops.tpu.splash_attention import (
  splash_attention_kernel as kernels,
)
from jax.experimental.pallas.ops.tpu.splash_attention import (
  splash_attention_mask as masks,
)
from jax.sharding import NamedSharding, PartitionSpec

from tl_jax import parallel
from tl_jax.leaves.products import PRODUCT
from tl_jax.models.operands import (
  SEQUENCE,
  Operands,
  on_every_device,
  pad_positions,
  sequence_shards,
)

# Positions come in multiples of what a vector register holds.
LANES = 128
# Larger tiles of scores would not fit beside the operands in 16 MiB of vector memory.
MOST = 512


def tile(positions: int) -> int:
  """The largest tile up to `MOST` that divides a multiple of 128 positions."""
  sizes = range(MOST, 0, -LANES)
  return next(size for size in sizes if positions % size == 0)


def attend(operands: Operands, *, causal: bool, window: int, cap: float):
  """What every query gathers (batch, queries, key heads, groups, head).

  Lengths that are no multiple of 128, or of 128 times the devices along the sequence
  axis, are padded; what is padded is seen by nobody who is read. Causality and window
  count columns, so positions must be columns within each segment.
  window: its span; 0 for all.
  """
  shards = sequence_shards()
  queries = operands.query.shape[1]
  padded_queries = _round_up(queries, LANES * shards)
  padded_keys = _round_up(operands.keys.shape[2], LANES * shards)
  operands = pad_positions(operands, padded_queries, padded_keys)
  # The kernel needs no positions.
  operands = operands._replace(query_positions=None, key_positions=None, window=None)
  if operands.query.shape[1] == 0:
    return operands.query

  def run(local: Operands, kernel):
    return _attend_locally(local, kernel)

  heads = _local_heads(operands)
  mask = _mask(padded_queries, padded_keys, causal, window)
  if mask is None:
    # Every device has the same kernel, for its own queries.
    mask = masks.FullMask((padded_queries // shards, padded_keys))
    kernel = _kernel(mask, heads=heads, shards=1, cap=cap)
    specs = PartitionSpec()
  else:
    kernel = _kernel(mask, heads=heads, shards=shards, cap=cap)
    specs = _kernel_specs(kernel)
  made = on_every_device(run, operands, kernel, specs)
  return made[:, :queries]


def _round_up(length: int, multiple: int) -> int:
  return -(-length // multiple) * multiple


def _mask(queries: int, keys: int, causal: bool, window: int):
  """Which columns see which: none behind, or those within a window; None for all."""
  shape = queries, keys
  reach = window - 1 if causal else window // 2
  # A window over all columns hides none.
  is_narrow = window and reach < max(shape) - 1
  if is_narrow:
    return masks.LocalMask(shape, (reach, 0 if causal else reach), 0)
  if causal:
    return masks.CausalMask(shape)
  return None


def _local_heads(operands: Operands) -> int:
  """How many query heads a device has."""
  heads = operands.query.shape[2] * operands.query.shape[3]
  if parallel.activation_spec(()) is None:
    return heads
  parts = jax.sharding.get_abstract_mesh().shape['tensor']
  return heads // parts if heads % parts == 0 else heads


def _kernel(mask, *, heads: int, shards: int, cap: float):
  """The kernel for one row, whose heads all have one mask."""
  queries, keys = mask.shape
  query_tile = tile(queries // shards)
  key_tile = tile(keys)
  sizes = kernels.BlockSizes(
    block_q=query_tile,
    block_kv=key_tile,
    block_kv_compute=key_tile,
    block_q_dkv=query_tile,
    block_kv_dkv=key_tile,
    block_kv_dkv_compute=key_tile,
    block_q_dq=query_tile,
    block_kv_dq=key_tile,
  )
  return kernels.make_splash_mha(
    masks.MultiHeadMask([mask] * heads),
    block_sizes=sizes,
    head_shards=1,
    q_seq_shards=shards,
    attn_logits_soft_cap=cap or None,
    # A checkpoint policy that keeps products keeps what the kernel made, too.
    residual_checkpoint_name=PRODUCT,
    interpret=parallel.target_platform() == 'cpu',
  )


def _kernel_specs(kernel):
  """How the kernel's table of tiles is cut: along the queries."""
  if parallel.activation_spec(()) is None:
    return None
  mesh = jax.sharding.get_abstract_mesh()
  cut = NamedSharding(mesh, PartitionSpec(None, SEQUENCE))
  return kernel.manual_sharding_spec(cut)


def _attend_locally(local: Operands, kernel):
  """The kernel over the rows of one device."""
  rows, queries, heads, groups, head = local.query.shape
  query = local.query.reshape(rows, queries, heads * groups, head)
  query = query.swapaxes(1, 2)

  def attend_row(query, keys, values, query_segments, key_segments):
    segments = kernels.SegmentIds(query_segments, key_segments)
    return kernel(query, keys, values, segments)

  made = jax.vmap(attend_row)(
    query, local.keys, local.values, local.query_segments, local.key_segments
  )
  return made.swapaxes(1, 2).reshape(local.query.shape)
