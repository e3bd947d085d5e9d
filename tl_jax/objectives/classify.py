"""Labels for whole examples, one or many examples to a row.

>>> objective = classify(labels=2)
>>> batch = {'examples': jnp.array([[1, 2, 0]]), 'labels': jnp.array([[1, 0, 0]])}
>>> float(objective.weights(batch)['classify'])
2.0
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from tl_jax.config import Count, Fraction
from tl_jax.objectives.losses import (
  cross_entropy,
  symmetric_divergence,
  weighted_sum,
)
from tl_jax.objectives.types import (
  MODELS,
  Entry,
  Mean,
  Objective,
  Prediction,
  Term,
)


def classify(
  *,
  labels: Count,
  kind: Literal['single_label', 'multi_label', 'regression'] = 'single_label',
  smoothing: Fraction = 0.0,
  groups: tuple = (),
  class_weights: tuple[float, ...] = (),
) -> Objective:
  """Learns the labels of examples, by a loss that depends on their kind.

  The loss is cross-entropy of one label, sigmoid cross-entropy of several, or the
  squared error of numbers. `multi_label` and `regression` average it over the labels of
  an example.

  A packed row has logits (rows, examples, labels) and batch['examples'] (rows,
  examples) int32, which is 0 for an empty place. Its batch['labels'] are (rows,
  examples) int32 for `single_label`, (rows, examples, labels) float32 for the others.
  Without `examples` a row is an example: logits (rows, labels), and labels (rows,) or
  (rows, labels). `regression` with one label may leave the last axis out.

  An example weighs 1, or with `class_weights` (labels,) as much as its label. An empty
  place, a row that is all padding, and a `single_label` label below 0 (unknown) weigh 0.
  The loss is then that of examples which come so often; the metrics count each once.

  groups: ((first, end), ...) of tasks that share the head: a label competes with those
  of its own group alone.

  The term is `classify`. The metrics are `accuracy` of `single_label`, `accuracy` over
  all decisions of `multi_label`, and `squared_error` and `absolute_error` of
  `regression`.
  Errors: ValueError for logits of another shape, and for smoothing, groups or class
  weights with a kind other than `single_label`.
  """
  how = KINDS[kind]
  if not how.exclusive:
    _require_plain(kind, smoothing, groups, class_weights)
  if len(groups) > 1 and smoothing:
    raise ValueError('groups: labels that come in groups cannot be smoothed')

  def prepare(key, batch):
    del key
    return batch

  def weighed(batch, weight):
    """The weights of examples in the loss, from those that each has as an example."""
    if not class_weights:
      return weight
    # Of an empty place the label may be anything, and 0 of anything is 0.
    return weight * jnp.asarray(class_weights)[jnp.maximum(batch['labels'], 0)]

  def weights(batch):
    return {'classify': weighed(batch, _weights(batch, how)).sum()}

  def loss(forward, batch, key):
    outputs = forward(batch, key=key, train=key is not None)
    logits = outputs.logits.astype(jnp.float32)
    weight = _weights(batch, how)
    # jax would broadcast a head of one label to any number of them.
    shape = (*weight.shape, labels)
    if logits.shape != shape:
      raise ValueError(
        f'classify: the logits have shape {logits.shape}, not {shape}; '
        'check objective.labels against the head of the model'
      )
    logits = own_group(logits, batch['labels'], groups)
    values, metrics = how.loss(logits, batch['labels'], weight, smoothing)
    means = {}
    for name, value in metrics.items():
      means[name] = Mean(weighted_sum(value, weight), weight.sum())
    return {'classify': Term(weighted_sum(values, weighed(batch, weight)))}, means

  return Objective(prepare, weights, loss, make_prediction(how, groups))


def _require_plain(kind: str, smoothing, groups: tuple, class_weights: tuple) -> None:
  """Raises ValueError for what only single labels have."""
  if smoothing:
    raise ValueError(
      f'smoothing: only a single label can be smoothed, not kind {kind!r}'
    )
  if len(groups) > 1:
    raise ValueError(f'groups: only single labels come in groups, not kind {kind!r}')
  if class_weights:
    raise ValueError(f'class_weights: only single labels have them, not kind {kind!r}')


class Kind(NamedTuple):
  """What the labels of an example are.

  loss(logits, labels, weight, smoothing) -> (the loss of every example (...), its
    metrics by name), from logits (..., labels).
  log_probabilities(outputs, chosen, groups) -> (..., cases), as `Prediction` has them.
    None for outputs that are no probabilities.
  is_known(labels) -> which examples (...) have a label, True for all.
  exclusive: is one label right, so that the others are wrong?
  """

  loss: Callable
  log_probabilities: Callable | None = None
  is_known: Callable = lambda labels: True
  exclusive: bool = False


def make_prediction(how: Kind, groups: tuple = ()) -> Prediction:
  """How the logits of an example are read as a prediction.

  single_label: the probabilities of the labels of the example's own group. multi_label:
  the probabilities of independent decisions, whose divergences add up. The divergence
  of both is the symmetric Kullback-Leibler divergence in nats.

  regression: numbers. Their divergence is the mean squared difference, as R-Drop's
  authors take it for STS-B. They are no probabilities, because the outputs do not say
  how sure they are.
  """

  def log_probabilities(outputs, chosen):
    return how.log_probabilities(outputs, chosen, groups)

  def divergence(first, second, chosen):
    log_p = log_probabilities(first, chosen)
    log_q = log_probabilities(second, chosen)
    return symmetric_divergence(log_p, log_q)

  def squared_difference(first, second, chosen):
    del chosen
    return jnp.square(first - second).mean(-1)

  def weights(batch):
    return _weights(batch, how)

  if how.log_probabilities is None:
    return Prediction(weights, squared_difference)
  return Prediction(weights, divergence, log_probabilities)


def own_group(logits, chosen, groups):
  """The logits (..., labels) in which only the group of the chosen label (...) counts.

  The others are so low that their probability is 0.
  """
  if len(groups) < 2:
    return logits
  # Finite, because the difference of two infinite logits is not a number.
  competes = same_group(chosen, logits.shape[-1], groups)
  return jnp.where(competes, logits, -1e9)


def same_group(chosen, labels: int, groups):
  """Boolean (..., labels): which labels belong to the group of the chosen one (...)?"""
  group_of_label = []
  for label in range(labels):
    containing = (i for i, (first, end) in enumerate(groups) if first <= label < end)
    group_of_label.append(next(containing))
  group = jnp.asarray(group_of_label)
  # An unknown label, below 0, weighs nothing and may stand in any group.
  own = group[jnp.maximum(chosen, 0)]
  return own[..., None] == group


def real_examples(batch):
  """Boolean (rows, examples): which places of packed rows hold an example.

  A question is there where one of its candidates is: `examples` (rows, questions,
  candidates) has the segments of these.
  """
  examples = batch['examples']
  if examples.ndim == 3:
    examples = examples.max(-1)
  return examples > 0


def _weights(batch, how: Kind):
  """1.0 for each real example, 0.0 for the rest: (rows, examples) or (rows,)."""
  if 'examples' in batch:
    real = real_examples(batch)
  elif 'segments' in batch:
    real = (batch['segments'] > 0).any(-1)
  else:
    real = jnp.ones(batch['labels'].shape[:1], bool)
  real = real & how.is_known(batch['labels'])
  return real.astype(jnp.float32)


# The losses by kind, as `Kind` has them, and how their outputs read as probabilities.
# Labels of examples without weight may be anything, also NaN: they are replaced before
# they can reach a gradient.


def _single_label(logits, labels, weight, smoothing):
  labels = jnp.where(weight > 0, labels, 0)
  right = jnp.argmax(logits, -1) == labels
  return cross_entropy(logits, labels, smoothing), {'accuracy': right}


def _multi_label(logits, labels, weight, smoothing):
  del smoothing
  real = weight[..., None] > 0
  labels = jnp.where(real, labels.astype(jnp.float32), 0.0)
  # -log sigmoid(x) is softplus(x) - x, and -log(1 - sigmoid(x)) is softplus(x).
  nll = jax.nn.softplus(logits) - labels * logits
  right = (logits > 0) == (labels > 0.5)
  return nll.mean(-1), {'accuracy': right.mean(-1)}


def _regression(logits, labels, weight, smoothing):
  del smoothing
  real = weight[..., None] > 0
  values = labels.astype(jnp.float32).reshape(logits.shape)
  error = logits - jnp.where(real, values, 0.0)
  squared = jnp.square(error).mean(-1)
  absolute = jnp.abs(error).mean(-1)
  return squared, {'squared_error': squared, 'absolute_error': absolute}


def _log_softmax(outputs, chosen, groups):
  return jax.nn.log_softmax(own_group(outputs, chosen, groups))


def _log_sigmoids(outputs, chosen, groups):
  """Of every label that it applies, then that it does not."""
  del chosen, groups
  yes = jax.nn.log_sigmoid(outputs)
  no = jax.nn.log_sigmoid(-outputs)
  return jnp.concatenate([yes, no], -1)


KINDS = {
  # An unknown label is below 0.
  'single_label': Kind(
    _single_label, _log_softmax, lambda labels: labels >= 0, exclusive=True
  ),
  'multi_label': Kind(_multi_label, _log_sigmoids),
  'regression': Kind(_regression),
}


# Its facts are the labels of a task, not of a tokenizer.
CLASSIFY = Entry(classify, 'classifier', MODELS, 'labels')
