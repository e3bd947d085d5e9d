"""A label for single tokens: the tag of the word that a token begins.

>>> objective = tags(labels=2)
>>> float(objective.weights({'labels': jnp.array([[-1, 1, -1, 0]])})['tags'])
2.0
"""

import jax
import jax.numpy as jnp

from tl_jax.config import Count, Fraction
from tl_jax.objectives.losses import (
  cross_entropy,
  symmetric_divergence,
  weighted_sum,
)
from tl_jax.objectives.types import Mean, Objective, Prediction, Term


def tags(*, labels: Count, smoothing: Fraction = 0.0) -> Objective:
  """Learns the labels of tokens by cross-entropy.

  A row has logits (rows, length, labels), and batch['labels'] int32 (rows, length) with
  -1 where a token has no label. `smoothing` spreads so much of a target evenly over all
  labels.

  A token with a label weighs 1. The term is `tags`, the metric `accuracy`. Errors:
  ValueError for logits of another shape.
  """

  def prepare(key, batch):
    del key
    return batch

  def weights_of(batch):
    return (batch['labels'] >= 0).astype(jnp.float32)

  def weights(batch):
    return {'tags': weights_of(batch).sum()}

  def loss(forward, batch, key):
    outputs = forward(batch, key=key, train=key is not None)
    logits = outputs.logits.astype(jnp.float32)
    weight = weights_of(batch)
    shape = (*weight.shape, labels)
    if logits.shape != shape:
      raise ValueError(
        f'tags: the logits have shape {logits.shape}, not {shape}; the model needs the '
        'head for tokens'
      )
    # Of a token without weight the label may be any.
    targets = jnp.maximum(batch['labels'], 0)
    values = cross_entropy(logits, targets, smoothing)
    is_right = logits.argmax(-1) == targets
    means = {'accuracy': Mean(weighted_sum(is_right, weight), weight.sum())}
    return {'tags': Term(weighted_sum(values, weight))}, means

  prediction = Prediction(weights_of, _divergence, _log_probabilities)
  return Objective(prepare, weights, loss, prediction)


def _log_probabilities(outputs, chosen):
  del chosen
  return jax.nn.log_softmax(outputs)


def _divergence(first, second, chosen):
  """How far two outputs (..., labels) of each token are apart, in nats."""
  log_p = _log_probabilities(first, chosen)
  log_q = _log_probabilities(second, chosen)
  return symmetric_divergence(log_p, log_q)
