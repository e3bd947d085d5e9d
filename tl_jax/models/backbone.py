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

from tl_jax import rng, tree
from tl_jax.models.arch import Arch, Compute
from tl_jax.models.attention import Attention, RelativeBias, near, restart_positions, visible
from tl_jax.models.axes import axes_of
from tl_jax.models.heads import Embedding, VocabularyHead, classifier, classify, pool, pooler
from tl_jax.models.layers import Mlp, Norm, dropout
from tl_jax.parallel import constrain


class Outputs(NamedTuple):
  """hidden (batch, length, width); logits as the head gives them, or None; examples (batch, slots) when packed."""
  hidden: Any
  logits: Any = None
  examples: Any = None


class Model(NamedTuple):
  """A model as three pure functions and its description.

  init(key) -> params; apply(params, batch, *, key=None, train=False, score=None) -> Outputs;
  axes: the logical axis names of every parameter, a PartitionSpec each.
  """
  init: Callable
  apply: Callable
  axes: Any
  arch: Arch


class Block(nn.Module):
  """One layer: attention, attention over a memory where there is one, MLP; each with its norm and residual."""
  arch: Arch
  rate: float
  causal: bool

  @nn.compact
  def __call__(self, x, context, window, key=None):
    def sublayer(x, name, run):
      norm = Norm(self.arch, name=f'{name}_norm')
      y = run(norm(x) if self.arch.norm_first else x)
      x = x + dropout(y, self.rate, key, name)
      return x if self.arch.norm_first else norm(x)

    segments, positions = context['segments'], context['positions']
    if self.causal:
      mask = visible(segments, segments, positions, positions, window=window)
    else:
      mask = visible(segments, segments) & near(positions, window)
    attention = Attention(self.arch, self.rate, name='attention')
    x = sublayer(x, 'attention', lambda y: attention(y, y, mask, context['bias'], positions, key))
    if 'memory' in context:
      cross = Attention(self.arch, self.rate, name='cross')
      mask = visible(segments, context['memory_segments'])
      cross_key = None if key is None else rng.stream(key, 'cross')
      x = sublayer(x, 'cross', lambda y: cross(y, context['memory'], mask, key=cross_key))
    mlp = Mlp(self.arch, self.rate, name='mlp')
    return constrain(sublayer(x, 'mlp', lambda y: mlp(y, key)), 'batch', 'length', None)


def run_layers(block: Block, params: dict, x, context: dict, arch: Arch, compute: Compute, key):
  """x through all layers of a stack; params {'0': ..., '1': ...}, stacked on the fly where the layers are scanned."""
  def one(x, layer_params, layer_key, window):
    return block.apply({'params': layer_params}, x, context, window, layer_key)

  if compute.remat != 'none':
    policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable if compute.remat == 'dots' else None
    one = jax.checkpoint(one, policy=policy, static_argnums=() if _scans(compute) else (3,))
  names = sorted(params, key=int)
  keys = None if key is None else [rng.stream(key, 'layer', int(name)) for name in names]
  windows = [arch.windows[int(name) % len(arch.windows)] for name in names]
  if not _scans(compute):
    for index, name in enumerate(names):
      x = one(x, params[name], None if keys is None else keys[index], windows[index])
    return x
  stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(params[name] for name in names))
  scanned = (stacked, None if keys is None else jnp.stack(keys), jnp.array(windows))
  return jax.lax.scan(lambda x, layer: (one(x, *layer), None), x, scanned)[0]


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


