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
# `mlp_norm` and `final_norm` of our models, `LayerNorm` of others.
NORMS = r'(.*/)?[^/]*[nN]orm[^/]*/[^/]+'
# What stands before the number names the stack.
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
  encoder-decoder these are the last k of either stack.
  layers: matches the leaves of layers, with the layer's number as its group `index`.
  What stands before the number says which stack the layer is in.
  Errors: ValueError for a k that is not from 1 to the number of layers, and where
  `layers` matches none.
  """
  top = top_layers(k, layers, 'last')
  is_behind = tree.matcher(BEHIND)

  def select(names):
    return [*top(names), *filter(is_behind, names)]

  return selecting_method(select, head=head, what='last')


def top_layers(k: int, layers: str, what: str) -> Select:
  """A function from all names to those of the last k layers of every stack.

  Errors: ValueError for a pattern without a group `index`, and, by the function, for a
  k that is not from 1 to the number of layers of the shallower stack.
  """
  require_index(layers, what)
  select_layers = select_names(layers, what=what)

  def select(names):
    depths = depth_from_top(select_layers(names), layers)
    number_of = {}
    for name, depth in depths.items():
      stack, _ = _stack_and_index(name, layers)
      number_of[stack] = max(number_of.get(stack, 0), depth + 1)
    fewest = min(number_of.values())
    if not 1 <= k <= fewest:
      raise ValueError(
        f'{what}: k is {k}, but must be from 1 to the number of layers, {fewest}'
      )
    return [name for name, depth in depths.items() if depth < k]

  return select


def require_index(layers: str, what: str) -> None:
  """Raises ValueError for a pattern that does not say where a layer's number stands."""
  if 'index' not in re.compile(layers).groupindex:
    raise ValueError(
      f'{what}: the pattern {layers!r} of layers has no group (?P<index>...) for the '
      'number of the layer'
    )


def depth_from_top(names: Collection[str], layers: str = LAYERS) -> dict[str, int]:
  """For every name in a layer, how many layers of its stack are above it."""
  places = {}
  for name in names:
    place = _stack_and_index(name, layers)
    if place is not None:
      places[name] = place
  # Some methods see only a part of the layers, whose highest number is then the top.
  tops = {}
  for stack, index in places.values():
    tops[stack] = max(tops.get(stack, 0), index)
  return {name: tops[stack] - index for name, (stack, index) in places.items()}


def _stack_and_index(name: str, layers: str) -> tuple[str, int] | None:
  """(what stands before the number of the layer, the number), None without a layer."""
  match = re.fullmatch(layers, name)
  if match is None:
    return None
  return name[: match.start('index')], int(match['index'])
