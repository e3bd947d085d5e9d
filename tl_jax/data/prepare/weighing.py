"""What documents are worth: a classifier of quality, and how like a target they are.

>>> found = weights_of(['a good film', 'numbers 1 2'], target=['a bad film'] * 3)
>>> bool(found[0] > found[1])
True
"""

import zlib
from collections.abc import Sequence

import numpy as np

# Places of hashed words: of the classifier, and of DSIR's runs of one and two words.
_FEATURES = 2**18
_BUCKETS = 10_000
# The share of the corpus itself in what a target is taken for.
_USUAL = 0.1
# Texts of either side that a classifier learns from.
_MOST = 20_000


def scores_of(texts: Sequence[str], good: Sequence[str], seed: int) -> np.ndarray:
  """How probable it is that each document is one of the good texts, float64 (n,).

  A logistic regression on hashed words tells the good texts from the documents.
  """
  from sklearn.feature_extraction.text import HashingVectorizer
  from sklearn.linear_model import LogisticRegression

  hashing = HashingVectorizer(n_features=_FEATURES, alternate_sign=False)
  learned_good = _some(good, seed, 'good')
  learned_other = _some(texts, seed, 'others')
  labels = [1] * len(learned_good) + [0] * len(learned_other)
  # Both sides weigh the same, however many texts they have.
  model = LogisticRegression(class_weight='balanced', max_iter=200)
  model.fit(hashing.transform([*learned_good, *learned_other]), labels)
  return model.predict_proba(hashing.transform(texts))[:, 1]


def _generator(seed: int, name: str) -> np.random.Generator:
  """The draws of a name, a function of it and the seed."""
  return np.random.default_rng([seed, zlib.crc32(name.encode())])


def _some(texts: Sequence[str], seed: int, name: str) -> list[str]:
  """At most `_MOST` of the texts, drawn without replacement."""
  if len(texts) <= _MOST:
    return list(texts)
  generator = _generator(seed, name)
  chosen = generator.choice(len(texts), _MOST, replace=False)
  return [texts[place] for place in np.sort(chosen)]


def kept_by(scores: np.ndarray, alpha: float, seed: int) -> np.ndarray:
  """Which documents stay: those whose score is above 1 minus a draw, boolean (n,).

  The draws are of a Pareto distribution, so that some of the worse ones stay, too (Brown
  et al. 2020, appendix A).
  """
  draws = _generator(seed, 'pareto').pareto(alpha, len(scores))
  return draws > 1 - scores


def weights_of(texts: Sequence[str], target: Sequence[str]) -> np.ndarray:
  """The log of how much more often the target has the words of each document, (n,).

  Words and pairs of words are hashed into 10,000 places (Xie et al. 2023, section 3).
  """
  own = _counts(texts)
  usual = _frequencies(own)
  # Else a small target would forbid all words that it happens not to have.
  wanted = (1 - _USUAL) * _frequencies(_counts(target)) + _USUAL * usual
  ratios = np.divide(wanted, usual, out=np.ones_like(usual), where=usual > 0)
  return own @ np.log(ratios)


def _counts(texts: Sequence[str]):
  """How often each document has the words of each place, sparse (n, _BUCKETS)."""
  from sklearn.feature_extraction.text import HashingVectorizer

  hashing = HashingVectorizer(
    n_features=_BUCKETS,
    ngram_range=(1, 2),
    norm=None,
    alternate_sign=False,
    token_pattern=r'\w+|[^\w\s]',
  )
  return hashing.transform(texts)


def _frequencies(counts) -> np.ndarray:
  """The share of each place, (_BUCKETS,)."""
  total = np.asarray(counts.sum(0), np.float64).ravel()
  return total / max(total.sum(), 1.0)


def chosen_by(weights: np.ndarray, share: float, seed: int) -> np.ndarray:
  """Which documents stay: so large a share, drawn by the weights, boolean (n,).

  The largest of log-weights with Gumbel noise are a sample without replacement.
  """
  count = round(share * len(weights))
  noise = _generator(seed, 'selection').gumbel(size=len(weights))
  # By their places where two are equal, so that the same run chooses the same.
  order = np.argsort(-(weights + noise), kind='stable')
  found = np.zeros(len(weights), bool)
  found[order[:count]] = True
  return found
