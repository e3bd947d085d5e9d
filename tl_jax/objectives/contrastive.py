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
    real = _real(batch)
    count = real.sum()
    return {'contrastive': count.astype(jnp.float32)}

  def loss(forward, batch, key):
    found = _read(forward, batch, key)
    # Rows do not matter: all examples of the batch are compared with each other.
    labels = batch['labels']
    labels = labels.reshape(found.real.shape)
    real = _real(batch)
    weight = real.astype(jnp.float32)
    positives, negatives = _similarities(found, labels, temperature)
    candidates = jnp.concatenate([positives, negatives], 1)
    nll = _cross_entropy(candidates)
    # The other way round there are no third texts: they ask for nothing.
    if symmetric:
      other = _cross_entropy(positives.T)
      nll = (nll + other) / 2
    nearest = jnp.argmax(candidates, -1)
    count = len(weight)
    right = nearest == jnp.arange(count)
    hits = weighted_sum(right, weight)
    means = dict(accuracy=Mean(hits, weight.sum()))
    total = weighted_sum(nll, weight)
    return {'contrastive': Term(total)}, means

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
    real = _real(batch)
    is_any = real.any()
    return {'similarity': is_any.astype(jnp.float32)}

  def loss(forward, batch, key):
    found = _read(forward, batch, key)
    real = _real(batch)
    scores = batch['labels'].reshape(-1)
    # The vectors have length 1.
    first = found.vectors[:, 0]
    second = found.vectors[:, 1]
    products = first * second
    cosines = products.sum(-1) / temperature
    # Of every two examples with different scores, one order counts.
    above = scores[:, None] > scores
    counts = _both(real) & above
    others = cosines - cosines[:, None]
    differences = jnp.where(counts, others, _NEVER)
    # The one beside the sum is the exponential of 0.
    flat = differences.reshape(-1)
    all_of_them = jnp.append(flat, 0.0)
    total = jax.nn.logsumexp(all_of_them)
    return {'similarity': Term(total)}, {}

  return Objective(lambda key, batch: batch, weights, loss)


def _real(batch) -> Array:
  """Which examples (n,) are there: those with a first and a second text."""
  segments = _segments(batch)
  first_two = segments[:, :2]
  real = first_two > 0
  return real.all(-1)


def _segments(batch) -> Array:
  """The segments (n, texts) of the texts of all examples, whatever row they are in."""
  examples = batch['examples']
  texts = examples.shape[-1]
  return examples.reshape(-1, texts)


def _read(forward, batch, key) -> Texts:
  """What a model makes of the texts of a batch."""
  # One forward pass: the texts of an example are segments of one row.
  outputs = forward(batch, key=key, train=key is not None)
  real = _segments(batch) > 0
  vectors = outputs.logits.astype(jnp.float32)
  vectors = vectors.reshape(*real.shape, -1)
  # An empty place may hold anything, and its gradient must be 0.
  vectors = jnp.where(real[..., None], vectors, 1.0)
  squares = jnp.square(vectors)
  squared = squares.sum(-1, keepdims=True)
  squared = jnp.maximum(squared, 1e-24)
  units = vectors * jax.lax.rsqrt(squared)
  return Texts(units, real)


def _similarities(found: Texts, labels: Array, temperature: float):
  """The logits of the second (n, n) and of the third texts (n, m) of all examples.

  labels (n, texts): which text is which. What is no candidate has no part in a sum.
  """
  first = found.vectors[:, 0]
  second = found.vectors[:, 1]
  asks = labels[:, 0]
  answers = labels[:, 1]
  count = len(first)
  own = jnp.eye(count, dtype=bool)
  # The same pair of examples is left out from either side.
  same_first = _equal(asks, asks)
  same_second = _equal(answers, answers)
  # The right text of one may be the first text of another.
  crossed = _equal(asks, answers)
  same = same_first | same_second
  same = same | crossed | crossed.T
  real = found.real[:, :2]
  is_there = _both(real.all(-1))
  counts = own | (is_there & ~same)
  logits = first @ second.T / temperature
  positives = jnp.where(counts, logits, _NEVER)
  # Third texts are wrong for all examples but those that have them as right ones.
  others = found.vectors[:, 2:]
  width = others.shape[-1]
  flat = others.reshape(-1, width)
  numbers = labels[:, 2:]
  numbers = numbers.reshape(-1)
  is_first = _equal(asks, numbers)
  is_second = _equal(answers, numbers)
  is_right = is_first | is_second
  real = found.real[:, 2:]
  counts = real.reshape(-1) & ~is_right
  logits = first @ flat.T / temperature
  negatives = jnp.where(counts, logits, _NEVER)
  return positives, negatives


def _equal(first: Array, second: Array) -> Array:
  """Boolean (n, m): is one of the first numbers (n,) one of the second (m,)?"""
  return first[:, None] == second[None, :]


def _both(real: Array) -> Array:
  """Boolean (n, n): are both there?"""
  return real[:, None] & real[None, :]


def _cross_entropy(logits: Array) -> Array:
  """The loss (n,) of logits (n, m) whose right one is on the diagonal."""
  right = jnp.diagonal(logits)
  total = jax.nn.logsumexp(logits, -1)
  return total - right
