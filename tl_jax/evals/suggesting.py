"""Which unlabelled texts are most worth a label.

>>> features = np.array([[0.0, 0.0], [0.0, 0.1], [5.0, 5.0], [9.0, 9.0]])
>>> chances = np.array([[0.5, 0.5], [0.51, 0.49], [0.6, 0.4], [1.0, 0.0]])
>>> suggest(features, chances, 2, doubtful=1).tolist()
[0, 1]
>>> sorted(suggest(features, chances, 2, doubtful=2).tolist())[1] > 1
True
"""

import warnings

import numpy as np

# So many times the texts that are asked for are doubtful enough to be chosen among.
DOUBTFUL = 8


def suggest(
  features: np.ndarray,
  chances: np.ndarray,
  count: int,
  *,
  doubtful: int = DOUBTFUL,
  seed: int = 0,
) -> np.ndarray:
  """The numbers (count,) of the texts to label next, the most doubtful first.

  features: (n, width) of the texts. chances: (n, classes), what a classifier of the
  labels at hand says of them. `doubtful` times as many texts as asked for, those between
  whose two likeliest classes it wavers most (Scheffer et al. 2001), are grouped by
  k-means into `count` groups, and of each the text nearest to its middle is taken
  (Zhdanov 2019, "Diverse mini-batch active learning"). Doubt alone would choose one kind
  of text again and again; what is far from all others is seldom worth a label either.
  Raises ValueError for more texts than there are.
  """
  # Inside, because scikit-learn is slow to import.
  from sklearn.cluster import KMeans
  from sklearn.exceptions import ConvergenceWarning

  total = len(features)
  if not 0 < count <= total:
    raise ValueError(f'suggest: {count} of {total} texts')
  # Not the entropy: with many classes it grows by those that are out of the question.
  ordered = np.sort(chances, axis=1)
  margin = ordered[:, -1] - (ordered[:, -2] if chances.shape[1] > 1 else 0.0)
  # Of equals the first in an order that the seed draws.
  tie = np.random.default_rng(seed).permutation(total)
  by_doubt = np.lexsort((tie, margin))
  among = by_doubt[: doubtful * count]
  with warnings.catch_warnings():
    # Copies of a text leave groups empty, which are filled below.
    warnings.simplefilter('ignore', ConvergenceWarning)
    groups = KMeans(count, n_init=1, random_state=seed).fit(features[among])
  distances = groups.transform(features[among])
  chosen = []
  for group in np.unique(groups.labels_):
    members = np.flatnonzero(groups.labels_ == group)
    chosen.append(among[members[distances[members, group].argmin()]])
  left = by_doubt[~np.isin(by_doubt, chosen)]
  found = np.concatenate([chosen, left[: count - len(chosen)]]).astype(int)
  return found[np.lexsort((tie[found], margin[found]))]
