"""Metrics of class labels: accuracy, F1 and the Matthews correlation.

>>> f1([1, 1, 0], [1, 0, 0])['f1']
0.6666666666666666
>>> matthews([0, 1, 2], [0, 1, 2])
{'matthews': 1.0}
"""

import math

import numpy as np

from tl_jax.metrics.edges import labels, same_length


def accuracy(predictions, references) -> dict[str, float]:
  """The fraction of examples whose prediction equals the reference.

  Labels (n,) of integers, booleans or text; or indicators (n, labels), where the whole
  row must agree.
  """
  predicted, expected = _pair(predictions, references, 'accuracy')
  if not len(expected):
    return {'accuracy': 0.0}
  equal = predicted == expected
  return {'accuracy': float((equal.all(axis=1) if equal.ndim == 2 else equal).mean())}


def f1(predictions, references, *, positive=None) -> dict[str, float]:
  """F1 = 2 TP / (2 TP + FP + FN): `f1` of one class against the rest, `f1_macro`,
  `f1_micro`.

  Labels (n,), or indicators (n, labels) of several labels per example. `f1` is that of
  the class `positive`, by default 1; labels that are text have no default, and
  indicators no positive class, so `f1` is then left out. `f1_macro` is the plain mean
  over the classes that occur in either list (over all columns of indicators);
  `f1_micro` pools the counts, so for labels (n,) it is the accuracy. A class that is
  neither predicted nor present has an F1 of 0.0.
  """
  predicted, expected = _pair(predictions, references, 'f1')
  if expected.ndim == 2:
    hits = _counts(predicted == 1, expected == 1)
    return {
      'f1_macro': _macro(hits),
      'f1_micro': _ratio(*(sum(column) for column in zip(*hits, strict=True))),
    }
  classes = np.union1d(predicted, expected)
  hits = _counts(predicted[:, None] == classes, expected[:, None] == classes)
  scores = {
    'f1_macro': _macro(hits),
    'f1_micro': accuracy(predicted, expected)['accuracy'],
  }
  if positive is None:
    positive = 1 if expected.dtype.kind not in 'US' or not len(expected) else None
  if positive is None:
    return scores
  return {
    'f1': _ratio(
      *_counts(predicted[:, None] == positive, expected[:, None] == positive)[0]
    ),
    **scores,
  }


def matthews(predictions, references) -> dict[str, float]:
  """The Matthews correlation of two or more classes (Gorodkin 2004, eq. 8); a constant
  side gives 0.0.
  """
  predicted, expected = _pair(predictions, references, 'matthews')
  if expected.ndim == 2:
    raise ValueError(
      'matthews: labels must be (n,), one class per example, not indicators'
    )
  classes = np.union1d(predicted, expected)
  # Python integers: products of counts overflow 64 bits at a few billion examples, and
  # stay exact here.
  in_predicted = [int(n) for n in (predicted[:, None] == classes).sum(0)]
  in_expected = [int(n) for n in (expected[:, None] == classes).sum(0)]
  total, right = len(expected), int((predicted == expected).sum())
  covariance = right * total - sum(
    a * b for a, b in zip(in_predicted, in_expected, strict=True)
  )
  spread = (total**2 - sum(a * a for a in in_predicted)) * (
    total**2 - sum(b * b for b in in_expected)
  )
  return {'matthews': covariance / math.sqrt(spread) if spread else 0.0}


def _pair(predictions, references, what: str) -> tuple[np.ndarray, np.ndarray]:
  """Both sides as arrays of one shape and kind."""
  if not same_length(predictions, references, what):
    return np.zeros(0, np.int64), np.zeros(0, np.int64)
  predicted, expected = (
    labels(predictions, what, 'predictions'),
    labels(references, what, 'references'),
  )
  if predicted.shape != expected.shape or expected.ndim not in (1, 2):
    raise ValueError(
      f'{what}: predictions of shape {predicted.shape} for references of shape {expected.shape}'
    )
  if (predicted.dtype.kind in 'US') != (expected.dtype.kind in 'US'):
    raise ValueError(
      f'{what}: one of predictions and references is text, the other numbers'
    )
  return predicted, expected


def _counts(predicted: np.ndarray, expected: np.ndarray) -> list[tuple[int, int, int]]:
  """(true positives, false positives, false negatives) of every column of two boolean
  arrays (n, classes).
  """
  columns = (
    (predicted & expected).sum(0),
    (predicted & ~expected).sum(0),
    (~predicted & expected).sum(0),
  )
  return [tuple(int(n) for n in column) for column in zip(*columns, strict=True)]


def _ratio(hits: int, false: int, missed: int) -> float:
  return 2 * hits / (2 * hits + false + missed) if hits else 0.0


def _macro(hits: list[tuple[int, int, int]]) -> float:
  return math.fsum(_ratio(*row) for row in hits) / len(hits) if hits else 0.0
