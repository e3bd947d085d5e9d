"""Metrics of probabilities: do they say how often the model is right?

Predictions are probabilities (n, classes), or (n,) those of class 1 of two. References
are the numbers (n,) of the right classes, from 0. Where an example may have several
labels, predictions are the probabilities (n, labels) of each, and references indicators
(n, labels); every label is then a question of its own with two classes.

>>> brier([0.5, 1.0], [0, 1])
{'brier': 0.25}
>>> calibration_error([0.75, 0.75], [1, 1], bins=[10])
{'calibration_error_10': 0.25}
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tl_jax.metrics.edges import labels, same_length

# How far the sum of an example may be from 1: bfloat16 has 8 bits.
TOLERANCE = 0.01
# Bins of one width, as Guo et al. (2017) have them.
BINS = 15


class Bin(NamedTuple):
  """Answers that are about equally sure: their mean confidence, the share of them that is
  right, and how many they are.
  """

  confidence: float
  accuracy: float
  count: int


def brier(predictions, references) -> dict[str, float]:
  """The Brier score: the mean over examples of sum_c (p_c - y_c)^2 (Brier 1950, eq. 2).

  y is 1 at the right class and 0 elsewhere. It is in 0..2, the less the better; the
  score of two classes that only counts one of them is half of it. It is 0.0 for no
  examples.
  """
  scores = brier_of_each(predictions, references)
  return {'brier': float(scores.mean()) if len(scores) else 0.0}


def brier_of_each(predictions, references) -> np.ndarray:
  """The Brier score of each example, float64 (n,)."""
  probabilities, classes = _checked(predictions, references, 'brier')
  right = classes[:, None] == np.arange(probabilities.shape[1])
  squares = np.square(probabilities - right).sum(axis=1)
  return _by_example(squares, references).mean(axis=1)


def calibration_error(
  predictions, references, *, bins: Sequence[int] = (BINS,)
) -> dict[str, float]:
  """The expected calibration error (Guo et al. 2017, eq. 3), for each number of bins;
  theirs is 15.

  The confidence of an example is the largest of its probabilities, and its prediction
  the first class that has it. calibration_error_N cuts 0..1 into N bins of one width,
  each with its upper end. It is the mean over bins, by their share of the examples, of
  |accuracy - mean confidence|. An empty bin counts for nothing; no examples give 0.0.

  It depends on the bins and is biased upwards with few examples: compare only equal
  numbers of both.
  """
  for count in bins:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
      raise ValueError(
        f'calibration_error: bins must be whole numbers from 1: {count!r}'
      )
  confidences, is_right = confidences_of(predictions, references)
  # What lacks in a bin of accuracy is the sum of these.
  surplus = confidences - is_right
  scores = {}
  for count in bins:
    gaps = np.bincount(bins_of(confidences, count), surplus, minlength=count)
    total = np.abs(gaps).sum()
    scores[f'calibration_error_{count}'] = float(total / max(len(surplus), 1))
  return scores


def reliability(predictions, references, bins: int = BINS) -> list[Bin]:
  """The bins of the calibration error that are not empty, the least sure first.

  >>> reliability([0.75, 0.75, 0.95], [1, 0, 1])
  [Bin(confidence=0.75, accuracy=0.5, count=2), Bin(confidence=0.95, accuracy=1.0, count=1)]
  """
  confidences, is_right = confidences_of(predictions, references)
  places = bins_of(confidences, bins)
  found = []
  for place in np.unique(places):
    own = places == place
    sure = float(confidences[own].mean())
    found.append(Bin(sure, float(is_right[own].mean()), int(own.sum())))
  return found


def log_loss(predictions, references) -> float:
  """The mean of -log of the probability of what is right; 0.0 for no examples.

  >>> round(log_loss([0.5, 0.25], [1, 0]), 4)
  0.4904
  """
  probabilities, classes = _checked(predictions, references, 'log_loss')
  right = probabilities[np.arange(len(classes)), classes]
  # One that is rounded to nothing would weigh more than all others together.
  logarithms = np.log(np.maximum(right, np.finfo(np.float64).tiny))
  return float(-logarithms.mean()) if len(right) else 0.0


def confidences_of(predictions, references) -> tuple[np.ndarray, np.ndarray]:
  """(how sure each answer is, whether it is right), one after the other.

  The answer is the first class of the largest probability. Of several labels an example
  has an answer for each.
  """
  probabilities, classes = _checked(predictions, references, 'calibration_error')
  return probabilities.max(axis=1), probabilities.argmax(axis=1) == classes


def bins_of(confidences: np.ndarray, count: int) -> np.ndarray:
  """The number of the bin of each confidence, of `count` bins with their upper ends."""
  upper = np.arange(1, count + 1) / count
  # A sum a little over 1 may leave a confidence a little over 1.
  return np.minimum(np.searchsorted(upper, confidences), count - 1)


def gaps_of_each(predictions, references, bins: int) -> np.ndarray:
  """What each example adds to confidence - accuracy in every bin, (n, bins).

  The absolute sums, added up and divided by n, are the calibration error.
  """
  confidences, is_right = confidences_of(predictions, references)
  # An answer counts in the bin of its confidence alone.
  in_bin = bins_of(confidences, bins)[:, None] == np.arange(bins)
  surplus = (confidences - is_right)[:, None] * in_bin
  answers = _by_example(surplus, references)
  return answers.mean(axis=1)


def _by_example(values: np.ndarray, references) -> np.ndarray:
  """Values (n * labels, ...) of single answers as (n, labels, ...)."""
  count = len(references)
  labels_of_each = len(values) // count if count else 1
  return values.reshape(count, labels_of_each, *values.shape[1:])


def _checked(predictions, references, what: str) -> tuple[np.ndarray, np.ndarray]:
  """Probabilities (n, classes) and right classes (n,).

  Errors: ValueError for what are no probabilities, or no classes of them.
  """
  same_length(predictions, references, what)
  classes = labels(references, what, 'references')
  # Of each label by itself, it is asked whether the example has it.
  if classes.ndim == 2:
    predictions, classes = _each_label(predictions, classes, what)
  probabilities = _probabilities(predictions, what)
  if classes.ndim != 1 or classes.dtype.kind in 'US':
    raise ValueError(f'{what}: references must be the numbers of the right classes')
  count = probabilities.shape[1]
  outside = (classes < 0) | (classes >= count)
  if outside.any():
    row = int(outside.argmax())
    raise ValueError(
      f'{what}: example {row} is of class {classes[row]}, but there are {count} '
      'probabilities, for the classes from 0'
    )
  return probabilities, classes


def _each_label(predictions, indicators: np.ndarray, what: str):
  """Probabilities (n, labels) and indicators of labels, one label after the other."""
  shape = np.shape(predictions)
  if shape != indicators.shape or indicators.dtype.kind in 'US':
    raise ValueError(
      f'{what}: predictions of shape {shape} for indicators of shape {indicators.shape}'
    )
  return np.ravel(predictions), indicators.ravel()


def _probabilities(predictions, what: str) -> np.ndarray:
  """Probabilities (n, classes), checked; those of class 1 become two columns."""
  try:
    array = np.asarray(predictions, np.float64)
  except (TypeError, ValueError) as error:
    raise ValueError(
      f'{what}: predictions must be probabilities, as many for each example'
    ) from error
  if array.ndim == 1:
    array = np.stack([1 - array, array], axis=1)
  if array.ndim != 2 or not array.shape[1]:
    raise ValueError(
      f'{what}: predictions must be probabilities (n, classes) or (n,), not of shape '
      f'{array.shape}'
    )
  # Written so that NaN is wrong as well.
  is_wrong = ~((array >= 0) & (array <= 1 + TOLERANCE)).all(axis=1)
  if is_wrong.any():
    row = int(is_wrong.argmax())
    raise ValueError(f'{what}: example {row} has a probability outside of 0..1')
  sums = array.sum(axis=1)
  is_wrong = np.abs(sums - 1) > TOLERANCE
  if is_wrong.any():
    row = int(is_wrong.argmax())
    raise ValueError(
      f'{what}: the probabilities of example {row} sum to {sums[row]:.4g}, not to 1'
    )
  return array
