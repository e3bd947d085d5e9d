"""What a config says of the places of single parameters, checked without a device.

>>> require_overrides.__name__
'require_overrides'
"""

import jax

from tl_jax import models, parallel, transfer, tree
from tl_jax.train.settings import Settings


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
