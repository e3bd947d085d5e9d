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
from tl_jax.models.attention import heads_first
from tl_jax.models.backbone import encode, read_out, read_tokens
from tl_jax.models.blocks import Block, layer_name
from tl_jax.models.columns import Placed, key_columns, place, prefix_length, taken
from tl_jax.models.heads import Embedding
from tl_jax.models.relative import RelativeBias
from tl_jax.models.rotary import layer_reach
from tl_jax.models.stacks import (
  STACKS,
  Stack,
  embedding_params,
  finish_stack,
  stack_arch,
  stack_layers,
  stack_params,
)
from tl_jax.segments import positions_of


class Decoder(NamedTuple):
  """A model that writes text token by token, as pure functions.

  prefill(params, batch, capacity) -> (logits, cache).
  step(params, cache, tokens (rows,)) -> (logits, cache).
  extend(params, cache, tokens, segments, columns=None) -> (logits, cache): several
  tokens (rows, new) behind what the cache holds. Logits (rows, n, vocabulary) are those
  after the tokens in `columns` (rows, n), by default after each. Padding, of segment 0,
  takes room in the cache, and nobody sees it.

  batch: `tokens` and `segments` (rows, length). A segment is 1 where there is a token
  and 0 for padding, which may be on either side. Of an encoder-decoder these are of the
  source, and `decoder_tokens`, `decoder_segments` of what the decoder starts with.
  capacity, static: prompt and new tokens together.
  logits (rows, vocabulary), float32: after each row's last token.
  cache: every array has the rows first, scalars aside. Its `memory` holds what does not
  change from step to step.
  position_bytes: what the cache takes for each position of a row.
  """

  prefill: Callable
  step: Callable
  kind: str
  position_bytes: int = 0
  extend: Callable | None = None


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
  prefill = functools.partial(_prefill, arch, compute)
  step = functools.partial(_step, arch, compute)
  extend = functools.partial(_extend, arch, compute)
  return Decoder(prefill, step, arch.kind, _position_bytes(arch, compute), extend)


def _position_bytes(arch: Arch, compute: Compute) -> int:
  """The bytes that each position of a row takes in `_empty_cache`."""
  stack = STACKS[arch.kind][-1]
  own = stack_arch(arch, stack)
  keys_and_values = 2 * own.key_heads * own.head_width
  number = jnp.dtype(compute.dtype).itemsize
  segment_and_position = 2 * jnp.dtype(jnp.int32).itemsize
  return stack_layers(arch, stack) * keys_and_values * number + segment_and_position


def _prefill(arch: Arch, compute: Compute, params, batch, capacity: int):
  stack = STACKS[arch.kind][-1]
  tokens, segments = read_tokens(batch, stack)
  segments = segments.astype(jnp.int32)
  rows, length = tokens.shape
  part = stack_params(params, stack)
  # The prompt of an encoder-decoder stands before the encoder.
  prompt = None if stack.cross else params['embedding'].get('prompt')
  _require_capacity(arch, length, capacity, taken(part, prompt))
  positions = positions_of(segments)
  # Every row is one text.
  examples = jnp.ones((rows, 1), jnp.int32)
  placed = place(part, prompt, segments, positions, None, examples)
  cache = _empty_cache(arch, compute, placed, capacity)
  if stack.cross:
    memory = encode(arch, compute, params, batch, STACKS[arch.kind][0])
    keys = _memory_keys(arch, params, memory.hidden)
    cache['memory'] = dict(segments=memory.segments, layers=keys)
  # Rows may be padded on either side, so each has its last token in a column of its own.
  padding_behind = jnp.argmax(segments[:, ::-1] > 0, 1)
  final = placed.prompt + length - 1 - padding_behind
  placing = placed.segments, placed.positions
  last, cache = _forward(arch, compute, params, cache, tokens, *placing, final[:, None])
  return read_out(arch, params, last[:, 0]).logits(), cache


def _require_capacity(arch: Arch, length: int, capacity: int, before: int) -> None:
  """Raises ValueError for a capacity that holds less than the prompt, or more than the
  model has positions; before: positions that a prefix and trained prompts take.
  """
  if capacity < length:
    raise ValueError(f'capacity: {capacity} positions do not hold a prompt of {length}')
  if arch.room is not None and before + capacity > arch.room:
    raise ValueError(
      f'capacity: a prompt of {length} columns and {capacity - length} new '
      f'tokens are more than the {arch.room - before} positions of the model'
    )


def _empty_cache(arch: Arch, compute: Compute, placed: Placed, capacity: int) -> dict:
  """A cache with room for `capacity` tokens behind the columns of a prompt.

  index: the next column to write. last (rows,): the position of each row's last token.
  segments, positions (rows, room): of the keys; segment 0 hides what is not written.
  """
  stack = STACKS[arch.kind][-1]
  own = stack_arch(arch, stack)
  rows = placed.segments.shape[0]
  room = placed.prompt + capacity
  empty = jnp.zeros((rows, own.key_heads, room, own.head_width), compute.dtype)
  layers = {}
  for i in range(stack_layers(arch, stack)):
    layers[str(i)] = dict(attention=dict(key=empty, value=empty))
  last = jnp.where(placed.segments > 0, placed.positions, -1).max(1)
  cache = dict(index=jnp.int32(0), last=last, layers=layers)
  # A caller may donate the cache, and one array cannot be donated twice.
  for name in ('segments', 'positions'):
    cache[name] = jnp.zeros((rows, room), jnp.int32)
  return cache


