"""cuDNN's fused attention, for GPUs, through `jax.nn.dot_product_attention`.

>>> lacks(cap=0.0, head=64, dtype='float32')
"float32 (compute.dtype = 'bfloat16' is right)"
"""

import jax

from tl_jax.models.operands import Operands, sequence_shards
from tl_jax.models.sight import Sight


def lacks(cap: float, head: int, dtype: str) -> str:
  """What cuDNN lacks for such an attention, in words; '' for nothing."""
  if cap:
    return 'cap of the scores'
  if dtype not in ('bfloat16', 'float16'):
    return f"{dtype} (compute.dtype = 'bfloat16' is right)"
  if head % 8:
    return f'heads of a width of {head}: it must be a multiple of 8'
  return ''


def refuses(operands: Operands, sight: Sight) -> str:
  """Why jax will not call cuDNN for these operands here; '' where it will.

  It asks the library that is installed: on a machine without it, there is no cuDNN.
  """

  def total(query):
    made = attend(operands._replace(query=query), sight.causal)
    return made.astype('float32').sum()

  try:
    jax.eval_shape(jax.grad(total), operands.query)
  except (NotImplementedError, RuntimeError, ValueError) as error:
    reason = str(error).split('\n')[0].rstrip('.')
    return f'such attention here ({reason})'
  return ''


def attend(local: Operands, causal: bool):
  """What every query gathers (batch, queries, key heads, groups, head), of the operands
  of one device.

  Segments are a mask (batch, 1, queries, keys) in the dtype of the operands, as jax can
  hand cuDNN no segments.
  """
  rows, queries, heads, groups, head = local.query.shape
  segments = local.query_segments, local.key_segments
  positions = None
  window = 0
  if local.query_positions is not None:
    positions = local.query_positions, local.key_positions
    window = local.window
  sight = Sight(segments, positions, causal, window)
  # The first query of a part of the row is not the first of the row.
  is_whole = causal and queries == local.keys.shape[2] and sequence_shards() == 1
  made = jax.nn.dot_product_attention(
    local.query.reshape(rows, queries, heads * groups, head),
    local.keys.swapaxes(1, 2),
    local.values.swapaxes(1, 2),
    mask=sight.mask()[:, None],
    # The queries are scaled.
    scale=1.0,
    is_causal=is_whole,
    implementation='cudnn',
  )
  return made.reshape(local.query.shape)
