"""What transfer must be compared with: answers without any model that was pre-trained.

>>> texts = ['good film', 'fine film', 'bad film', 'poor film']
>>> found = tf_idf(texts, [1, 1, 0, 0], test=['a good film', 'a bad film'])
>>> found.argmax(1).tolist()
[1, 0]
>>> lead(['It rains. It pours.'])
['It rains.']
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from tl_jax.data.candidates import Choices
from tl_jax.data.passages import PassageQuestion
from tl_jax.data.words import Words

# The log-probability of a class that no labelled example has: below that of any other,
# and still a number that JSON can hold.
NEVER = float(np.log(np.finfo(np.float32).tiny))
# The white space between two sentences, or two paragraphs.
_BETWEEN = re.compile(r'(?<=[.!?])\s+|\n\s*\n')
_WORD = re.compile(r'\w+')


def tf_idf(
  texts: Sequence[str],
  labels: Sequence[int],
  test: Sequence[str],
  classes: int | None = None,
) -> np.ndarray:
  """Log-probabilities by logistic regression on TF-IDF of words and word pairs.

  The settings are scikit-learn's defaults except sublinear counts: nothing is tuned. A
  class that `labels` does not contain gets NEVER. Where `labels` contains a single
  class, there is nothing to fit, and the answer is always that class.

  Args:
    texts, labels: the examples to learn from; labels count from 0.
    test: the texts to classify.
    classes: how many classes there are; by default the largest of `labels` is the last.
  Returns float64 (tests, classes), where column k belongs to class k.
  Raises ValueError where a label is outside of the classes or there is no label at all.
  """
  labels = np.asarray(labels)
  if not len(labels):
    raise ValueError('tf_idf: there is no labelled example to learn from')
  count = int(labels.max()) + 1 if classes is None else classes
  if labels.min() < 0 or labels.max() >= count:
    raise ValueError(
      f'tf_idf: labels from {labels.min()} to {labels.max()}, but {count} classes'
    )
  found = np.full((len(test), count), NEVER)
  present = np.unique(labels)
  # Logistic regression refuses to learn from a single class.
  if len(present) == 1:
    found[:, present[0]] = 0.0
    return found
  model = _model()
  model.fit(list(texts), labels)
  # The columns of scikit-learn are those of the classes that it has seen.
  found[:, model.classes_] = model.predict_log_proba(list(test))
  return np.maximum(found, NEVER)


def _model():
  """The model, not fitted yet."""
  # Inside, because scikit-learn is slow to import and few runs compare with it.
  from sklearn.feature_extraction.text import TfidfVectorizer
  from sklearn.linear_model import LogisticRegression
  from sklearn.pipeline import make_pipeline

  return make_pipeline(
    TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
    LogisticRegression(max_iter=1000),
  )


def most_frequent(
  texts: Sequence[Words], targets: np.ndarray, test: Sequence[Words]
) -> np.ndarray:
  """The tag that every word has most often, and of an unknown word the tag of most.

  targets int32 (n, words): the tags of the texts to learn from, -1 behind the last word.
  Of tags that are equally frequent the first one counts. Returns float32 (tests, words,
  2): the tag and its share among those of the word, -1 behind the last word. Raises
  ValueError where there is no word to learn from.
  """
  counts: dict[str, Counter] = defaultdict(Counter)
  of_all: Counter = Counter()
  for text, tags in zip(texts, np.asarray(targets).tolist(), strict=True):
    # Behind the last word there is none to count.
    for word, tag in zip(text.words, tags, strict=False):
      counts[word][tag] += 1
      of_all[tag] += 1
  if not of_all:
    raise ValueError('most-frequent: there is no word to learn from')
  known = {word: _most(own) for word, own in counts.items()}
  usual = _most(of_all)
  most = max((len(text.words) for text in test), default=0)
  found = np.full((len(test), most, 2), -1.0, np.float32)
  for row, text in enumerate(test):
    for place, word in enumerate(text.words):
      found[row, place] = known.get(word, usual)
  return found


def _most(counts: Counter) -> tuple[int, float]:
  """(the most frequent tag, its share)."""
  tag = min(counts, key=lambda tag: (-counts[tag], tag))
  return tag, counts[tag] / counts.total()


def copy(test: Sequence[str]) -> list[str]:
  """The texts themselves: of a translation, what stays as it is."""
  return list(test)


def lead(test: Sequence[str]) -> list[str]:
  """The first sentence of each text, which is hard to beat as a summary of news."""
  return [_BETWEEN.split(text.strip(), maxsplit=1)[0] for text in test]


# (texts, labels, test, classes) -> log-probabilities of classes.
CLASSIFIERS = {'tf-idf': tf_idf}


def best_sentence(test: Sequence[PassageQuestion]) -> list[tuple[int, int]]:
  """The sentence of every passage that shares the most words with its question, of equal
  ones the first: its first character, and that behind its last.

  >>> best_sentence([PassageQuestion('Who ran?', 'It rains. Ann ran.')])
  [(10, 18)]
  """
  places = []
  for text in test:
    parts = _sentences(text.second)
    shared = [_shared(text.first, text.second[begin:end]) for begin, end in parts]
    best = shared.index(max(shared))
    places.append(parts[best])
  return places


def _sentences(text: str) -> list[tuple[int, int]]:
  """(first character, end) of every sentence; of a text without any it is one."""
  found = []
  begin = 0
  for gap in [*_BETWEEN.finditer(text), None]:
    end = len(text) if gap is None else gap.start()
    if text[begin:end].strip():
      found.append((begin, end))
    begin = len(text) if gap is None else gap.end()
  return found or [(0, len(text))]


def best_candidate(test: Sequence[Choices]) -> list[list[int]]:
  """How many words of its question each candidate has.

  >>> best_candidate([Choices('Who ran?', ('It rains.', 'Ann ran.'))])
  [[0, 1]]
  """
  return [[_shared(text.question, answer) for answer in text.answers] for text in test]


def _shared(first: str, second: str) -> int:
  """How many words two texts have in common, in whichever case."""
  words = set(_WORD.findall(first.lower()))
  return len(words.intersection(_WORD.findall(second.lower())))


# (texts, targets, test) -> tags of words with their probabilities.
TAGGERS = {'most-frequent': most_frequent}
# test -> the characters of the answers in their passages.
READERS = {'best-sentence': best_sentence}
# test -> a score for every candidate of a question, the higher the better.
CHOOSERS = {'best-candidate': best_candidate}
# (test) -> texts, of which nothing is learned.
WRITERS = {'copy': copy, 'lead': lead}
BASELINES = (*CLASSIFIERS, *TAGGERS, *READERS, *CHOOSERS, *WRITERS)
