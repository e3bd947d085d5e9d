"""Attention as a module: its projections, its cache and its prefix.

>>> heads_first(jnp.zeros((2, 5, 3, 4))).shape
(2, 3, 5, 4)
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tl_jax import rng
from tl_jax.leaves.products import copy_swapped
from tl_jax.models.arch import Arch
from tl_jax.models.disentangled import position_scores
from tl_jax.models.forms import attend
from tl_jax.models.layers import Linear, Norm, dropout, initializer, residual_scale
from tl_jax.models.relative import PositionBias
from tl_jax.models.rotary import rotate
from tl_jax.models.scores import masked_scores, softmax, weighted_values
from tl_jax.models.sight import Sight

# Where attention leaves its weights when an apply makes this collection mutable.
SEEN = 'intermediates'


class Attention(nn.Module):
  """Multi-head attention (Vaswani et al. 2017, 3.2.2), with grouped keys where the
  family has them.

  form: how it is computed, as `Compute.attention` names it.
  """

  arch: Arch
  rate: float
  form: str = 'xla'

  @nn.compact
  def __call__(
    self,
    x,
    memory,
    sight: Sight,
    bias=None,
    positions=None,
    frequencies=None,
    key=None,
    cache=None,
    relative=None,
  ):
    """(out (batch, queries, width), cache): x (batch, queries, width) attends to memory
    (batch, keys, width) where its sight allows.

    bias (batch, heads, queries, keys), or a `PositionBias`: added to the scores. A
    prefix among the parameters stands before all keys, and `bias` has columns for it.
    positions: of x and of memory; None for attention to another stack.
    frequencies: what turns x and memory, where positions are rotary.
    cache: {'key', 'value'} (batch, key heads, keys, head), in the order in which they
    are multiplied. While it is being filled it has an `index`, too: the first slot for
    the keys of x. Then `sight` speaks of its slots.
    relative: of disentangled attention, the table (rows, width) of relative positions,
    and which of its rows (batch, queries, keys) lies between query and key.
    """
    arch = self.arch
    # T5 has no scale in its scores, so its queries begin smaller.
    query_std = (arch.width * arch.head_width) ** -0.5
    to_query = self._projection('query', initializer(arch, std=query_std))
    to_keys = self._projection('key')
    to_values = self._projection('value')
    query = to_query(x)

    def turn(x, side):
      if frequencies is None:
        return x
      return rotate(arch, x, positions[side], frequencies[side])

    if cache is None or 'index' in cache:
      keys = to_keys(memory)
      values = to_values(memory)
      keys = heads_first(turn(keys, 1))
      values = heads_first(values)
      if cache is not None:
        keys = _written(cache['key'], keys, cache['index'])
        values = _written(cache['value'], values, cache['index'])
        cache = dict(key=keys, value=values)
    else:
      # The keys of a memory were made before the first step.
      keys = cache['key']
      values = cache['value']
    query = turn(query, 0)
    if self.has_variable('params', 'prefix'):
      prefix = self.get_variable('params', 'prefix')
      keys, values = prefix.put_before(keys, values)
      sight = sight._replace(prefix=prefix.keys.shape[0])
    # A cache or a prefix may have another dtype than the queries.
    keys = keys.astype(query.dtype)
    values = values.astype(query.dtype)
    if relative is not None:
      table, rows = relative
      table = table.astype(query.dtype)
      table = dropout(table, self.rate, key, 'attention-positions')[None]
      position_query = to_query(table)[0]
      position_keys = to_keys(table)[0]
      scores = position_scores(query, keys, position_query, position_keys, rows)
      bias = self._scale * scores
    mixed = self._mix(query, keys, values, sight, bias, key)
    inner = arch.heads * arch.head_width
    draw = initializer(arch, residual_scale(arch), inner**-0.5)
    out = Linear(arch.width, arch.has_bias('out'), draw, name='out')
    mixed = mixed.reshape(*x.shape[:2], inner)
    return out(mixed), cache

  @property
  def _scale(self) -> float:
    return self.arch.attention_scale or self.arch.head_width**-0.5

  def _projection(self, name: str, draw=None):
    """A function of x (batch, length, width) to its heads (batch, length, heads, head),
    normed where a family norms.
    """
    arch = self.arch
    heads = arch.heads if name == 'query' else arch.key_heads
    if draw is None:
      draw = initializer(arch)
    width = heads * arch.head_width
    linear = Linear(width, arch.has_bias('qkv'), draw, name=name)
    norm = None
    if arch.query_norm and name != 'value':
      norm = Norm(arch, name=f'{name}_norm')

    def project(x):
      y = linear(x)
      if arch.query_norm == 'width' and norm is not None:
        y = norm(y)
      y = y.reshape(*y.shape[:2], heads, arch.head_width)
      if arch.query_norm != 'width' and norm is not None:
        y = norm(y)
      return y

    return project

  def _mix(self, query, keys, values, sight, bias, key):
    """What every query gathers of the values: (batch, queries, heads in groups, head)."""
    arch = self.arch
    # So many query heads share a key head.
    groups = arch.heads // arch.key_heads
    query = query.reshape(*query.shape[:2], arch.key_heads, groups, arch.head_width)
    query = query * self._scale
    # Only whole products have weights to show.
    is_seen = self.is_mutable_collection(SEEN)
    if not is_seen:
      mixed = attend(
        self.form,
        query,
        keys,
        values,
        sight,
        bias=_in_groups(bias, arch),
        cap=arch.attention_cap,
        rate=self.rate,
        key=None if key is None else rng.stream(key, 'attention-weights'),
      )
      if mixed is not None:
        return mixed
    if isinstance(bias, PositionBias):
      bias = bias.dense()
    bias = _in_groups(bias, arch)
    scores = masked_scores(query, keys, sight.mask(), bias, arch.attention_cap)
    if is_seen:
      seen = jax.nn.softmax(scores, -1)
      rows, _, _, *rest = seen.shape
      seen = seen.reshape(rows, arch.heads, *rest)
      self.sow(SEEN, 'weights', seen)
    weights = softmax(scores, values.dtype)
    weights = dropout(weights, self.rate, key, 'attention-weights')
    return weighted_values(weights, values)


def _in_groups(bias, arch: Arch):
  """A bias with its heads (batch, heads, queries, keys) as (batch, key heads, groups,
  queries, keys); any other as it is.
  """
  if bias is None or isinstance(bias, PositionBias):
    return bias
  groups = arch.heads // arch.key_heads
  return bias.reshape(-1, arch.key_heads, groups, *bias.shape[2:])


def _written(old, new, index):
  """The cache `old` (batch, key heads, room, head) with `new` from slot `index` on."""
  return jax.lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), index, 2)


def heads_first(x):
  """Keys or values (batch, keys, heads, head) as (batch, heads, keys, head)."""
  # XLA would make a plain swap part of the product behind it, and on CPU it has no fast
  # kernel for such a product in bfloat16.
  if x.dtype == jnp.bfloat16:
    return copy_swapped(x)
  return jnp.swapaxes(x, 1, 2)
