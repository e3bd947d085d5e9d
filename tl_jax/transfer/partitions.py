"""Methods that train some leaves as they are and hold the others.

>>> params = {'layers': [{'kernel': 1.0, 'bias': 2.0}], 'head': {'kernel': 3.0}}
>>> trainable, frozen = bitfit().init(None, params)
>>> trainable
{'head': {'kernel': 3.0}, 'layers': [{'bias': 2.0, 'kernel': None}]}
"""

import re
from collections.abc import Collection

from tl_jax import tree
from tl_jax.config import Count
from tl_jax.transfer.method import (
  HEAD,
  Select,
  TransferMethod,
  partition_method,
  select_names,
  selecting_method,
)

BIASES = r'(.*/)?bias'
NORMS = r'(.*/)?[^/]*[nN]orm[^/]*/[^/]+'
LAYERS = r'(.*/)?layers/(?P<index>\d+)/.*'
# What stands behind the last layer and before the head: the final norm, and a pooler
# that the body keeps.
POOLER = r'pooler/.*'
BEHIND = rf'(.*/)?final_norm/.*|{POOLER}'


def full() -> TransferMethod:
  """Trains every leaf: fine-tuning, and pre-training."""
  return partition_method(lambda name: True, what='full')


def probe(head: str = HEAD) -> TransferMethod:
  """Trains the head alone, on frozen features; a pre-trained pooler is frozen with
  them.

  Errors: ValueError where no leaf matches `head`.
  """
  return partition_method(head, what='probe')


def bitfit(*, head: str | None = HEAD, pattern: str = BIASES) -> TransferMethod:
  """Trains every bias, those of the norms included, and the head (BitFit, Ben Zaken et
  al. 2021).
  """
  return partition_method(pattern, head=head, what='bitfit')


def norms(*, head: str | None = HEAD, pattern: str = NORMS) -> TransferMethod:
  """Trains the scales and biases of the norms, and the head."""
  return partition_method(pattern, head=head, what='norms')


def last(k: Count, *, head: str | None = HEAD, layers: str = LAYERS) -> TransferMethod:
  """Trains the last k layers, what stands behind them, and the head.

  Behind the layers stand the final norm and a pooler that the body keeps. Of an
  encoder-decoder these are the last k of either stack. `layers` matches the leaves of
  layers, with the layer's number as its group `index`; what stands before the number
  says which stack the layer is in. Errors: ValueError for a k that is not from 1 to the
  number of layers, and where `layers` matches none.
  """
  top = top_layers(k, layers, 'last')

  def select(names):
    return [*top(names), *filter(tree.matcher(BEHIND), names)]

  return selecting_method(select, head=head, what='last')


def top_layers(k: int, layers: str, what: str) -> Select:
  """From all names, those of the last k layers of every stack."""

  def select(names):
    depths = depth_from_top(select_names(layers, what=what)(names), layers)
    deepest = {}
    for name, depth in depths.items():
      stack = re.fullmatch(layers, name)
      stack = name[: stack.start('index')]
      deepest[stack] = max(deepest.get(stack, 0), depth + 1)
    if not 1 <= k <= min(deepest.values()):
      raise ValueError(
        f'{what}: k is {k}, but must be from 1 to the number of layers, {min(deepest.values())}'
      )
    return [name for name, depth in depths.items() if depth < k]

  require_index(layers, what)
  return select


def require_index(layers: str, what: str) -> None:
  """ValueError for a pattern of layers that does not say where the number of the layer
  stands.
  """
  if 'index' not in re.compile(layers).groupindex:
    raise ValueError(
      f'{what}: the pattern {layers!r} of layers has no group (?P<index>...) for the number of the '
      'layer'
    )


def depth_from_top(names: Collection[str], layers: str = LAYERS) -> dict[str, int]:
  """For every name in a layer, how many layers of its stack are above it."""
  hits = {name: hit for name in names if (hit := re.fullmatch(layers, name))}
  places = {
    name: (name[: hit.start('index')], int(hit['index'])) for name, hit in hits.items()
  }
  heights = {}
  for stack, index in places.values():
    heights[stack] = max(heights.get(stack, 0), index)
  return {name: heights[stack] - index for name, (stack, index) in places.items()}
