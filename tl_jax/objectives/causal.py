"""Left-to-right language modelling: each token from those before it in its segment.

>>> tokens, segments = jnp.array([[5, 6, 7, 0]]), jnp.array([[1, 1, 2, 0]])
>>> batch = causal().prepare(None, {'tokens': tokens, 'segments': segments})
>>> batch['targets'].tolist(), batch['target_weights'].tolist()
([[6, 7, 0, 0]], [[1.0, 0.0, 0.0, 0.0]])
"""

import jax
import jax.numpy as jnp

from tl_jax.config import Fraction
from tl_jax.objectives.denoisers import behind
from tl_jax.objectives.tokens import token_loss, token_prediction, token_weights
from tl_jax.objectives.types import Entry, Objective
from tl_jax.segments import one_left, segments_of


def causal(*, smoothing: Fraction = 0.0, prefix: bool = False) -> Objective:
  """Next-token prediction; no target comes from the next packed segment.

  `prepare` adds targets (rows, length) int32 and target_weights (rows, length) float32,
  1 where the next token belongs to the same segment. In a batch that has `learned`
  (rows, length) only the tokens where it is above 0 are predicted: of a prompt and its
  continuation, those of the continuation.

  prefix: is a beginning of each segment read as a whole (Raffel et al. 2020, section
  3.2.1)? It has 1..n-1 of n tokens, each number as likely. They see each other, and
  only the tokens behind them are predicted. `prepare` adds `seen` (rows, length) int32,
  1 for the tokens of prefixes. A text that is continued later is read left to right.

  The term is `causal` (nats per predicted
  token), the metric `accuracy`.
  """

  def prepare(key, batch):
    segments = segments_of(batch)
    # The last position has nothing after it, as padding has: segment 0.
    weights = (segments > 0) & (one_left(segments) == segments)
    if 'learned' in batch:
      weights &= one_left(batch['learned']) > 0
    if prefix:
      rest = _rest(key, segments)
      seen = (segments > 0) & ~rest
      weights &= one_left(rest)
      batch = {**batch, 'seen': seen.astype(jnp.int32)}
    targets = one_left(batch['tokens'])
    return {**batch, 'targets': targets, 'target_weights': weights.astype(jnp.float32)}

  def loss(forward, batch, key):
    return token_loss('causal', forward, batch, key, smoothing)

  return Objective(prepare, token_weights('causal'), loss, token_prediction())


def _rest(key, segments):
  """Boolean (rows, length): the tokens behind the prefixes."""
  rows, length = segments.shape
  # A share for every segment that a row may have, and for its padding.
  shares = jax.random.uniform(key, (rows, length + 1))
  return jax.vmap(behind)(segments > 0, segments, shares)


CAUSAL = Entry(causal, 'causal', ('decoder',))
