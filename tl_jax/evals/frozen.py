"""What frozen features know of classes: a linear probe with its whole path of penalties,
nearest neighbours, nearest centroids.

>>> features = np.array([[0.0, 1.0], [0.1, 0.9], [1.0, 0.0], [0.9, 0.2]] * 3)
>>> labels = np.array([0, 0, 1, 1] * 3)
>>> probe = ridge(features, labels, 2)
>>> probe.decide(features[:4]).tolist(), probe.accuracy
([0, 0, 1, 1], 1.0)

None takes more than a few products of matrices, so that all layers of a model are tried
in seconds.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# Penalties on standardised features, as shares of the number of examples.
PENALTIES = tuple(10.0**power for power in range(-4, 4))
# How many neighbours are tried.
NEIGHBOURS = (1, 3, 9, 27)
# Rows of similarities that are computed at once.
ROWS = 1024


class Probe(NamedTuple):
  """A classifier of frozen features.

  decide: features (m, width) to classes (m,). accuracy: on the examples that it was
  fitted to, each left out in its turn. setting: what was chosen by that. path: setting
  -> accuracy, of all that were tried.
  """

  decide: Callable[[np.ndarray], np.ndarray]
  accuracy: float
  setting: float
  path: dict[float, float]


def ridge(features: np.ndarray, labels: np.ndarray, classes: int) -> Probe:
  """Least squares on indicators of the classes, with a penalty (Rifkin and Lippert 2007).

  features: (n, width). labels: (n,) from 0. One decomposition gives all penalties, and
  for each what it says of every example that is left out: section 2.4 there. Chosen is
  the penalty with the smallest squared error of these, and not by accuracy, which has
  many ties.
  """
  labels = np.asarray(labels)
  features = np.asarray(features, np.float64)
  centre, scale = _standard(features)
  x = (features - centre) / scale
  targets = np.eye(classes)[labels]
  mean = targets.mean(0)
  left, singular, right = _decomposed(x)
  projected = left.T @ (targets - mean)
  squares = np.square(singular)
  best = None
  path = {}
  for penalty in PENALTIES:
    shrink = squares / (squares + penalty * len(labels))
    said = mean + left @ (shrink[:, None] * projected)
    # How far each example pulls its own answer; the mean pulls, too.
    own = np.square(left) @ shrink + 1 / len(labels)
    left_out = targets - (targets - said) / np.maximum(1 - own, 1e-9)[:, None]
    error = float(np.square(targets - left_out).mean())
    path[penalty] = float((left_out.argmax(1) == labels).mean())
    if best is None or error < best[0]:
      best = error, penalty, shrink
  _, penalty, shrink = best
  inverse = shrink / np.maximum(singular, 1e-12)
  weights = right.T @ (inverse[:, None] * projected)

  def decide(features: np.ndarray) -> np.ndarray:
    return (mean + (features - centre) / scale @ weights).argmax(1)

  return Probe(decide, path[penalty], penalty, path)


def neighbours(features: np.ndarray, labels: np.ndarray, classes: int) -> Probe:
  """The most frequent class among the k examples with the largest cosine.

  k is chosen by the examples that are fitted, each left out. Of classes that are equally
  frequent the one whose neighbours are more alike is taken.
  """
  labels = np.asarray(labels)
  centre = features.mean(0)
  x = _directions(features - centre)
  most = min(max(NEIGHBOURS), len(labels) - 1)
  nearest, alike = _nearest(x, x, most, leave_out=True)
  path = {}
  for k in NEIGHBOURS:
    if k <= most:
      said = _vote(labels[nearest[:, :k]], alike[:, :k], classes)
      path[float(k)] = float((said == labels).mean())
  chosen = max(path, key=lambda k: (path[k], -k))

  def decide(features: np.ndarray) -> np.ndarray:
    places, cosines = _nearest(_directions(features - centre), x, int(chosen))
    return _vote(labels[places], cosines, classes)

  return Probe(decide, path[chosen], chosen, path)


def centroids(features: np.ndarray, labels: np.ndarray, classes: int) -> Probe:
  """The class whose mean is nearest, in standardised features.

  For the accuracy, the mean of an example's own class leaves it out.
  """
  labels = np.asarray(labels)
  centre, scale = _standard(features)
  x = (features - centre) / scale
  counts = np.bincount(labels, minlength=classes)
  totals = np.zeros((classes, x.shape[1]))
  np.add.at(totals, labels, x)
  # A class without an example has no mean, and is never the nearest.
  means = totals / np.maximum(counts, 1)[:, None]
  distances = _distances(x, means, counts)
  others = (totals[labels] - x) / np.maximum(counts[labels] - 1, 1)[:, None]
  own = np.square(x - others).sum(1)
  own[counts[labels] < 2] = np.inf
  distances[np.arange(len(labels)), labels] = own
  accuracy = float((distances.argmin(1) == labels).mean())

  def decide(features: np.ndarray) -> np.ndarray:
    return _distances((features - centre) / scale, means, counts).argmin(1)

  return Probe(decide, accuracy, 0.0, {0.0: accuracy})


# In the order of a table.
METHODS = {'linear': ridge, 'neighbours': neighbours, 'centroids': centroids}


def _standard(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """(mean, deviation) of each feature; 1 for one that never changes."""
  deviation = features.std(0)
  return features.mean(0), np.where(deviation > 1e-9, deviation, 1.0)


def _decomposed(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """The singular value decomposition of x (n, width), without values that are zero.

  By the eigenvectors of the smaller of its two products with itself, which takes a tenth
  of the time where there are many more examples than features.
  """
  is_tall = x.shape[0] >= x.shape[1]
  product = x.T @ x if is_tall else x @ x.T
  values, vectors = np.linalg.eigh(product)
  # Squares of what is lost in rounding.
  kept = values > 1e-10 * values.max()
  singular = np.sqrt(values[kept])
  vectors = vectors[:, kept]
  if is_tall:
    return x @ vectors / singular, singular, vectors.T
  return vectors, singular, (x.T @ vectors / singular).T


def _directions(x: np.ndarray) -> np.ndarray:
  """Rows of length 1; one of zeros stays as it is."""
  return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def _nearest(
  asked: np.ndarray, known: np.ndarray, count: int, leave_out: bool = False
) -> tuple[np.ndarray, np.ndarray]:
  """(places, cosines) (asked, count) of the nearest known ones, the nearest first."""
  places, cosines = [], []
  for first in range(0, len(asked), ROWS):
    found = asked[first : first + ROWS] @ known.T
    if leave_out:
      rows = np.arange(len(found))
      # Nobody is a neighbour of itself.
      found[rows, first + rows] = -np.inf
    # Only the nearest are sorted, which are few of many.
    few = np.argpartition(-found, count - 1, axis=1)[:, :count]
    ranks = np.argsort(-np.take_along_axis(found, few, 1), axis=1, kind='stable')
    order = np.take_along_axis(few, ranks, 1)
    places.append(order)
    cosines.append(np.take_along_axis(found, order, 1))
  return np.concatenate(places), np.concatenate(cosines)


def _vote(labels: np.ndarray, alike: np.ndarray, classes: int) -> np.ndarray:
  """The most frequent of the labels (n, k) of each row, int (n,)."""
  votes = np.zeros((len(labels), classes))
  rows = np.arange(len(labels))[:, None]
  # A cosine is at most 1: together they are less than one vote.
  weight = 1 + alike / (4 * labels.shape[1])
  np.add.at(votes, (rows, labels), weight)
  return votes.argmax(1)


def _distances(x: np.ndarray, means: np.ndarray, counts: np.ndarray) -> np.ndarray:
  """The squared distance (n, classes) to every mean."""
  squares = np.square(x).sum(1)[:, None] + np.square(means).sum(1) - 2 * x @ means.T
  squares[:, counts == 0] = np.inf
  return squares
