"""Probes of frozen features, and what a cross-validation of them says."""

import numpy as np
import pytest

from tl_jax.evals import probes


def draw(count, width=6, seed=0, noise=1.0):
  """Features, and labels that two of them tell up to noise."""
  generator = np.random.default_rng(seed)
  features = generator.normal(size=(count, width))
  score = features[:, 0] - features[:, 1] + generator.normal(scale=noise, size=count)
  return features, (score > 0).astype(int)


def test_a_probe_is_as_right_as_features_let_it_be():
  features, labels = draw(400, noise=0.0)
  answer = probes.fit(features[:200], labels[:200])
  chances = np.exp(answer(features[200:]))
  np.testing.assert_allclose(chances.sum(1), 1.0)
  assert (chances.argmax(1) == labels[200:]).mean() > 0.95


def test_classes_that_nobody_labelled_are_never_said():
  features, _ = draw(20)
  answer = probes.fit(features, np.full(20, 1), classes=3)
  assert (answer(features).argmax(1) == 1).all()
  labels = np.arange(20) % 2 * 2
  found = probes.fit(features, labels, classes=4)(features)
  assert np.isneginf(found[:, [1, 3]]).all() and np.isfinite(found[:, [0, 2]]).all()


def test_the_penalty_is_chosen_by_the_labels():
  # One feature says it, the others are noise: a weak penalty would learn these by heart.
  features, labels = draw(60, width=200, noise=2.0)
  chosen = probes._best_strength(features, labels)
  assert chosen <= 0.01
  clean, easy = draw(300, width=3, noise=0.0)
  assert probes._best_strength(clean, easy) > chosen


def test_errors_fall_with_labels_and_each_example_is_asked_alike():
  features, labels = draw(100, noise=0.5)
  asked = []

  def learn(seen, targets):
    answer = probes.fit(seen, targets, 2)

    def remembered(held):
      asked.append(held)
      assert not any((held[:, None] == seen).all(-1).any(1))
      return answer(held)

    return remembered

  found = probes.measure(features, labels, learn, repeats=3)
  assert found.labels == probes.sizes_of(100, 2)
  assert found.errors[0] > found.errors[-1]
  times = np.concatenate(asked)
  _, counts = np.unique(times[:, 0], return_counts=True)
  assert (counts == 3 * len(found.labels)).all()
  error = found.errors[-1]
  assert found.common == pytest.approx((error * (1 - error) / 100) ** 0.5)


def test_noise_of_training_is_told_from_that_of_examples():
  """Where a learner draws its answers, each example is noisy and no training is."""
  labels = np.arange(200) % 2
  inputs = np.arange(200.0)[:, None]
  generator = np.random.default_rng(0)

  def coin(seen, targets):
    return lambda held: generator.random((len(held), 2))

  def luck(seen, targets):
    # A learner is good or bad for all that it is asked.
    right = generator.random() < 0.5
    return lambda held: np.eye(2)[(held[:, 0].astype(int) % 2) ^ (not right)]

  by_coin = probes.measure(inputs, labels, coin, repeats=20)
  by_luck = probes.measure(inputs, labels, luck, repeats=20)
  assert by_coin.training < 0.1
  # It is 0.5 at every size, and taken to fall with the number of labels.
  assert by_luck.training > 0.25


def test_too_few_of_a_class_are_refused():
  features, _ = draw(30)
  labels = np.array([1] + [0] * 29)
  with pytest.raises(ValueError, match='two labels or more'):
    probes.measure(features, labels, probes.fit)
