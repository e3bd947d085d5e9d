"""Probes of frozen features, and what a cross-validation of them says."""

import numpy as np
import pytest

from tl_jax.evals import probes


def nearest(seen, targets):
  """A learner that takes the class whose mean is nearest."""
  means = np.stack([seen[targets == label].mean(0) for label in (0, 1)])
  return lambda held: -np.square(held[:, None] - means).sum(-1)


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
  assert found.labels == probes.sizes_of(80, 2)
  assert found.errors[0] > found.errors[-1]
  times = np.concatenate(asked)
  _, counts = np.unique(times[:, 0], return_counts=True)
  assert (counts == 3 * len(found.labels)).all()


def test_equal_texts_are_not_learned_from_to_be_asked_about():
  """A learner that knows texts by heart is as good as a coin on others."""
  keys = np.repeat(np.arange(40), 3)
  labels = np.random.default_rng(0).permutation(np.arange(40) % 2)[keys]

  def learn(seen, targets):
    known = dict(zip(seen.tolist(), targets.tolist(), strict=True))
    generator = np.random.default_rng(len(seen))

    def answer(held):
      assert groups is None or not known.keys() & set(held.tolist())
      guessed = generator.integers(2, size=len(held)).tolist()
      found = [known.get(key, guess) for key, guess in zip(held, guessed, strict=True)]
      return np.eye(2)[found]

    return answer

  groups = None
  by_heart = probes.measure(keys, labels, learn, repeats=2)
  groups = keys
  apart = probes.measure(keys, labels, learn, groups=keys, repeats=2)
  assert by_heart.errors[-1] < 0.2 < 0.35 < apart.errors[-1]
  # Three texts that are alike say as much as one.
  assert apart.noise[-1] > 1.4 * by_heart.noise[-1]
  with pytest.raises(ValueError, match='two texts or more'):
    probes.measure(keys, labels, learn, groups=labels)


def test_a_forecast_knows_how_far_apart_its_points_lie_for_other_labels():
  """The covariance of the errors is that of measuring again with other labels."""
  found = []
  for seed in range(120):
    features, labels = draw(40, width=3, seed=seed)
    found.append(probes.measure(features, labels, nearest, repeats=3, seed=seed))
  came = np.cov(np.array([one.errors for one in found]).T)
  said = np.mean([one.covariance for one in found], axis=0)
  for size in (0, -1):
    assert 0.6 * came[size, size] < said[size, size] < 1.6 * came[size, size]
  # Of the slope, too, which no error that all points share could say.
  slope = lambda matrix: matrix[0, 0] + matrix[-1, -1] - 2 * matrix[0, -1]
  assert 0.5 * slope(came) < slope(said) < 2 * slope(came)


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
  with pytest.raises(ValueError, match='two texts or more'):
    probes.measure(features, labels, probes.fit)
