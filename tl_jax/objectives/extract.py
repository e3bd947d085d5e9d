"""Where an answer stands in a passage: the first and the last of its tokens.

>>> objective = extract()
>>> float(objective.weights({'examples': jnp.array([[1, 2, 0]])})['extract'])
2.0
"""

import jax
import jax.numpy as jnp

from tl_jax.config import Fraction
from tl_jax.objectives.losses import weighted_sum
from tl_jax.objectives.types import Mean, Objective, Term

# In the place of a token that is of another example: its probability is 0.
_ELSEWHERE = -1e9


def extract(*, smoothing: Fraction = 0.0) -> Objective:
  """Learns where answers begin and end by cross-entropy over the tokens of an example.

  A row has logits (rows, length, 2), `segments` int32 (rows, length), and in `examples`
  int32 (rows, examples) the segment of each example, 0 for none. batch['labels'] int32
  (rows, examples, 2) are the columns of the first and the last token. `smoothing` spreads
  so much of a target evenly over the tokens of the example.

  An example weighs 1. The term `extract` is the mean of both (Devlin et al. 2019, section
  4.2), the metric `accuracy` the share of examples whose both ends are right. Errors:
  ValueError for logits of another shape.
  """

  def prepare(key, batch):
    del key
    return batch

  def weights_of(batch):
    return (batch['examples'] > 0).astype(jnp.float32)

  def weights(batch):
    return {'extract': weights_of(batch).sum()}

  def loss(forward, batch, key):
    outputs = forward(batch, key=key, train=key is not None)
    logits = outputs.logits.astype(jnp.float32)
    shape = (*batch['segments'].shape, 2)
    if logits.shape != shape:
      raise ValueError(
        f'extract: the logits have shape {logits.shape}, not {shape}; the model needs '
        'the head for spans'
      )
    weight = weights_of(batch)
    members = members_of(batch['segments'], batch['examples'])
    values = 0.0
    is_right = weight > 0
    for side in range(2):
      own = jnp.where(members, logits[:, None, :, side], _ELSEWHERE)
      targets = batch['labels'][..., side]
      values += _cross_entropy(own, targets, members, smoothing)
      is_right &= own.argmax(-1) == targets
    means = {'accuracy': Mean(weighted_sum(is_right, weight), weight.sum())}
    return {'extract': Term(weighted_sum(values / 2, weight))}, means

  return Objective(prepare, weights, loss)


def members_of(segments, examples):
  """Boolean (rows, examples, length): the tokens of every example."""
  examples = examples[:, :, None]
  return (segments[:, None, :] == examples) & (examples > 0)


def _cross_entropy(logits, targets, members, smoothing: float):
  """(rows, examples) in nats, of logits (rows, examples, length) over the members."""
  log_p = jax.nn.log_softmax(logits)
  chosen = jnp.take_along_axis(log_p, targets[..., None], axis=-1)[..., 0]
  if not smoothing:
    return -chosen
  count = jnp.maximum(members.sum(-1), 1)
  # Else the tokens of others would count with their huge values.
  even = jnp.where(members, log_p, 0.0).sum(-1) / count
  return -(1 - smoothing) * chosen - smoothing * even
