"""The backbone: encoder, decoder and encoder-decoder from one block, as pure functions of a nested dict.

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
from tl_jax.models.attention import SEEN, Attention, RelativeBias, near, restart_positions, visible
from tl_jax.models.axes import axes_of
from tl_jax.models.columns import Placed, key_columns, place, prefix_length, take_columns
from tl_jax.models.heads import Embedding, LabelHead, Pooler, VocabularyHead, label, pool, slot_columns
from tl_jax.models.layers import Linear, Mlp, Norm, dropout, initializer
from tl_jax.parallel import constrain

KEPT = ('states', 'attentions', 'readout', 'features')


class Outputs(NamedTuple):
  """hidden (batch, length, width); logits as the head gives them, or None; examples (batch, slots) when packed.

  pooled (batch, width), or (batch, slots, width) when packed: of a model that has a pooler and no head.
  What `keep` asks for, of the stack that hidden comes from, else None: states[0] is the embedding and states[i] what
  layer i makes of it, before the final norm, all (batch, length, width); attentions[i - 1] are layer i's softmax
  weights (batch, heads, length, keys) in float32, without dropout; the keys of a prefix and of prompts come first.
  readout: what the logits over a vocabulary are made of, for a loss that does not want them all at once.
  A head that reads some columns (a classifier's first token, the positions to score) gets them from a last layer that
  runs for these alone. Under jit, hidden costs the rest of that layer where it is used and nothing where it is not; in
  training both have dropout of their own there.
  features (batch, slots, width): what a classifier's pooler and head read of the example in each slot.
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

  init(key) -> params; apply(params, batch, *, key=None, train=False, score=None, keep=()) -> Outputs;
  keep: of 'states', 'attentions', 'readout' and 'features' those that Outputs shall hold; a batch for a classifier may
  have such `features` in the place of tokens, and then nothing before the pooler and the head is computed;
  axes: the logical axis names of every parameter, a PartitionSpec each.
  """
  init: Callable
  apply: Callable
  axes: Any
  arch: Arch


class Block(nn.Module):
  """One layer: attention, attention over a memory where there is one, MLP; each with its norms and residual."""
  arch: Arch
  rate: float
  causal: bool
  first: bool = False

  @nn.compact
  def __call__(self, x, context, window, key=None, cache=None):
    """x (batch, length, width) and the layer's cache, or None, to the same; `context` is what all layers see.

    With `columns` (batch, n) in the context only those are made, (batch, n, width); they look at all.
    """
    arch, caches = self.arch, {}
    columns = context.get('columns')
    pick = lambda y: y if columns is None else take_columns(y, columns)

    def sublayer(x, name, run, pick=lambda y: y):
      y = x
      if arch.norm_place != 'after' and not (name == 'attention' and self.first and arch.skip_first_norm):
        y = Norm(arch, name=f'{name}_norm')(x)
      x, given, y = pick(x), pick(y), run(y)
      if arch.norm_place == 'both':
        y = Norm(arch, name=f'{name}_out_norm')(y)
      y = dropout(y, self.rate, key, name)
      last = Norm(arch, name=f'{name}_norm') if arch.norm_place == 'after' else lambda x: x
      if self.has_variable('params', f'{name}_adapter'):
        adapter = self.get_variable('params', f'{name}_adapter')
        y = y + adapter({'parallel': lambda: given, 'output': lambda: y, 'sum': lambda: last(x + y)}[adapter.place]())
      return last(x + y)

    def attend(y, name, memory, mask, key, **more):
      attention = Attention(arch, self.rate, name=name)
      y, caches[name] = attention(y, memory, mask, key=key, cache=None if cache is None else cache[name], **more)
      return y

    key_segments, key_positions = context.get('keys', (context['segments'], context['positions']))
    segments, positions = pick(context['segments']), pick(context['positions'])
    if self.causal:
      mask = visible(segments, key_segments, positions, key_positions, window=window)
    else:
      mask = visible(segments, key_segments) & near(positions, key_positions, window)
    bias = context['bias']
    if bias is not None:
      bias = pick(bias.swapaxes(1, 2)).swapaxes(1, 2)
    both = positions, context['positions']
    x = sublayer(x, 'attention', lambda y: attend(
        pick(y), 'attention', y, mask, key, bias=bias, positions=both, window=window), pick)
    if 'memory_segments' in context:
      seen = visible(segments, context['memory_segments'])
      cross_key = None if key is None else rng.stream(key, 'cross')
      x = sublayer(x, 'cross', lambda y: attend(y, 'cross', context['memory'], seen, cross_key))
    mlp = Mlp(arch, self.rate, name='mlp')
    x = sublayer(x, 'mlp', lambda y: mlp(y, key))
    return constrain(x, 'batch', 'length' if columns is None else None, None), None if cache is None else caches


class Layered(NamedTuple):
  """What a stack of layers made: x (batch, columns, width), and what was to be kept of each layer, else None.

  read (batch, n, width): the last layer's states of the columns that were asked for, made without those of others.
  """
  x: Any
  states: Any = None
  attentions: Any = None
  read: Any = None


def run_layers(block: Block, params: dict, x, context: dict, layers: int, compute: Compute, key, keep=(),
               columns=None) -> Layered:
  """x through all layers of a stack; params {'0': ..., '1': ...}, stacked on the fly where the layers are scanned.

  Layers whose parameters differ in structure or shape (adapters in some, ranks of their own) are never scanned. With
  `columns` (batch, n) the last layer runs for those alone, too: of the states of all columns its keys and values are
  needed and nothing more, and where nobody uses `x`, nothing more is left of it in a compiled program.
  """
  arch = block.arch
  names = [layer_name(arch, index, layers) for index in range(layers)]
  keys = [None if key is None else rng.stream(key, 'layer', index) for index in range(layers)]
  windows = [arch.windows[index % len(arch.windows)] for index in range(layers)]
  kept = 'attentions' in keep

  def run_layer(index, x, context, kept=kept):
    own = block.clone(first=index == 0 and arch.skip_first_norm)
    return _traced_layer(own, compute.remat, kept, windows[index], x, params[names[index]], keys[index], context)

  # Scanned are the layers from `first` to `last`: not a first one without a norm, whose parameters have a shape of
  # their own, and not the last one where some columns are read.
  last = layers - (columns is not None)
  first = min(int(arch.skip_first_norm), last)
  if not (_scans(compute) and _alike([params[name] for name in names[first:last]])):
    first = last
  states, attentions = [x], []
  for index in range(first):
    x, weights = run_layer(index, x, context)
    states.append(x)
    attentions.append(weights)
  if first < last:
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(params[name] for name in names[first:last]))
    scanned = (stacked, None if key is None else jnp.stack(keys[first:last]), jnp.array(windows[first:last]))

    def body(x, layer):
      layer_params, layer_key, window = layer
      x, weights = _apply_layer(block, compute.remat, kept, window, x, layer_params, layer_key, context)
      return x, (x if 'states' in keep else None, weights)

    x, (each, weights) = jax.lax.scan(body, x, scanned)
    states.extend([] if each is None else each)
    attentions.extend([] if weights is None else weights)
  read = None
  if columns is not None:
    read, _ = run_layer(last, x, context | dict(columns=columns), kept=False)
    x, weights = run_layer(last, x, context)
    states.append(x)
    attentions.append(weights)
  return Layered(x, states if 'states' in keep else None, attentions if kept else None, read)


def _apply_layer(block: Block, remat: str, kept: bool, window, x, params: dict, key, context: dict):
  """(x, softmax weights if they are to be kept) of one layer."""
  def run(x, params, key, context):
    if not kept:
      return block.apply({'params': params}, x, context, window, key)[0], None
    (x, _), seen = block.apply({'params': params}, x, context, window, key, mutable=[SEEN])
    return x, seen[SEEN]['attention']['weights'][0]

  if remat != 'none':
    policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable if remat == 'dots' else None
    run = jax.checkpoint(run, policy=policy)
  return run(x, params, key, context)


# Layers that are alike are traced once; the compiler sees each of them in its place.
_traced_layer = jax.jit(_apply_layer, static_argnums=(0, 1, 2, 3))


def _alike(layers: list) -> bool:
  """Can the parameters of these layers be stacked?"""
  kind = lambda layer: (jax.tree.structure(layer), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(layer)])
  return all(kind(layer) == kind(layers[0]) for layer in layers[1:])


def layer_name(arch: Arch, index: int, layers: int) -> str:
  """Whose parameters layer `index` of a stack uses: its own, or its group's."""
  return str(index * arch.layer_groups // layers if arch.layer_groups else index)


def _scans(compute: Compute) -> bool:
  return compute.layers == 'scan' or (compute.layers == 'auto' and jax.default_backend() != 'cpu')


class Stack(NamedTuple):
  """A stack of layers under its name in the parameters ('' for the only one)."""
  prefix: str
  causal: bool
  cross: bool


STACKS = {
    'encoder': (Stack('', causal=False, cross=False),),
    'decoder': (Stack('', causal=True, cross=False),),
    'encoder-decoder': (Stack('encoder', causal=False, cross=False), Stack('decoder', causal=True, cross=True)),
}


def stack_layers(arch: Arch, stack: Stack) -> int:
  """The number of layers of a stack."""
  return arch.decoder_layers or arch.layers if stack.cross else arch.layers


def embedding_params(params: dict, stack: Stack) -> dict:
  """The parameters of a stack's embedding: two stacks share the tokens and have the rest of their own."""
  return params['embedding'] | params.get(stack.prefix, {}).get('embedding', {})


def _init(arch: Arch, key) -> dict:
  """Every parameter from the stream of its module's name, so that no module's draw depends on another's."""
  width, tokens = jnp.zeros((1, 2, arch.width)), jnp.zeros((1, 2), jnp.int32)
  draw = lambda module, name, *inputs: _traced_init(module, rng.stream(key, name), *inputs)
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
    context = dict(segments=tokens + 1, positions=tokens, bias=None)
    if stack.cross:
      context |= dict(memory=width, memory_segments=tokens + 1)
    layers = arch.layer_groups or stack_layers(arch, stack)
    blocks = [Block(arch, 0.0, stack.causal, first=i == 0 and arch.skip_first_norm) for i in range(layers)]
    part['layers'] = {
        str(i): draw(block, f'{stack.prefix}/layers/{i}', width, context, 0) for i, block in enumerate(blocks)}
    if arch.positions == 'relative':
      part['relative'] = draw(RelativeBias(arch, not stack.causal), f'{stack.prefix}/relative', tokens, tokens)
    if arch.norm_place != 'after':
      part['final_norm'] = draw(Norm(arch), 'final_norm', width)
  if _projects_back(arch):
    back = Linear(arch.embedding_width, False, initializer(arch))
    params['final_project'] = draw(back, 'final_project', width)
    width = width[..., :1].repeat(arch.embedding_width, -1)
  if arch.pools:
    params['pooler'] = draw(Pooler(arch), 'pooler', width)
  if arch.head in ('masked', 'causal'):
    head = draw(VocabularyHead(arch), 'head', width, params['embedding']['tokens'])
  else:
    head = draw(LabelHead(arch), 'head', width) if arch.head != 'none' else {}
  return params | (dict(head=head) if head else {})


@functools.partial(jax.jit, static_argnums=0)
def _traced_init(module: nn.Module, key, *inputs) -> dict:
  """The parameters of a module. As with layers that are applied: those that are alike are traced once."""
  return module.init(key, *inputs).get('params', {})


def finish_stack(arch: Arch, part: dict, x):
  """The final norm of a stack and the projection to the width of the tokens, where the family has them."""
  if arch.norm_place != 'after':
    x = Norm(arch).apply({'params': part['final_norm']}, x)
  return leaves.matmul(x, part['final_project']['kernel']) if _projects_back(arch) else x


def _projects_back(arch: Arch) -> bool:
  return bool(arch.embedding_width) and arch.kind == 'decoder'


def _run_stack(arch, compute, stack: Stack, params, x, segments, positions, key, keep=(), columns=None, memory=None,
               memory_segments=None) -> Layered:
  part = params[stack.prefix] if stack.prefix else params
  bias = None
  if arch.positions == 'relative':
    bias = RelativeBias(arch, not stack.causal).apply(
        {'params': part['relative']}, positions, key_columns(positions, prefix_length(part)))
  context = dict(segments=segments, positions=positions, bias=bias)
  if stack.cross:
    context |= dict(memory=memory, memory_segments=memory_segments)
  block = Block(arch, compute.dropout, stack.causal)
  key = None if key is None else rng.stream(key, stack.prefix)
  made = run_layers(block, part['layers'], x, context, stack_layers(arch, stack), compute, key, keep, columns)
  finish = functools.partial(finish_stack, arch, part)
  return made._replace(x=finish(made.x), read=None if columns is None else finish(made.read))


def _slots(batch: dict, segments):
  """The examples to classify (batch, slots), and whether the caller packed them.

  Outside jit the number of slots is read off the segments; inside, a packed batch must say it in `examples`.
  """
  if 'examples' in batch:
    return batch['examples'], True
  packed = 'segments' in batch and not isinstance(segments, jax.core.Tracer) and int(np.max(segments)) > 1
  if not packed:
    return jnp.ones(segments.shape[:1] + (1,), jnp.int32), False
  slots = jnp.arange(1, int(np.max(segments)) + 1)[None]
  return jnp.where((segments[:, None, :] == slots[:, :, None]).any(-1), slots, 0), True


class Encoded(NamedTuple):
  """What a stack made of its tokens: hidden (batch, length, width), and their segments and positions.

  The first `prompt` columns are a prompt's, once for every example that may be in a row; `kept` has none for them.
  read (batch, n, width): the states of the columns that a head reads, where those are some of them and no mean.
  """
  hidden: Any
  segments: Any
  positions: Any
  prompt: int = 0
  kept: Any = None
  read: Any = None


def encode(arch: Arch, compute: Compute, params, batch, stack: Stack, *, key=None, keep=(),
           memory: Encoded | None = None, columns: Callable = lambda placed: None) -> Encoded:
  """The tokens of a batch through the embedding and the layers of one stack; `columns` says which are read."""
  prefix = 'decoder_' if stack.cross else ''
  tokens, segments = batch[prefix + 'tokens'], batch.get(prefix + 'segments')
  segments = jnp.ones_like(tokens) if segments is None else segments
  positions = batch.get(prefix + 'positions')
  positions = restart_positions(segments) if positions is None else positions
  key = None if key is None else rng.stream(key, 'second' if stack.cross else 'first')
  embed, weights = Embedding(arch, compute.dropout, jnp.dtype(compute.dtype)), embedding_params(params, stack)
  prompt = None if memory is not None else weights.get('prompt')
  part = params[stack.prefix] if stack.prefix else params
  placed = place(part, prompt, segments, positions, batch.get(prefix + 'types'), _slots(batch, segments)[0])
  x = embed.apply({'params': weights}, tokens, placed.positions, placed.types, key)
  x = constrain(x, 'batch', 'length', None)
  seen = {} if memory is None else dict(memory=memory.hidden, memory_segments=memory.segments)
  made = _run_stack(arch, compute, stack, params, x, placed.segments, placed.positions, key, keep, columns(placed),
                    **seen)
  kept = dict(states=made.states and [state[:, placed.prompt:] for state in made.states],
              attentions=made.attentions and [weights[:, :, placed.prompt:] for weights in made.attentions])
  return Encoded(made.x, placed.segments, placed.positions, placed.prompt, kept, made.read)


def read_out(arch: Arch, params, hidden) -> leaves.Readout:
  """What gives hidden states (..., width) their logits."""
  return VocabularyHead(arch).apply({'params': params.get('head', {})}, hidden, params['embedding']['tokens'])


def _apply(arch: Arch, compute: Compute, params, batch, *, key=None, train=False, score=None, keep=()) -> Outputs:
  for name in keep:
    if name not in KEPT:
      raise ValueError(f'keep: {name!r} is nothing that can be kept; nearest: {nearest(str(name), KEPT)}')
  key = key if train else None
  head_key = None if key is None else rng.stream(key, 'head')
  if 'features' in batch:
    logits = label(arch, params, batch['features'].astype(compute.dtype), compute.dropout, head_key)
    return Outputs(None, logits, batch.get('examples'))
  *firsts, last = STACKS[arch.kind]
  if arch.head == 'classifier' and arch.pool != 'last':
    firsts, last = [], STACKS[arch.kind][0]
  encoded = None
  for stack in firsts:
    encoded = encode(arch, compute, params, batch, stack, key=key)
  columns = functools.partial(_read_columns, arch, batch, score)
  encoded = encode(arch, compute, params, batch, last, key=key, keep=keep, memory=encoded, columns=columns)
  outputs = _answer(arch, compute, params, batch, encoded, head_key)._replace(**encoded.kept)
  return outputs._replace(**{name: None for name in KEPT if name not in keep})


def _read_columns(arch: Arch, batch, score, placed: Placed):
  """The columns (batch, n) that the head reads; None for all of them, or their mean."""
  if arch.head in ('masked', 'causal'):
    return None if score is None else placed.prompt + score
  if arch.head == 'classifier' and arch.pool != 'mean':
    return slot_columns(arch, placed.segments, _slots(batch, placed.segments)[0])
  return None


def _answer(arch: Arch, compute: Compute, params, batch, encoded: Encoded, key) -> Outputs:
  """What the head says of the hidden states."""
  hidden = encoded.hidden[:, encoded.prompt:]
  if arch.head in ('masked', 'causal'):
    readout = read_out(arch, params, hidden if encoded.read is None else encoded.read)
    return Outputs(hidden, readout.logits(), readout=readout)
  if arch.head in ('token', 'span', 'replaced'):
    logits = label(arch, params, hidden, compute.dropout, key)
    return Outputs(hidden, logits[..., 0] if arch.head == 'replaced' else logits)
  if arch.head == 'none' and not arch.pools:
    return Outputs(hidden)
  slots, packed = _slots(batch, encoded.segments)
  pooled = pool(arch, encoded.hidden, encoded.segments, slots) if encoded.read is None else encoded.read
  unpack = lambda x: x if packed else x[:, 0]
  if arch.head == 'none':
    pooled = Pooler(arch).apply({'params': params['pooler']}, pooled)
    return Outputs(hidden, None, slots if packed else None, unpack(pooled))
  logits = label(arch, params, pooled, compute.dropout, key)
  return Outputs(hidden, unpack(logits), slots if packed else None, features=pooled)


def build(arch: Arch, compute: Compute | None = None) -> Model:
  """The model of an architecture. Nothing is computed here; `init` and `apply` are pure and jit-ready."""
  init = functools.partial(_init, arch)
  axes = axes_of(jax.eval_shape(init, jax.random.key(0)))
  return Model(init, functools.partial(_apply, arch, compute or Compute()), axes, arch)


def count(arch: Arch) -> int:
  """The number of parameters, without making any."""
  return tree.count(jax.eval_shape(functools.partial(_init, arch), jax.random.key(0)))
