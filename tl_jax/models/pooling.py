"""Vectors of whole texts: the hidden states of each example of a row, pooled.

>>> import jax
>>> from tl_jax.models import arch, build
>>> model = build(arch('tiny', vocabulary=100))
>>> params = model.init(jax.random.key(0))
>>> ones = jnp.ones((2, 8), 'int32')
>>> batch = {'tokens': ones, 'segments': ones, 'examples': ones[:, :1]}
>>> embed(model.arch, Compute(), params, batch, ('mean', 'max')).shape == (
...     2, 1, 2 * model.arch.width)
True
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from tl_jax.models.arch import Arch, Compute
from tl_jax.models.backbone import encode
from tl_jax.models.heads import example_members, pool
from tl_jax.models.stacks import STACKS

# How a folder for sentences may pool, by the field `pool` of an architecture.
BY_FIELD = {'cls': 'first', 'mean': 'mean', 'lasttoken': 'last'}
POOLS = (*BY_FIELD, 'max', 'mean_sqrt_len_tokens', 'weightedmean')


def embed(
  arch: Arch, compute: Compute, params, batch: dict, modes: Sequence[str] = ()
) -> jax.Array:
  """One vector for every example of packed rows, float32 (batch, examples, k).

  It comes from the hidden states after the last layer, before any pooler or head. Of an
  encoder-decoder it comes from the encoder. `modes` are some of `POOLS`, whose vectors
  are put one behind the other; without them it is what a classifier of this
  architecture reads of an example.
  """
  encoded = encode(arch, compute, params, batch, STACKS[arch.kind][0])
  where = (encoded.segments, batch['examples'])
  return _together(arch, encoded.hidden, where, modes)


def embed_layers(
  arch: Arch, compute: Compute, params, batch: dict, modes: Sequence[str] = ()
) -> jax.Array:
  """The vectors of `embed` after every layer: float32 (batch, examples, layers + 1, k).

  The first are of the embedding, before any layer. The last are before a norm that
  stands behind all layers, where the model has one.
  """
  stack = STACKS[arch.kind][0]
  encoded = encode(arch, compute, params, batch, stack, keep=('states',))
  where = (encoded.segments, batch['examples'])
  found = [_together(arch, x, where, modes) for x in encoded.kept['states']]
  return jnp.stack(found, -2)


def _together(arch: Arch, hidden, where: tuple, modes: Sequence[str]) -> jax.Array:
  """The vectors of several modes, one behind the other."""
  if not modes:
    modes = (_own(arch),)
  found = [_pooled(arch, mode, hidden, *where) for mode in modes]
  return jnp.concatenate(found, -1).astype(jnp.float32)


def _own(arch: Arch) -> str:
  """How the architecture itself pools."""
  # Its decoder, which reads the last token, is not run.
  if arch.kind == 'encoder-decoder':
    return 'mean'
  names = {field: mode for mode, field in BY_FIELD.items()}
  return names[arch.pool]


def _pooled(arch: Arch, mode: str, hidden, segments, examples) -> jax.Array:
  """The vectors (batch, examples, width) of one mode; any for an empty place."""
  if mode in BY_FIELD:
    reading = dataclasses.replace(arch, pool=BY_FIELD[mode])
    return pool(reading, hidden, segments, examples)
  hidden = hidden.astype(jnp.float32)
  if mode == 'max':
    return _largest(hidden, segments, examples)
  weights = example_members(segments, examples).astype(jnp.float32)
  if mode == 'weightedmean':
    # The n-th token counts n times (Muennighoff 2022, equation 2).
    weights = weights * jnp.cumsum(weights, -1)
  total = jnp.einsum('bel,blw->bew', weights, hidden)
  size = jnp.maximum(weights.sum(-1), 1.0)[..., None]
  return total / (jnp.sqrt(size) if mode == 'mean_sqrt_len_tokens' else size)


def _largest(hidden, segments, examples) -> jax.Array:
  """The largest number (batch, examples, width) of each column of hidden."""
  count = examples.shape[-1] + 1
  by_segment = jax.vmap(
    lambda row, numbers: jax.ops.segment_max(row, numbers, num_segments=count)
  )(hidden, segments)
  return jnp.take_along_axis(by_segment, examples[..., None], 1)