def _init(arch: Arch, key) -> dict:
  """Every parameter from the stream of its module's name, so that no module's draw depends on another's."""
  width, tokens = jnp.zeros((1, 2, arch.width)), jnp.zeros((1, 2), jnp.int32)
  draw = lambda module, name, *inputs: module.init(rng.stream(key, name), *inputs)['params']
  params = {'embedding': draw(Embedding(arch, 0.0, jnp.float32), 'embedding', tokens, tokens)}
  for stack in STACKS[arch.kind]:
    part = params.setdefault(stack.prefix, {}) if stack.prefix else params
    context = dict(segments=tokens + 1, positions=tokens, bias=None)
    if stack.cross:
      context |= dict(memory=width, memory_segments=tokens + 1)
    block = Block(arch, 0.0, stack.causal)
    part['layers'] = {
        str(i): draw(block, f'{stack.prefix}/layers/{i}', width, context, 0) for i in range(arch.layers)}
    if arch.positions == 'relative':
      part['relative'] = draw(RelativeBias(arch, not stack.causal), f'{stack.prefix}/relative', tokens, tokens)
    if arch.norm_first:
      part['final_norm'] = draw(Norm(arch), 'final_norm', width)
  if arch.pooler and arch.head in ('none', 'classifier'):
    params['pooler'] = draw(pooler(arch), 'pooler', width)
  if arch.head in ('masked', 'causal') and not (arch.head == 'causal' and arch.tied):
    params['head'] = draw(VocabularyHead(arch), 'head', width, params['embedding']['tokens'])
  if arch.head == 'classifier':
    params['head'] = draw(classifier(arch), 'head', width)
  return params


def _run_stack(arch, compute, stack: Stack, params, x, segments, positions, key, memory=None, memory_segments=None):
  part = params[stack.prefix] if stack.prefix else params
  bias = None
  if arch.positions == 'relative':
    bias = RelativeBias(arch, not stack.causal).apply({'params': part['relative']}, positions, positions)
  context = dict(segments=segments, positions=positions, bias=bias)
  if stack.cross:
    context |= dict(memory=memory, memory_segments=memory_segments)
  block = Block(arch, compute.dropout, stack.causal)
  key = None if key is None else rng.stream(key, stack.prefix)
  x = run_layers(block, part['layers'], x, context, arch, compute, key)
  return Norm(arch).apply({'params': part['final_norm']}, x) if arch.norm_first else x


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


def _apply(arch: Arch, compute: Compute, params, batch, *, key=None, train=False, score=None) -> Outputs:
  key = key if train else None
  embed = Embedding(arch, compute.dropout, jnp.dtype(compute.dtype))

  def encode(prefix, stack, name, **memory):
    tokens = batch[prefix + 'tokens']
    segments = batch.get(prefix + 'segments')
    segments = jnp.ones_like(tokens) if segments is None else segments
    positions = batch.get(prefix + 'positions')
    positions = restart_positions(segments) if positions is None else positions
    part_key = None if key is None else rng.stream(key, name)
    x = embed.apply({'params': params['embedding']}, tokens, positions, batch.get(prefix + 'types'), part_key)
    x = constrain(x, 'batch', 'length', None)
    return _run_stack(arch, compute, stack, params, x, segments, positions, part_key, **memory), segments

  hidden, segments = encode('', STACKS[arch.kind][0], 'first')
  if arch.kind == 'encoder-decoder' and arch.head != 'classifier':
    hidden, segments = encode('decoder_', STACKS[arch.kind][1], 'second', memory=hidden, memory_segments=segments)
  if arch.head == 'none':
    return Outputs(hidden)
  if arch.head != 'classifier':
    wanted = hidden if score is None else jnp.take_along_axis(hidden, score[..., None], 1)
    table = params['embedding']['tokens']
    return Outputs(hidden, VocabularyHead(arch).apply({'params': params.get('head', {})}, wanted, table))
  slots, packed = _slots(batch, segments)
  pooled = pool(arch, hidden, segments, slots)
  head_key = None if key is None else rng.stream(key, 'head')
  logits = classify(arch, params, pooled, compute.dropout, head_key)
  return Outputs(hidden, logits if packed else logits[:, 0], slots if packed else None)


def build(arch: Arch, compute: Compute | None = None) -> Model:
  """The model of an architecture. Nothing is computed here; `init` and `apply` are pure and jit-ready."""
  init = functools.partial(_init, arch)
  axes = axes_of(jax.eval_shape(init, jax.random.key(0)))
  return Model(init, functools.partial(_apply, arch, compute or Compute()), axes, arch)


def count(arch: Arch) -> int:
  """The number of parameters, without making any."""
  return tree.count(jax.eval_shape(functools.partial(_init, arch), jax.random.key(0)))
