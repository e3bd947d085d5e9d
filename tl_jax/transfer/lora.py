"""LoRA: a low-rank change of frozen matrices.

>>> import jax, jax.numpy as jnp
>>> method = lora(r'.*/kernel', rank=4)
>>> trainable, frozen = method.init(jax.random.key(1), {'dense': {'kernel': jnp.ones((8, 6)), 'bias': jnp.ones(6)}})
>>> jax.tree.map(jnp.shape, trainable)
{'dense': {'bias': None, 'kernel': LowRank(base=None, a=(8, 4), b=(4, 6), scale=1.0)}}
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from tl_jax.config import Count, Positive, lookup
from tl_jax.leaves import LowRank
from tl_jax.transfer.method import HEAD, TransferMethod, leaf_edit


def lora(pattern: str | tuple[str, ...] = r'.*/(query|value)/kernel', *, rank: Count = 8, alpha: Positive | None = None,
         head: str | None = HEAD, init: Literal['kaiming', 'gaussian'] = 'kaiming') -> TransferMethod:
  """Trains w + alpha / rank * a @ b in the place of every matrix w that the pattern matches (Hu et al. 2021, eq. 3).

  Works on any pytree of arrays: w is (in, out), or (..., in, out) with the leading axes a stack of layers, each with
  its own a (..., in, rank) and b (..., rank, out), in float32 or wider. `alpha` is `rank` by default, a scale of one.
  a is drawn as in the authors' loralib, `kaiming`: uniform with bound 1 / sqrt(in); or `gaussian`, as in the paper,
  whose deviation, 1 / rank, is PEFT's. b is zero, so the start is the pre-trained model to the bit.
  Leaves that `head` matches are trained in full even where the pattern matches them too. Its default is the `head` and
  `pooler` of our models and may match nothing, so foreign params need not have a head; one that is given must match.
  Errors: ValueError for a pattern that matches nothing, and for a matched leaf that is not a floating-point matrix.
  """
  draw = lookup(DRAWS, init, 'lora: init')
  if not rank >= 1 or int(rank) != rank:
    raise ValueError(f'lora: rank is {rank}, but must be an integer of at least 1')
  scale = 1.0 if alpha is None else alpha / rank
  if not 0 < scale < math.inf:
    raise ValueError(f'lora: alpha is {alpha}, but must be a positive number')

  def edit(key, name, w):
    shape, dtype = np.shape(w), jnp.result_type(w)
    if len(shape) < 2 or not jnp.issubdtype(dtype, jnp.floating):
      raise ValueError(f'lora: {name!r} is not a floating-point matrix: shape {shape}, dtype {dtype}')
    *stack, size_in, size_out = shape
    wide = jnp.promote_types(dtype, jnp.float32)
    a = draw(key, (*stack, size_in, rank), wide)
    return LowRank(None, a, jnp.zeros((*stack, rank, size_out), wide), scale), LowRank(w, None, None, scale)

  def edit_axes(spec):
    *stack, axis_in, axis_out = (*spec, *(None,) * (2 - len(spec)))
    a, b = PartitionSpec(*stack, axis_in, None), PartitionSpec(*stack, None, axis_out)
    return LowRank(None, a, b, scale), LowRank(spec, None, None, scale)

  patterns = (pattern,) if isinstance(pattern, str) else tuple(pattern)
  return leaf_edit(edit, edit_axes, *patterns, head=head, what='lora')


def draw_kaiming(key, shape, dtype):
  """U(-1/sqrt(in), 1/sqrt(in)): kaiming_uniform with a = sqrt(5), what torch gives a linear layer."""
  bound = 1 / math.sqrt(shape[-2])
  return jax.random.uniform(key, shape, dtype, -bound, bound)


def draw_gaussian(key, shape, dtype):
  """N(0, 1 / rank**2)."""
  return jax.random.normal(key, shape, dtype) / shape[-1]


DRAWS = {'kaiming': draw_kaiming, 'gaussian': draw_gaussian}
