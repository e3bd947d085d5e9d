"""A model that reads one token at a time: the same parameters and blocks, with a cache
of keys and values.

>>> from tl_jax.models import arch, build
>>> small = arch('tiny-gpt', vocabulary=50, head='causal')
>>> params = build(small).init(jax.random.key(0))
>>> reader = decoder(small)
>>> logits, cache = reader.prefill(params, dict(tokens=jnp.ones((2, 3), 'int32')), capacity=8)
>>> reader.step(params, cache, jnp.array([4, 5]))[0].shape
(2, 50)
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from tl_jax import leaves
from tl_jax.models.arch import Arch, Compute
from tl_jax.models.attention import RelativeBias, heads_first, restart_positions
from tl_jax.models.backbone import (
  STACKS,
  embedding_params,
  encode,
  finish_stack,
  read_out,
  stack_arch,
  stack_layers,
)
from tl_jax.models.blocks import Block, layer_name
from tl_jax.models.columns import key_columns, place, prefix_length, taken
from tl_jax.models.heads import Embedding
from tl_jax.models.rotary import layer_reach


class Decoder(NamedTuple):
  """prefill(params, batch, capacity) -> (logits, cache); step(params, cache, tokens
  (rows,)) -> (logits, cache).

  batch: `tokens` and `segments` (rows, length), 1 where there is a token and 0 for
  padding on either side; of an encoder-decoder those of the source, and
  `decoder_tokens`, `decoder_segments` of what the decoder starts with.
  capacity, static: prompt and new tokens together. logits (rows, vocabulary), float32,
  after each row's last token. Every array of the cache has the rows first, scalars
  aside; `memory` holds what does not change from step to step.
  """

  prefill: Callable
  step: Callable
  kind: str


def decoder(arch: Arch, compute: Compute | None = None) -> Decoder:
  """The cached form of a decoder or an encoder-decoder with a causal head. Raises
  ValueError for any other.
  """
  if arch.kind == 'encoder' or arch.head != 'causal':
    raise ValueError(
      f'a model of kind {arch.kind} with head {arch.head} writes no text: kind must be decoder or '
      "encoder-decoder, and head 'causal'"
    )
  return _decoder(arch, compute or Compute())


# What jax has compiled is found again by the identity of the function, so one
# architecture has one pair of functions.
@functools.lru_cache(maxsize=64)
def _decoder(arch: Arch, compute: Compute) -> Decoder:
  return Decoder(
    functools.partial(_prefill, arch, compute),
    functools.partial(_step, arch, compute),
    arch.kind,
  )


def _prefill(arch: Arch, compute: Compute, params, batch, capacity: int):
  stack = STACKS[arch.kind][-1]
  prefix = 'decoder_' if stack.cross else ''
  tokens, segments = batch[prefix + 'tokens'], batch.get(prefix + 'segments')
  segments = jnp.ones_like(tokens) if segments is None else segments.astype(jnp.int32)
  rows, length = tokens.shape
  if capacity < length:
    raise ValueError(f'capacity: {capacity} positions do not hold a prompt of {length}')
  part = params[stack.prefix] if stack.prefix else params
  prompt = None if stack.cross else params['embedding'].get('prompt')
  before = taken(part, prompt)
  if arch.room is not None and before + capacity > arch.room:
    raise ValueError(
      f'capacity: a prompt of {length} columns and {capacity - length} new '
      f'tokens are more than the {arch.room - before} positions of the model'
    )
  placed = place(
    part,
    prompt,
    segments,
    restart_positions(segments),
    None,
    jnp.ones((rows, 1), jnp.int32),
  )
  room, own = placed.prompt + capacity, stack_arch(arch, stack)
  empty = jnp.zeros((rows, own.key_heads, room, own.head_width), compute.dtype)
  layers = stack_layers(arch, stack)
  cache = dict(
    index=jnp.int32(0),
    last=jnp.where(placed.segments > 0, placed.positions, -1).max(1),
    segments=jnp.zeros((rows, room), jnp.int32),
    positions=jnp.zeros((rows, room), jnp.int32),
    layers={
      str(i): dict(attention=dict(key=empty, value=empty)) for i in range(layers)
    },
  )
  if stack.cross:
    memory = encode(arch, compute, params, batch, STACKS[arch.kind][0])
    cache['memory'] = dict(
      segments=memory.segments, layers=_memory_keys(arch, params, memory.hidden, layers)
    )
  final = placed.prompt + length - 1 - jnp.argmax(segments[:, ::-1] > 0, 1)
  last, cache = _forward(
    arch, compute, params, cache, tokens, placed.segments, placed.positions, final
  )
  return read_out(arch, params, last).logits(), cache


def _step(arch: Arch, compute: Compute, params, cache, tokens):
  cache = cache | dict(last=cache['last'] + 1)
  last, cache = _forward(
    arch,
    compute,
    params,
    cache,
    tokens[:, None],
    jnp.ones_like(tokens)[:, None],
    cache['last'][:, None],
  )
  return read_out(arch, params, last).logits(), cache


def _memory_keys(arch: Arch, params, memory, layers: int) -> dict:
  """The keys and values (rows, key heads, length, head) of the encoder's states, layer
  by layer, made once.
  """
  part, own = params[STACKS[arch.kind][-1].prefix]['layers'], arch.decoder

  def project(layer, name):
    weights = part[layer]['cross'][name]
    y = leaves.matmul(memory, weights['kernel'])
    y = y + leaves.dense(weights['bias']).astype(y.dtype) if 'bias' in weights else y
    return heads_first(y.reshape(*y.shape[:2], own.key_heads, own.head_width))

  return {
    str(i): dict(key=project(str(i), 'key'), value=project(str(i), 'value'))
    for i in range(layers)
  }


def _forward(
  arch: Arch, compute: Compute, params, cache, tokens, segments, positions, final=None
):
  """The state (rows, width) of one of the tokens (rows, new) that follow what the cache
  holds, and the longer cache.

  It is that in column `final` (rows,), or of the only column.
  """
  stack = STACKS[arch.kind][-1]
  part = params[stack.prefix] if stack.prefix else params
  embed = Embedding(arch, 0.0, jnp.dtype(compute.dtype))
  x = embed.apply({'params': embedding_params(params, stack)}, tokens, positions)
  index = cache['index']
  write = lambda old, new: jax.lax.dynamic_update_slice_in_dim(
    old, new.astype(old.dtype), index, 1
  )
  key_segments, key_positions = (
    write(cache['segments'], segments),
    write(cache['positions'], positions),
  )
  own, bias = stack_arch(arch, stack), None
  if arch.position_bias:
    bias = RelativeBias(own, both_ways=False).apply(
      {'params': part['relative']},
      positions,
      key_columns(key_positions, prefix_length(part)),
    )
  context = dict(
    segments=segments,
    positions=positions,
    bias=bias,
    keys=(key_segments, key_positions),
  )
  if arch.long_rotary:
    # Keys are turned once, so the room that there is, and not what is written yet, says
    # how.
    context['last'] = jnp.full_like(positions, key_segments.shape[1] - 1)
  if stack.cross:
    context |= dict(memory=None, memory_segments=cache['memory']['segments'])
  layers, written = stack_layers(arch, stack), {}
  for i in range(layers):
    block = Block(own, 0.0, causal=True, first=i == 0)
    held = dict(attention=cache['layers'][str(i)]['attention'] | dict(index=index))
    if stack.cross:
      held['cross'] = cache['memory']['layers'][str(i)]
    if i == layers - 1 and final is not None:
      context |= dict(columns=final[:, None])
    x, new = block.apply(
      {'params': part['layers'][layer_name(arch, i, layers)]},
      x,
      context,
      layer_reach(arch, i),
      None,
      held,
    )
    written[str(i)] = dict(attention=new['attention'])
  grown = dict(
    index=index + positions.shape[1],
    segments=key_segments,
    positions=key_positions,
    layers=written,
  )
  return finish_stack(arch, part, x)[:, 0], cache | grown
