"""Metrics of questions with candidates of which several may be right.

>>> answer_sets([[1.0, -2.0], [0.5, 3.0]], [[1, 0], [1, 0]])
{'answer_f1': 0.8, 'question_match': 0.5}
>>> best_answer([[1.0, -2.0], [0.5, 3.0]], [[1.0, 0.0], [1.0, 0.5]])
{'best_answer_f1': 0.75, 'best_answer_match': 0.5}
"""

import numpy as np

from tl_jax.metrics.edges import reals, same_length


def answer_sets(predictions, references) -> dict[str, float]:
  """F1a and exact match of MultiRC (Khashabi et al. 2018, section 4).

  predictions: for each of n questions the scores of its candidates; those above 0 are
  taken for right. references: for each question 1 for every right candidate, 0 for the
  others.

  answer_f1: F1 of the right candidates, those of all questions together; 0.0 where none
    is right nor taken for right. question_match: the fraction of questions with every
    candidate decided rightly; 0.0 for no questions.
  Errors: ValueError for a score that is not finite, and where a question has more or
  fewer scores than candidates.
  """
  count = same_length(predictions, references, 'answer_sets')
  matches = 0
  both = 0
  total = 0
  for scores, worths in _rows(predictions, references, 'answer_sets'):
    # The sigmoid of 0 is one half.
    taken = scores > 0
    right = worths >= 1
    matches += int((taken == right).all())
    both += int((taken & right).sum())
    total += int(taken.sum() + right.sum())
  return {
    'answer_f1': 2 * both / total if total else 0.0,
    'question_match': matches / count if count else 0.0,
  }


def best_answer(predictions, references) -> dict[str, float]:
  """F1 and exact match of ReCoRD (Zhang et al. 2018, section 5): means over n questions.

  predictions: for each question the scores of its candidates, of which the first best
  is the answer. references: what each candidate is worth, the F1 of its words with the
  right answers; 1 is a match. Both are 0.0 for no questions. Errors as of `answer_sets`.
  """
  count = same_length(predictions, references, 'best_answer')
  gained = []
  for scores, worths in _rows(predictions, references, 'best_answer'):
    # Of equal scores the first counts as the best.
    gained.append(float(worths[scores.argmax()]))
  matches = sum(gain >= 1 for gain in gained)
  return {
    'best_answer_f1': sum(gained) / count if count else 0.0,
    'best_answer_match': matches / count if count else 0.0,
  }


def _rows(predictions, references, what: str):
  """Yields (scores, worths) of each question as arrays of one length."""
  for row, pair in enumerate(zip(predictions, references, strict=True)):
    scores, worths = (
      np.atleast_1d(reals(each, what, f'example {row}')) for each in pair
    )
    if scores.shape != worths.shape or not len(scores):
      raise ValueError(
        f'{what}: example {row} has {len(scores)} scores for {len(worths)} candidates'
      )
    yield scores, worths
