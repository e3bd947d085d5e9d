"""Which unlabelled texts are most worth a label.

>>> features = np.array([[0.0, 0.0], [0.0, 0.1], [5.0, 5.0], [9.0, 9.0]])
>>> chances = np.array([[0.5, 0.5], [0.51, 0.49], [0.6, 0.4], [1.0, 0.0]])
>>> sorted(suggest(features, chances, 2).tolist())
[0, 2]
"""

import numpy as np


def suggest(
  features: np.ndarray, chances: np.ndarray, count: int, *, seed: int = 0
) -> np.ndarray:
  """The numbers (count,) of the texts to label next, the most wanted first.

  features: (n, width) of the texts. chances: (n, classes), what a classifier of the
  labels at hand says of them. A text is wanted as far as the classifier wavers between
  its two likeliest classes, and as far as the text is from those chosen already: the
  squared distance to the nearest of them, as of k-means++ (Arthur and Vassilvitskii
  2007), times one minus the margin (Scheffer et al. 2001). The first is the most
  uncertain one. Without the distance the choice would be of one kind of text, again and
  again; without the margin, of odd ones. Nothing is drawn but the order of equals.
  Raises ValueError for more texts than there are.
  """
  total = len(features)
  if not 0 < count <= total:
    raise ValueError(f'suggest: {count} of {total} texts')
  # Not the entropy: with many classes it grows by those that are out of the question.
  ordered = np.sort(chances, axis=1)
  margin = ordered[:, -1] - (ordered[:, -2] if chances.shape[1] > 1 else 0.0)
  doubt = 1.0 - margin
  features = _standardised(features)
  # Of equals the first in an order that the seed draws.
  tie = np.random.default_rng(seed).permutation(total)
  chosen = [int(np.lexsort((tie, -doubt))[0])]
  distance = np.full(total, np.inf)
  for _ in range(count - 1):
    apart = np.square(features - features[chosen[-1]]).sum(1)
    distance = np.minimum(distance, apart)
    wanted = doubt * distance
    # Copies of what was chosen have 0, and are taken only where nothing else is left.
    wanted[chosen] = -1.0
    chosen.append(int(np.lexsort((tie, -wanted))[0]))
  return np.array(chosen)


def _standardised(features: np.ndarray) -> np.ndarray:
  """Features with a mean of 0 and a deviation of 1 in every direction that has one."""
  deviation = features.std(0)
  return (features - features.mean(0)) / np.where(deviation > 0, deviation, 1.0)
