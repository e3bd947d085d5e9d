"""From text to vectors and from vectors to answers: embeddings, vocabulary logits, classification of packed examples.

>>> slot_mean(jnp.ones((1, 3, 2)), jnp.array([[1, 1, 2]]), jnp.array([[1, 2, 0]])).shape
(1, 3, 2)
"""

import flax.linen as nn
import jax.numpy as jnp

from tl_jax import leaves
from tl_jax.models.arch import Arch
from tl_jax.models.layers import ACTIVATIONS, Linear, Norm, dropout, initializer


class Embedding(nn.Module):
  """Token, position and type vectors (batch, length, width)."""
  arch: Arch
  rate: float
  dtype: object

  @nn.compact
  def __call__(self, tokens, positions, types=None, key=None):
    arch = self.arch
    draw = initializer(arch, std=1.0)
    table = self.param('tokens', draw, (arch.vocabulary, arch.width))
    x = leaves.dense(table)[tokens] * arch.embedding_scale
    if arch.positions == 'learned':
      places = self.param('positions', draw, (arch.max_positions, arch.width))
      x = x + leaves.dense(places)[jnp.minimum(positions, arch.max_positions - 1)]
    if arch.types:
      kinds = self.param('types', draw, (arch.types, arch.width))
      x = x + leaves.dense(kinds)[jnp.zeros_like(tokens) if types is None else types]
    if arch.embedding_norm:
      x = Norm(arch, name='norm')(x)
    return dropout(x.astype(self.dtype), self.rate, key, 'embedding')


class VocabularyHead(nn.Module):
  """Logits (..., vocabulary) in float32 over the vocabulary: BERT's masked head, or a causal head."""
  arch: Arch

  @nn.compact
  def __call__(self, hidden, table):
    arch = self.arch
    if arch.head == 'masked':
      hidden = Linear(arch.width, True, initializer(arch), name='transform')(hidden)
      hidden = Norm(arch, name='norm')(ACTIVATIONS[arch.activation](hidden))
    if arch.tied:
      logits = leaves.matmul(hidden * arch.tied_scale, leaves.dense(table).T)
    else:
      kernel = self.param('kernel', initializer(arch), (arch.width, arch.vocabulary))
      logits = leaves.matmul(hidden, kernel)
    if arch.head == 'masked':
      logits = logits + self.param('bias', nn.initializers.zeros, (arch.vocabulary,)).astype(logits.dtype)
    return logits.astype(jnp.float32)


def classify(arch: Arch, params: dict, pooled, rate: float, key):
  """Logits (..., labels) in float32 from pooled vectors (..., width), through BERT's tanh pooler where there is one."""
  if arch.pooler:
    pooled = jnp.tanh(pooler(arch).apply({'params': params['pooler']}, pooled))
  pooled = dropout(pooled, rate, key, 'classifier')
  return classifier(arch).apply({'params': params['head']}, pooled).astype(jnp.float32)


def pooler(arch: Arch) -> Linear:
  return Linear(arch.width, True, initializer(arch))


def classifier(arch: Arch) -> Linear:
  return Linear(arch.labels, True, initializer(arch))


def slot_members(segments, slots):
  """Boolean (batch, slots, length): which tokens belong to the example of each slot; none to an empty slot (0)."""
  return (segments[:, None, :] == slots[:, :, None]) & (slots[:, :, None] > 0)


def slot_mean(hidden, segments, slots):
  """The mean vector (batch, slots, width) of each slot's tokens; zeros for an empty slot."""
  members = slot_members(segments, slots)
  # A product with zeros and ones: the tokens of other examples contribute exact zeros.
  total = jnp.einsum('bsl,bld->bsd', members.astype(hidden.dtype), hidden)
  return total / jnp.maximum(members.sum(-1), 1)[..., None].astype(hidden.dtype)


def slot_token(hidden, segments, slots, last: bool):
  """The first or last token's vector (batch, slots, width) of each slot."""
  members = slot_members(segments, slots)
  length = segments.shape[-1]
  index = length - 1 - jnp.argmax(members[..., ::-1], -1) if last else jnp.argmax(members, -1)
  return jnp.take_along_axis(hidden, index[..., None], 1)


def pool(arch: Arch, hidden, segments, slots):
  """One vector (batch, slots, width) for the example in each slot, as the family reads it."""
  if arch.pool == 'mean':
    return slot_mean(hidden, segments, slots)
  return slot_token(hidden, segments, slots, last=arch.pool == 'last')
