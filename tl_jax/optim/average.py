"""An exponential moving average of the weights, kept in the optimizer state.

>>> tx = average(0.9)
>>> params, state = {'bias': jnp.zeros(1)}, tx.init({'bias': jnp.zeros(1)})
>>> _, state = tx.update({'bias': jnp.ones(1)}, state, params)
>>> ema_params(state)['bias'].tolist()
[1.0]
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from tl_jax import tree
from tl_jax.optim.leafwise import wide


class AverageState(NamedTuple):
  """How far an average is.

  count: updates made, scalar int32.
  average: the average in float32 or wider, shaped like the parameters.
  """

  count: Any
  average: Any


def average(decay: float) -> optax.GradientTransformation:
  """Averages the weights after each update, and passes the updates on.

  It must be the last link of a chain. After t updates the average of the weights p_1 ..
  p_t is sum_i decay^(t - i) p_i / sum_i decay^(t - i). It is debiased as in Adam
  (Kingma and Ba 2014, section 3), so that the initial weights p_0 have no part in it.
  Before the first update it is p_0.
  """

  def init(params):
    # A copy, because a state that holds the parameters' own buffers cannot be donated
    # with them.
    copied = jax.tree.map(lambda p: jnp.array(wide(p), copy=True), params)
    return AverageState(jnp.zeros((), jnp.int32), copied)

  def update(updates, state, params=None):
    if params is None:
      raise ValueError(
        'params: the average needs the parameters; call update(gradients, state, '
        'params)'
      )
    count = state.count + 1
    # The share of the newest weights: (1 - decay) / (1 - decay^count), which is 1 in
    # the first update. There it is said, because rounding might make it another number.
    share = (1 - decay) / (1 - jnp.float32(decay) ** count)
    share = jnp.where(count == 1, 1.0, share)
    newest = optax.apply_updates(params, updates)

    def mix(held, parameter):
      return held + share * (wide(parameter) - held)

    mixed = jax.tree.map(mix, state.average, newest)
    return updates, AverageState(count, mixed)

  return optax.GradientTransformation(init, update)


def ema_params(opt_state, trainable=None):
  """The averaged weights in an optimizer state, or None if it keeps none.

  Leaves of frozen groups are holes. With `trainable` these are filled from it, and all
  leaves get its dtypes.
  """
  is_average = lambda node: isinstance(node, AverageState)
  nodes = jax.tree.leaves(opt_state, is_leaf=is_average)
  averages = [node.average for node in nodes if is_average(node)]
  if not averages:
    return None
  if trainable is None:
    return averages[0]
  averaged = tree.flatten(averages[0])

  def fill(name, leaf):
    return averaged[name].astype(leaf.dtype) if name in averaged else leaf

  return tree.map_named(fill, trainable)
