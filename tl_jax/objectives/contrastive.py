"""Sentence embeddings: texts that belong together lie close, those of others far off.

>>> objective = contrastive()
>>> examples = jnp.array([[[1, 2], [3, 4]]])
>>> batch = {'examples': examples, 'labels': jnp.array([[[0.0, 1.0], [2.0, 3.0]]])}
>>> vectors = jnp.array([[[1.0, 0.0, 2.0, 0.0], [0.0, 1.0, 0.0, 3.0]]])
>>> from types import SimpleNamespace
>>> forward = lambda batch, **how: SimpleNamespace(logits=vectors)
>>> terms, _ = objective.loss(forward, batch, None)
>>> bool(terms['contrastive'].sum < 1e-6)
True
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from tl_jax.config import Positive
from tl_jax.objectives.losses import weighted_sum
from tl_jax.objectives.types import Array, Mean, Objective, Term

# In the place of a similarity that does not count: its exponential is 0.
_NEVER = -1e9


class Texts(NamedTuple):
  """The texts of a batch, those of one example in a row.

  vectors float32 (n, texts, width) of length 1. real (n, texts): is a text there?
  """

  vectors: Array
  real: Array


def contrastive(*, temperature: Positive = 0.05, symmetric: bool = False) -> Objective:
  """A text finds the one that belongs to it among those of the whole batch (InfoNCE).

  The loss is the cross-entropy of the right text, under logits that are the cosine
  divided by the temperature (van den Oord et al. 2018, equation 4; Gao et al. 2021,
  equations 1 and 5). The candidates are the second texts of all examples, on whichever
  device, and the third ones, which are wrong for each. `symmetric` takes the mean with
  the other direction, from a second text to the first ones.

  With the same text as first and second, which dropout alone tells apart, this is
  unsupervised SimCSE.

  A batch has examples (rows, examples, texts), the segment of each text, 0 for none,
  and labels of that shape: equal numbers for equal texts. A candidate is no negative of
  an example that has it, or whose first text is its own first text.

  The term is `contrastive` (nats per example); the metric `accuracy` says how often the
  right text is the nearest.
  """

  def weights(batch):
    return {'contrastive': _real(batch).sum().astype(jnp.float32)}

  def loss(forward, batch, key):
    found = _read(forward, batch, key)
    # Rows do not matter: all examples of the batch are compared with each other.
    labels = batch['labels'].reshape(found.real.shape)
    weight = _real(batch).astype(jnp.float32)
    positives, negatives = _similarities(found, labels, temperature)
    candidates = jnp.concatenate([positives, negatives], 1)
    nll = _cross_entropy(candidates)
    # The other way round there are no third texts: they ask for nothing.
    if symmetric:
      nll = (nll + _cross_entropy(positives.T)) / 2
    right = jnp.argmax(candidates, -1) == jnp.arange(len(weight))
    means = dict(accuracy=Mean(weighted_sum(right, weight), weight.sum()))
    return {'contrastive': Term(weighted_sum(nll, weight))}, means

  return Objective(lambda key, batch: batch, weights, loss)


def similarity(*, temperature: Positive = 0.05) -> Objective:
  """Pairs of texts with the higher score get the higher cosine (CoSENT, Su 2022).

  The loss is log(1 + sum over pairs i, j of the batch of which i has the higher score
  of exp((cosine of j - cosine of i) / temperature)). It depends on the order of the
  scores alone, so that these may have any unit.

  A batch has examples (rows, examples, 2) and labels (rows, examples, 1), the scores.
  The term is `similarity`, of the whole batch.
  """

  def weights(batch):
    return {'similarity': _real(batch).any().astype(jnp.float32)}

  def loss(forward, batch, key):
    found = _read(forward, batch, key)
    real = _real(batch)
    scores = batch['labels'].reshape(-1)
    # The vectors have length 1.
    cosines = (found.vectors[:, 0] * found.vectors[:, 1]).sum(-1) / temperature
    # Of every two examples with different scores, one order counts.
    counts = real[:, None] & real[None, :] & (scores[:, None] > scores[None, :])
    differences = jnp.where(counts, cosines[None, :] - cosines[:, None], _NEVER)
    # The one beside the sum is the exponential of 0.
    all_of_them = jnp.append(differences.reshape(-1), 0.0)
    return {'similarity': Term(jax.nn.logsumexp(all_of_them))}, {}

  return Objective(lambda key, batch: batch, weights, loss)


def _real(batch) -> Array:
  """Which examples (n,) are there: those with a first and a second text."""
  texts = batch['examples'].shape[-1]
  return (batch['examples'].reshape(-1, texts)[:, :2] > 0).all(-1)


def _read(forward, batch, key) -> Texts:
  """What a model makes of the texts of a batch."""
  # One forward pass: the texts of an example are segments of one row.
  outputs = forward(batch, key=key, train=key is not None)
  texts = batch['examples'].shape[-1]
  real = batch['examples'].reshape(-1, texts) > 0
  vectors = outputs.logits.astype(jnp.float32).reshape(*real.shape, -1)
  # An empty place may hold anything, and its gradient must be 0.
  vectors = jnp.where(real[..., None], vectors, 1.0)
  squared = jnp.square(vectors).sum(-1, keepdims=True)
  return Texts(vectors * jax.lax.rsqrt(jnp.maximum(squared, 1e-24)), real)


def _similarities(found: Texts, labels: Array, temperature: float):
  """The logits of the second (n, n) and of the third texts (n, m) of all examples.

  labels (n, texts): which text is which. What is no candidate has no part in a sum.
  """
  first, second = found.vectors[:, 0], found.vectors[:, 1]
  own = jnp.eye(len(first), dtype=bool)
  # The same pair of examples is left out from either side.
  same = _equal(labels[:, 0], labels[:, 0]) | _equal(labels[:, 1], labels[:, 1])
  # The right text of one may be the first text of another.
  crossed = _equal(labels[:, 0], labels[:, 1])
  is_negative = ~(same | crossed | crossed.T) & _both(found.real[:, :2].all(-1))
  positives = jnp.where(own | is_negative, first @ second.T / temperature, _NEVER)
  # Third texts are wrong for all examples but those that have them as right ones.
  others = found.vectors[:, 2:]
  flat = others.reshape(-1, others.shape[-1])
  numbers = labels[:, 2:].reshape(-1)
  is_right = _equal(labels[:, 0], numbers) | _equal(labels[:, 1], numbers)
  counts = found.real[:, 2:].reshape(-1) & ~is_right
  return positives, jnp.where(counts, first @ flat.T / temperature, _NEVER)


def _equal(first: Array, second: Array) -> Array:
  """Boolean (n, m): is one of the first numbers (n,) one of the second (m,)?"""
  return first[:, None] == second[None, :]


def _both(real: Array) -> Array:
  """Boolean (n, n): are both there?"""
  return real[:, None] & real[None, :]


def _cross_entropy(logits: Array) -> Array:
  """The loss (n,) of logits (n, m) whose right one is on the diagonal."""
  return jax.nn.logsumexp(logits, -1) - jnp.diagonal(logits)
