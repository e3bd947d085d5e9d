"""What a run needs of the memory at the least, refused where it can never be had.

The account is a lower bound: the arrays that must be there at the same time, whatever
the compiler does. A run that passes may still be too large.

>>> need = Need({'kernel': 3 * GIB, 'bias': GIB})
>>> print(need)
at least 4.0 GiB (the most of it: kernel, 3.0 GiB)
"""

import dataclasses
import inspect
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from tl_jax import models, optim, parallel, transfer, tree
from tl_jax.config import ConfigError
from tl_jax.parallel import GIB, Capacity
from tl_jax.train import methods
from tl_jax.train.settings import SCRATCH, Pretrain, Settings

# Layers that are traced. Those of a deeper model are taken to be like the last of them.
TRACED = 16
# A value so many times its default is one that somebody mistyped.
STRANGE = 100
# Of rows, the tokens and the segments come from the host.
FROM_HOST = 2 * np.dtype(np.int32).itemsize


class Need(NamedTuple):
  """Bytes that one memory must hold, by what they are for."""

  parts: dict[str, float]

  @property
  def total(self) -> float:
    return sum(self.parts.values())

  def __str__(self) -> str:
    name = max(self.parts, key=self.parts.get)
    most = self.parts[name] / GIB
    whole = self.total / GIB
    return f'at least {whole:,.1f} GiB (the most of it: {name}, {most:,.1f} GiB)'


class Choice(NamedTuple):
  """An integer that the config chooses, on which the size of arrays depends.

  key, value: as in the config. default: what it is without the key; None where that is
  no number. settings: the config with the default. fields: those of the architecture.
  """

  key: str
  value: int
  default: int | None
  settings: Settings
  fields: dict[str, int]


def require_memory(
  settings: Settings, arch: models.Arch | None, trains: bool = True
) -> None:
  """Raises ConfigError for a run whose arrays the memory here can never hold.

  The error names the key whose default would help most, and how much of it may fit.
  Where it is not known how much memory there is, nothing is refused.
  arch: None of a model that is not open yet. trains: is the model trained, rather than
  evaluated?
  """
  if arch is None or settings.method.get('name') in methods.UNTRAINED:
    return
  capacity = parallel.capacity_for(settings.mesh)
  if capacity is None:
    return
  need = _need_or_none(settings, arch, capacity, trains)
  if need is None or need.total <= capacity.size:
    return
  key, advice = _blame(settings, arch, capacity, trains, need)
  raise ConfigError(f'{key}: the run needs {need}, but {capacity}{advice}')


def _need_or_none(
  settings: Settings, arch: models.Arch, capacity: Capacity, trains: bool
) -> Need | None:
  """What a run needs; None where its parts do not go together, which others say."""
  try:
    return need_of(settings, arch, capacity, trains)
  except ValueError:
    return None


def _blame(
  settings: Settings, arch: models.Arch, capacity: Capacity, trains: bool, need: Need
) -> tuple[str, str]:
  """(the key whose default would help most, with its value; how much of it may fit)."""
  found = []
  for choice in choices(settings):
    try:
      usual = dataclasses.replace(arch, **choice.fields)
    except ValueError:
      # Other values of the config do not go with this default.
      continue
    less = _need_or_none(choice.settings, usual, capacity, trains)
    if less is not None and less.total < need.total:
      found.append((less.total, choice))
  if not found:
    return _strangest(settings), ''
  least, blamed = min(found, key=lambda pair: pair[0])
  key = f'{blamed.key}: {blamed.value}'
  if blamed.default is None or least > capacity.size:
    return key, ''
  # What is needed grows with the value in proportion, or faster.
  share = (capacity.size - least) / (need.total - least)
  fitting = _rounded(blamed.default + int(share * (blamed.value - blamed.default)))
  if fitting <= blamed.default:
    return key, f'; the default is {blamed.default}'
  return key, f'; nearest: {fitting} or less'


