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
  """Adds `strength` times how far apart the predictions of two passes with different
  dropout are (Liang et al. 2021).

  The objective says how its outputs are read. As probabilities, their distance is the
  symmetric Kullback-Leibler divergence in nats; as real values, the squared difference.
  Errors: ValueError for an objective that does not predict anything of an example.
  """

  def objective(value):
    return twice(value, strength)

  return regularizer(Regularizer('rdrop', objective=objective))


def twice(objective, strength: float):
  """The objective of two passes with keys of their own (Liang et al. 2021, section 2),
  for labelled examples.

  The losses of both passes are added up (the authors' code takes their mean). The term
  `agreement` is the mean over the examples of the distance of the two predictions.
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
    # The loss does not return its outputs, so the forward function keeps them.
    logits = []

    def watched(*args, **keywords):
      outputs = forward(*args, **keywords)
      logits.append(outputs.logits.astype(jnp.float32))
      return outputs

    first, metrics = objective.loss(watched, batch, rng.stream(key, 'first-pass'))
    second, _ = objective.loss(watched, batch, rng.stream(key, 'second-pass'))
    terms = {}
    for name, term in first.items():
      together = term.sum + second[name].sum
      terms[name] = term._replace(sum=together)
    # Texts have no labels: there every token is a prediction.
    apart = prediction.divergence(*logits, batch.get('labels'))
    total = (apart * prediction.weights(batch)).sum()
    # A term of the same type, whatever its number.
    form = next(iter(terms.values()))
    agreement = form._replace(sum=total, coefficient=strength)
    return terms | {'agreement': agreement}, metrics

  return objective._replace(weights=weights, loss=loss)
