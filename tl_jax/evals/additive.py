"""Metrics as sums over examples: each example is scored once, whatever is drawn of them.

>>> metric = additive_of('accuracy', [[0, 1, 1], [1, 1, 1]], [0, 1, 0])
>>> rows = metric.rows([0, 1, 1], [0, 1, 0])
>>> metric.names, metric.values(rows.sum(axis=0), 3).round(3).tolist()
(('accuracy',), [0.667])

A metric that is no function of such sums, as Spearman's correlation is not, has none.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from tl_jax import metrics
from tl_jax.metrics import calibration, likelihood, tags, text

# metric(predictions, references) -> its values by name.
Metric = Callable[[Sequence, Sequence], dict[str, float]]

# Metrics whose values are means of their values for single examples.
MEANS = {
  'choice_accuracy': ('choice_accuracy',),
  'exact_match': ('exact_match',),
  'mean_squared_error': ('mean_squared_error',),
  # Those of groups are means of fewer pairs.
  'minimal_pairs': ('pair_accuracy',),
  'retrieval': ('mrr', 'accuracy_1', 'accuracy_10'),
  'rouge': ('rouge1', 'rouge2', 'rougeL', 'rougeLsum'),
  'squad': ('squad_exact_match', 'squad_f1'),
  # Those of the questions with an answer alone are means of others each time.
  'squad_v2': ('squad_v2_exact_match', 'squad_v2_f1'),
}
# Metrics of counts of word sequences that are summed over all examples.
TEXTS = ('bleu', 'chrf')
# Bins of the calibration error.
_BINS = 15
# A variance below this share of the squares is the rounding of their sum.
_ROUNDING = 1e-12


class Additive(NamedTuple):
  """How a metric comes from sums over examples.

  rows(predictions, references) -> what each of n examples adds, (n, numbers).
  values(sums, n) -> the values (..., names), from sums (..., numbers) over n examples.
  are_scores: are the rows the scores of single examples, a column for each name?
  """

  names: tuple[str, ...]
  rows: Callable[[Sequence, Sequence], np.ndarray]
  values: Callable[[np.ndarray, int], np.ndarray]
  are_scores: bool = False


def additive_of(
  function: str, answers: Sequence[Sequence], references: Sequence
) -> Additive | None:
  """How a metric of this name comes from sums; None where it does not.

  answers: all lists of predictions (n,) that will be judged. references: (n,).
  """
  # First those that any problem of texts may have, whatever it answers.
  if function in TEXTS:
    return _of_texts(function)
  if function in MEANS:
    is_mean = function != 'rouge' or _are_ascii([*answers, references])
    return mean_of(metrics.METRICS[function], MEANS[function]) if is_mean else None
  make = _MAKERS.get(function)
  return None if make is None else make(answers, references)


def mean_of(metric: Metric, names: Sequence[str]) -> Additive:
  """A metric whose values are means of its values for single examples."""

  def rows(predictions, references) -> np.ndarray:
    found = []
    # One example at a time, as the metric itself would judge it alone.
    for prediction, reference in zip(predictions, references, strict=True):
      values = metric([prediction], [reference])
      found.append([values[name] for name in names])
    return np.array(found, np.float64)

  return Additive(tuple(names), rows, _mean, are_scores=True)


def _are_ascii(lists: Sequence[Sequence]) -> bool:
  """Is every text ASCII? Of other scripts, ROUGE has one tokenizer for a whole set."""
  for each in lists:
    for entry in each:
      texts = [entry] if isinstance(entry, str) else entry
      if not all(text.isascii() for text in texts):
        return False
  return True


def _of_texts(function: str) -> Additive:
  """BLEU or chrF, by the counts of sacrebleu."""

  def rows(predictions, references) -> np.ndarray:
    return np.array(text.corpus_counts(function, predictions, references))

  def values(sums, count: int) -> np.ndarray:
    del count
    sums = np.asarray(sums)
    # One line for each draw: the library takes the counts of one corpus.
    flat = sums.reshape(-1, sums.shape[-1])
    # Counts are whole numbers, which draws by weights leave as floats.
    whole = np.rint(flat).astype(np.int64)
    scores = [text.score_of_counts(function, each) for each in whole.tolist()]
    return np.array(scores).reshape(*sums.shape[:-1], 1)

  return Additive((function,), rows, values)


class _Classes(NamedTuple):
  """The counts of each class: right, predicted and expected, (..., classes)."""

  right: np.ndarray
  predicted: np.ndarray
  expected: np.ndarray

  @classmethod
  def of(cls, sums: np.ndarray) -> '_Classes':
    return cls(*np.split(np.asarray(sums, np.float64), 3, axis=-1))

  @property
  def f1(self) -> np.ndarray:
    """F1 of every class; 0 where it is neither predicted nor present."""
    return _ratio(2 * self.right, self.predicted + self.expected)

  @property
  def f1_micro(self) -> np.ndarray:
    """F1 of all counts together."""
    both = (self.predicted + self.expected).sum(-1)
    return _ratio(2 * self.right.sum(-1), both)

  def f1_macro(self, counts_absent: bool) -> np.ndarray:
    """The mean F1 over classes: of those that occur, or of all."""
    f1 = self.f1
    if counts_absent:
      return f1.mean(-1)
    # A draw may leave a rare class out, which then has no F1 to be averaged.
    occurs = (self.predicted + self.expected) > 0
    return _ratio(f1.sum(-1), occurs.sum(-1))


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
  """top / bottom, 0 where that is a division by zero."""
  # `where` leaves the other places as they are in `out`.
  zeros = np.zeros(np.broadcast_shapes(np.shape(top), np.shape(bottom)))
  return np.divide(top, bottom, out=zeros, where=np.asarray(bottom) > 0)


def _accuracy(answers, references) -> Additive:
  """The share of examples that are right as a whole."""
  del answers, references

  def rows(predictions, references) -> np.ndarray:
    is_right = np.asarray(predictions) == np.asarray(references)
    # Of several labels, all must be right.
    return is_right.reshape(len(is_right), -1).all(axis=1)[:, None].astype(np.float64)

  return Additive(('accuracy',), rows, _mean, are_scores=True)


def _brier(answers, references) -> Additive:
  """The mean Brier score."""
  del answers, references

  def rows(predictions, references) -> np.ndarray:
    return calibration.brier_of_each(predictions, references)[:, None]

  return Additive(('brier',), rows, _mean, are_scores=True)


def _mean(sums, count: int) -> np.ndarray:
  return np.asarray(sums) / count


def _rows_of_classes(predictions, references, classes: np.ndarray) -> np.ndarray:
  """What each example adds to the counts of classes, (n, 3 classes)."""
  predicted = np.asarray(predictions)
  expected = np.asarray(references)
  # Indicators are in columns already.
  if expected.ndim == 1:
    predicted = predicted[:, None] == classes
    expected = expected[:, None] == classes
  parts = [(predicted > 0) & (expected > 0), predicted > 0, expected > 0]
  return np.concatenate(parts, axis=1).astype(np.float64)


def _classes_of(answers, references) -> np.ndarray:
  """The classes that occur anywhere, in order."""
  return np.unique(np.concatenate([*map(np.asarray, answers), np.asarray(references)]))


def _f1(answers, references) -> Additive:
  """F1 of classes (n,), or of indicators (n, labels)."""
  # A set has no label that could be the positive one.
  if np.asarray(references).ndim == 2:

    def values_of_sets(sums, count: int) -> np.ndarray:
      del count
      found = _Classes.of(sums)
      return np.stack([found.f1_macro(True), found.f1_micro], -1)

    rows = functools.partial(_rows_of_classes, classes=None)
    return Additive(('f1_macro', 'f1_micro'), rows, values_of_sets)
  classes = _classes_of(answers, references)
  names = ('f1_macro', 'f1_micro')
  # The positive class is 1, which need not occur in every draw.
  if set(classes.tolist()) <= {0, 1}:
    classes = np.array([0, 1])
    names = ('f1', *names)

  def values(sums, count: int) -> np.ndarray:
    del count
    found = _Classes.of(sums)
    columns = [found.f1_macro(False), found.f1_micro]
    if 'f1' in names:
      columns.insert(0, found.f1[..., 1])
    return np.stack(columns, -1)

  return Additive(names, functools.partial(_rows_of_classes, classes=classes), values)


def _matthews(answers, references) -> Additive:
  """The Matthews correlation of classes (n,)."""
  classes = _classes_of(answers, references)

  def values(sums, count: int) -> np.ndarray:
    found = _Classes.of(sums)
    by_chance = (found.predicted * found.expected).sum(-1)
    covariance = found.right.sum(-1) * count - by_chance
    of_predicted = count**2 - np.square(found.predicted).sum(-1)
    of_expected = count**2 - np.square(found.expected).sum(-1)
    # Rounding may leave a little less than nothing.
    spread = np.sqrt(np.maximum(of_predicted * of_expected, 0.0))
    return _ratio(covariance, spread)[..., None]

  rows = functools.partial(_rows_of_classes, classes=classes)
  return Additive(('matthews',), rows, values)


def _pearson(answers, references) -> Additive:
  """Pearson's correlation, by the sums of products.

  Both sides are centred and scaled first, so that the sums lose no digits; no
  correlation sees it.
  """
  sides = [
    np.concatenate([np.ravel(each) for each in answers]).astype(np.float64),
    np.ravel(references).astype(np.float64),
  ]
  scales = [
    (side.mean(), max(float(side.std()), np.finfo(float).tiny)) for side in sides
  ]

  def rows(predictions, references) -> np.ndarray:
    pairs = zip((predictions, references), scales, strict=True)
    one, two = (
      (np.ravel(side).astype(np.float64) - centre) / scale
      for side, (centre, scale) in pairs
    )
    return np.stack([one, two, one * one, two * two, one * two], axis=1)

  def values(sums, count: int) -> np.ndarray:
    # The five sums come last; draws stay in front.
    means = np.moveaxis(np.asarray(sums) / count, -1, 0)
    one, two, one_squared, two_squared, both = means
    variances = [one_squared - one**2, two_squared - two**2]
    for place, squares in enumerate((one_squared, two_squared)):
      is_constant = variances[place] <= _ROUNDING * np.maximum(squares, _ROUNDING)
      variances[place] = np.where(is_constant, 0.0, variances[place])
    found = _ratio(both - one * two, np.sqrt(variances[0] * variances[1]))
    return np.clip(found, -1.0, 1.0)[..., None]

  return Additive(('pearson',), rows, values)


def _calibration_error(answers, references) -> Additive:
  """The expected calibration error, by what is lacking in every bin."""
  del answers, references

  def rows(predictions, references) -> np.ndarray:
    return calibration.gaps_of_each(predictions, references, _BINS)

  def values(sums, count: int) -> np.ndarray:
    return np.abs(np.asarray(sums)).sum(-1, keepdims=True) / count

  return Additive((f'calibration_error_{_BINS}',), rows, values)


def _tag_accuracy(answers, references) -> Additive:
  """The share of all words that are tagged right: sentences differ in length."""
  del answers, references

  def rows(predictions, references) -> np.ndarray:
    found = []
    for predicted, expected in zip(predictions, references, strict=True):
      hits = sum(map(str.__eq__, predicted, expected))
      found.append((hits, len(expected)))
    return np.array(found, np.float64).reshape(-1, 2)

  def values(sums, count: int) -> np.ndarray:
    del count
    sums = np.asarray(sums)
    return _ratio(sums[..., :1], sums[..., 1:])

  return Additive(('tag_accuracy',), rows, values)


def _entity_f1(answers, references) -> Additive:
  """Precision, recall and F1 of entities, by the counts of every type."""
  types = tags.types_of([*answers, references])

  def rows(predictions, references) -> np.ndarray:
    return tags.counts_by_type(predictions, references, types)

  def values(sums, count: int) -> np.ndarray:
    del count
    found = _Classes.of(sums)
    right = found.right.sum(-1)
    # In the order of the names.
    columns = [
      _ratio(right, found.predicted.sum(-1)),
      _ratio(right, found.expected.sum(-1)),
      found.f1_micro,
      found.f1_macro(False),
    ]
    return np.stack(columns, -1)

  names = ('entity_precision', 'entity_recall', 'entity_f1', 'entity_f1_macro')
  return Additive(names, rows, values)


def _last_word(answers, references) -> Additive:
  """The share of words that are the most probable ones, and the perplexity of all."""
  del answers, references

  def rows(predictions, references) -> np.ndarray:
    del references
    return np.asarray(predictions, np.float64)

  def values(sums, count: int) -> np.ndarray:
    means = np.asarray(sums) / count
    accuracy = means[..., 1]
    return np.stack([accuracy, likelihood.perplexities(means[..., 0])], axis=-1)

  return Additive(('last_word_accuracy', 'last_word_perplexity'), rows, values)


_MAKERS = {
  'accuracy': _accuracy,
  'brier': _brier,
  'f1': _f1,
  'matthews': _matthews,
  'pearson': _pearson,
  'calibration_error': _calibration_error,
  'tag_accuracy': _tag_accuracy,
  'entity_f1': _entity_f1,
  'last_word': _last_word,
}
