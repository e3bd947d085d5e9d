"""How well frozen features fit labels, without a classifier: scores that rank models.

>>> features = np.array([[0.0, 1.0], [0.1, 0.9], [1.0, 0.0], [0.9, 0.1]])
>>> labels = np.array([0, 0, 1, 1])
>>> h_score(features, labels) > h_score(features, labels[[0, 2, 1, 3]])
True

They say which of several models suits a task, not how well it will do.
"""

import numpy as np


def log_evidence(features, labels) -> float:
  """LogME: the maximum evidence of the labels, per example and class (You et al. 2021).

  features: (n, width). labels: (n,) classes from 0. For the indicator y of each class
  it is log p(y | features) of Bayesian linear regression, with the precisions of prior
  and noise that make it largest; their mean over the classes that occur. Found by
  MacKay's fixed point, algorithm 1 of the paper. Raises ValueError for lengths that
  differ and for a single class.
  """
  features, labels = _checked(features, labels)
  # Once for all classes: only the targets differ.
  left, singular, _ = np.linalg.svd(features, full_matrices=False)
  values = np.square(singular)
  found = []
  for label in np.unique(labels):
    found.append(_evidence(left, values, (labels == label).astype(np.float64)))
  return float(np.mean(found))


def _evidence(left: np.ndarray, values: np.ndarray, target: np.ndarray) -> float:
  """The largest log evidence of one target (n,), per example.

  left: (n, k) left singular vectors of the features; values: (k,) squared singular
  values.
  """
  count = len(target)
  projected = np.square(left.T @ target)
  # What no feature explains, whatever the precisions.
  beyond = max(float(target @ target - projected.sum()), 0.0)
  # It converges from any start; this is the authors'.
  prior, noise = 1.0, 1.0
  for _ in range(200):
    shrink = noise * values / (prior + noise * values)
    effective = shrink.sum()
    weights = (shrink**2 * projected / np.maximum(values, 1e-300)).sum()
    residual = beyond + ((1 - shrink) ** 2 * projected).sum()
    before = prior, noise
    prior = effective / max(weights, 1e-12)
    noise = max(count - effective, 1e-12) / max(residual, 1e-12)
    change = abs(prior - before[0]) / before[0] + abs(noise - before[1]) / before[1]
    if change < 1e-6:
      break
  shrink = noise * values / (prior + noise * values)
  weights = (shrink**2 * projected / np.maximum(values, 1e-300)).sum()
  residual = beyond + ((1 - shrink) ** 2 * projected).sum()
  rank = len(values)
  log_determinant = np.log(prior + noise * values).sum() - rank * np.log(prior)
  evidence = (
    count * np.log(noise)
    - count * np.log(2 * np.pi)
    - noise * residual
    - prior * weights
    - log_determinant
  )
  return float(evidence / 2 / count)


def h_score(features, labels) -> float:
  """The H-score: how much of the spread of the features lies between the classes.

  tr(C^-1 B), where C is the covariance of the features and B that of the means of their
  classes (Bao et al. 2019, definition 2). C is shrunk towards a multiple of the
  identity by Ledoit and Wolf's rule, and B by as much, without which few examples of
  many features score higher than many (Ibrahim et al. 2022). Raises ValueError as
  `log_evidence`.
  """
  # Inside, because scikit-learn is slow to import.
  from sklearn.covariance import ledoit_wolf

  features, labels = _checked(features, labels)
  centred = features - features.mean(0)
  covariance, shrinkage = ledoit_wolf(centred, assume_centered=True)
  means = np.zeros_like(centred)
  # Every example stands for its class, so that large classes weigh more.
  for label in np.unique(labels):
    members = labels == label
    means[members] = centred[members].mean(0)
  between = means.T @ means / len(means)
  solved = np.linalg.lstsq(covariance, between, rcond=None)[0]
  return float((1 - shrinkage) * np.trace(solved))


def _checked(features, labels) -> tuple[np.ndarray, np.ndarray]:
  """Both as arrays. Raises ValueError for what cannot be scored."""
  features = np.asarray(features, np.float64)
  labels = np.asarray(labels)
  if features.ndim != 2 or len(features) != len(labels):
    raise ValueError(
      f'transferability: features {features.shape} for {len(labels)} labels'
    )
  if len(np.unique(labels)) < 2:
    raise ValueError('transferability: needs two classes or more')
  if not np.isfinite(features).all():
    raise ValueError('transferability: features that are no finite numbers')
  return features, labels
