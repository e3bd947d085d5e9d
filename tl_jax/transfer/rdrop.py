"""R-Drop: two passes of one batch must agree in spite of their dropout.

>>> method = rdrop(0.5)
>>> [how.name for how in method.regularizers]
['rdrop']
"""

import jax.numpy as jnp

from tl_jax import rng
from tl_jax.config import NonNegative
from tl_jax.transfer.method import TransferMethod
from tl_jax.transfer.regularizing import Regularizer, regularizer


def rdrop(strength: NonNegative = 1.0) -> TransferMethod:
  """Two passes with different dropout, and `strength` times how far apart their
  predictions are (Liang et al. 2021).

  The objective says how its outputs are read: as probabilities, whose symmetric
  Kullback-Leibler divergence it is, in nats, or as real values, whose squared
  difference it is.
  Errors: ValueError for an objective that does not predict anything of an example.
  """
  return regularizer(
    Regularizer('rdrop', objective=lambda objective: twice(objective, strength))
  )


def twice(objective, strength: float):
  """The objective of two passes with keys of their own (Liang et al. 2021, section 2),
  for labelled examples.

  The losses of both passes are added up (the authors' code takes their mean), the term
  `agreement` is the mean over the examples of how far both predictions are apart.
  Without a key, in evaluation, it is the objective itself.
  """
  prediction = objective.prediction
  if prediction is None:
    raise ValueError(
      'rdrop: the objective does not predict anything of an example; it needs one for '
      'labelled examples, such as objectives.classify'
    )

  def weights(batch):
    return objective.weights(batch) | {'agreement': prediction.weights(batch).sum()}

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
    terms = {
      name: term._replace(sum=term.sum + second[name].sum)
      for name, term in first.items()
    }
    apart = prediction.divergence(*logits, batch['labels'])
    total = (apart * prediction.weights(batch)).sum()
    agreement = next(iter(terms.values()))._replace(sum=total, coefficient=strength)
    return terms | {'agreement': agreement}, metrics

  return objective._replace(weights=weights, loss=loss)
