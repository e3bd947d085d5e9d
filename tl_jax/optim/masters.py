"""Weights in bfloat16, whose float32 masters are in the optimizer's state.

>>> tx = with_masters(optax.sgd(1.0))
>>> state = tx.init({'bias': jnp.ones(1)})
>>> narrow = read_weights({'bias': jnp.ones(1)}, state)
>>> gradients = {'bias': jnp.full(1, 0.001, jnp.bfloat16)}
>>> _, state = tx.update(gradients, state, narrow)
>>> float(state.masters['bias'][0]) < 1.0
True
>>> read_weights(narrow, state)['bias'].tolist()
[1.0]
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from tl_jax import tree


class MasterState(NamedTuple):
  """The weights as they are trained, and the state of what trains them.

  masters: shaped like the parameters, in float32. inner: of the wrapped optimizer.
  """

  masters: Any
  inner: Any


def with_masters(inner: optax.GradientTransformation) -> optax.GradientTransformation:
  """`inner` on float32 copies of the parameters (Micikevicius et al. 2018, section 3.1).

  A bfloat16 number has 8 bits of precision, so that an update below 1/512 of a weight
  would be lost; in its master it adds up. Whoever applies the updates calls
  `read_weights` afterwards. It is elementwise where `inner` is.
  """

  def init(params):
    # Copies, because a state that holds the parameters' own buffers cannot be donated
    # with them.
    masters = jax.tree.map(lambda p: jnp.array(p, jnp.float32, copy=True), params)
    return MasterState(masters, inner.init(masters))

  def update(updates, state, params=None):
    del params
    wide = jax.tree.map(lambda update: update.astype(jnp.float32), updates)
    wide, inner_state = inner.update(wide, state.inner, state.masters)
    masters = optax.apply_updates(state.masters, wide)
    return wide, MasterState(masters, inner_state)

  return optax.GradientTransformation(init, update)


def read_weights(trainable, opt_state):
  """The weights that the forward pass reads: the masters, rounded to bfloat16.

  Leaves without a master stay as they are in `trainable`: those of frozen groups, and
  all of them where the optimizer keeps no masters.
  """
  is_master = lambda node: isinstance(node, MasterState)
  nodes = jax.tree.leaves(opt_state, is_leaf=is_master)
  states = [node for node in nodes if is_master(node)]
  if not states:
    return trainable
  weights = tree.flatten(narrowed(states[0].masters))
  return tree.map_named(lambda name, leaf: weights.get(name, leaf), trainable)


def narrowed(masters):
  """The weights of these masters: each rounded to bfloat16."""
  return jax.tree.map(lambda master: master.astype(jnp.bfloat16), masters)
