"""Text to text: a decoder learns to write a given target (teacher forcing).

It predicts each token of the target from the ones before it.

>>> batch = {'tokens': jnp.array([[5, 6]]), 'decoder_tokens': jnp.array([[7, 8, 1, 0]]),
...          'decoder_segments': jnp.array([[1, 1, 1, 0]])}
>>> seq2seq(start_id=0).prepare(None, batch)['decoder_tokens'].tolist()
[[0, 7, 8, 0]]
"""

import jax.numpy as jnp

from tl_jax.config import Fraction, Natural
from tl_jax.objectives.losses import shift_right
from tl_jax.objectives.tokens import token_loss, token_prediction, token_weights
from tl_jax.objectives.types import Entry, Objective
from tl_jax.segments import positions_of, segments_of


def seq2seq(*, start_id: Natural = 0, smoothing: Fraction = 0.0) -> Objective:
  """Maximum likelihood of target texts given source texts.

  The batch gives the target text, with its end-of-text token, as decoder_tokens (rows,
  length) int32. Its decoder_segments (rows, length) are 0 for padding; without them
  every position counts.

  `prepare` moves the text to `targets`. What the decoder reads is that text one place
  to the right in each segment, after `start_id` (T5: the padding id). A batch that
  already has `targets` beside decoder_tokens keeps both as they are. A batch that has
  `target_weights` keeps them. The term is `seq2seq` (nats per target token), the metric
  `accuracy`.
  """

  def prepare(key, batch):
    del key
    segments = segments_of(batch, 'decoder_tokens', 'decoder_segments')
    # Whatever of these the batch has, it keeps.
    defaults = {
      'decoder_segments': segments,
      'decoder_positions': positions_of(segments),
      'target_weights': (segments > 0).astype(jnp.float32),
    }
    if 'targets' not in batch:
      text = batch['decoder_tokens']
      batch = {
        **batch,
        'targets': text,
        'decoder_tokens': shift_right(text, segments, start_id),
      }
    return {**defaults, **batch}

  def loss(forward, batch, key):
    return token_loss('seq2seq', forward, batch, key, smoothing)

  return Objective(prepare, token_weights('seq2seq'), loss, token_prediction())


def _facts(tokenizer, length) -> dict:
  del length
  # T5's decoder starts at the padding id.
  return dict(start_id=tokenizer.pad)


SEQ2SEQ = Entry(seq2seq, 'causal', ('encoder-decoder',), 'pairs', _facts)
