"""Metrics of answers to questions, as the two versions of SQuAD score them.

Values are in 0..1; the official scripts print them in percent. Texts are compared by
`normalized`, which both scripts share.

>>> squad(['the red cat'], [['A cat', 'Red cats']])['squad_f1']
0.6666666666666666
>>> squad_v2(['', 'Oslo'], [[], ['Oslo']])['squad_v2_exact_match']
1.0
"""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from tl_jax.metrics.edges import finite, reals, same_length
from tl_jax.metrics.text import normalized


def squad(predictions, references) -> dict[str, float]:
  """Exact match and F1 of SQuAD 1.1 (Rajpurkar et al. 2016): means over the examples.

  predictions: n texts. references: for each a text or several, of which the best one
  counts, for each of the two scores by itself.

  F1 is that of the words, as often as they occur. As in the official script, two texts
  that are both empty once normalized match, and have an F1 of 0.0 for want of words.
  Errors: ValueError for what is no text, and for an example without a reference.
  """
  accepted = _accepted(predictions, references, 'squad')
  if not all(accepted):
    row = accepted.index([])
    raise ValueError(
      f'squad: example {row} has no reference; squad_v2 scores questions without answer'
    )
  exact = []
  overlaps = []
  for prediction, answers in zip(predictions, accepted, strict=True):
    predicted = _words(prediction)
    expected = [_words(answer) for answer in answers]
    exact.append(float(predicted in expected))
    overlaps.append(max(_overlap(predicted, words) for words in expected))
  return {'squad_exact_match': _mean(exact), 'squad_f1': _mean(overlaps)}


def squad_v2(
  predictions, references, *, no_answer=None, threshold: float = 1.0
) -> dict[str, float]:
  """Exact match and F1 of SQuAD 2.0 (Rajpurkar et al. 2018): means over the examples.

  predictions: n texts; the empty one says that there is no answer. references: for each
  a text or a list of several. An empty list, or empty texts alone, make a question
  without answer, which an empty prediction alone gets right.

  squad_v2_exact_match, squad_v2_f1: of all examples. squad_v2_has_answer_* and
  squad_v2_no_answer_*: of those with and without answer, left out where there is none.

  no_answer: (n,) how probable it is that there is no answer, or any score that grows
  with it. Where it exceeds `threshold`, the prediction counts as the empty one. It also
  gives, for both scores, squad_v2_best_* over all thresholds and
  squad_v2_best_*_threshold, the one that reaches it. Errors: ValueError for what is no
  text, and for scores that are not finite or not n.
  """
  accepted = _accepted(predictions, references, 'squad_v2')
  answerable = [any(answers) for answers in accepted]
  doubts = _doubts(no_answer, len(accepted))
  scores = {}
  for name, values in _raw_scores(predictions, accepted).items():
    if doubts is not None:
      best = _best(values, doubts, predictions, answerable)
      scores[f'squad_v2_best_{name}'], scores[f'squad_v2_best_{name}_threshold'] = best
      values = _withheld(values, doubts > threshold, answerable)
    scores |= _by_kind(values, answerable, name)
  return scores


def _doubts(no_answer, count: int) -> np.ndarray | None:
  """The scores (count,) of there being no answer, checked; None where none are given."""
  if no_answer is None:
    return None
  doubts = reals(no_answer, 'squad_v2', 'no_answer')
  if len(doubts) != count:
    raise ValueError(
      f'squad_v2: {len(doubts)} values of no_answer for {count} references'
    )
  return doubts


def _raw_scores(
  predictions: Sequence[str], accepted: Sequence[list[str]]
) -> dict[str, list[float]]:
  """The two scores of every example, before any prediction is withheld."""
  raw = {'exact_match': [], 'f1': []}
  for prediction, answers in zip(predictions, accepted, strict=True):
    predicted = _words(prediction)
    # A reference without a word is no reference, and none asks for the empty answer.
    expected = [words for words in map(_words, answers) if words] or [[]]
    exact = float(predicted in expected)
    overlap = max(_overlap(predicted, words) for words in expected)
    raw['exact_match'].append(exact)
    # Two empty answers share no word, and are the same all the same.
    raw['f1'].append(max(exact, overlap))
  return raw


def _by_kind(
  values: Sequence[float], answerable: Sequence[bool], name: str
) -> dict[str, float]:
  """The mean of a score: over all examples, with an answer, and without."""
  pairs = list(zip(values, answerable, strict=True))
  with_answer = [value for value, has_answer in pairs if has_answer]
  without = [value for value, has_answer in pairs if not has_answer]
  scores = {f'squad_v2_{name}': _mean(values)}
  if with_answer:
    scores[f'squad_v2_has_answer_{name}'] = _mean(with_answer)
  if without:
    scores[f'squad_v2_no_answer_{name}'] = _mean(without)
  return scores


def _withheld(
  values: Sequence[float], is_withheld: np.ndarray, answerable: Sequence[bool]
) -> list[float]:
  """The scores once some predictions are replaced by the empty one."""
  replaced = []
  for value, withheld, has_answer in zip(values, is_withheld, answerable, strict=True):
    replaced.append(float(not has_answer) if withheld else value)
  return replaced


def _best(
  values: Sequence[float],
  doubts: np.ndarray,
  predictions: Sequence[str],
  answerable: Sequence[bool],
) -> tuple[float, float]:
  """The best mean that a threshold reaches, and that threshold.

  As the official script has it, examples are let through one by one in the order of
  their doubts, of equal ones in their own order: a best mean may lie between two equal
  doubts, where no threshold does. A prediction with any character is wrong where there
  is no answer.
  """
  if not len(doubts):
    return 0.0, 0.0
  # Nothing is answered at first. 0.0 is the threshold for that of the official script;
  # of scores below 0 some would exceed it and others not.
  threshold = 0.0
  if doubts.min() < 0:
    threshold = finite(np.nextafter(doubts.min(), -np.inf))
  total = answerable.count(False)
  best = total
  for row in np.argsort(doubts, kind='stable'):
    if answerable[row]:
      total += values[row]
    elif predictions[row]:
      total -= 1
    if total > best:
      best = total
      threshold = float(doubts[row])
  return best / len(values), threshold


def _words(text: str) -> list[str]:
  """The words by which a text is compared."""
  return normalized(text).split()


def _overlap(predicted: list[str], expected: list[str]) -> float:
  """F1 of the words of two texts, as often as they occur; 0.0 where none is shared."""
  shared = (Counter(predicted) & Counter(expected)).total()
  if not shared:
    return 0.0
  precision = shared / len(predicted)
  recall = shared / len(expected)
  return 2 * precision * recall / (precision + recall)


def _mean(values: Sequence[float]) -> float:
  return math.fsum(values) / len(values) if values else 0.0


def _accepted(predictions, references, what: str) -> list[list[str]]:
  """The reference texts of each example.

  Errors: ValueError for anything that is not text.
  """
  same_length(predictions, references, what)
  accepted = []
  for row, reference in enumerate(references):
    several = isinstance(reference, (list, tuple))
    answers = list(reference) if several else [reference]
    if not all(isinstance(text, str) for text in (predictions[row], *answers)):
      raise ValueError(f'{what}: example {row} must be a text with reference texts')
    accepted.append(answers)
  return accepted
