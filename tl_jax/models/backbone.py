"""The backbone: encoder, decoder and encoder-decoder from one block, as pure functions
of a nested dict.

>>> import jax
>>> from tl_jax.models import arch, build
>>> model = build(arch('tiny', vocabulary=100, head='masked'))
>>> params = model.init(jax.random.key(0))
>>> model.apply(params, {'tokens': jax.numpy.ones((2, 8), 'int32')}).logits.shape
(2, 8, 100)
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import leaves, rng, tree
from tl_jax.config import nearest
from tl_jax.models.arch import Arch, Compute
from tl_jax.models.attention import RelativeBias, restart_positions
from tl_jax.models.axes import axes_of
from tl_jax.models.blocks import Block, Layered, run_layers
from tl_jax.models.columns import Placed, key_columns, place, prefix_length, taken
from tl_jax.models.disentangled import RelativeTable, table_rows
from tl_jax.models.heads import (
  Embedding,
  LabelHead,
  Pooler,
  VocabularyHead,
  label,
  pool,
  slot_columns,
)
from tl_jax.models.layers import Linear, Norm, initializer
from tl_jax.models.limits import require_rows
from tl_jax.models.rotary import EVERYWHERE, last_positions
from tl_jax.parallel import constrain

KEPT = ('states', 'attentions', 'readout', 'features')


class Outputs(NamedTuple):
  """hidden (batch, length, width); logits as the head gives them, or None; examples
  (batch, slots) when packed.

  pooled (batch, width), or (batch, slots, width) when packed: of a model that has a
  pooler and no head. What `keep` asks for, of the stack that hidden comes from, else
  None: states[0] is the embedding and states[i] what layer i makes of it, before the
  final norm, all (batch, length, width); attentions[i - 1] are layer i's softmax
  weights (batch, heads, length, keys) in float32, without dropout; the keys of a prefix
  and of prompts come first.
  readout: what the logits over a vocabulary are made of, for a loss that does not want
  them all at once. A head that reads some columns (a classifier's first token, the
  positions to score) gets them from a last layer that runs for these alone. Under jit,
  hidden costs the rest of that layer where it is used and nothing where it is not; in
  training both have dropout of their own there.
  features (batch, slots, width): what a classifier's pooler and head read of the
  example in each slot.
  """

  hidden: Any
  logits: Any = None
  examples: Any = None
  pooled: Any = None
  states: Any = None
  attentions: Any = None
  readout: Any = None
  features: Any = None


class Model(NamedTuple):
  """A model as three pure functions and its description.

  init(key) -> params; apply(params, batch, *, key=None, train=False, score=None,
  keep=()) -> Outputs;
  keep: of 'states', 'attentions', 'readout' and 'features' those that Outputs shall
  hold; a batch for a classifier may have such `features` in the place of tokens, and
  then nothing before the pooler and the head is computed;
  axes: the logical axis names of every parameter, a PartitionSpec each.
  """

  init: Callable
  apply: Callable
  axes: Any
  arch: Arch


class Stack(NamedTuple):
  """A stack of layers under its name in the parameters ('' for the only one)."""

  prefix: str
  causal: bool
  cross: bool


STACKS = {
  'encoder': (Stack('', causal=False, cross=False),),
  'decoder': (Stack('', causal=True, cross=False),),
  'encoder-decoder': (
    Stack('encoder', causal=False, cross=False),
    Stack('decoder', causal=True, cross=True),
  ),
}


def stack_arch(arch: Arch, stack: Stack) -> Arch:
  """What the layers of a stack are: a decoder behind an encoder may have sizes of its
  own.
  """
  return arch.decoder if stack.cross else arch


def stack_layers(arch: Arch, stack: Stack) -> int:
  """The number of layers of a stack."""
  return arch.decoder_layers or arch.layers if stack.cross else arch.layers


def embedding_params(params: dict, stack: Stack) -> dict:
  """The parameters of a stack's embedding: two stacks share the tokens and have the
  rest of their own.
  """
  return params['embedding'] | params.get(stack.prefix, {}).get('embedding', {})


def _init(arch: Arch, key) -> dict:
  """Every parameter from the stream of its module's name, so that no module's draw
  depends on another's.
  """
  width, tokens = jnp.zeros((1, 2, arch.width)), jnp.zeros((1, 2), jnp.int32)
  draw = lambda module, name, *inputs: _traced_init(
    module, rng.stream(key, name), *inputs
  )
  params = {}
  for stack in STACKS[arch.kind]:
    part = params.setdefault(stack.prefix, {}) if stack.prefix else params
    path = f'{stack.prefix}/embedding' if stack.prefix else 'embedding'
    embedding = draw(Embedding(arch, 0.0, jnp.float32), path, tokens, tokens)
    if stack.prefix:
      table = embedding.pop('tokens')
      params.setdefault('embedding', dict(tokens=table))
    if embedding:
      part['embedding'] = embedding
    context = dict(segments=tokens + 1, positions=tokens, bias=None, last=tokens)
    if stack.cross:
      context |= dict(memory=width, memory_segments=tokens + 1)
    layers = arch.layer_groups or stack_layers(arch, stack)
    own = stack_arch(arch, stack)
    blocks = [
      Block(own, 0.0, stack.causal, first=i == 0 and arch.skip_first_norm)
      for i in range(layers)
    ]
    part['layers'] = {
      str(i): draw(block, f'{stack.prefix}/layers/{i}', width, context, EVERYWHERE)
      for i, block in enumerate(blocks)
    }
    if arch.position_bias:
      part['relative'] = draw(
        RelativeBias(own, not stack.causal), f'{stack.prefix}/relative', tokens, tokens
      )
    if arch.positions == 'disentangled':
      part['relative'] = draw(RelativeTable(arch), f'{stack.prefix}/relative')
    if arch.norm_place != 'after':
      part['final_norm'] = draw(Norm(arch), 'final_norm', width)
  if _projects_back(arch):
    back = Linear(arch.embedding_width, False, initializer(arch))
    params['final_project'] = draw(back, 'final_project', width)
    width = width[..., :1].repeat(arch.embedding_width, -1)
  head = {}
  if arch.head in ('masked', 'causal'):
    head |= draw(VocabularyHead(arch), 'head', width, params['embedding']['tokens'])
  elif arch.head != 'none':
    head |= draw(LabelHead(arch), 'head', width)
  if arch.pair_head:
    head['pair'] = draw(Linear(2, True, initializer(arch)), 'head/pair', width)
  if arch.keeps_pooler or arch.pools:
    holder = params if arch.keeps_pooler else head
    holder['pooler'] = draw(Pooler(arch), 'pooler', width)
  return params | (dict(head=head) if head else {})


@functools.partial(jax.jit, static_argnums=0)
def _traced_init(module: nn.Module, key, *inputs) -> dict:
  """The parameters of a module. As with layers that are applied: those that are alike
  are traced once.
  """
  return module.init(key, *inputs).get('params', {})


def finish_stack(arch: Arch, part: dict, x):
  """The final norm of a stack and the projection to the width of the tokens, where the
  family has them.
  """
  if arch.norm_place != 'after':
    x = Norm(arch).apply({'params': part['final_norm']}, x)
  return (
    leaves.matmul(x, part['final_project']['kernel']) if _projects_back(arch) else x
  )


def _projects_back(arch: Arch) -> bool:
  return bool(arch.embedding_width) and arch.kind == 'decoder'


def _run_stack(
  arch,
  compute,
  stack: Stack,
  params,
  x,
  segments,
  positions,
  key,
  keep=(),
  columns=None,
  memory=None,
  memory_segments=None,
) -> Layered:
  part = params[stack.prefix] if stack.prefix else params
  own = stack_arch(arch, stack)
  context = dict(segments=segments, positions=positions, bias=None)
  if arch.long_rotary:
    context['last'] = last_positions(segments, positions)
  key_positions = key_columns(positions, prefix_length(part))
  if arch.position_bias:
    bias = RelativeBias(own, not stack.causal)
    context['bias'] = bias.apply({'params': part['relative']}, positions, key_positions)
  if arch.positions == 'disentangled':
    table = RelativeTable(arch).apply({'params': part['relative']})
    context['relative'] = table, table_rows(arch, positions, key_positions)
  if stack.cross:
    context |= dict(memory=memory, memory_segments=memory_segments)
  block = Block(own, compute.dropout, stack.causal)
  key = None if key is None else rng.stream(key, stack.prefix)
  made = run_layers(
    block,
    part['layers'],
    x,
    context,
    stack_layers(arch, stack),
    compute,
    key,
    keep,
    columns,
  )
  finish = functools.partial(finish_stack, arch, part)
  return made._replace(
    x=finish(made.x), read=None if columns is None else finish(made.read)
  )


def _slots(batch: dict, segments):
  """The examples to classify (batch, slots), and whether the caller packed them.

  Outside jit the number of slots is read off the segments; inside, a packed batch must
  say it in `examples`.
  """
  if 'examples' in batch:
    return batch['examples'], True
  known = 'segments' in batch and not isinstance(segments, jax.core.Tracer)
  most = int(np.asarray(segments).max()) if known else 1
  if most <= 1:
    return jnp.ones(segments.shape[:1] + (1,), jnp.int32), False
  slots = jnp.arange(1, most + 1)[None]
  return jnp.where((segments[:, None, :] == slots[:, :, None]).any(-1), slots, 0), True


class Encoded(NamedTuple):
  """What a stack made of its tokens: hidden (batch, length, width), and their segments
  and positions.

  The first `prompt` columns are a prompt's, once for every example that may be in a
  row; `kept` has none for them.
  read (batch, n, width): the states of the columns that a head reads, where those are
  some of them and no mean.
  """

  hidden: Any
  segments: Any
  positions: Any
  prompt: int = 0
  kept: Any = None
  read: Any = None


def encode(
  arch: Arch,
  compute: Compute,
  params,
  batch,
  stack: Stack,
  *,
  key=None,
  keep=(),
  memory: Encoded | None = None,
  columns: Callable = lambda placed: None,
) -> Encoded:
  """The tokens of a batch through the embedding and the layers of one stack; `columns`
  says which are read.
  """
  prefix = 'decoder_' if stack.cross else ''
  tokens, segments = batch[prefix + 'tokens'], batch.get(prefix + 'segments')
  segments = jnp.ones_like(tokens) if segments is None else segments
  positions = batch.get(prefix + 'positions')
  positions = restart_positions(segments) if positions is None else positions
  key = None if key is None else rng.stream(key, 'second' if stack.cross else 'first')
  embed, weights = (
    Embedding(arch, compute.dropout, jnp.dtype(compute.dtype)),
    embedding_params(params, stack),
  )
  prompt = None if memory is not None else weights.get('prompt')
  part = params[stack.prefix] if stack.prefix else params
  own = {
    name: value
    for name, value in batch.items()
    if name.startswith('decoder_') == stack.cross
  }
  require_rows(arch, own, taken(part, prompt))
  placed = place(
    part,
    prompt,
    segments,
    positions,
    batch.get(prefix + 'types'),
    _slots(batch, segments)[0],
  )
  x = embed.apply({'params': weights}, tokens, placed.positions, placed.types, key)
  x = constrain(x, 'batch', 'length', None)
  seen = (
    {}
    if memory is None
    else dict(memory=memory.hidden, memory_segments=memory.segments)
  )
  made = _run_stack(
    arch,
    compute,
    stack,
    params,
    x,
    placed.segments,
    placed.positions,
    key,
    keep,
    columns(placed),
    **seen,
  )
  kept = dict(
    states=made.states and [state[:, placed.prompt :] for state in made.states],
    attentions=made.attentions
    and [weights[:, :, placed.prompt :] for weights in made.attentions],
  )
  return Encoded(
    made.x, placed.segments, placed.positions, placed.prompt, kept, made.read
  )


def read_out(arch: Arch, params, hidden) -> leaves.Readout:
  """What gives hidden states (..., width) their logits."""
  return VocabularyHead(arch).apply(
    {'params': params.get('head', {})}, hidden, params['embedding']['tokens']
  )


def _apply(
  arch: Arch,
  compute: Compute,
  params,
  batch,
  *,
  key=None,
  train=False,
  score=None,
  keep=(),
) -> Outputs:
  for name in keep:
    if name not in KEPT:
      raise ValueError(
        f'keep: {name!r} is nothing that can be kept; nearest: {nearest(str(name), KEPT)}'
      )
  key = key if train else None
  head_key = None if key is None else rng.stream(key, 'head')
  if 'features' in batch:
    logits = label(
      arch, params, batch['features'].astype(compute.dtype), compute.dropout, head_key
    )
    return Outputs(None, logits, batch.get('examples'))
  *firsts, last = STACKS[arch.kind]
  if arch.head == 'classifier' and arch.pool != 'last':
    firsts, last = [], STACKS[arch.kind][0]
  encoded = None
  for stack in firsts:
    encoded = encode(arch, compute, params, batch, stack, key=key)
  columns = functools.partial(_read_columns, arch, batch, score)
  encoded = encode(
    arch,
    compute,
    params,
    batch,
    last,
    key=key,
    keep=keep,
    memory=encoded,
    columns=columns,
  )
  outputs = _answer(arch, compute, params, batch, encoded, head_key)._replace(
    **encoded.kept
  )
  return outputs._replace(**{name: None for name in KEPT if name not in keep})


def _read_columns(arch: Arch, batch, score, placed: Placed):
  """The columns (batch, n) that the head reads; None for all of them, or their mean."""
  if arch.head in ('masked', 'causal'):
    return None if score is None else placed.prompt + score
  if arch.head == 'classifier' and arch.pool != 'mean':
    return slot_columns(arch, placed.segments, _slots(batch, placed.segments)[0])
  return None


def _answer(
  arch: Arch, compute: Compute, params, batch, encoded: Encoded, key
) -> Outputs:
  """What the head says of the hidden states."""
  hidden = encoded.hidden[:, encoded.prompt :]
  if arch.head in ('masked', 'causal'):
    readout = read_out(arch, params, hidden if encoded.read is None else encoded.read)
    return Outputs(hidden, readout.logits(), readout=readout)
  if arch.head in ('token', 'span', 'replaced'):
    logits = label(arch, params, hidden, compute.dropout, key)
    return Outputs(hidden, logits[..., 0] if arch.head == 'replaced' else logits)
  if arch.head == 'none' and not arch.pools:
    return Outputs(hidden)
  slots, packed = _slots(batch, encoded.segments)
  pooled = (
    pool(arch, encoded.hidden, encoded.segments, slots)
    if encoded.read is None
    else encoded.read
  )
  unpack = lambda x: x if packed else x[:, 0]
  if arch.head == 'none':
    pooled = Pooler(arch).apply({'params': params['pooler']}, pooled)
    return Outputs(hidden, None, slots if packed else None, unpack(pooled))
  logits = label(arch, params, pooled, compute.dropout, key)
  return Outputs(hidden, unpack(logits), slots if packed else None, features=pooled)


def build(arch: Arch, compute: Compute | None = None) -> Model:
  """The model of an architecture. Nothing is computed here; `init` and `apply` are pure
  and jit-ready.
  """
  init = functools.partial(_init, arch)
  axes = axes_of(jax.eval_shape(init, jax.random.key(0)))
  return Model(init, functools.partial(_apply, arch, compute or Compute()), axes, arch)


def count(arch: Arch) -> int:
  """The number of parameters, without making any."""
  return tree.count(jax.eval_shape(functools.partial(_init, arch), jax.random.key(0)))
