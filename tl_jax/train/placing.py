"""What a config says of the places of single parameters, checked without a device.

>>> require_overrides.__name__
'require_overrides'
"""

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
  model = models.build(arch, settings.compute)

  def begin():
    key = jax.random.key(0)
    return method.init(key, model.init(key))

  trainable, frozen = jax.eval_shape(begin)
  names = [*tree.flatten(trainable), *tree.flatten(frozen)]
  parallel.require_matches(overrides, names)
