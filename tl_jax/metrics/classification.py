"""Metrics of class labels and of choices: accuracy, F1 and the Matthews correlation.

>>> f1([1, 1, 0], [1, 0, 0])['f1']
0.6666666666666666
>>> matthews([0, 1, 2], [0, 1, 2])
{'matthews': 1.0}
>>> choice_accuracy([[-2.5, -0.5], [-1.0, -3.0, -2.0]], [1, 2])
{'choice_accuracy': 0.5}
"""

import math

import numpy as np

from tl_jax.metrics.edges import labels, reals, same_length


def accuracy(predictions, references) -> dict[str, float]:
  """The fraction of examples whose prediction equals the reference.

  Labels (n,) of integers, booleans or text; or indicators (n, labels), where the whole
  row must agree.
  """
  predicted, expected = _pair(predictions, references, 'accuracy')
  if not len(expected):
    return {'accuracy': 0.0}
  equal = predicted == expected
  if equal.ndim == 2:
    equal = equal.all(axis=1)
  return {'accuracy': float(equal.mean())}


def choice_accuracy(predictions, references) -> dict[str, float]:
  """The fraction of questions whose best candidate is the right one.

  predictions: for each of n questions the scores of its candidates, however many they
  are. references: (n,) the place of the right one, from 0. Of
  equal scores the first counts as the best. It is 0.0 for no questions.

  Errors: ValueError for a score that is not finite, for a question without candidates,
  and for a place that is none of them.
  """
  count = same_length(predictions, references, 'choice_accuracy')
  places = labels(references, 'choice_accuracy', 'references')
  if places.ndim != 1 or places.dtype.kind in 'US':
    raise ValueError('choice_accuracy: references must be the places of candidates')
  hits = 0
  for row, scores in enumerate(predictions):
    name = f'the scores of example {row}'
    candidates = reals(scores, 'choice_accuracy', name)
    # The number of a candidate would pass for the only score.
    if np.ndim(scores) != 1:
      raise ValueError(f'choice_accuracy: {name} must be a list of real numbers')
    if not 0 <= places[row] < len(candidates):
      raise ValueError(
        f'choice_accuracy: example {row} has {len(candidates)} candidates, and none at '
        f'the place {places[row]}'
      )
    hits += int(candidates.argmax() == places[row])
  return {'choice_accuracy': hits / count if count else 0.0}


def f1(predictions, references, *, positive=None) -> dict[str, float]:
  """F1 = 2 TP / (2 TP + FP + FN), of one class and of all.

  Labels are (n,), or indicators (n, labels) of several labels per example.

  f1: that of the class `positive` against the rest. By default it is that of the class 1
    where all labels are 0 or 1. Of other labels, and of indicators, no class is the
    positive one, so that `f1` is left out.
  f1_macro: the plain mean over the classes that occur in either list, or over all
    columns of indicators.
  f1_micro: pools the counts. For labels (n,) it is the accuracy.

  A class that is neither predicted nor present has an F1 of 0.0.
  """
  predicted, expected = _pair(predictions, references, 'f1')
  if expected.ndim == 2:
    counts = _counts(predicted == 1, expected == 1)
    pooled = [sum(column) for column in zip(*counts, strict=True)]
    return {'f1_macro': _macro(counts), 'f1_micro': _ratio(*pooled)}
  classes = np.union1d(predicted, expected)
  is_predicted = predicted[:, None] == classes
  is_expected = expected[:, None] == classes
  counts = _counts(is_predicted, is_expected)
  # Of one label per example, every false positive of a class is missed by another.
  micro = accuracy(predicted, expected)['accuracy']
  scores = {'f1_macro': _macro(counts), 'f1_micro': micro}
  if positive is None and set(classes.tolist()) <= {0, 1}:
    positive = 1
  if positive is None:
    return scores
  is_predicted = predicted[:, None] == positive
  is_expected = expected[:, None] == positive
  [of_positive] = _counts(is_predicted, is_expected)
  return {'f1': _ratio(*of_positive), **scores}


def matthews(predictions, references) -> dict[str, float]:
  """The Matthews correlation of two or more classes (Gorodkin 2004, eq. 8).

  Where one side is constant it is 0.0.
  """
  predicted, expected = _pair(predictions, references, 'matthews')
  if expected.ndim == 2:
    raise ValueError(
      'matthews: labels must be (n,), one class per example, not indicators'
    )
  classes = np.union1d(predicted, expected)
  # Python integers: products of counts overflow 64 bits at a few billion examples, and
  # stay exact here.
  in_predicted = _occurrences(predicted, classes)
  in_expected = _occurrences(expected, classes)
  total = len(expected)
  right = int((predicted == expected).sum())
  pairs = zip(in_predicted, in_expected, strict=True)
  by_chance = sum(a * b for a, b in pairs)
  covariance = right * total - by_chance
  variance_predicted = total**2 - sum(a * a for a in in_predicted)
  variance_expected = total**2 - sum(b * b for b in in_expected)
  spread = variance_predicted * variance_expected
  return {'matthews': covariance / math.sqrt(spread) if spread else 0.0}


def _occurrences(values: np.ndarray, classes: np.ndarray) -> list[int]:
  """How often each of the classes occurs."""
  counts = (values[:, None] == classes).sum(0)
  return [int(count) for count in counts]


def _pair(predictions, references, what: str) -> tuple[np.ndarray, np.ndarray]:
  """Both sides, checked, as arrays of one shape and kind."""
  if not same_length(predictions, references, what):
    # An empty list has no kind of its own.
    return np.zeros(0, np.int64), np.zeros(0, np.int64)
  predicted = labels(predictions, what, 'predictions')
  expected = labels(references, what, 'references')
  if predicted.shape != expected.shape or expected.ndim not in (1, 2):
    raise ValueError(
      f'{what}: predictions of shape {predicted.shape} for references of shape '
      f'{expected.shape}'
    )
  # numpy finds no text equal to a number: every answer would count as wrong.
  if (predicted.dtype.kind in 'US') != (expected.dtype.kind in 'US'):
    raise ValueError(
      f'{what}: one of predictions and references is text, the other numbers'
    )
  return predicted, expected


def _counts(predicted: np.ndarray, expected: np.ndarray) -> list[tuple[int, int, int]]:
  """The true positives, false positives and false negatives of every class.

  Both arrays are boolean (n, classes).
  """
  true_positives = (predicted & expected).sum(0)
  false_positives = (predicted & ~expected).sum(0)
  false_negatives = (~predicted & expected).sum(0)
  columns = (
    true_positives.tolist(),
    false_positives.tolist(),
    false_negatives.tolist(),
  )
  return list(zip(*columns, strict=True))


def _ratio(hits: int, false: int, missed: int) -> float:
  """The F1 of these counts."""
  if not hits:
    return 0.0
  return 2 * hits / (2 * hits + false + missed)


def _macro(counts: list[tuple[int, int, int]]) -> float:
  """The mean F1 of the classes."""
  if not counts:
    return 0.0
  return math.fsum(_ratio(*row) for row in counts) / len(counts)
