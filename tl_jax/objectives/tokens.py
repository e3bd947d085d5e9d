"""The loss of predicted tokens, with some of the logits over a vocabulary at a time,
each computed once.

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
from tl_jax.objectives.losses import cross_entropy, weighted_sum
from tl_jax.objectives.types import Array, Batch, Mean, Term

MOST = 2**27  # logits that a device has at a time: half a gigabyte


def token_weights(name: str):
  """The `weights` function of an objective with one term over batch['target_weights']."""
  return lambda batch: {name: batch['target_weights'].astype(jnp.float32).sum()}


def token_loss(name: str, forward, batch: Batch, key, smoothing: float = 0.0, **asked):
  """The term `name` and the token accuracy of what `forward` says of batch['targets']
  (rows, n).

  The model is asked to keep its `readout`; one that gives only logits (rows, n,
  vocabulary) is taken at them.
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
  return {name: Term(loss)}, {'accuracy': Mean(right, weights.sum())}


def score_logits(
  logits: Array, targets: Array, weights: Array, smoothing: float = 0.0
) -> tuple[Array, Array]:
  """Weighted sums over positions (rows, n), float32: of the negative log likelihood in
  nats, and of right answers.
  """
  chosen = jnp.take_along_axis(logits, targets[..., None], -1)
  place = jax.lax.broadcasted_iota(targets.dtype, logits.shape, logits.ndim - 1)
  # The first of the highest logits is the answer; this is `argmax` as a reduction that
  # CPUs do many at a time.
  beaten = ((logits > chosen) | (logits == chosen) & (place < targets[..., None])).any(
    -1
  )
  right = jnp.where(beaten | jnp.isnan(chosen[..., 0]), 0.0, 1.0)
  return weighted_sum(cross_entropy(logits, targets, smoothing), weights), weighted_sum(
    right, weights
  )


def score(
  readout: leaves.Readout, targets: Array, weights: Array, smoothing: float = 0.0
) -> tuple[Array, Array]:
  """`score_logits` for the states (rows, n, width) of a readout, about `MOST` logits to
  a device at a time.
  """
  rows, n = readout.hidden.shape[:2]
  parts = min(n, round(rows * n * readout.vocabulary / (MOST * parallel.sharing())))
  if parts <= 1:
    return score_logits(readout.logits(), targets, weights, smoothing)
  return _by_parts(readout, targets, weights, smoothing, parts)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def _by_parts(readout, targets, weights, smoothing: float, parts: int):
  """The same in so many parts, one after another.

  A sum has the same derivative by each of its inputs whatever becomes of it later. So
  these are made together with the sum, part by part: no logit is kept for the backward
  pass, and none is computed twice. Weights count as constants.
  """

  def part(hidden, *rest):
    return score_logits(
      dataclasses.replace(readout, hidden=hidden).logits(), *rest, smoothing
    ), None

  return _add_up(part, parts, readout.hidden, targets, weights)[0]


@functools.partial(_by_parts.defjvp, symbolic_zeros=True)
def _by_parts_jvp(smoothing, parts, primals, tangents):
  readout, targets, weights = primals
  shared, structure = jax.tree.flatten(dataclasses.replace(readout, hidden=None))
  moves = structure.flatten_up_to(dataclasses.replace(tangents[0], hidden=None))
  # What nobody differentiates by, a frozen table for one, gets no product.
  asked = [index for index, move in enumerate(moves) if type(move) is not SymbolicZero]

  def loss_of(hidden, chosen, *rest):
    leaf_of = dict(enumerate(shared)) | dict(zip(asked, chosen, strict=True))
    whole = dataclasses.replace(structure.unflatten(leaf_of.values()), hidden=hidden)
    return score_logits(whole.logits(), *rest, smoothing)

  def part(hidden, *rest):
    differentiate = jax.value_and_grad(loss_of, argnums=(0, 1), has_aux=True)
    (loss, right), (by_hidden, by_chosen) = differentiate(
      hidden, [shared[index] for index in asked], *rest
    )
    return (loss, right, by_chosen), by_hidden

  (loss, right, by_chosen), by_hidden = _add_up(
    part, parts, readout.hidden, targets, weights
  )
  pairs = [*zip(by_chosen, [moves[index] for index in asked], strict=True)]
  if type(tangents[0].hidden) is not SymbolicZero:
    pairs.append((by_hidden, tangents[0].hidden))
  moved = sum(
    ((by.astype(jnp.float32) * move.astype(jnp.float32)).sum() for by, move in pairs),
    jnp.zeros(()),
  )
  return (loss, right), (moved, jnp.zeros(()))


def _add_up(function, parts: int, *arrays: Array):
  """function(*part) -> (sums, kept), over parts of arrays (rows, n, ...): all sums, and
  what was kept side by side.

  A part takes positions at equal steps, so that a device which holds some rows, or some
  of the length, has its share of each. What is padded has the weight 0.
  """

  def split(x):
    x = jnp.pad(x, ((0, 0), (0, -n % parts), *[(0, 0)] * (x.ndim - 2)))
    return jnp.moveaxis(x.reshape(rows, -1, parts, *x.shape[2:]), 2, 0)

  def join(x):
    return jnp.moveaxis(x, 0, 2).reshape(rows, -1, *x.shape[3:])[:, :n]

  def add(total, part):
    sums, kept = function(*part)
    return jax.tree.map(jnp.add, total, sums), kept

  rows, n = arrays[0].shape[:2]
  arrays = [split(x) for x in arrays]
  zeros = jax.tree.map(
    lambda x: jnp.zeros(x.shape, x.dtype),
    jax.eval_shape(function, *(x[0] for x in arrays))[0],
  )
  sums, kept = jax.lax.scan(add, zeros, arrays)
  return sums, jax.tree.map(join, kept)
