"""Transformations of a tree of gradients that cost little before the first step, and no
pass of their own.

>>> clipped, _ = clip_by_global_norm(1.0).update({'bias': jnp.array([3.0, 4.0])}, optax.EmptyState())
>>> [round(float(value), 3) for value in clipped['bias']]
[0.6, 0.8]
"""

import functools
import re

import jax
import jax.numpy as jnp
import optax

from tl_jax import tree


@jax.jit
def global_norm(gradients):
  """The root of the sum of all squares: a scalar. Traced once for the clip and for the
  metrics of a step.

  Leaves whose names differ in numbers alone, as those of layers do, are squared and
  added before they are summed: a few kernels for all of them instead of up to three for
  each.
  """
  alike = {}
  for name, leaf in tree.flatten(gradients).items():
    alike.setdefault((re.sub(r'\d+', '', name), leaf.shape), []).append(
      jnp.square(leaf)
    )
  return jnp.sqrt(
    sum(jnp.sum(functools.reduce(jnp.add, squares)) for squares in alike.values())
  )


def clip_by_global_norm(limit: float) -> optax.GradientTransformation:
  """Gradients with a global norm of at most `limit` (Pascanu et al. 2013, algorithm 1);
  all are NaN where one is.

  The factor is one number, and multiplying by it becomes part of whatever reads the
  gradient. optax divides every element, which XLA does not repeat for each of its
  readers: on CPU it is a pass over all gradients, and a kernel more for every leaf.
  """

  def update(updates, state, params=None):
    del params
    norm = global_norm(updates)
    factor = jnp.where(norm < limit, 1.0, limit / norm)
    return jax.tree.map(
      lambda update: (factor * update).astype(update.dtype), updates
    ), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def leaf_by_leaf(inner: optax.GradientTransformation) -> optax.GradientTransformation:
  """`inner`, which must treat every leaf by itself, traced once for all leaves of a
  shape; its state is the same.
  """
  one = jax.jit(inner.update)

  def update(updates, state, params=None):
    leaves, structure = jax.tree.flatten(updates)
    if params is None or not leaves:
      return inner.update(updates, state, params)
    of_leaves = lambda node: jax.tree.structure(node) == structure
    nodes, around = jax.tree.flatten(state, is_leaf=of_leaves)
    # What is no tree of leaves, as the number of steps, is one for all of them.
    parts = [
      jax.tree.leaves(node) if of_leaves(node) else [node] * len(leaves)
      for node in nodes
    ]
    made = [
      one(leaf, around.unflatten(part), param)
      for leaf, param, *part in zip(
        leaves, structure.flatten_up_to(params), *parts, strict=True
      )
    ]
    found = zip(*(around.flatten_up_to(own) for _, own in made), strict=True)
    after = [
      structure.unflatten(own) if of_leaves(node) else own[0]
      for node, own in zip(nodes, found, strict=True)
    ]
    return structure.unflatten([leaf for leaf, _ in made]), around.unflatten(after)

  return optax.GradientTransformation(inner.init, update)