def _step(arch: Arch, compute: Compute, params, cache, tokens):
  cache = cache | dict(last=cache['last'] + 1)
  tokens = tokens[:, None]
  segments = jnp.ones_like(tokens)
  positions = cache['last'][:, None]
  last, cache = _forward(arch, compute, params, cache, tokens, segments, positions)
  return read_out(arch, params, last[:, 0]).logits(), cache


def _extend(
  arch: Arch, compute: Compute, params, cache, tokens, segments, columns=None
):
  segments = segments.astype(jnp.int32)
  is_token = segments > 0
  before = cache['last']
  following = before[:, None] + 1 + positions_of(segments)
  positions = jnp.where(is_token, following, 0)
  last = jnp.where(is_token, following, before[:, None]).max(1)
  cache = cache | dict(last=last)
  states, cache = _forward(
    arch, compute, params, cache, tokens, segments, positions, columns
  )
  return read_out(arch, params, states).logits(), cache


def _memory_keys(arch: Arch, params, memory) -> dict:
  """The keys and values (rows, key heads, length, head) of the encoder's states, layer
  by layer: made once, for they do not change from step to step.
  """
  stack = STACKS[arch.kind][-1]
  own = stack_arch(arch, stack)
  layers = stack_params(params, stack)['layers']

  def project(weights):
    y = leaves.matmul(memory, weights['kernel'])
    if 'bias' in weights:
      bias = leaves.dense(weights['bias'])
      y = y + bias.astype(y.dtype)
    y = y.reshape(*y.shape[:2], own.key_heads, own.head_width)
    return heads_first(y)

  found = {}
  for i in range(stack_layers(arch, stack)):
    cross = layers[str(i)]['cross']
    key = project(cross['key'])
    value = project(cross['value'])
    found[str(i)] = dict(key=key, value=value)
  return found


def _forward(
  arch: Arch, compute: Compute, params, cache, tokens, segments, positions, columns=None
):
  """(states (rows, n, width), the longer cache), from tokens (rows, new) that follow
  what the cache holds.

  columns (rows, n): the tokens whose states are wanted; None: all of them.
  """
  stack = STACKS[arch.kind][-1]
  part = stack_params(params, stack)
  embed = Embedding(arch, 0.0, jnp.dtype(compute.dtype))
  weights = embedding_params(params, stack)
  x = embed.apply({'params': weights}, tokens, positions)
  index = cache['index']

  def write(old, new):
    return jax.lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), index, 1)

  key_segments = write(cache['segments'], segments)
  key_positions = write(cache['positions'], positions)
  keys = key_segments, key_positions
  context = _layer_context(arch, stack, part, segments, positions, keys)
  if stack.cross:
    context |= dict(memory=None, memory_segments=cache['memory']['segments'])
  own = stack_arch(arch, stack)
  layers = stack_layers(arch, stack)
  written = {}
  for i in range(layers):
    block = Block(own, 0.0, causal=True, first=i == 0)
    before = cache['layers'][str(i)]['attention']
    held = dict(attention=before | dict(index=index))
    if stack.cross:
      held['cross'] = cache['memory']['layers'][str(i)]
    if i == layers - 1 and columns is not None:
      # Of a whole prompt the last layer makes the states that are read.
      context |= dict(columns=columns)
    weights = part['layers'][layer_name(arch, i, layers)]
    reach = layer_reach(arch, i)
    x, new = block.apply({'params': weights}, x, context, reach, None, held)
    written[str(i)] = dict(attention=new['attention'])
  grown = dict(
    index=index + positions.shape[1],
    segments=key_segments,
    positions=key_positions,
    layers=written,
  )
  return finish_stack(arch, part, x), cache | grown


def _layer_context(
  arch: Arch, stack: Stack, part: dict, segments, positions, keys
) -> dict:
  """What all layers see: segments and positions (rows, new) of the new tokens, and of
  all keys (rows, room) in the cache.
  """
  key_segments, key_positions = keys
  context = dict(segments=segments, positions=positions, bias=None, keys=keys)
  if arch.position_bias:
    columns = key_columns(key_positions, prefix_length(part))
    bias = RelativeBias(stack_arch(arch, stack), both_ways=False)
    context['bias'] = bias.apply({'params': part['relative']}, positions, columns)
  if arch.long_rotary:
    # Keys are turned once, so the room that there is, and not what is written yet, says
    # how.
    room = key_segments.shape[1]
    context['last'] = jnp.full_like(positions, room - 1)
  return context
