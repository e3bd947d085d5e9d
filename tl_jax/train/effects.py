"""Settings that would change nothing under the method of a run: whoever wrote one means
something else.

>>> require_effects.__name__
'require_effects'
"""

import jax

from tl_jax import tree
from tl_jax.config import ConfigError
from tl_jax.optim.depth import Depths
from tl_jax.train import methods
from tl_jax.train.assembly import Components, trained_leaves
from tl_jax.train.settings import Settings


def require_effects(settings: Settings, parts: Components) -> None:
  """Raises ConfigError for a setting about leaves that the method has none of, naming
  both keys.
  """
  state = jax.eval_shape(
    lambda: parts.init(parts.model.init(jax.random.key(0)), settings.seed)
  )
  method = f'config.method {methods.name_of(settings.method)!r}'
  decay = settings.optim.layer_decay
  trained = list(trained_leaves(parts, state.trainable))
  if decay not in (None, 1.0):
    depths = Depths.of(tree.flatten(parts.model.axes))
    if not any(map(depths.below, trained)):
      raise ConfigError(
        f'config.optim.layer_decay: {decay}, but {method} trains no layer of the model, '
        'only what is above or beside it; it is None there'
      )
  frozen = settings.compute.frozen
  if frozen != 'float32' and not tree.flatten(state.frozen):
    raise ConfigError(
      f'config.compute.frozen: {frozen!r} is of weights that are not trained, but '
      f"{method} trains all of them; it is 'float32' there"
    )
