"""How much each parameter matters to what a model says: the diagonal of its Fisher
information.

>>> import jax, jax.numpy as jnp
>>> model = lambda params, x: jax.nn.log_sigmoid(jnp.array([-1.0, 1.0]) * params['w'] * x)
>>> float(fisher_diagonal(model, {'w': jnp.zeros(())}, jnp.array([1.0, 3.0]))['w'])
1.25
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import rng

Tree = Any


def fisher_diagonal(
  log_probabilities: Callable[[Tree, Tree], jax.Array],
  params: Tree,
  examples: Tree,
  key=None,
  *,
  samples: int = 0,
  labels=None,
  batch: int = 8,
) -> Tree:
  """The mean over examples of the expected square of the gradient of a label's
  log-probability.

  Kirkpatrick et al. 2017, section 2; Matena & Raffel 2022, eq. 2. The result has the
  names and shapes of `params`, in at least float32, and is 0 where a leaf is not
  floating.

  log_probabilities(params, example) -> (classes,), without a batch axis. examples: a
  tree of arrays (n, ...).
  samples: labels drawn per example from the model's own prediction, by `key`, a jax key
  or an integer; 0 takes the expectation itself, one gradient per class. labels:
  integers (n,), the empirical Fisher information of given labels instead. batch:
  examples at once; a gradient for each label of each of them is held in memory.
  Errors: ValueError without examples, and for arguments that do not fit each other.
  """
  count = _count(examples)
  if samples < 0 or batch < 1:
    raise ValueError(
      f'fisher_diagonal: samples {samples} must be at least 0 and batch {batch} at least 1'
    )
  if samples and (key is None or labels is not None):
    raise ValueError(
      'fisher_diagonal: samples: drawing labels needs a key, and no labels'
    )
  if labels is not None and np.shape(labels) != (count,):
    raise ValueError(
      f'fisher_diagonal: labels: {count} examples need the shape ({count},), got {np.shape(labels)}'
    )
  flat, structure = jax.tree.flatten(params)
  trained = [jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in flat]

  def predict(floating, example):
    given = iter(floating)
    whole = [
      next(given) if train else leaf for leaf, train in zip(flat, trained, strict=True)
    ]
    return log_probabilities(structure.unflatten(whole), example)

  def chances(index, example, floating):
    """(labels, how much the square for each of them counts)."""
    if labels is not None:
      return jnp.asarray(labels)[index][None], jnp.ones(1)
    found = predict(floating, example)
    if not samples:
      return jnp.arange(found.shape[0]), jnp.exp(found)
    drawn = jax.random.categorical(
      rng.stream(key, 'fisher', index), found, shape=(samples,)
    )
    return drawn, jnp.full(samples, 1 / samples)

  floating = [
    jnp.asarray(leaf) for leaf, train in zip(flat, trained, strict=True) if train
  ]
  total = _sum_over(
    count,
    batch,
    floating,
    lambda index: _squares(
      predict,
      floating,
      jax.tree.map(lambda leaf: jnp.asarray(leaf)[index], examples),
      lambda example: chances(index, example, floating),
    ),
  )
  means = iter(total)
  return structure.unflatten(
    [
      next(means) / count if train else jnp.zeros(np.shape(leaf))
      for leaf, train in zip(flat, trained, strict=True)
    ]
  )


def _squares(predict, floating, example, chances):
  """The squared gradients of one example, each label by its weight."""
  drawn, weights = chances(example)
  slopes = jax.vmap(
    lambda label: jax.grad(lambda held: predict(held, example)[label])(floating)
  )(drawn)
  return [
    jnp.tensordot(weights.astype(_wide(leaf)), jnp.square(leaf.astype(_wide(leaf))), 1)
    for leaf in slopes
  ]


def _sum_over(count: int, batch: int, floating, function):
  """The sum of function(index) over 0..count-1, `batch` of them at a time: they are
  never all in memory.
  """
  most = min(batch, count)
  steps = -(-count // most)
  indices = jnp.arange(steps * most).reshape(steps, most)

  def add(total, chunk):
    found = jax.vmap(function)(jnp.minimum(chunk, count - 1))
    # The last chunk is filled up with the last example, which then counts for nothing.
    return [
      old + jnp.tensordot((chunk < count).astype(new.dtype), new, 1)
      for old, new in zip(total, found, strict=True)
    ], None

  return jax.lax.scan(
    add, [jnp.zeros(leaf.shape, _wide(leaf)) for leaf in floating], indices
  )[0]


def _wide(leaf):
  return jnp.promote_types(leaf.dtype, jnp.float32)


def _count(examples: Tree) -> int:
  """The length of the leading axis. Raises ValueError where there is none, or several."""
  counts = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(examples)}
  if len(counts) != 1 or counts & {(), (0,)}:
    raise ValueError(
      'fisher_diagonal: examples: every array needs the same leading axis of at least 1, got '
      + (', '.join(map(str, sorted(counts))) or 'no array')
    )
  return counts.pop()[0]
