"""Rates that fall from the head to the embeddings (Clark et al. 2020, appendix A).

>>> depths = Depths.of(['embedding/tokens', 'layers/0/norm', 'layers/1/norm', 'head/bias'])
>>> [depths.below(f'layers/{number}/norm') for number in (0, 1)]
[3, 2]
>>> depths.below('embedding/tokens'), depths.below('head/bias')
(4, 0)
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

import jax.numpy as jnp

from tl_jax import layers

# What a model reads its text by, and what stands between its layers and its head.
_INPUT = re.compile(r'((en|de)coder/)?(embedding|relative)/.*')
_OUTPUT = re.compile(r'((en|de)coder/)?(final_norm|pooler)/.*')


class Depths(NamedTuple):
  """How many layers every stack of a model has, by what its names begin with."""

  stacks: dict[str, int]

  @classmethod
  def of(cls, names: Iterable[str]) -> 'Depths':
    """Those of a model whose parameters have these names."""
    stacks: dict[str, int] = {}
    for name in names:
      place = layers.place_of(name)
      if place is not None:
        known = stacks.get(place.stack, 0)
        stacks[place.stack] = max(known, place.index + 1)
    return cls(stacks)

  def below(self, name: str) -> int:
    """How far a parameter is below the head, which is how often its rate is decayed.

    As in ELECTRA's code, layer i of n, counted from 0, is n + 1 - i below, so that the
    last one is 2 below, and the embeddings are n + 2 below. An encoder and a decoder
    are counted side by side. The pooler and the last norm, which ELECTRA has not, are 1
    below. What belongs to the task or to a method alone is not below.
    """
    place = layers.place_of(name)
    if place is not None:
      return self.stacks[place.stack] + 1 - place.index
    if _INPUT.fullmatch(name):
      return max(self.stacks.values(), default=0) + 2
    return 1 if _OUTPUT.fullmatch(name) else 0

  def factor(self, decay: float, name: str, count: int, rank: int):
    """What the rate of a leaf is multiplied by.

    count: how many layers from that of `name` on have their leaves in this one, an array
    of so many dimensions; 0 for a leaf of its own.
    """
    if not count:
      return decay ** self.below(name)
    names = layers.place_of(name).names(count)
    each = jnp.array([decay ** self.below(own) for own in names], jnp.float32)
    return each.reshape(count, *[1] * (rank - 1))
