"""Metrics: functions of predictions and references that give a dict of finite floats.

>>> accuracy([0, 1, 1], [0, 1, 0])['accuracy']
0.6666666666666666
>>> METRICS['matthews']([1, 1], [0, 1])
{'matthews': 0.0}

Edges are the same everywhere: lists of different lengths and values that are not finite
are a ValueError; nothing to score is 0.0; a score whose formula divides by zero (one
class, a constant) is 0.0.
"""

from tl_jax.metrics.answers import squad, squad_v2
from tl_jax.metrics.calibration import brier, calibration_error
from tl_jax.metrics.candidates import answer_sets, best_answer
from tl_jax.metrics.classification import accuracy, choice_accuracy, f1, matthews
from tl_jax.metrics.diversity import copying, distinct, repetition, self_bleu
from tl_jax.metrics.language import perplexity
from tl_jax.metrics.likelihood import last_word, minimal_pairs
from tl_jax.metrics.regression import mean_squared_error, pearson, spearman
from tl_jax.metrics.retrieval import retrieval, uniformity
from tl_jax.metrics.tags import entity_f1, tag_accuracy
from tl_jax.metrics.text import (
  LIBRARIES,
  bleu,
  chrf,
  exact_match,
  rouge,
  signatures,
)
from tl_jax.metrics.transferability import h_score, log_evidence

METRICS = {
  'accuracy': accuracy,
  'f1': f1,
  'matthews': matthews,
  'choice_accuracy': choice_accuracy,
  'answer_sets': answer_sets,
  'best_answer': best_answer,
  'entity_f1': entity_f1,
  'tag_accuracy': tag_accuracy,
  'brier': brier,
  'calibration_error': calibration_error,
  'pearson': pearson,
  'spearman': spearman,
  'mean_squared_error': mean_squared_error,
  'retrieval': retrieval,
  'uniformity': uniformity,
  'exact_match': exact_match,
  'squad': squad,
  'squad_v2': squad_v2,
  'perplexity': perplexity,
  'minimal_pairs': minimal_pairs,
  'last_word': last_word,
  'rouge': rouge,
  'bleu': bleu,
  'chrf': chrf,
  'distinct': distinct,
  'repetition': repetition,
  'self_bleu': self_bleu,
  'copying': copying,
}
# Metrics of how probable the answers are, not of the answers.
OF_PROBABILITIES = ('brier', 'calibration_error')
# Metrics of answers and of how sure it is that there is none.
OF_DOUBT = ('squad_v2',)
# Metrics of every two examples: one that is there twice is at no distance from itself.
OF_TWO = ('uniformity',)
# Metrics of free texts: no reference says what would have been right.
FREE = ('distinct', 'repetition', 'self_bleu', 'copying')

__all__ = [
  'FREE',
  'LIBRARIES',
  'METRICS',
  'OF_PROBABILITIES',
  'OF_TWO',
  'h_score',
  'log_evidence',
  'signatures',
  *METRICS,
]
