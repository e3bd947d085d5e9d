"""Classifiers of frozen features, against what is left out and fitted anew."""

import numpy as np
import pytest

from tl_jax.evals import frozen


def draw(count=90, width=6, classes=3, seed=0):
  generator = np.random.default_rng(seed)
  labels = generator.permutation(np.arange(count) % classes)
  centres = generator.normal(size=(classes, width))
  return centres[labels] + generator.normal(size=(count, width)), labels


def test_a_penalty_leaves_out_as_fitting_anew_would(monkeypatch):
  features, labels = draw(count=30)
  monkeypatch.setattr(frozen, 'PENALTIES', (0.1,))
  # Centred and scaled alike whoever is left out, as the formula has it.
  monkeypatch.setattr(
    frozen, '_standard', lambda x: (features.mean(0), features.std(0))
  )
  found = frozen.ridge(features, labels, 3)
  x = (features - features.mean(0)) / features.std(0)
  right = 0
  for place in range(30):
    rest = np.arange(30) != place
    design = np.c_[x[rest], np.ones(29)]
    penalty = np.diag([0.1 * 30] * 6 + [0.0])
    weights = np.linalg.solve(
      design.T @ design + penalty, design.T @ np.eye(3)[labels[rest]]
    )
    said = np.r_[x[place], 1.0] @ weights
    right += said.argmax() == labels[place]
  assert found.accuracy == pytest.approx(right / 30)


def test_neighbours_leave_themselves_out():
  features, labels = draw(count=40)
  found = frozen.neighbours(features, labels, 3)
  x = features - features.mean(0)
  x = x / np.linalg.norm(x, axis=1, keepdims=True)
  cosines = x @ x.T
  np.fill_diagonal(cosines, -np.inf)
  assert found.path[1.0] == pytest.approx((labels[cosines.argmax(1)] == labels).mean())
  # Asked for itself, an example has itself as the nearest.
  assert found.path[1.0] < 1
  own = frozen._nearest(x, x, 1)[0][:, 0]
  assert own.tolist() == list(range(40))


def test_a_centroid_leaves_out_the_example_that_it_is_asked_for():
  features, labels = draw(count=30)
  found = frozen.centroids(features, labels, 3)
  x = (features - features.mean(0)) / features.std(0)
  right = 0
  for place in range(30):
    rest = np.arange(30) != place
    means = [x[rest & (labels == label)].mean(0) for label in range(3)]
    distances = [np.square(x[place] - mean).sum() for mean in means]
    right += np.argmin(distances) == labels[place]
  assert found.accuracy == pytest.approx(right / 30)


@pytest.mark.parametrize('method', frozen.METHODS.values())
def test_new_examples_are_told(method):
  features, labels = draw(count=400)
  found = method(features[:200], labels[:200], 4)
  said = found.decide(features[200:])
  accuracy = (said == labels[200:]).mean()
  assert accuracy > 0.7 and abs(accuracy - found.accuracy) < 0.12
  # Of a class that nobody has seen nothing is said.
  assert said.max() < 3


def test_a_strong_penalty_wins_where_features_are_noise():
  generator = np.random.default_rng(0)
  noise = frozen.ridge(generator.normal(size=(60, 200)), np.arange(60) % 2, 2)
  features, labels = draw(count=300, width=4)
  assert noise.setting > frozen.ridge(features, labels, 3).setting


def test_equal_votes_go_to_those_that_are_more_alike():
  labels = np.array([[0, 1, 1, 0]])
  assert frozen._vote(labels, np.array([[0.9, 0.8, 0.8, 0.1]]), 2).tolist() == [1]
  assert frozen._vote(labels, np.array([[0.9, 0.8, 0.1, 0.1]]), 2).tolist() == [0]
