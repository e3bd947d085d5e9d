"""The loss of predicted tokens over a large vocabulary.

Only some of the logits exist at a time, and each is computed once. On several devices
each has the logits of a part of the vocabulary.

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
  chosen_logits,
  cross_entropy,
  symmetric_divergence,
  weighted_sum,
)
from tl_jax.objectives.spread import Spread, add_up, bring, lay_out, spread_of
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
  return token_terms(name, outputs, batch, smoothing)


def token_terms(name: str, outputs, batch: Batch, smoothing: float = 0.0):
  """What `token_loss` gives, of outputs that are there already."""
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
  chosen = chosen_logits(logits, targets)[..., None]
  token = jnp.arange(logits.shape[-1], dtype=targets.dtype)
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

  A device has about `MOST` logits at a time, and of several devices each has a quarter
  of that, for a part brings the states of other devices along.
  """
  rows, n = readout.hidden.shape[:2]
  logits = rows * n * readout.vocabulary
  spread = spread_of(rows, n, readout.vocabulary)
  if spread is not None:
    at_a_time = MOST / 4 * parallel.activation_shards()
    parts = max(1, min(n, round(logits / at_a_time)))
    return _by_parts(readout, targets, weights, smoothing, parts, spread)
  parts = min(n, round(logits / MOST))
  if parts <= 1:
    return score_logits(readout.logits(), targets, weights, smoothing)
  return _by_parts(readout, targets, weights, smoothing, parts, None)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3, 4, 5))
def _by_parts(readout, targets, weights, smoothing: float, parts: int, spread):
  """`score` in so many parts, one after another.

  A sum has the same derivative by each of its inputs whatever becomes of it later. So
  the derivatives are made together with the sum, part by part: no logit is kept for the
  backward pass, and none is computed twice. Weights count as constants.
  """

  shared = _shared(readout, spread)

  def part(hidden, *rest):
    logits = _logits(dataclasses.replace(shared, hidden=hidden), spread)
    return score_logits(logits, *rest, smoothing), None

  sums, _ = add_up(part, parts, spread, readout.hidden, targets, weights)
  return sums


@functools.partial(_by_parts.defjvp, symbolic_zeros=True)
def _by_parts_jvp(smoothing, parts, spread, primals, tangents):
  """The sums, and their change in the direction of the tangents."""
  readout, targets, weights = primals
  readout_tangent = tangents[0]
  # The states are split into parts; the rest of a readout, as its table, is shared.
  shared, structure = jax.tree.flatten(_shared(readout, spread))
  shared_tangent = dataclasses.replace(readout_tangent, hidden=None)
  moves = structure.flatten_up_to(shared_tangent)
  # What nobody differentiates by, a frozen table for one, gets no product.
  asked = [index for index, move in enumerate(moves) if type(move) is not SymbolicZero]

  def loss_of(hidden, chosen, *rest):
    leaf_of = dict(enumerate(shared))
    leaf_of.update(zip(asked, chosen, strict=True))
    whole = dataclasses.replace(structure.unflatten(leaf_of.values()), hidden=hidden)
    return score_logits(_logits(whole, spread), *rest, smoothing)

  differentiate = jax.value_and_grad(loss_of, argnums=(0, 1), has_aux=True)

  def part(hidden, *rest):
    chosen = [shared[index] for index in asked]
    (loss, right), gradients = differentiate(hidden, chosen, *rest)
    by_hidden, by_chosen = gradients
    # The gradient of what was made narrow is narrow, too; many of them are added.
    for place, index in enumerate(asked):
      by_chosen[place] = by_chosen[place].astype(moves[index].dtype)
    by_chosen = lay_out(by_chosen, readout.vocabulary, spread)
    return (loss, right, by_chosen), by_hidden

  sums, by_hidden = add_up(part, parts, spread, readout.hidden, targets, weights)
  loss, right, by_chosen = sums
  by_chosen = bring(by_chosen, readout.vocabulary, spread, back=True)
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


def _shared(readout: leaves.Readout, spread: Spread | None) -> leaves.Readout:
  """What all parts share: the readout without its states.

  On several devices it is cut along the vocabulary once, before the first part.
  """
  shared = dataclasses.replace(readout, hidden=None)
  if spread is None:
    return shared
  # As narrow as the product wants it, before it is moved. Another kind of leaf is small
  # where it is moved, and its own product says how wide it must be.
  if not leaves.is_structured(shared.weight):
    weight = shared.weight.astype(readout.hidden.dtype)
    shared = dataclasses.replace(shared, weight=weight)
  return bring(shared, readout.vocabulary, spread)


def _logits(readout: leaves.Readout, spread: Spread | None) -> Array:
  """The logits of a readout, cut along the vocabulary."""
  return lay_out(readout.logits(), readout.vocabulary, spread)
