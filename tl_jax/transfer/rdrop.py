"""R-Drop: two passes of one batch must agree in spite of their dropout.

>>> import jax.numpy as jnp
>>> logits = jnp.array([[0.0, 1.0]])
>>> float(divergence(logits, logits)[0])
0.0
"""

import jax
import jax.numpy as jnp

from tl_jax import rng
from tl_jax.config import NonNegative
from tl_jax.transfer.method import TransferMethod
from tl_jax.transfer.regularizers import regularizer


def rdrop(strength: NonNegative = 1.0) -> TransferMethod:
  """Two passes with different dropout, and `strength` times how far apart their predictions are (Liang et al. 2021)."""
  def wraps(method):
    return method._replace(objective=lambda objective: twice(method.objective(objective), strength))

  return regularizer(wraps)


def twice(objective, strength: float):
  """The objective of two passes with keys of their own (Liang et al. 2021, section 2), for labelled examples.

  The losses of both passes are added up (the authors' code takes their mean), the term `agreement` is the mean of both
  KL divergences. Without a key, in evaluation, it is the objective itself. ValueError for a batch without `labels`.
  """
  def weights(batch):
    return objective.weights(batch) | {'agreement': real_examples(batch).sum()}

  def loss(forward, batch, key):
    if key is None:
      return objective.loss(forward, batch, None)
    logits = []

    def watched(*args, **keywords):
      outputs = forward(*args, **keywords)
      logits.append(outputs.logits.astype(jnp.float32))
      return outputs

    first, metrics = objective.loss(watched, batch, rng.stream(key, 'first-pass'))
    second, _ = objective.loss(watched, batch, rng.stream(key, 'second-pass'))
    terms = {name: term._replace(sum=term.sum + second[name].sum) for name, term in first.items()}
    apart = divergence(*logits)
    agreement = next(iter(terms.values()))._replace(sum=(apart * real_examples(batch)).sum(), coefficient=strength)
    return terms | {'agreement': agreement}, metrics

  return objective._replace(weights=weights, loss=loss)


def real_examples(batch):
  """1.0 for each labelled example, 0.0 for padding: (rows, slots) or (rows,)."""
  if 'labels' not in batch:
    raise ValueError('rdrop: it needs a batch with labels, one for each example')
  if 'examples' in batch:
    return (batch['examples'] > 0).astype(jnp.float32)
  if 'segments' in batch:
    return (batch['segments'] > 0).any(-1).astype(jnp.float32)
  return jnp.ones(batch['labels'].shape[:1])


def divergence(first, second):
  """(KL(p || q) + KL(q || p)) / 2 of the predictions (..., classes), in nats: (...,)."""
  log_p, log_q = jax.nn.log_softmax(first), jax.nn.log_softmax(second)
  return ((jnp.exp(log_p) - jnp.exp(log_q)) * (log_p - log_q)).sum(-1) / 2
