"""The loss of predicted tokens over a large vocabulary.

Only some of the logits exist at a time, and each is computed once.

>>> readout = leaves.Readout(jnp.ones((1, 2, 3)), jnp.zeros((4, 3)))
>>> loss, right = score(readout, jnp.array([[0, 1]]), jnp.ones((1, 2)))
>>> round(float(loss), 4), float(right)
(2.7726, 1.0)
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from tl_jax import leaves, parallel
from tl_jax.objectives.losses import (
  cross_entropy,
  symmetric_divergence,
  weighted_sum,
)
from tl_jax.objectives.types import Array, Batch, Mean, Prediction, Term

# Logits that a device has at a time: half a gigabyte.
MOST = 2**27


def token_weights(name: str):
  """The `weights` function of an objective with one term over the target weights."""

  def weights(batch):
    return {name: batch['target_weights'].astype(jnp.float32).sum()}

  return weights


def token_prediction() -> Prediction:
  """How logits over the vocabulary are read: a prediction for each target token.

  Their probabilities are over the vocabulary, far too many to be summed one by one.
  """

  def weights(batch):
    return batch['target_weights'].astype(jnp.float32)

  def divergence(first, second, labels):
    del labels
    return symmetric_divergence(jax.nn.log_softmax(first), jax.nn.log_softmax(second))

  return Prediction(weights, divergence)


def token_loss(name: str, forward, batch: Batch, key, smoothing: float = 0.0, **asked):
  """The term `name` and the token accuracy of a model on batch['targets'] (rows, n).

  The model is asked to keep its `readout`, from which logits are made part by part. Of
  a model without one, the logits (rows, n, vocabulary) themselves are taken. `asked` is
  passed on to the model.
  """
  outputs = forward(batch, key=key, train=key is not None, keep=('readout',), **asked)
  weights = batch['target_weights'].astype(jnp.float32)
  # A slot without weight may hold any number, even one outside the vocabulary.
  targets = jnp.where(weights > 0, batch['targets'], 0)
  readout = getattr(outputs, 'readout', None)
  if readout is None:
    loss, right = score_logits(outputs.logits, targets, weights, smoothing)
  else:
    loss, right = score(readout, targets, weights, smoothing)
  accuracy = Mean(right, weights.sum())
  return {name: Term(loss)}, {'accuracy': accuracy}


def score_logits(
  logits: Array, targets: Array, weights: Array, smoothing: float = 0.0
) -> tuple[Array, Array]:
  """The loss and the right answers, weighted sums over positions (rows, n).

  Both are float32 scalars; the loss is the negative log likelihood in nats. The logits
  are (rows, n, vocabulary), targets and weights (rows, n).
  """
  chosen = jnp.take_along_axis(logits, targets[..., None], -1)
  token = jax.lax.broadcasted_iota(targets.dtype, logits.shape, logits.ndim - 1)
  # The first of the highest logits is the answer; this is `argmax` as a reduction that
  # CPUs do many at a time.
  comes_first = token < targets[..., None]
  beats = (logits > chosen) | (logits == chosen) & comes_first
  # A logit that is no number is beaten by none, but no answer either.
  is_nan = jnp.isnan(chosen[..., 0])
  is_wrong = beats.any(-1) | is_nan
  right = jnp.where(is_wrong, 0.0, 1.0)
  loss = weighted_sum(cross_entropy(logits, targets, smoothing), weights)
  return loss, weighted_sum(right, weights)


def score(
  readout: leaves.Readout, targets: Array, weights: Array, smoothing: float = 0.0
) -> tuple[Array, Array]:
  """`score_logits` of the states (rows, n, width) of a readout.

  A device has about `MOST` logits at a time.
  """
  rows, n = readout.hidden.shape[:2]
  at_a_time = MOST * parallel.activation_shards()
  logits = rows * n * readout.vocabulary
  parts = min(n, round(logits / at_a_time))
  if parts <= 1:
    return score_logits(readout.logits(), targets, weights, smoothing)
  return _by_parts(readout, targets, weights, smoothing, parts)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def _by_parts(readout, targets, weights, smoothing: float, parts: int):
  """`score` in so many parts, one after another.

  A sum has the same derivative by each of its inputs whatever becomes of it later. So
  the derivatives are made together with the sum, part by part: no logit is kept for the
  backward pass, and none is computed twice. Weights count as constants.
  """

  def part(hidden, *rest):
    logits = dataclasses.replace(readout, hidden=hidden).logits()
    return score_logits(logits, *rest, smoothing), None

  sums, _ = _add_up(part, parts, readout.hidden, targets, weights)
  return sums


@functools.partial(_by_parts.defjvp, symbolic_zeros=True)
def _by_parts_jvp(smoothing, parts, primals, tangents):
  """The sums, and their change in the direction of the tangents."""
  readout, targets, weights = primals
  readout_tangent = tangents[0]
  # The states are split into parts; the rest of a readout, as its table, is shared.
  shared, structure = jax.tree.flatten(dataclasses.replace(readout, hidden=None))
  shared_tangent = dataclasses.replace(readout_tangent, hidden=None)
  moves = structure.flatten_up_to(shared_tangent)
  # What nobody differentiates by, a frozen table for one, gets no product.
  asked = [index for index, move in enumerate(moves) if type(move) is not SymbolicZero]

  def loss_of(hidden, chosen, *rest):
    leaf_of = dict(enumerate(shared))
    leaf_of.update(zip(asked, chosen, strict=True))
    whole = dataclasses.replace(structure.unflatten(leaf_of.values()), hidden=hidden)
    return score_logits(whole.logits(), *rest, smoothing)

  differentiate = jax.value_and_grad(loss_of, argnums=(0, 1), has_aux=True)

  def part(hidden, *rest):
    chosen = [shared[index] for index in asked]
    (loss, right), gradients = differentiate(hidden, chosen, *rest)
    by_hidden, by_chosen = gradients
    return (loss, right, by_chosen), by_hidden

  sums, by_hidden = _add_up(part, parts, readout.hidden, targets, weights)
  loss, right, by_chosen = sums
  asked_moves = [moves[index] for index in asked]
  pairs = list(zip(by_chosen, asked_moves, strict=True))
  if type(readout_tangent.hidden) is not SymbolicZero:
    pairs.append((by_hidden, readout_tangent.hidden))
  moved = jnp.zeros(())
  for derivative, move in pairs:
    product = derivative.astype(jnp.float32) * move.astype(jnp.float32)
    moved += product.sum()
  # The count of right answers is a step function.
  return (loss, right), (moved, jnp.zeros(()))


def _add_up(function, parts: int, *arrays: Array):
  """Calls function(*part) -> (sums, kept) for every part of arrays (rows, n, ...).

  Returns the totals of `sums`, and what was `kept`, (rows, part of n, ...), put
  together to (rows, n, ...). A part takes positions at equal steps, so that a device
  which holds some rows, or some of the length, has its share of each. What is padded
  has the weight 0.
  """
  rows, n = arrays[0].shape[:2]

  def split(x):
    """(rows, n, ...) as (parts, rows, part of n, ...), padded to parts of one length."""
    missing = -n % parts
    others = [(0, 0)] * (x.ndim - 2)
    x = jnp.pad(x, [(0, 0), (0, missing), *others])
    # Neighbours go to different parts: part i has the positions i, i + parts, ...
    x = x.reshape(rows, -1, parts, *x.shape[2:])
    return jnp.moveaxis(x, 2, 0)

  def join(x):
    """The reverse of `split`: (rows, n, ...) again, without the padding."""
    x = jnp.moveaxis(x, 0, 2)
    x = x.reshape(rows, -1, *x.shape[3:])
    return x[:, :n]

  def add(total, part):
    sums, kept = function(*part)
    return jax.tree.map(jnp.add, total, sums), kept

  split_arrays = [split(x) for x in arrays]
  first_part = [x[0] for x in split_arrays]
  # Only the shapes: nothing is computed here.
  sums, _ = jax.eval_shape(function, *first_part)
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), sums)
  totals, kept = jax.lax.scan(add, zeros, split_arrays)
  return totals, jax.tree.map(join, kept)
