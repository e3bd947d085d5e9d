"""Paired tests of two sets of predictions: they find what was planted, and nothing in
what is chance.
"""

import itertools

import numpy as np
import pytest

from tl_jax.evals import paired
from tl_jax.evals.additive import mean_of
from tl_jax.evals.statistics import bootstrap_interval
from tl_jax.metrics import METRICS, accuracy

COUNT = 2000


def answers(chances, truth, seed):
  """Predictions of two classes, each right with the chance of its example."""
  generator = np.random.default_rng(seed)
  is_right = generator.random(len(truth)) < chances
  return np.where(is_right, truth, 1 - truth)


def by_accuracy(first, second, truth, **options):
  lists = [np.asarray(values).tolist() for values in (first, second, truth)]
  mean = mean_of(accuracy, ['accuracy'])
  options = dict(samples=300, additive=mean) | options
  [found] = paired.compare(accuracy, ['accuracy'], *lists, **options)
  return found


@pytest.fixture(scope='module')
def exam():
  """(chance that an example is answered rightly, its class): some are hard for all."""
  generator = np.random.default_rng(7)
  return generator.beta(4.0, 0.6, COUNT), generator.integers(0, 2, COUNT)


def test_runs_that_differ_by_seed_alone_are_no_different(exam):
  chances, truth = exam
  verdicts = []
  for seed in range(20):
    first = answers(chances, truth, [seed, 0])
    second = answers(chances, truth, [seed, 1])
    verdicts.append(by_accuracy(first, second, truth).is_different())
  assert sum(verdicts) <= 2


@pytest.mark.parametrize('seed', range(3))
def test_three_points_on_two_thousand_examples_are_found(exam, seed):
  chances, truth = exam
  first = answers(chances, truth, [seed, 0])
  second = answers(np.maximum(0, chances - 0.03), truth, [seed, 1])
  found = by_accuracy(first, second, truth)
  assert found.is_different() and found.mcnemar < paired.ALPHA
  assert found.difference.low < 0.03 < found.difference.high
  other = by_accuracy(second, first, truth)
  assert other.is_different() and other.difference.mean == -found.difference.mean
  assert other.only_first == found.only_second


def test_what_is_hard_for_both_counts_for_neither(exam):
  """Without pairs, the same difference would drown in how hard the examples are."""
  _, truth = exam
  first = np.where(np.arange(COUNT) % 2, truth, 1 - truth)
  second = first.copy()
  # 20 of the right answers become wrong, and nothing else changes.
  second[1:41:2] = 1 - truth[1:41:2]
  found = by_accuracy(first, second, truth)
  assert found.is_different()
  assert (found.differ, found.only_first, found.only_second) == (20, 20, 0)
  assert found.difference.low > 0
  assert found.second.low < found.first.mean < found.second.high


def test_a_permutation_test_gives_the_share_of_all_exchanges():
  truth = [1] * 8
  first = [1, 1, 1, 1, 1, 1, 0, 1]
  second = [0, 0, 0, 0, 1, 0, 1, 1]
  differences = np.array(first) - np.array(second)
  sums = [
    abs(np.dot(signs, differences)) for signs in itertools.product((-1, 1), repeat=8)
  ]
  exact = np.mean(np.array(sums) >= abs(differences.sum()))
  found = by_accuracy(first, second, truth, samples=4000)
  assert found.p_value == pytest.approx(exact, abs=0.03)


def test_values_have_the_bootstrap_interval_of_a_mean(exam):
  chances, truth = exam
  first = answers(chances, truth, 0)[:200]
  second = answers(chances, truth, 1)[:200]
  found = by_accuracy(first, second, truth[:200], samples=2000)
  expected = bootstrap_interval((first == truth[:200]).astype(float))
  assert found.first.low == pytest.approx(expected.low, abs=0.01)
  assert found.first.high == pytest.approx(expected.high, abs=0.01)
  assert found.first.n == 200


def test_a_metric_computed_for_every_draw_agrees_with_its_mean(exam):
  chances, truth = exam
  first = answers(chances, truth, 0)[:150]
  second = answers(chances, truth, 1)[:150]
  found = [
    by_accuracy(first, second, truth[:150], samples=100, additive=additive)
    for additive in (mean_of(accuracy, ['accuracy']), None)
  ]
  assert found[0].p_value == found[1].p_value
  for name in ('first', 'second', 'difference'):
    means, anew = (getattr(each, name) for each in found)
    assert means.low == pytest.approx(anew.low)
    assert means.high == pytest.approx(anew.high)
  # Without scores of single examples nobody is right alone.
  assert found[1].mcnemar is None


@pytest.mark.parametrize(
  ('metric', 'names'), [('f1', ['f1', 'f1_macro']), ('matthews', ['matthews'])]
)
def test_a_planted_difference_is_found_by_metrics_that_are_no_means(
  exam, metric, names
):
  chances, truth = exam
  first = answers(chances, truth, 0)[:600].tolist()
  second = answers(chances - 0.1, truth, 1)[:600].tolist()
  references = truth[:600].tolist()
  options = dict(samples=99)
  found = paired.compare(METRICS[metric], names, first, second, references, **options)
  same = paired.compare(METRICS[metric], names, first, first, references, **options)
  assert [each.metric for each in found] == names
  for each, equal in zip(found, same, strict=True):
    assert each.is_different() and each.difference.low > 0
    assert each.first.mean == METRICS[metric](first, references)[each.metric]
    assert not equal.is_different() and equal.difference.low is None


def test_correlations_are_compared():
  generator = np.random.default_rng(0)
  truth = generator.normal(size=200)
  near, far = (truth + noise * generator.normal(size=200) for noise in (0.3, 1.0))
  lists = [values.tolist() for values in (near, far, truth)]
  [found] = paired.compare(METRICS['pearson'], ['pearson'], *lists, samples=99)
  assert found.is_different() and found.difference.low > 0
  assert found.differ == 200


@pytest.mark.parametrize(
  ('counts', 'expected'),
  [((0, 0), 1.0), ((5, 5), 1.0), ((0, 5), 0.0625), ((9, 1), 22 / 1024)],
)
def test_mcnemar_is_exact(counts, expected):
  assert paired.mcnemar(*counts) == pytest.approx(expected)
  assert paired.mcnemar(*counts[::-1]) == pytest.approx(expected)


def test_draws_are_a_function_of_the_seed(exam):
  chances, truth = exam
  sets = [answers(chances, truth, seed)[:100] for seed in (0, 1)]
  found = [by_accuracy(*sets, truth[:100], samples=50, seed=seed) for seed in (0, 0, 1)]
  assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
  ('sets', 'samples', 'said'),
  [
    (([1], [1, 0], [1, 0]), 10, '1 and 2 predictions for 2'),
    (([], [], []), 10, '0 and 0 predictions'),
    (([1], [0], [1]), 0, 'samples must be at least 1'),
  ],
)
def test_what_cannot_be_compared_is_said(sets, samples, said):
  with pytest.raises(ValueError, match=said):
    paired.compare(accuracy, ['accuracy'], *sets, samples=samples)
