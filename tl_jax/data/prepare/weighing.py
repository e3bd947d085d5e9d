"""What documents are worth: a classifier of quality, and how like a target they are.

>>> found = weights_of([['a good film'], ['numbers 1 2']], target=['a bad film'] * 3)
>>> bool(found[0] > found[1])
True
"""

import itertools
import zlib
from collections.abc import Iterable, Sequence

import numpy as np

# Places of hashed words: of the classifier, and of DSIR's runs of one and two words.
_FEATURES = 2**18
_BUCKETS = 10_000
# The share of the corpus itself in what a target is taken for.
_USUAL = 0.1
# Texts of either side that a classifier learns from.
_MOST = 20_000


# The texts of one chunk after the other; one may go through them again and again.
Chunks = Iterable[Sequence[str]]


def scores_of(chunks: Chunks, count: int, good: Sequence[str], seed: int) -> np.ndarray:
  """How probable it is that each document is one of the good texts, float32 (count,).

  A logistic regression on hashed words tells the good texts from the documents. It
  learns from some of them, in one pass, and weighs all of them in another one.
  """
  from sklearn.feature_extraction.text import HashingVectorizer
  from sklearn.linear_model import LogisticRegression

  hashing = HashingVectorizer(n_features=_FEATURES, alternate_sign=False)
  learned_good = _some([good], len(good), seed, 'good')
  learned_other = _some(chunks, count, seed, 'others')
  labels = [1] * len(learned_good) + [0] * len(learned_other)
  # Both sides weigh the same, however many texts they have.
  model = LogisticRegression(class_weight='balanced', max_iter=200)
  model.fit(hashing.transform([*learned_good, *learned_other]), labels)
  found = [np.zeros(0, np.float32)]
  for texts in filter(len, chunks):
    scores = model.predict_proba(hashing.transform(texts))
    found.append(scores[:, 1].astype(np.float32))
  return np.concatenate(found)


def _generator(seed: int, name: str) -> np.random.Generator:
  """The draws of a name, a function of it and the seed."""
  return np.random.default_rng([seed, zlib.crc32(name.encode())])


def _some(chunks: Chunks, count: int, seed: int, name: str) -> list[str]:
  """At most `_MOST` of so many texts, drawn without replacement."""
  is_chosen = np.ones(count, bool)
  if count > _MOST:
    is_chosen[:] = False
    is_chosen[_generator(seed, name).choice(count, _MOST, replace=False)] = True
  every = itertools.chain.from_iterable(chunks)
  return list(itertools.compress(every, is_chosen))


def kept_by(scores: np.ndarray, alpha: float, seed: int) -> np.ndarray:
  """Which documents stay: those whose score is above 1 minus a draw, boolean (n,).

  The draws are of a Pareto distribution, so that some of the worse ones stay, too (Brown
  et al. 2020, appendix A).
  """
  draws = _generator(seed, 'pareto').pareto(alpha, len(scores))
  return draws > 1 - scores


def weights_of(chunks: Chunks, target: Sequence[str]) -> np.ndarray:
  """The log of how much more often the target has the words of each document, float32
  (documents,).

  Words and pairs of words are hashed into 10,000 places (Xie et al. 2023, section 3).
  One pass counts them, another one weighs the documents.
  """
  usual = _frequencies(chunks)
  # Else a small target would forbid all words that it happens not to have.
  wanted = (1 - _USUAL) * _frequencies([target]) + _USUAL * usual
  ratios = np.divide(wanted, usual, out=np.ones_like(usual), where=usual > 0)
  found = [np.zeros(0, np.float32)]
  for texts in filter(len, chunks):
    weights = _counts(texts) @ np.log(ratios)
    found.append(weights.astype(np.float32))
  return np.concatenate(found)


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


def _frequencies(chunks: Chunks) -> np.ndarray:
  """The share of each place, (_BUCKETS,)."""
  total = np.zeros(_BUCKETS)
  for texts in filter(len, chunks):
    # Whole numbers: the sum is the same whatever the chunks are.
    total += np.asarray(_counts(texts).sum(0)).ravel()
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
