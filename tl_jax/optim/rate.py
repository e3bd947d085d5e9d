"""The rate and the decay as leaves of the optimizer state.

Runs that differ in them share one compiled step.

>>> tx = scale_by_rate(0.1, 0.0, lambda step: jnp.float32(1.0), ())
>>> state = set_rate((tx.init({}), 'anything around it'), 0.3, decay=0.01)
>>> round(float(learning_rate(state)), 4)
0.3
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from tl_jax import layers, tree
from tl_jax.optim.groups import Groups, group_of


class RateState(NamedTuple):
  """Scalars, all but the count float32.

  count: updates made, int32.
  rate: the peak rate.
  decay: the decay of parameters whose group has none of its own.
  factor: the schedule's factor in the latest update; before the first, that of the
    first.
  """

  count: Any
  rate: Any
  decay: Any
  factor: Any


def scale_by_rate(
  rate: float,
  decay: float,
  schedule,
  groups: Groups,
  slower: Callable[[str, int, int], Any] = lambda name, count, rank: 1.0,
) -> optax.GradientTransformation:
  """Makes updates of directions, by the rate and the decay.

  The update is -rate * factor(count) * scale * (direction + decay * parameter), with
  scale and decay by group.

  slower(name, count, rank) -> what the scale of a leaf is multiplied by, as that of
  `Depths.factor`.
  """

  def init(params):
    del params
    # Of one dtype from the start, or the second step would be compiled anew.
    number = lambda value: jnp.asarray(value, jnp.float32)
    count = jnp.zeros((), jnp.int32)
    factor = number(schedule(0))
    return RateState(count, rate=number(rate), decay=number(decay), factor=factor)

  def update(updates, state, params=None):
    if params is None:
      raise ValueError(
        'params: the decay needs the parameters; call update(gradients, state, params)'
      )
    factor = jnp.asarray(schedule(state.count), jnp.float32)
    step = state.rate * factor
    # Leaves that are those of several layers, by the name of the first.
    plan = layers.plan_of(params)

    # Groups are constants of the program, the rate and the decay are not.
    def scaled(name, direction, parameter):
      group = group_of(name, groups)
      decay = state.decay if group.decay is None else group.decay
      count = len(plan.get(name, ()))
      scale = group.scale * slower(name, count, direction.ndim)
      return _scaled(step, scale, direction, decay, parameter)

    updates = tree.map_named(scaled, updates, params)
    return updates, RateState(state.count + 1, state.rate, state.decay, factor)

  return optax.GradientTransformation(init, update)


@jax.jit
def _scaled(step, scale, direction, decay, parameter):
  """The update of a leaf, compiled: leaves that are alike are traced once."""
  return -(step * scale) * (direction + decay * parameter)


def set_rate(opt_state, rate, decay=None):
  """The optimizer state with another peak rate and (unless None) another decay.

  The state may be nested in any way, and both numbers may be traced. They are scalars,
  or (members,) for the stacked states of several runs; a scalar then holds for all of
  them. Errors: ValueError for a state that has no RateState.
  """
  rates(opt_state)

  def like(value, old):
    # The shape of the old one stays, so that the compiled step does.
    value = jnp.asarray(value, jnp.float32)
    return jnp.broadcast_to(value, jnp.broadcast_shapes(value.shape, jnp.shape(old)))

  def replace(node):
    if not _is_rate(node):
      return node
    node = node._replace(rate=like(rate, node.rate))
    if decay is None:
      return node
    return node._replace(decay=like(decay, node.decay))

  return jax.tree.map(replace, opt_state, is_leaf=_is_rate)


def learning_rate(opt_state):
  """The scheduled rate of the latest update, scalar float32.

  The multipliers of groups are not in it.
  """
  state = rates(opt_state)[0]
  return state.rate * state.factor


def rates(opt_state) -> list[RateState]:
  """Every RateState in an optimizer state; ValueError if there is none."""
  nodes = jax.tree.leaves(opt_state, is_leaf=_is_rate)
  found = [node for node in nodes if _is_rate(node)]
  if not found:
    raise ValueError(
      'opt_state: has no RateState; the optimizer was not made by make_optimizer'
    )
  return found


def _is_rate(node) -> bool:
  return isinstance(node, RateState)
