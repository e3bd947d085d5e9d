"""Labels for whole examples, one or many examples to a row.

>>> objective = classify(labels=2)
>>> batch = {'examples': jnp.array([[1, 2, 0]]), 'labels': jnp.array([[1, 0, 0]])}
>>> float(objective.weights(batch)['classify'])
2.0
"""

from typing import Literal

import jax
import jax.numpy as jnp

from tl_jax.config import Count, Fraction
from tl_jax.objectives.losses import cross_entropy, weighted_sum
from tl_jax.objectives.types import Mean, Objective, Prediction, Term


def classify(
  *,
  labels: Count,
  kind: Literal['single_label', 'multi_label', 'regression'] = 'single_label',
  smoothing: Fraction = 0.0,
  groups: tuple = (),
) -> Objective:
  """Cross-entropy of one label, sigmoid cross-entropy of several, or squared error of
  numbers.

  A packed row has logits (rows, slots, labels) and batch['examples'] (rows, slots)
  int32, which is 0 for an empty slot. Its batch['labels'] are (rows, slots) int32 of
  the kind `single_label`, (rows, slots, labels) float32 of the others. Without
  `examples` a row is an example: logits (rows, labels), and labels (rows,) or (rows,
  labels). `multi_label` and `regression` average over the labels of an example.
  `regression` with one label may leave the last axis out. An example weighs 1. An empty
  slot, a row that is all padding, and a `single_label` label below 0 (unknown) weigh 0.

  groups: ((first, end), ...) of tasks that share the head: a label competes with those
  of its own group alone.

  The term is `classify`. The metrics are `accuracy` of `single_label`, `accuracy` over
  all decisions of `multi_label`, and `squared_error` and `absolute_error` of
  `regression`. ValueError for logits of another shape, and for smoothing with a kind
  other than `single_label`.
  """
  if smoothing and kind != 'single_label':
    raise ValueError(
      f'smoothing: only a single label can be smoothed, not kind {kind!r}'
    )
  if len(groups) > 1 and (kind != 'single_label' or smoothing):
    raise ValueError(
      f'groups: only single labels without smoothing come in groups, not kind {kind!r}'
    )
  judges = {
    'single_label': _single_label,
    'multi_label': _multi_label,
    'regression': _regression,
  }
  judge = judges[kind]

  def prepare(key, batch):
    del key
    return batch

  def weights(batch):
    return {'classify': _weights(batch, kind).sum()}

  def loss(forward, batch, key):
    logits = forward(batch, key=key, train=key is not None).logits.astype(jnp.float32)
    weight = _weights(batch, kind)
    if logits.shape != (*weight.shape, labels):
      raise ValueError(
        f'classify: the logits have shape {logits.shape}, not {(*weight.shape, labels)}; '
        'check objective.labels against the head of the model'
      )
    logits = own_group(logits, batch['labels'], groups)
    nll, metrics = judge(logits, batch['labels'], weight, smoothing)
    means = {
      name: Mean(weighted_sum(value, weight), weight.sum())
      for name, value in metrics.items()
    }
    return {'classify': Term(weighted_sum(nll, weight))}, means

  return Objective(prepare, weights, loss, make_prediction(kind, groups))


def make_prediction(kind: str, groups: tuple = ()) -> Prediction:
  """How the logits of an example are read, by kind.

  single_label: the probabilities of the labels of the example's own group, whose
  divergence is the symmetric Kullback-Leibler divergence in nats. multi_label: the
  probabilities of independent decisions, whose divergences add up. regression: numbers,
  of which the mean squared difference is taken, as R-Drop's authors do for STS-B. They
  are no probabilities, because the outputs do not say how sure they are.
  """

  def probabilities_of_one(outputs, chosen):
    return jax.nn.log_softmax(own_group(outputs, chosen, groups))

  def probabilities_of_each(outputs, chosen):
    del chosen
    return jnp.concatenate(
      [jax.nn.log_sigmoid(outputs), jax.nn.log_sigmoid(-outputs)], -1
    )

  def symmetric_divergence(log_probabilities):
    def divergence(first, second, chosen):
      log_p, log_q = log_probabilities(first, chosen), log_probabilities(second, chosen)
      return ((jnp.exp(log_p) - jnp.exp(log_q)) * (log_p - log_q)).sum(-1) / 2

    return divergence

  def squared_difference(first, second, chosen):
    del chosen
    return jnp.square(first - second).mean(-1)

  def weights(batch):
    return _weights(batch, kind)

  if kind == 'regression':
    return Prediction(weights, squared_difference)
  log_probabilities = (
    probabilities_of_one if kind == 'single_label' else probabilities_of_each
  )
  return Prediction(weights, symmetric_divergence(log_probabilities), log_probabilities)


def own_group(logits, chosen, groups):
  """The logits (..., labels) with those of other groups than that of the chosen label
  (...) so low that none counts.
  """
  if len(groups) < 2:
    return logits
  return jnp.where(same_group(chosen, logits.shape[-1], groups), logits, -1e9)


def same_group(chosen, labels: int, groups):
  """Boolean (..., labels): which labels belong to the group of the chosen one (...)."""
  group = jnp.asarray(
    [
      next(place for place, (first, end) in enumerate(groups) if first <= label < end)
      for label in range(labels)
    ]
  )
  return group[jnp.maximum(chosen, 0)][..., None] == group


def _weights(batch, kind):
  """1.0 for each real example, 0.0 for the rest: (rows, slots) or (rows,)."""
  if 'examples' in batch:
    real = batch['examples'] > 0
  elif 'segments' in batch:
    real = (batch['segments'] > 0).any(-1)
  else:
    real = jnp.ones(batch['labels'].shape[:1], bool)
  if kind == 'single_label':
    real = real & (batch['labels'] >= 0)
  return real.astype(jnp.float32)


def _single_label(logits, labels, weight, smoothing):
  labels = jnp.where(weight > 0, labels, 0)
  right = jnp.argmax(logits, -1) == labels
  return cross_entropy(logits, labels, smoothing), {'accuracy': right}


def _multi_label(logits, labels, weight, smoothing):
  del smoothing
  labels = jnp.where(weight[..., None] > 0, labels.astype(jnp.float32), 0.0)
  nll = jax.nn.softplus(logits) - labels * logits
  right = (logits > 0) == (labels > 0.5)
  return nll.mean(-1), {'accuracy': right.mean(-1)}


def _regression(logits, labels, weight, smoothing):
  del smoothing
  values = labels.astype(jnp.float32).reshape(logits.shape)
  error = logits - jnp.where(weight[..., None] > 0, values, 0.0)
  squared = jnp.square(error).mean(-1)
  return squared, {'squared_error': squared, 'absolute_error': jnp.abs(error).mean(-1)}
