"""The places of single parameters: what a config says of them, checked without a
device, and a line on every big one that no device can have a part of.

>>> require_overrides.__name__
'require_overrides'
"""

import math

import jax

from tl_jax import models, parallel, transfer, tree
from tl_jax.config import ConfigError
from tl_jax.train.settings import Settings


def require_tensor(arch: models.Arch, tensor: int) -> None:
  """Raises ConfigError for heads or hidden units that a tensor axis of this size does
  not divide: each of its devices has as many of them.
  """
  parts = {
    'heads of layers/0/attention/key/kernel': arch.key_heads,
    'hidden units of layers/0/mlp/in/kernel': arch.mlp,
  }
  for what, size in parts.items():
    if size % tensor:
      fitting = parallel.divisors(size)
      best = parallel.nearest_number(tensor, fitting)
      raise ConfigError(
        f'config.mesh.tensor: {tensor} does not divide the {size} {what}; nearest: {best}'
      )


def require_overrides(
  settings: Settings,
  arch: models.Arch | None,
  method: transfer.TransferMethod | None,
) -> None:
  """Raises ConfigError for an override whose pattern matches no parameter.

  arch: None of a model that is not open yet; its parameters are known later. method:
  None for a baseline, which has none. Whether an axis divides its array is known when
  there is a mesh: see `programs.state_shardings`.
  """
  overrides = parallel.parse_overrides(settings.sharding_overrides)
  if not overrides or arch is None or method is None:
    return
  trainable, frozen = _shapes(models.build(arch, settings.compute), method)
  names = [*tree.flatten(trainable), *tree.flatten(frozen)]
  parallel.require_matches(overrides, names)


def _shapes(model: models.Model, method: transfer.TransferMethod) -> tuple:
  """The trees (trainable, frozen) with the shape and dtype of every parameter."""

  def begin():
    key = jax.random.key(0)
    return method.init(key, model.init(key))

  return jax.eval_shape(begin)


def lines_on_uncut(
  model: models.Model, method: transfer.TransferMethod, mesh, settings: Settings
) -> list[str]:
  """A line on every big parameter that lies whole although its axis is cut.

  Where the optimizer keeps as much of it, that is whole, too.
  """
  # One device has all of everything anyway.
  if math.prod(mesh.shape.values()) == 1:
    return []

  parts = _shapes(model, method)
  overrides = parallel.parse_overrides(settings.sharding_overrides)
  lines = []
  for axes, abstract in zip(method.axes(model.axes), parts, strict=True):
    axes = parallel.overridden(overrides, axes, abstract, mesh.shape)
    for one in parallel.uncut(mesh, axes, abstract, settings.sharding):
      lines.append(_line_on(one, mesh.shape))
  return lines


def _line_on(one: parallel.Uncut, sizes) -> str:
  """What is whole, how big it is, and why."""
  shape = ' x '.join(map(str, one.shape))
  axes = ' x '.join(f'{axis} {sizes[axis]}' for axis in one.axes)
  return (
    f'{one.name}, {shape}, {one.bytes / 2**20:.0f} MiB, is whole on every device of '
    f'{axes}, which divides none of its dimensions'
  )
