"""Masked language modelling beside a question on two segments: does the second follow?

>>> objective = next_sentence(vocabulary=100, mask_id=4, special_ids=range(5))
>>> objective.segments
Segments(swaps=False, short=0.1, duplicates=10, sentences='split')
"""

import functools
from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp

from tl_jax.config import Count, Fraction, Natural, Part
from tl_jax.objectives.losses import cross_entropy, weighted_sum
from tl_jax.objectives.masked import MASKED, masked
from tl_jax.objectives.tokens import token_terms
from tl_jax.objectives.types import Mean, Objective, Segments, Term


def next_sentence(
  *,
  vocabulary: Count,
  mask_id: Natural,
  special_ids: Sequence[int],
  rate: Part = 0.15,
  masking: Literal['pieces', 'words', 'spans'] = 'pieces',
  continues=None,
  short: Fraction = 0.1,
  duplicates: Count = 10,
  sentences: Literal['split', 'lines'] = 'split',
) -> Objective:
  """BERT's pre-training (Devlin et al. 2018, section 3.1): the loss of `masked`, and
  that of the next sentence (label 0: the second segment follows, 1: it is from another
  document), each a mean of its own.

  The first six are those of `masked`. short: the part of documents that are cut into
  shorter pairs. duplicates: how many times the documents are cut, each time with other
  draws. sentences: 'split' finds the ends of sentences in a text; of 'lines' every line
  is a sentence, and an empty line stands between documents.

  A batch has `types`, `examples` and `labels` of its pairs (rows, examples). The terms
  are `masked` and `pair`, the metrics `accuracy`, of masked tokens, and
  `pair_accuracy`.
  """
  hiding = masked(
    vocabulary=vocabulary,
    mask_id=mask_id,
    special_ids=special_ids,
    rate=rate,
    masking=masking,
    continues=continues,
  )
  asked = Segments(False, short, duplicates, sentences)
  return Objective(hiding.prepare, pair_weights, pair_loss, segments=asked)


# With the signature of the other, which says what a config may ask for.
@functools.wraps(next_sentence, assigned=('__annotations__',))
def sentence_order(**options) -> Objective:
  """ALBERT's pre-training (Lan et al. 2020, section 3.1): as `next_sentence`, but of
  label 1 are two segments that follow each other in the wrong order.

  The options are those of `next_sentence`.
  """
  objective = next_sentence(**options)
  return objective._replace(segments=objective.segments._replace(swaps=True))


def pair_weights(batch):
  """The masked tokens and the pairs of a batch."""
  tokens = batch['target_weights'].astype(jnp.float32)
  return dict(masked=tokens.sum(), pair=_is_pair(batch).sum())


def pair_loss(forward, batch, key):
  """Both terms and both accuracies, from one pass of the model."""
  # One pass: the pair is read where [CLS] stands, the words where they are hidden.
  outputs = forward(
    batch,
    key=key,
    train=key is not None,
    keep=('readout', 'pair'),
    score=batch['score'],
  )
  terms, metrics = token_terms('masked', outputs, batch)
  weights = _is_pair(batch)
  labels = batch['labels']
  loss = weighted_sum(cross_entropy(outputs.pair, labels), weights)
  # Chance is a half, whatever the loss of the words.
  is_right = outputs.pair.argmax(-1) == labels
  right = weighted_sum(is_right, weights)
  terms['pair'] = Term(loss)
  metrics['pair_accuracy'] = Mean(right, weights.sum())
  return terms, metrics


def _is_pair(batch):
  """1 for every pair of a row, 0 for a place without one: float32 (rows, examples)."""
  return (batch['examples'] > 0).astype(jnp.float32)


# Both need a pooler and a head for pairs beside the masked one.
NEXT_SENTENCE = MASKED._replace(make=next_sentence, fields=dict(pair_head=True))
SENTENCE_ORDER = NEXT_SENTENCE._replace(make=sentence_order)
