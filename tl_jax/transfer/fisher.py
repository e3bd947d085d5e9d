"""How much each parameter matters to what a model predicts: its Fisher information.

>>> import jax, jax.numpy as jnp
>>> def model(params, x):
...   return jax.nn.log_sigmoid(jnp.array([-1.0, 1.0]) * params['w'] * x)
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
  """The diagonal of the Fisher information: the mean over examples of the expected
  square of the gradient of a label's log-probability.

  Kirkpatrick et al. 2017, section 2; Matena & Raffel 2022, eq. 2. The result has the
  names and shapes of `params`, in at least float32, and is 0 where a leaf is not
  floating.

  log_probabilities(params, example) -> (classes,), without a batch axis; or of several
  decisions, as the tokens of a text are, (..., classes), whose log-probabilities add up.
  A decision that is no part of the example has zeros.
  examples: a tree of arrays (n, ...).
  samples: how many labels are drawn per example from the model's own prediction, by
  `key`, a jax key or an integer. 0 takes the expectation itself, with one gradient per
  class; several decisions have too many outcomes for that.
  labels: integers (n,), or (n, ...) of several decisions. The result is then the
  empirical Fisher information of these labels instead.
  batch: how many examples are computed at once. A gradient for each label of each of
  them is held in memory.
  Errors: ValueError without examples, and for arguments that do not fit each other.
  """
  count = _count(examples)
  _require_fit(count, key, samples, labels, batch)
  flat, structure = jax.tree.flatten(params)
  is_trained = [jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in flat]
  floating = []
  for leaf, train in zip(flat, is_trained, strict=True):
    if train:
      floating.append(jnp.asarray(leaf))

  def predict(floating, example):
    # Gradients are of the floating leaves alone; the others are constants.
    given = iter(floating)
    whole = []
    for leaf, train in zip(flat, is_trained, strict=True):
      whole.append(next(given) if train else leaf)
    return log_probabilities(structure.unflatten(whole), example)

  def weighted_labels(index, example):
    """(labels, how much the square for each of them counts) of one example."""
    if labels is not None:
      return jnp.asarray(labels)[index][None], jnp.ones(1)
    found = predict(floating, example)
    decisions = found.shape[:-1]
    if not samples:
      _require_one_decision(decisions)
      # Every label, by its probability: the expectation itself.
      return jnp.arange(found.shape[0]), jnp.exp(found)
    # A stream of the example, so that the draws do not depend on the batch.
    own_key = rng.stream(key, 'fisher', index)
    drawn = jax.random.categorical(own_key, found, shape=(samples, *decisions))
    return drawn, jnp.full(samples, 1 / samples)

  def squares_of(index):
    example = jax.tree.map(lambda leaf: jnp.asarray(leaf)[index], examples)
    drawn, weights = weighted_labels(index, example)
    return _squares(predict, floating, example, drawn, weights)

  totals = iter(_sum_over(count, batch, floating, squares_of))
  means = []
  for leaf, train in zip(flat, is_trained, strict=True):
    means.append(next(totals) / count if train else jnp.zeros(np.shape(leaf)))
  return structure.unflatten(means)


def _require_fit(count: int, key, samples: int, labels, batch: int) -> None:
  """Raises ValueError for arguments of `fisher_diagonal` that do not fit each other."""
  if samples < 0 or batch < 1:
    raise ValueError(
      f'fisher_diagonal: samples {samples} must be at least 0 and batch {batch} at '
      'least 1'
    )
  # Drawn and given labels are two kinds of Fisher information.
  if samples and (key is None or labels is not None):
    raise ValueError(
      'fisher_diagonal: samples: drawing labels needs a key, and no labels'
    )
  if labels is not None and np.shape(labels)[:1] != (count,):
    raise ValueError(
      f'fisher_diagonal: labels: {count} examples need the shape ({count},), got '
      f'{np.shape(labels)}'
    )


def _require_one_decision(decisions: tuple[int, ...]) -> None:
  """Raises ValueError for several: they have too many outcomes to go through."""
  if decisions:
    raise ValueError(
      f'fisher_diagonal: samples: decisions of the shape {decisions} need draws, got 0'
    )


def _squares(predict, floating, example, labels, weights):
  """The squared gradients of one example, summed over labels (n, ...) by weights (n,)."""

  def chosen(held, label):
    found = predict(held, example)
    return jnp.take_along_axis(found, label[..., None], -1).sum()

  def slope(label):
    return jax.grad(chosen)(floating, label)

  slopes = jax.vmap(slope)(labels)
  squares = []
  for leaf in slopes:
    # Widened first: small squares underflow in float16, small changes are lost in sums
    # of bfloat16.
    wide = _wide(leaf)
    square = jnp.square(leaf.astype(wide))
    squares.append(jnp.tensordot(weights.astype(wide), square, 1))
  return squares


def _sum_over(count: int, batch: int, floating, function):
  """The sum of function(index) over the indices 0 to count - 1.

  `batch` of them are computed at a time, so that never all are in memory.
  """
  most = min(batch, count)
  # All chunks have one size, so that one program serves them.
  steps = -(-count // most)
  indices = jnp.arange(steps * most).reshape(steps, most)

  def add(totals, chunk):
    # The last chunk is filled up with the last example, which then counts for nothing.
    is_real = chunk < count
    found = jax.vmap(function)(jnp.minimum(chunk, count - 1))
    summed = []
    for old, new in zip(totals, found, strict=True):
      weights = is_real.astype(new.dtype)
      summed.append(old + jnp.tensordot(weights, new, 1))
    return summed, None

  zeros = [jnp.zeros(leaf.shape, _wide(leaf)) for leaf in floating]
  totals, _ = jax.lax.scan(add, zeros, indices)
  return totals


def _wide(leaf):
  """The dtype of a leaf, or float32 for a narrower one."""
  return jnp.promote_types(leaf.dtype, jnp.float32)


def _count(examples: Tree) -> int:
  """The length of the leading axis. Raises ValueError unless there is just one."""
  counts = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(examples)}
  if len(counts) != 1 or counts & {(), (0,)}:
    found = ', '.join(map(str, sorted(counts))) or 'no array'
    raise ValueError(
      'fisher_diagonal: examples: every array needs the same leading axis of at least '
      f'1, got {found}'
    )
  return counts.pop()[0]
