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


class AverageState(NamedTuple):
  """Updates made (scalar int32), and the average in float32, shaped like the
  parameters.
  """

  count: Any
  average: Any


def average(decay: float) -> optax.GradientTransformation:
  """Averages the weights after each update; the last link of a chain, it passes the
  updates on.

  After t updates the average of the weights p_1 .. p_t is sum_i decay^(t - i) p_i /
  sum_i decay^(t - i): debiased as in Adam (Kingma and Ba 2014, section 3), so the
  initial weights p_0 have no part in it; before the first it is p_0.
  """

  def init(params):
    # A copy, because a state that holds the parameters' own buffers cannot be donated
    # with them.
    return AverageState(
      jnp.zeros((), jnp.int32),
      jax.tree.map(lambda p: jnp.array(_wide(p), copy=True), params),
    )

  def update(updates, state, params=None):
    if params is None:
      raise ValueError(
        'params: the average needs the parameters; call update(gradients, state, params)'
      )
    count = state.count + 1
    # The share of the newest weights: (1 - decay) / (1 - decay^count), which is 1 in
    # the first update.
    share = (1 - decay) / (1 - jnp.float32(decay) ** count)
    new = optax.apply_updates(params, updates)
    mix = jax.tree.map(
      lambda a, p: a + jnp.where(count == 1, 1.0, share) * (_wide(p) - a),
      state.average,
      new,
    )
    return updates, AverageState(count, mix)

  return optax.GradientTransformation(init, update)


def ema_params(opt_state, trainable=None):
  """The averaged weights in an optimizer state, or None if it keeps none.

  Leaves of frozen groups are holes, filled from `trainable` if given; with it, leaves
  also get its dtypes.
  """
  nodes = jax.tree.leaves(
    opt_state, is_leaf=lambda node: isinstance(node, AverageState)
  )
  found = [node.average for node in nodes if isinstance(node, AverageState)]
  if not found or trainable is None:
    return found[0] if found else None
  held = tree.flatten(found[0])
  return tree.map_named(
    lambda name, leaf: held[name].astype(leaf.dtype) if name in held else leaf,
    trainable,
  )


def _wide(leaf):
  return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
