"""From text to vectors and from vectors to answers: embeddings, vocabulary logits,
classification of packed examples.

>>> slot_mean(jnp.ones((1, 3, 2)), jnp.array([[1, 1, 2]]), jnp.array([[1, 2, 0]])).shape
(1, 3, 2)
"""

import dataclasses
import functools

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from tl_jax import leaves
from tl_jax.models.arch import Arch
from tl_jax.models.columns import take_columns
from tl_jax.models.layers import Linear, Norm, activate, dropout, initializer


class Embedding(nn.Module):
  """Token, position and type vectors (batch, length, width).

  Where the tokens have a width of their own, an encoder projects the sum (ALBERT,
  ELECTRA) and a decoder the tokens (OPT-350M, whose positions have the width of the
  layers, and which projects back behind the last layer). `positions` may have more
  columns than `tokens`: those in front are of a prompt (n, width) among the parameters,
  as many times as they hold it; what is added to tokens is added to them (Lester et al.
  2021, section 2).
  """

  arch: Arch
  rate: float
  dtype: object

  @nn.compact
  def __call__(self, tokens, positions, types=None, key=None):
    arch = self.arch
    draw = initializer(arch, std=1.0)
    inner = arch.embedding_width or arch.width
    project = Linear(
      arch.width, arch.kind == 'encoder', initializer(arch), name='project'
    )
    x = (
      leaves.take(self.param('tokens', draw, (arch.vocabulary, inner)), tokens)
      * arch.embedding_scale
    )
    columns = positions.shape[1] - tokens.shape[1]
    if columns:
      prompt = self.get_variable('params', 'prompt').astype(x.dtype)
      prompt = jnp.tile(prompt, (columns // prompt.shape[0], 1))
      x = jnp.concatenate([jnp.broadcast_to(prompt, (x.shape[0], *prompt.shape)), x], 1)
    if arch.embedding_width and arch.kind == 'decoder':
      x = project(x)
    if arch.position_table:
      places = (
        jnp.asarray(sinusoids(arch.max_positions, x.shape[-1]))
        if arch.positions == 'sinusoidal'
        else (self.param('positions', draw, (arch.max_positions, x.shape[-1])))
      )
      x = x + leaves.take(
        places, jnp.minimum(positions + arch.position_offset, arch.max_positions - 1)
      )
    if arch.types:
      kinds = self.param('types', draw, (arch.types, x.shape[-1]))
      x = x + leaves.take(kinds, jnp.zeros_like(positions) if types is None else types)
    if arch.embedding_norm:
      x = Norm(arch, name='norm')(x)
    x = dropout(x.astype(self.dtype), self.rate, key, 'embedding')
    return project(x) if arch.embedding_width and arch.kind == 'encoder' else x


@functools.lru_cache(maxsize=8)
def sinusoids(positions: int, width: int) -> np.ndarray:
  """A table (positions, width) of Vaswani et al. (2017), 3.5: the sines, then the
  cosines.

  From angles in float64, as in float32 those of late positions are off by 1e-5.
  """
  column = np.arange(width)
  frequencies = 10000.0 ** (-2 * (column // 2) / width)
  angles = np.arange(positions)[:, None] * frequencies
  table = np.concatenate([np.sin(angles[:, 0::2]), np.cos(angles[:, 1::2])], 1)
  return table.astype(np.float32)


class VocabularyHead(nn.Module):
  """What gives states (..., width) their logits over the vocabulary: BERT's masked
  head, or a causal head.
  """

  arch: Arch

  @nn.compact
  def __call__(self, hidden, table) -> leaves.Readout:
    arch = self.arch
    inner = arch.embedding_width or arch.width
    if arch.head == 'masked':
      hidden = Linear(inner, not arch.pooler_norm, initializer(arch), name='transform')(
        hidden
      )
      hidden = Norm(arch, name='norm')(
        activate(arch.head_activation or arch.activation, hidden)
      )
    weight = (
      table
      if arch.tied
      else self.param('kernel', initializer(arch), (inner, arch.vocabulary))
    )
    bias = (
      self.param('bias', nn.initializers.zeros, (arch.vocabulary,))
      if arch.head_bias
      else None
    )
    return leaves.Readout(
      hidden * arch.output_scale, weight, bias, arch.tied, arch.logit_cap
    )


class Pooler(nn.Module):
  """The dense layer and activation before a classifier; ModernBERT's has a norm instead
  of a bias.
  """

  arch: Arch

  @nn.compact
  def __call__(self, x):
    arch = self.arch
    x = leaves.matmul(
      x, self.param('kernel', initializer(arch), (arch.width, arch.width))
    )
    if not arch.pooler_norm:
      x = leaves.add_bias(x, self.param('bias', nn.initializers.zeros, (arch.width,)))
    x = activate(arch.pooler, x)
    return Norm(arch, name='norm')(x) if arch.pooler_norm else x


class LabelHead(nn.Module):
  """Logits (..., labels) in float32 of an example or a token; ELECTRA's replaced-token
  head has a layer of its own.
  """

  arch: Arch

  @nn.compact
  def __call__(self, x):
    arch = self.arch
    if arch.head == 'replaced':
      x = Linear(arch.width, True, initializer(arch), name='transform')(x)
      x = activate(arch.head_activation or arch.activation, x)
    kernel = self.param('kernel', initializer(arch), (x.shape[-1], outputs(arch)))
    x = leaves.matmul(x, kernel)
    if arch.head_bias:
      x = leaves.add_bias(
        x, self.param('bias', nn.initializers.zeros, (outputs(arch),))
      )
    return x.astype(jnp.float32)


def outputs(arch: Arch) -> int:
  """How many numbers a head gives for an example or a token: start and end of a span,
  or one per label.
  """
  return {'span': 2, 'replaced': 1}.get(arch.head, arch.labels)


def label(arch: Arch, params: dict, x, rate: float, key):
  """Logits (..., labels) from vectors (..., width), through the pooler where this head
  reads one.
  """
  if arch.pools:
    holder = params if arch.keeps_pooler else params['head']
    x = Pooler(arch).apply({'params': holder['pooler']}, x)
  x = dropout(x, rate, key, 'classifier')
  return LabelHead(arch).apply({'params': params['head']}, x)


def unread(arch: Arch) -> tuple[str, ...]:
  """Patterns of the parameters that this head does not read: they have no gradient."""
  patterns = []
  if arch.keeps_pooler and not arch.pools:
    patterns.append(r'pooler/.*')
  if arch.pair_head:
    patterns.append(r'head/pair/.*')
  return tuple(patterns)


def adopt_pooler(arch: Arch, params: dict) -> tuple[Arch, dict]:
  """A finished model as the source of another: the pooler that BERT's first task
  brought belongs to the body now.

  Other models are returned as they are.
  """
  if not arch.pools or arch.pooler_place != 'new':
    return arch, params
  head = dict(params['head'])
  pooler = head.pop('pooler')
  params = {**params, 'pooler': pooler, 'head': head}
  return dataclasses.replace(arch, pooler_place='body'), params


def slot_members(segments, slots):
  """Boolean (batch, slots, length): which tokens belong to the example of each slot;
  none to an empty slot (0).
  """
  return (segments[:, None, :] == slots[:, :, None]) & (slots[:, :, None] > 0)


def slot_mean(hidden, segments, slots):
  """The mean vector (batch, slots, width) of each slot's tokens; zeros for an empty
  slot.
  """
  members = slot_members(segments, slots)
  # A product with zeros and ones: the tokens of other examples contribute exact zeros.
  total = jnp.einsum('bsl,bld->bsd', members.astype(hidden.dtype), hidden)
  return total / jnp.maximum(members.sum(-1), 1)[..., None].astype(hidden.dtype)


def slot_columns(arch: Arch, segments, slots):
  """The column (batch, slots) of the first or last token of each slot, as the family
  reads it; any for an empty one.
  """
  members = slot_members(segments, slots)
  if arch.pool == 'last':
    return segments.shape[-1] - 1 - jnp.argmax(members[..., ::-1], -1)
  return jnp.argmax(members, -1)


def pool(arch: Arch, hidden, segments, slots):
  """One vector (batch, slots, width) for the example in each slot, as the family reads
  it.
  """
  if arch.pool == 'mean':
    return slot_mean(hidden, segments, slots)
  return take_columns(hidden, slot_columns(arch, segments, slots))
