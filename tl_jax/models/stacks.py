"""The stacks of layers that each kind of model has, and where their parameters are.

>>> [stack.prefix for stack in STACKS['encoder-decoder']]
['encoder', 'decoder']
"""

from typing import NamedTuple

from tl_jax import leaves
from tl_jax.models.arch import Arch
from tl_jax.models.layers import Norm


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
  if stack.cross and arch.decoder_layers:
    return arch.decoder_layers
  return arch.layers


def stack_params(params: dict, stack: Stack) -> dict:
  """The parameters of a stack: the only one has its own beside the embedding and the
  head.
  """
  return params[stack.prefix] if stack.prefix else params


def embedding_params(params: dict, stack: Stack) -> dict:
  """The parameters of a stack's embedding: two stacks share the tokens and have the
  rest of their own.
  """
  own = params.get(stack.prefix, {})
  return params['embedding'] | own.get('embedding', {})


def finish_stack(arch: Arch, part: dict, x):
  """The final norm of a stack and the projection to the width of the tokens, where the
  family has them.
  """
  if arch.norm_place != 'after':
    x = Norm(arch).apply({'params': part['final_norm']}, x)
  if projects_back(arch):
    x = leaves.matmul(x, part['final_project']['kernel'])
  return x


def projects_back(arch: Arch) -> bool:
  """Does the output return to the width of the tokens (OPT-350M)?"""
  return bool(arch.embedding_width) and arch.kind == 'decoder'
