"""Scores of transferability, against their definitions computed plainly."""

import numpy as np
import pytest

from tl_jax.metrics import h_score, log_evidence


def draw(count=60, width=5, classes=3, signal=1.0, seed=0):
  generator = np.random.default_rng(seed)
  labels = np.arange(count) % classes
  centres = generator.normal(size=(classes, width))
  features = signal * centres[labels] + generator.normal(size=(count, width))
  return features, labels


def evidence(features, target, prior, noise):
  """log p(target) under precisions of prior and noise, from the Gaussian itself."""
  count = len(target)
  covariance = np.eye(count) / noise + features @ features.T / prior
  _, log_determinant = np.linalg.slogdet(covariance)
  distance = target @ np.linalg.solve(covariance, target)
  return -0.5 * (count * np.log(2 * np.pi) + log_determinant + distance)


def test_log_evidence_is_the_largest_of_the_gaussian():
  from scipy.optimize import minimize

  features, labels = draw()
  wanted = []
  for label in range(3):
    target = (labels == label).astype(float)

    def negative(logs, target=target):
      return -evidence(features, target, *np.exp(logs)) / len(target)

    wanted.append(-minimize(negative, [0.0, 0.0], method='Nelder-Mead').fun)
  assert log_evidence(features, labels) == pytest.approx(np.mean(wanted), abs=1e-4)


def test_more_features_than_examples_are_no_error():
  features, labels = draw(count=30, width=80)
  assert np.isfinite([log_evidence(features, labels), h_score(features, labels)]).all()


@pytest.mark.parametrize('score', [log_evidence, h_score])
def test_better_features_score_higher(score):
  found = [score(*draw(signal=signal)) for signal in (0.0, 0.5, 1.0, 2.0)]
  assert found == sorted(found)


def test_h_score_is_the_trace_of_its_definition():
  # So many examples that nothing is shrunk.
  features, labels = draw(count=60_000, width=3)
  centred = features - features.mean(0)
  means = np.stack([centred[labels == label].mean(0) for label in labels[:3]])
  between = means.T @ means / 3
  wanted = np.trace(np.linalg.inv(np.cov(centred.T, bias=True)) @ between)
  assert h_score(features, labels) == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize('score', [log_evidence, h_score])
@pytest.mark.parametrize(
  ('features', 'labels', 'said'),
  [
    (np.ones((3, 2)), [0, 1], '2 labels'),
    (np.ones((2, 2)), [1, 1], 'two classes'),
    (np.array([[1.0], [np.nan]]), [0, 1], 'finite'),
  ],
)
def test_what_cannot_be_scored_is_refused(score, features, labels, said):
  with pytest.raises(ValueError, match=said):
    score(features, labels)
