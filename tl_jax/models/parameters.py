"""The parameters of a model, drawn as its family draws them.

>>> from tl_jax.models import arch
>>> params = init_params(arch('tiny', vocabulary=100), jax.random.key(0))
>>> params['embedding']['tokens'].shape
(100, 64)
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from tl_jax import rng
from tl_jax.models.arch import Arch
from tl_jax.models.blocks import Block
from tl_jax.models.disentangled import RelativeTable
from tl_jax.models.generator import generator_arch, own_params
from tl_jax.models.heads import Embedding, LabelHead, Pooler, VocabularyHead
from tl_jax.models.layers import Linear, Norm, initializer
from tl_jax.models.relative import RelativeBias
from tl_jax.models.rotary import EVERYWHERE
from tl_jax.models.stacks import (
  STACKS,
  Stack,
  projects_back,
  stack_arch,
  stack_layers,
)


def init_params(arch: Arch, key) -> dict:
  """Every parameter from the stream of its module's name, so that no module's draw
  depends on another's.
  """

  def draw(module, name, *inputs):
    return _traced_init(module, rng.stream(key, name), *inputs)

  params = {}
  for stack in STACKS[arch.kind]:
    part = _init_stack(arch, stack, draw)
    if not stack.prefix:
      params |= part
      continue
    # Two stacks share the first one's table of tokens and have the rest apart.
    table = part['embedding'].pop('tokens')
    params.setdefault('embedding', dict(tokens=table))
    if not part['embedding']:
      del part['embedding']
    params[stack.prefix] = part
  # Parameters depend on the shapes of such states, not on their values.
  hidden = jnp.zeros((1, 2, arch.width))
  if projects_back(arch):
    back = Linear(arch.embedding_width, False, initializer(arch))
    params['final_project'] = draw(back, 'final_project', hidden)
    hidden = hidden[..., :1].repeat(arch.embedding_width, -1)
  head = _init_head(arch, draw, hidden, params['embedding']['tokens'])
  if arch.keeps_pooler or arch.pools:
    holder = params if arch.keeps_pooler else head
    holder['pooler'] = draw(Pooler(arch), 'pooler', hidden)
  if arch.generates:
    small = init_params(generator_arch(arch), rng.stream(key, 'head/generator'))
    head['generator'] = own_params(small)
  if head:
    params['head'] = head
  return params


def _init_stack(arch: Arch, stack: Stack, draw: Callable) -> dict:
  """The parameters of a stack, its embedding among them.

  draw(module, name, *inputs): the parameters of a module.
  """
  hidden = jnp.zeros((1, 2, arch.width))
  tokens = jnp.zeros((1, 2), jnp.int32)
  part = {}
  path = f'{stack.prefix}/embedding' if stack.prefix else 'embedding'
  embedding = Embedding(arch, 0.0, jnp.float32)
  part['embedding'] = draw(embedding, path, tokens, tokens)
  context = dict(segments=tokens + 1, positions=tokens, bias=None, last=tokens)
  if stack.cross:
    context |= dict(memory=hidden, memory_segments=tokens + 1)
  own = stack_arch(arch, stack)
  part['layers'] = {}
  for index in range(arch.layer_groups or stack_layers(arch, stack)):
    lacks_norm = index == 0 and arch.skip_first_norm
    block = Block(own, 0.0, stack.causal, first=lacks_norm)
    path = f'{stack.prefix}/layers/{index}'
    part['layers'][str(index)] = draw(block, path, hidden, context, EVERYWHERE)
  if arch.position_bias:
    bias = RelativeBias(own, not stack.causal)
    part['relative'] = draw(bias, f'{stack.prefix}/relative', tokens, tokens)
  if arch.positions == 'disentangled':
    part['relative'] = draw(RelativeTable(arch), f'{stack.prefix}/relative')
  if arch.norm_place != 'after':
    part['final_norm'] = draw(Norm(arch), 'final_norm', hidden)
  return part


def _init_head(arch: Arch, draw: Callable, hidden, table) -> dict:
  """The parameters of the head, the pooler aside; table: the vectors of the tokens."""
  head = {}
  if arch.head in ('masked', 'causal'):
    head |= draw(VocabularyHead(arch), 'head', hidden, table)
  elif arch.head not in ('none', 'embedding'):
    head |= draw(LabelHead(arch), 'head', hidden)
  if arch.pair_head:
    pair = Linear(2, True, initializer(arch))
    head['pair'] = draw(pair, 'head/pair', hidden)
  return head


@functools.partial(jax.jit, static_argnums=0)
def _traced_init(module: nn.Module, key, *inputs) -> dict:
  """The parameters of a module. As with layers that are applied: those that are alike
  are traced once.
  """
  return module.init(key, *inputs).get('params', {})
