"""Classifiers of frozen features: cheap enough to be trained hundreds of times.

>>> features = np.array([[0.0, 1.0], [0.1, 0.9], [1.0, 0.0], [0.9, 0.2]] * 3)
>>> probe = fit(features, np.array([0, 0, 1, 1] * 3))
>>> probe(features[:4]).argmax(1).tolist()
[0, 0, 1, 1]
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

# Inverse strengths of the penalty that are tried, on standardised features.
STRENGTHS = (0.001, 0.01, 0.1, 1.0)
# That which is taken where too few labels are there to try any.
USUAL = 0.01
# The smallest probability, whose logarithm is a number.
LEAST = 1e-12
# Parts of a cross-validation: for strengths, and for the error.
INNER = 3
FOLDS = 5

# (features (n, width), labels (n,)) -> a function of features to log-probabilities
# (n, classes).
Fit = Callable[[np.ndarray, np.ndarray], Callable]


def fit(
  features: np.ndarray, labels: np.ndarray, classes: int | None = None
) -> Callable[[np.ndarray], np.ndarray]:
  """Logistic regression on standardised features (n, width); labels (n,) count from 0.

  The strength of its penalty is chosen by cross-validation of these labels alone. The
  result is a function of features (m, width) to log-probabilities (m, classes). A class
  that no label has gets minus infinity.
  """
  # Inside, because scikit-learn is slow to import.
  from sklearn.linear_model import LogisticRegression
  from sklearn.pipeline import make_pipeline
  from sklearn.preprocessing import StandardScaler

  labels = np.asarray(labels)
  count = int(labels.max()) + 1 if classes is None else classes
  present, counts = np.unique(labels, return_counts=True)
  if len(present) == 1:
    return lambda features: _spread(np.zeros((len(features), 1)), present, count)
  strength = USUAL
  if counts.min() >= INNER:
    strength = _best_strength(features, labels)
  model = make_pipeline(
    StandardScaler(), LogisticRegression(C=strength, max_iter=300, tol=1e-3)
  )
  model.fit(features, labels)

  def answer(features: np.ndarray) -> np.ndarray:
    chances = np.maximum(model.predict_proba(features), LEAST)
    return _spread(np.log(chances), present, count)

  return answer


def _best_strength(features: np.ndarray, labels: np.ndarray) -> float:
  """The strength with the highest likelihood in cross-validation."""
  from sklearn.linear_model import LogisticRegression
  from sklearn.model_selection import StratifiedKFold
  from sklearn.preprocessing import StandardScaler

  # By the likelihood, not by the accuracy: few labels have many ties of the latter.
  scores = np.zeros(len(STRENGTHS))
  # Not shuffled: whoever gives the labels has drawn them.
  for train, held in StratifiedKFold(INNER).split(features, labels):
    scaler = StandardScaler().fit(features[train])
    seen, unseen = scaler.transform(features[train]), scaler.transform(features[held])
    for place, strength in enumerate(STRENGTHS):
      model = LogisticRegression(C=strength, max_iter=300, tol=1e-3)
      model.fit(seen, labels[train])
      found = np.log(np.maximum(model.predict_proba(unseen), LEAST))
      columns = np.searchsorted(model.classes_, labels[held])
      scores[place] += found[np.arange(len(held)), columns].sum()
  return STRENGTHS[int(scores.argmax())]


def _spread(found: np.ndarray, present: np.ndarray, classes: int) -> np.ndarray:
  """Log-probabilities (n, classes) from those of the classes that were present."""
  whole = np.full((len(found), classes), -np.inf)
  whole[:, present] = found
  return whole


class Measured(NamedTuple):
  """The errors of a learner at several numbers of labels.

  labels: these numbers, rising. errors: the mean error of each. covariance: of these
  errors (sizes, sizes), from one set of labels at hand to another. training: the
  standard deviation of the error on all texts from one set of the most labels to
  another.
  """

  labels: list[int]
  errors: list[float]
  covariance: np.ndarray
  training: float

  @property
  def noise(self) -> list[float]:
    """The standard deviation of each error."""
    return np.sqrt(np.diag(self.covariance)).tolist()


def sizes_of(most: int, classes: int, steps: int = 6) -> list[int]:
  """The numbers of labels at which a learner is measured, evenly apart as logarithms.

  The fewest have about two labels of each class.

  >>> sizes_of(80, 2)
  [10, 15, 23, 35, 53, 80]
  """
  # Below an eighth errors are those of guessing, and bend no curve.
  fewest = min(max(2 * classes, most // 8), most // 2)
  places = np.geomspace(max(fewest, 2), most, steps)
  found = places.round().astype(int)
  return sorted(set(found.tolist()))


def measure(
  inputs: Sequence | np.ndarray,
  labels: np.ndarray,
  learn: Fit,
  *,
  groups: np.ndarray | None = None,
  repeats: int = 5,
  seed: int = 0,
  steps: int = 6,
  watch: Callable[[int, int], None] = lambda done, total: None,
) -> Measured:
  """The errors of a learner from a few labels up to most of those that there are.

  All examples are asked in every repeat, each by a learner that has seen none of its
  fold; of the others it has seen as many as the size says, drawn by class. inputs: what
  `learn` takes, by number. groups: (n,) of which examples are in one fold together, as
  those of equal texts must be: whoever has learned one knows the other by heart. steps:
  how many sizes there are. watch(done, total) counts the learners. Raises ValueError
  for fewer than two groups of a class, which no fold could leave out.
  """
  from threadpoolctl import threadpool_limits

  labels = np.asarray(labels)
  if groups is None:
    groups = np.arange(len(labels))
  _, first, group_of = np.unique(groups, return_index=True, return_inverse=True)
  _, counts = np.unique(labels[first], return_counts=True)
  fewest = int(counts.min())
  if len(counts) < 2 or fewest < 2:
    raise ValueError('forecast: needs two classes, and two texts or more of each')
  folds = min(FOLDS, fewest)
  splits = [_folds(labels, group_of, folds, seed, repeat) for repeat in range(repeats)]
  # Folds of groups are not all of one size.
  most = min(len(train) for split in splits for train, _ in split)
  sizes = sizes_of(most, len(counts), steps)
  # Example by example, because the noise of training is told by what goes together.
  wrong = np.zeros((repeats, len(sizes), len(labels)))
  fold_of = np.zeros((repeats, len(labels)), int)
  total = repeats * folds * len(sizes)
  done = 0
  # Several threads take ten times as long for such small matrices.
  with threadpool_limits(1):
    for repeat, split in enumerate(splits):
      for fold, (train, held) in enumerate(split):
        fold_of[repeat, held] = fold
        for place, size in enumerate(sizes):
          seen = train[:size]
          answer = learn(_take(inputs, seen), labels[seen])
          scores = answer(_take(inputs, held))
          decided = scores.argmax(1)
          wrong[repeat, place, held] = decided != labels[held]
          done += 1
          watch(done, total)
  return _summed_up(sizes, wrong, fold_of, group_of)


def _folds(
  labels: np.ndarray, group_of: np.ndarray, folds: int, seed: int, repeat: int
) -> list[tuple[np.ndarray, np.ndarray]]:
  """(train, held) of every fold: the numbers to learn from in an order in which every
  beginning has its share of each class, and those to ask for. No group is in both.
  """
  from sklearn.model_selection import StratifiedKFold

  generator = np.random.default_rng([seed, repeat])
  state = int(generator.integers(2**31))
  splits = StratifiedKFold(folds, shuffle=True, random_state=state)
  _, first = np.unique(group_of, return_index=True)
  own = labels[first]
  found = []
  for _, left_out in splits.split(own, own):
    is_held = np.isin(group_of, left_out)
    held = np.flatnonzero(is_held)
    train = np.flatnonzero(~is_held)
    drawn = generator.permutation(train)
    found.append((_by_class(labels, drawn), held))
  return found


def _summed_up(
  sizes: list[int], wrong: np.ndarray, fold_of: np.ndarray, group_of: np.ndarray
) -> Measured:
  """What the mistakes (repeats, sizes, examples) of all repeats say together."""
  repeats, _, count = wrong.shape
  folds = int(fold_of.max()) + 1
  learners = repeats * folds
  errors = wrong.mean((0, 2))
  # What there is between parts of the labels at hand, and all of them have in common.
  apart = 1 / np.array(sizes) - 1 / count
  among = 0.0
  for place in range(len(sizes)):
    among += _variance_among(wrong[:, place], fold_of, group_of)
  # It falls as one over the number of labels: all sizes tell it together.
  of_one = max(0.0, among / float(apart.sum()))
  covariance = _of_examples(wrong.mean(0), group_of)
  # No repeat draws other labels than those at hand: their luck is in every point.
  covariance += of_one / count
  covariance += np.diag(of_one * apart / learners)
  training = (of_one / sizes[-1]) ** 0.5
  return Measured(sizes, errors.tolist(), covariance, training)


def _of_examples(wrong: np.ndarray, group_of: np.ndarray) -> np.ndarray:
  """The covariance (sizes, sizes) of mean errors that comes from the examples asked.

  wrong: (sizes, examples), how often each was answered wrongly. The same examples are
  asked at all sizes, so that the errors go together; but not wholly, as some become
  easy with more labels and others do not. Examples of one group count as one.
  """
  sizes, count = wrong.shape
  # One more that is always wrong and one that never is: however few mistakes there are,
  # another one is always possible (Agresti and Coull 1998).
  added = np.repeat([[0.0, 1.0]], sizes, axis=0)
  apart = np.concatenate([wrong, added], axis=1)
  apart -= apart.mean(1, keepdims=True)
  last = int(group_of.max()) + 1
  places = np.concatenate([group_of, [last, last + 1]])
  sums = []
  for row in apart:
    sums.append(np.bincount(places, weights=row))
  of_groups = np.array(sums)
  found = of_groups @ of_groups.T
  return found / count**2


def _variance_among(
  wrong: np.ndarray, fold_of: np.ndarray, group_of: np.ndarray
) -> float:
  """The variance of the error of a learner, on all texts, from one part of the labels
  at hand to another.

  wrong, fold_of: (repeats, examples). The mistakes of one learner, in examples of one
  fold, go together as far as its labels make it better or worse; what is left, that an
  example is near its border, averages out over many examples. So it is the mean
  covariance of the mistakes in examples of a fold that are of two groups.
  """
  repeats = len(wrong)
  if repeats < 2:
    return 0.0
  apart = wrong - wrong.mean(0)
  total = 0.0
  pairs = 0
  for own, folds in zip(apart, fold_of, strict=True):
    for fold in range(int(folds.max()) + 1):
      members = np.flatnonzero(folds == fold)
      groups = group_of[members]
      sums = np.bincount(groups, weights=own[members])
      counts = np.bincount(groups)
      # All pairs without those of one group.
      total += sums.sum() ** 2 - np.square(sums).sum()
      pairs += len(members) ** 2 - np.square(counts).sum()
  # One of the repeats was spent on the mean of every example.
  return float(total / max(pairs, 1) * repeats / (repeats - 1))


def _by_class(labels: np.ndarray, order: np.ndarray) -> np.ndarray:
  """An order in which every beginning has its share of each class."""
  # The middle of its share: so a class of one comes in the middle, not first.
  ranks = np.zeros(len(order))
  for label in np.unique(labels[order]):
    places = np.flatnonzero(labels[order] == label)
    ranks[places] = (np.arange(len(places)) + 0.5) / len(places)
  return order[np.argsort(ranks, kind='stable')]


def _take(inputs, numbers: np.ndarray):
  """The inputs with these numbers: rows of an array, or texts of a list."""
  if isinstance(inputs, np.ndarray):
    return inputs[numbers]
  return [inputs[number] for number in numbers]