def _strangest(settings: Settings) -> str:
  """The key farthest above its default, with its value; that of the model where none is.

  For values that are too large together: none of them alone helps.
  """
  farthest, key = STRANGE, f'config.init: {settings.init}'
  if settings.init == SCRATCH:
    key = f'config.model.family: {settings.model["family"]}'
  for choice in choices(settings):
    ratio = choice.value / (choice.default or 1)
    if ratio > farthest:
      farthest, key = ratio, f'{choice.key}: {choice.value}'
  return key


def _rounded(number: int) -> int:
  """The number with its first two digits alone, which is not above it."""
  unit = 10 ** max(0, len(str(number)) - 2)
  return number // unit * unit


def choices(settings: Settings) -> Iterator[Choice]:
  """The integers of a config on which the size of arrays depends."""
  yield from _choices_of_data(settings)
  yield from _choices_of_model(settings)
  for path, name, options, changed in _methods(settings):
    parameters = inspect.signature(transfer.METHODS[name]).parameters
    for key in filter(lambda key: _is_count(options[key]), options):
      default = parameters[key].default
      kept = {other: value for other, value in options.items() if other != key}
      yield Choice(
        f'{path}.{key}',
        options[key],
        default if _is_count(default) else None,
        dataclasses.replace(settings, method=changed(kept)),
        {},
      )


def _is_count(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool)


def _choices_of_data(settings: Settings) -> Iterator[Choice]:
  for field in dataclasses.fields(settings.data):
    if field.name in ('batch', 'length', 'examples_per_row'):
      value = getattr(settings.data, field.name)
      usual = dataclasses.replace(settings.data, **{field.name: field.default})
      changed = dataclasses.replace(settings, data=usual)
      yield Choice(f'config.data.{field.name}', value, field.default, changed, {})


def _choices_of_model(settings: Settings) -> Iterator[Choice]:
  defaults = {field.name: field.default for field in dataclasses.fields(models.Arch)}
  defaults |= models.FAMILIES.get(settings.model.get('family'), {})
  for key, value in settings.model.items():
    if _is_count(value):
      fields = {key: defaults[key]}
      yield Choice(f'config.model.{key}', value, defaults[key], settings, fields)


def _methods(settings: Settings) -> Iterator[tuple]:
  """(path, name, options, the group of the method with other options) of the method, or
  of each that it is composed of.
  """
  whole = dict(settings.method)
  if whole.get('name') != 'compose':
    name = whole.pop('name')
    yield 'config.method', name, whole, lambda options: dict(options, name=name)
    return
  parts = list(whole['methods'])
  for place, (name, options) in enumerate(parts):

    def changed(options, place=place, name=name):
      others = [*parts[:place], (name, options), *parts[place + 1 :]]
      return whole | dict(methods=tuple(others))

    yield f'config.method.methods.{name}', name, dict(options), changed


def need_of(
  settings: Settings, arch: models.Arch, capacity: Capacity, trains: bool = True
) -> Need:
  """What every memory must hold at the same time, at the least.

  Raises ValueError where the parts of the run do not go together.
  """
  axes = capacity.axes
  cutting = parallel.cutting_axes(settings.sharding, axes)
  ways = math.prod(axes[axis] for axis in cutting)
  weights, moved = weights_of(settings, arch, trains)
  parts = {name: size / ways for name, size in weights.items()}
  # Where the embeddings are trained, the backward pass goes through every layer.
  is_deep = any(name.startswith('embedding/') for name in moved)
  # The compiler of accelerators may compute products again instead of keeping them.
  keeps = is_deep and capacity.is_host and settings.compute.remat == 'none'
  kept = arch.layers if is_deep else 1, arch.layers - 1 if keeps else 1
  return Need(parts | rows_of(settings, arch, axes, trains, *kept))


