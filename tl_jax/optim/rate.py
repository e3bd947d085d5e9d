"""The rate and the decay as leaves of the optimizer state, so that runs that differ in
them share one compiled step.

>>> tx = scale_by_rate(0.1, 0.0, lambda step: jnp.float32(1.0), ())
>>> state = set_rate((tx.init({}), 'anything around it'), 0.3, decay=0.01)
>>> round(float(learning_rate(state)), 4)
0.3
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from tl_jax import tree
from tl_jax.optim.groups import Groups, group_of


class RateState(NamedTuple):
  """Scalars: updates made (int32), peak rate, decay, and the schedule's factor in the
  latest update (float32).

  Before the first update `factor` is that of the first update.
  """

  count: Any
  rate: Any
  decay: Any
  factor: Any


def scale_by_rate(
  rate: float, decay: float, schedule, groups: Groups
) -> optax.GradientTransformation:
  """Update = -rate * factor(count) * scale * (direction + decay * parameter), with
  scale and decay by group.
  """

  def init(params):
    del params
    number = lambda value: jnp.asarray(value, jnp.float32)
    return RateState(
      jnp.zeros((), jnp.int32), number(rate), number(decay), number(schedule(0))
    )

  def update(updates, state, params=None):
    if params is None:
      raise ValueError(
        'params: the decay needs the parameters; call update(gradients, state, params)'
      )
    factor = jnp.asarray(schedule(state.count), jnp.float32)
    step = state.rate * factor

    def scaled(name, direction, parameter):
      group = group_of(name, groups)
      decayed = state.decay if group.decay is None else group.decay
      return _scaled(step, group.scale, direction, decayed, parameter)

    updates = tree.map_named(scaled, updates, params)
    return updates, RateState(state.count + 1, state.rate, state.decay, factor)

  return optax.GradientTransformation(init, update)


@jax.jit
def _scaled(step, scale, direction, decay, parameter):
  """The update of a leaf; those that are alike are traced once."""
  return -(step * scale) * (direction + decay * parameter)


def set_rate(opt_state, rate, decay=None):
  """The optimizer state, however nested, with another peak rate and (unless None)
  decay; both may be traced.

  Shapes: scalars, or (members,) for the stacked states of several runs; a scalar then
  holds for all of them.

  ValueError for a state that has no RateState.
  """
  rates(opt_state)

  def like(value, old):
    value = jnp.asarray(value, jnp.float32)
    return jnp.broadcast_to(value, jnp.broadcast_shapes(value.shape, jnp.shape(old)))

  def replace(node):
    if not isinstance(node, RateState):
      return node
    return node._replace(
      rate=like(rate, node.rate),
      decay=node.decay if decay is None else like(decay, node.decay),
    )

  return jax.tree.map(
    replace, opt_state, is_leaf=lambda node: isinstance(node, RateState)
  )


def learning_rate(opt_state):
  """The scheduled rate of the latest update, before the multipliers of groups: scalar
  float32.
  """
  state = rates(opt_state)[0]
  return state.rate * state.factor


def rates(opt_state) -> list[RateState]:
  """Every RateState in an optimizer state; ValueError if there is none."""
  nodes = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, RateState))
  found = [node for node in nodes if isinstance(node, RateState)]
  if not found:
    raise ValueError(
      'opt_state: has no RateState; the optimizer was not made by make_optimizer'
    )
  return found
