"""The right one of the candidates of a question.

>>> objective = choice()
>>> batch = {'examples': jnp.array([[[1, 2], [3, 0]]]), 'labels': jnp.array([[1, 0]])}
>>> float(objective.weights(batch)['choice'])
2.0
"""

import jax
import jax.numpy as jnp

from tl_jax.config import Fraction
from tl_jax.objectives.classify import (
  KINDS,
  make_prediction,
  real_examples,
)
from tl_jax.objectives.losses import weighted_sum
from tl_jax.objectives.types import Mean, Objective, Term


def choice(*, smoothing: Fraction = 0.0, each: bool = False) -> Objective:
  """Learns which candidate of a question is right, by the softmax over its candidates.

  A packed row has scores (rows, questions, candidates), and batch['examples'] int32 of
  that shape, which is 0 where a question has no such candidate and in an empty place.
  batch['labels'] (rows, questions) int32 are the places of the right candidates.
  `smoothing` spreads so much of a target evenly over the candidates of its question.

  Labels may also be float32 (rows, questions, candidates), 1 for each right candidate.
  Then any of these is right: the loss is that of their probabilities together. With
  `each` every candidate is decided for itself by a sigmoid, and the loss of a question
  is the mean over its candidates.

  A question weighs 1; an empty place, and a label below 0 (unknown), weigh 0. The term
  is `choice`, the metric `accuracy`. Errors: ValueError for scores of another shape.
  """

  def prepare(key, batch):
    del key
    return batch

  def weights_of(batch):
    labels = batch['labels']
    # Some candidate is at least wrong, where anything is known of them.
    known = labels if labels.ndim == 2 else labels.max(-1)
    is_known = real_examples(batch) & (known >= 0)
    return is_known.astype(jnp.float32)

  def weights(batch):
    return {'choice': weights_of(batch).sum()}

  def loss(forward, batch, key):
    outputs = forward(batch, key=key, train=key is not None)
    scores = outputs.logits.astype(jnp.float32)
    examples = batch['examples']
    if scores.shape != examples.shape:
      raise ValueError(
        f'choice: the scores have shape {scores.shape}, not {examples.shape}; '
        'the model needs the head for choices'
      )
    weight = weights_of(batch)
    labels = batch['labels']
    if labels.ndim == 2:
      # Of a place without weight the label may be anything.
      right = jnp.where(weight > 0, labels, 0)
      values = _losses(scores, examples > 0, right, smoothing)
      is_right = scores.argmax(-1) == right
    else:
      make = _each if each else _any_of
      values, is_right = make(scores, examples > 0, labels >= 1)
    means = {'accuracy': Mean(weighted_sum(is_right, weight), weight.sum())}
    return {'choice': Term(weighted_sum(values, weight))}, means

  # One of the candidates is right, as one of the labels of a class is.
  prediction = make_prediction(KINDS['single_label'])
  return Objective(prepare, weights, loss, prediction)


def _losses(scores, is_there, right, smoothing: float):
  """The cross-entropy (rows, questions) of the right candidates.

  is_there (rows, questions, candidates): which candidates a question has.
  """
  log_probabilities = jax.nn.log_softmax(jnp.where(is_there, scores, -1e9))
  chosen = jnp.take_along_axis(log_probabilities, right[..., None], -1)[..., 0]
  if not smoothing:
    return -chosen
  count = jnp.maximum(is_there.sum(-1), 1)
  mean = jnp.where(is_there, log_probabilities, 0.0).sum(-1) / count
  return -(1 - smoothing) * chosen - smoothing * mean


def _any_of(scores, is_there, right):
  """(losses, is the best candidate right), both (rows, questions).

  right bool (rows, questions, candidates): which candidates are.
  """
  # Of an empty place no candidate is right, and its loss weighs nothing.
  right = right | ~right.any(-1, keepdims=True)
  whole = jax.nn.logsumexp(jnp.where(is_there, scores, -1e9), -1)
  part = jax.nn.logsumexp(jnp.where(is_there & right, scores, -1e9), -1)
  best = jnp.take_along_axis(right, scores.argmax(-1)[..., None], -1)[..., 0]
  return whole - part, best


def _each(scores, is_there, right):
  """(losses, are all candidates decided rightly), both (rows, questions)."""
  scores = jnp.where(is_there, scores, 0.0)
  values = jax.nn.softplus(scores) - right * scores
  total = jnp.where(is_there, values, 0.0).sum(-1)
  are_right = ((scores > 0) == right) | ~is_there
  return total / jnp.maximum(is_there.sum(-1), 1), are_right.all(-1)
