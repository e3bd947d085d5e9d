"""Transformations of a tree of gradients that are cheap to compile and to run.

>>> gradients = {'bias': jnp.array([3.0, 4.0])}
>>> clipped, _ = clip_by_global_norm(1.0).update(gradients, optax.EmptyState())
>>> [round(float(value), 3) for value in clipped['bias']]
[0.6, 0.8]
"""

import functools
import re

import jax
import jax.numpy as jnp
import optax

from tl_jax import tree
from tl_jax.layers import Stacked, is_stacked


@jax.jit
def global_norm(gradients):
  """The root of the sum of all squares: a scalar.

  It is traced once for the clip and for the metrics of a step. Leaves whose names
  differ in numbers alone, as those of layers do, are squared and added before they are
  summed: a few kernels for all of them instead of up to three for each.
  """
  alike = {}
  for name, leaf in tree.flatten(gradients).items():
    without_numbers = re.sub(r'\d+', '', name)
    # Alike in name, leaves may still have several shapes.
    squares = alike.setdefault((without_numbers, leaf.shape), [])
    # In float32, because narrow gradients would not add up.
    squares.append(jnp.square(wide(leaf)))
  sums = [jnp.sum(functools.reduce(jnp.add, squares)) for squares in alike.values()]
  return jnp.sqrt(sum(sums))


def wide(leaf):
  """The leaf in float32 or wider, in which small steps add up."""
  return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))


def clip_by_global_norm(limit: float) -> optax.GradientTransformation:
  """Scales gradients to a global norm of at most `limit` (Pascanu et al. 2013,
  algorithm 1).

  All are NaN where one is. The factor is one number, and multiplying by it becomes part
  of whatever reads the gradient. optax divides every element, which XLA does not repeat
  for each of its readers: on CPU it is a pass over all gradients, and a kernel more for
  every leaf.
  """

  def update(updates, state, params=None):
    del params
    norm = global_norm(updates)
    factor = jnp.where(norm < limit, 1.0, limit / norm)
    # The factor is float32, the gradient may be narrower.
    scaled = lambda update: (factor * update).astype(update.dtype)
    return jax.tree.map(scaled, updates), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def leaf_by_leaf(inner: optax.GradientTransformation) -> optax.GradientTransformation:
  """`inner`, traced once for all leaves of a shape.

  It must treat every leaf by itself. The state is that of `inner`. Where layers are held
  together (`tl_jax.layers`), each of them is treated by itself, too: what depends on the
  shape of a leaf or on a mean over it is that of one layer.
  """
  update_leaf = jax.jit(inner.update)
  by_layer = jax.jit(functools.partial(_update_layers, inner.update))

  def update(updates, state, params=None):
    gradients, structure = _flatten(updates)
    # A tree of holes has no leaves, and some optimizers need no parameters.
    if params is None or not gradients:
      return inner.update(updates, state, params)
    params = structure.flatten_up_to(params)

    # The state as its parts: each is a tree of leaves, as the moments, or a number for
    # all of them, as that of the steps.
    is_tree = lambda node: _flatten(node)[1] == structure
    parts, outer = jax.tree.flatten(state, is_leaf=is_tree)
    part_of_leaves = []
    for part in parts:
      own = _flatten(part)[0] if is_tree(part) else [part] * len(gradients)
      part_of_leaves.append(own)

    new_leaves = []
    new_states = []
    for leaf, param, *own in zip(gradients, params, *part_of_leaves, strict=True):
      own_update = by_layer if is_stacked(leaf) else update_leaf
      new_leaf, new_state = own_update(leaf, outer.unflatten(own), param)
      new_leaves.append(new_leaf)
      new_states.append(outer.flatten_up_to(new_state))

    new_parts = []
    for part, own in zip(parts, zip(*new_states, strict=True), strict=True):
      # Every leaf has counted the same step.
      new_parts.append(structure.unflatten(own) if is_tree(part) else own[0])
    return structure.unflatten(new_leaves), outer.unflatten(new_parts)

  return optax.GradientTransformation(inner.init, update)


def _update_layers(update, gradient: Stacked, state, param: Stacked):
  """The update of a leaf whose layers are held together, as of each layer alone.

  state: that of the leaf, stacked where it is by leaf.
  """
  # A number for all leaves, as that of the steps, has no layers, and stays one.
  has_layers = jax.tree.map(
    lambda part: 0 if is_stacked(part) else None, state, is_leaf=is_stacked
  )
  values = jax.tree.map(_value, state, is_leaf=is_stacked)
  over_layers = jax.vmap(update, in_axes=(0, has_layers, 0), out_axes=(0, has_layers))
  updated, values = over_layers(gradient.value, values, param.value)

  def like(part, value):
    return Stacked(value, part.count) if is_stacked(part) else value

  state = jax.tree.map(like, state, values, is_leaf=is_stacked)
  return Stacked(updated, gradient.count), state


def _value(part):
  return part.value if is_stacked(part) else part


def _flatten(node):
  """The leaves of a tree and its structure; layers that are held together are one leaf."""
  return jax.tree.flatten(node, is_leaf=is_stacked)
