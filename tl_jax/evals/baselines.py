"""What transfer must be compared with: classic text classification without any pre-training.

>>> found = tf_idf(['good film', 'fine film', 'bad film', 'poor film'], [1, 1, 0, 0], ['a good film', 'a bad film'])
>>> found.argmax(1).tolist()
[1, 0]
"""

from collections.abc import Sequence

import numpy as np


def tf_idf(texts: Sequence[str], labels: Sequence[int], test: Sequence[str]) -> np.ndarray:
  """Log-probabilities (tests, classes) of logistic regression on TF-IDF of words and word pairs.

  scikit-learn's defaults except sublinear counts: nothing is tuned. `labels` must contain every class.
  """
  from sklearn.feature_extraction.text import TfidfVectorizer
  from sklearn.linear_model import LogisticRegression
  from sklearn.pipeline import make_pipeline
  model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(max_iter=1000))
  model.fit(list(texts), np.asarray(labels))
  return model.predict_log_proba(list(test))


BASELINES = {'tf-idf': tf_idf}
