"""What a model is trained to do: pure functions of batches, keys and a forward pass.

>>> import jax.numpy as jnp
>>> objective = causal()
>>> batch = objective.prepare(None, {'tokens': jnp.array([[5, 6, 7, 8]])})
>>> float(objective.weights(batch)['causal'])
3.0
"""

from tl_jax.objectives.causal import causal
from tl_jax.objectives.choice import choice
from tl_jax.objectives.classify import classify
from tl_jax.objectives.contrastive import contrastive, similarity
from tl_jax.objectives.denoisers import DENOISERS, denoisers, joined_denoisers
from tl_jax.objectives.distillation import Teacher, distill, projecting
from tl_jax.objectives.electra import electra
from tl_jax.objectives.extract import extract
from tl_jax.objectives.infilling import infilling
from tl_jax.objectives.masked import masked
from tl_jax.objectives.segment_pairs import next_sentence, sentence_order
from tl_jax.objectives.seq2seq import seq2seq
from tl_jax.objectives.span import span
from tl_jax.objectives.table import OBJECTIVES, Nominal
from tl_jax.objectives.tags import tags
from tl_jax.objectives.types import Mean, Objective, Prediction, Segments, Term

__all__ = [
  'DENOISERS',
  'OBJECTIVES',
  'Mean',
  'Nominal',
  'Objective',
  'Prediction',
  'Segments',
  'Teacher',
  'Term',
  'causal',
  'choice',
  'classify',
  'contrastive',
  'denoisers',
  'distill',
  'electra',
  'extract',
  'infilling',
  'joined_denoisers',
  'masked',
  'next_sentence',
  'projecting',
  'sentence_order',
  'seq2seq',
  'similarity',
  'span',
  'tags',
]
