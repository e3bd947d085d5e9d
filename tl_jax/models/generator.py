"""ELECTRA's generator: a small masked model that lives in the head of a discriminator.

>>> from tl_jax.models.families import arch
>>> small = generator_arch(arch('electra-base', head='replaced'))
>>> small.width, small.heads, small.mlp, small.embedding_width
(256, 4, 1024, 768)

Both read one table of tokens, of positions and of types, and one norm behind them. What
the generator has of its own stands below `head/generator`: like any head it is left
behind by whoever takes the body.
"""

import dataclasses
from collections.abc import Callable

from tl_jax.models.arch import Arch

# What of an embedding no two widths can share.
OWN = 'project'


def generator_arch(arch: Arch) -> Arch:
  """The architecture of the generator of a discriminator: as deep, narrower in all
  sizes, with embeddings as wide as the discriminator's.
  """
  width = arch.generator
  inner = arch.embedding_width or arch.width
  return dataclasses.replace(
    arch,
    width=width,
    heads=max(1, arch.heads * width // arch.width),
    mlp=arch.mlp * width // arch.width,
    # 0 says that the embeddings are as wide as the layers.
    embedding_width=0 if inner == width else inner,
    head='masked',
    head_activation='gelu',
    generator=0,
  )


def own_params(params: dict) -> dict:
  """Of the parameters of a generator those that are not the discriminator's, too."""
  embedding = params['embedding']
  own = {name: part for name, part in params.items() if name != 'embedding'}
  if OWN in embedding:
    own['embedding'] = {OWN: embedding[OWN]}
  return own


def generator_params(params: dict) -> dict:
  """The parameters of the generator as a model of its own, from the discriminator's."""
  own = params['head']['generator']
  shared = {name: part for name, part in params['embedding'].items() if name != OWN}
  return own | dict(embedding=shared | own.get('embedding', {}))


def discriminator_params(params: dict) -> dict:
  """The parameters of the discriminator without a generator."""
  head = {name: part for name, part in params['head'].items() if name != 'generator'}
  return params | dict(head=head)


def beside(apply: Callable, small: Callable) -> Callable:
  """The `apply` of a discriminator, which with `generator=True` is that of its
  generator: `small`, of the generator's parameters.
  """

  def chosen(params, batch, *, generator: bool = False, **how):
    if generator:
      return small(generator_params(params), batch, **how)
    return apply(params, batch, **how)

  return chosen