def weights_of(
  settings: Settings, arch: models.Arch, trains: bool
) -> tuple[dict[str, float], list[str]]:
  """(the bytes of parameters and what goes with them, by name; the names of those that
  are trained).
  """
  depths = ('layers', 'decoder_layers', 'layer_groups')
  cut = {name: min(getattr(arch, name), TRACED) for name in depths}
  shallow = dataclasses.replace(arch, **cut)
  parts, moved = _traced(settings, shallow, trains)
  # Layers of a group share their parameters.
  growing = ('layer_groups',) if arch.layer_groups else ('layers', 'decoder_layers')
  whole = sum(parts.values())
  for name in growing:
    more = getattr(arch, name) - TRACED
    if more > 0:
      less = dataclasses.replace(shallow, **{name: TRACED - 1})
      layer = whole - sum(_traced(settings, less, trains)[0].values())
      parts[f'{more} more {name}'] = more * layer
  return parts, moved


def _traced(
  settings: Settings, arch: models.Arch, trains: bool
) -> tuple[dict[str, float], list[str]]:
  """`weights_of`, of a model that is traced whole. Nothing is computed."""
  model = models.build(arch, settings.compute, ordered=True)
  # A transfer to texts keeps the head that the model has; a method treats it like the
  # rest, and may train none of it.
  if isinstance(settings, Pretrain):
    fresh_head = methods.brings_head(settings, None)
  else:
    fresh_head = arch.head != 'causal'
  method = methods.make(settings.method, fresh_head)

  def begin():
    return method.init(jax.random.key(0), model.init(jax.random.key(0)))

  trainable, frozen = map(tree.flatten, jax.eval_shape(begin))
  parts = {name: _size(leaf) for name, leaf in (trainable | frozen).items()}
  groups = optim.parse_groups(settings.optim.groups)
  moved = {
    name: leaf
    for name, leaf in trainable.items()
    if optim.group_of(name, groups) is not None
  }
  if not trains:
    return parts, []
  if moved:
    parts |= _of_optimizer(settings.optim, moved)
  return parts, list(moved)


def _of_optimizer(chosen: optim.OptimConfig, moved: dict[str, Any]) -> dict[str, float]:
  """The bytes of what an optimizer holds beside the weights `moved`, by name; of those
  themselves, too, where they are held in bfloat16.
  """
  own = _size(moved)
  moments = jax.eval_shape(optim.direction(chosen).init, moved)
  parts = {"the optimizer's moments": _size(moments)}
  parts['the averaged weights'] = 0 if chosen.ema is None else own
  if chosen.master_weights:
    parts['the float32 masters'] = own
    narrow = jax.eval_shape(optim.narrowed, moved)
    parts |= {name: _size(leaf) for name, leaf in narrow.items()}
    own = _size(narrow)
  # The norm of all of them is known before any of them is used.
  parts['the gradients'] = 0 if chosen.clip is None else own
  return parts


def _size(arrays: Any) -> int:
  """The bytes of all arrays of a tree."""
  leaves = jax.tree.leaves(arrays)
  return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def rows_of(
  settings: Settings,
  arch: models.Arch,
  axes: dict[str, int],
  trains: bool,
  inputs: int,
  products: int,
) -> dict[str, float]:
  """The bytes of a batch, and of what is kept of it.

  inputs: of how many layers what they read is kept. products: of how many their
  products. The last layer may make these for a few columns only.
  """
  group = settings.data
  number = 2 if settings.compute.dtype == 'bfloat16' else 4
  rows = group.batch / (axes['data'] * axes['fsdp'])
  at_once = rows / group.accumulate if trains else rows
  length = group.length / axes['sequence']
  places = at_once * length * number / axes['tensor']
  products = min(products, arch.layers - 1)
  projected = (arch.heads + 2 * arch.key_heads) * arch.head_width
  examples = getattr(group, 'examples_per_row', 0)
  return {
    'the rows of a batch': rows * length * FROM_HOST,
    'what the layers read of a batch': places * arch.width * inputs,
    'the queries, keys and values': places * projected * products,
    'the attention of every head': places * arch.heads * group.length * products,
    'the hidden units': places * arch.mlp * products,
    'what is read of the examples in a batch': at_once * examples * number * arch.width,
  }
