"""Intervals over examples: every value of a metric, by sums and by its definition."""

import numpy as np
import pytest

from tl_jax import metrics, tasks
from tl_jax.evals import additive, intervals
from tl_jax.tasks import PROBLEMS

COUNT = 60


def probabilities(generator, count=COUNT, classes=3):
  powers = np.exp(generator.normal(size=(count, classes)))
  return powers / powers.sum(1, keepdims=True)


def tagged(generator, count=COUNT):
  names = ['O', 'B-PER', 'I-PER', 'B-LOC']
  lengths = generator.integers(1, 6, count)
  return [
    [names[place] for place in generator.integers(0, 4, size)] for size in lengths
  ]


def cases():
  """name -> (predictions, references) of every metric that comes from sums."""
  generator = np.random.default_rng(3)
  three = generator.integers(0, 3, (2, COUNT)).tolist()
  two = generator.integers(0, 2, (2, COUNT)).tolist()
  sets = generator.integers(0, 2, (2, COUNT, 4)).tolist()
  numbers = generator.normal(size=(2, COUNT)) + 100.0
  texts = [['a b c d e', 'a b', 'c d e f g', 'x'][place] for place in three[0]]
  authors = [['a b c d e', 'a c', 'c d e f h', 'x'][place] for place in three[1]]
  words = tagged(generator)
  of_sets = generator.random((COUNT, 4))
  yield 'accuracy', three
  yield 'accuracy', sets
  yield 'f1', three
  yield 'f1', two
  yield 'f1', sets
  yield 'f1', ([0] * COUNT, [0] * COUNT)
  yield 'matthews', three
  yield 'matthews', ([1] * COUNT, two[0])
  yield 'pearson', (numbers[0].tolist(), (numbers[1] + numbers[0]).tolist())
  yield 'pearson', ([1.5] * COUNT, numbers[0].tolist())
  yield 'mean_squared_error', (numbers[0].tolist(), numbers[1].tolist())
  yield 'brier', (probabilities(generator), three[0])
  yield 'brier', (of_sets, sets[0])
  yield 'calibration_error', (probabilities(generator), three[0])
  yield 'calibration_error', (of_sets, sets[0])
  yield 'exact_match', (texts, authors)
  yield 'squad', (texts, authors)
  yield 'squad_v2', (texts, [text if text != 'x' else [] for text in authors])
  yield 'choice_accuracy', (probabilities(generator).tolist(), three[0])
  yield 'tag_accuracy', ([sentence[::-1] for sentence in words], words)
  yield 'entity_f1', ([sentence[::-1] for sentence in words], words)
  yield 'bleu', (texts, authors)
  yield 'chrf', (texts, authors)
  yield 'rouge', (texts, authors)


@pytest.mark.parametrize(('name', 'sides'), list(cases()))
def test_sums_over_examples_give_what_the_metric_gives(name, sides):
  library = metrics.LIBRARIES.get(name)
  if library:
    pytest.importorskip(library)
  predictions, references = sides
  found = additive.additive_of(name, [predictions], references)
  rows = found.rows(predictions, references)
  assert len(rows) == COUNT
  generator = np.random.default_rng(0)
  draws = [np.arange(COUNT), generator.integers(0, COUNT, COUNT), np.arange(7)]
  for places in draws:
    expected = metrics.METRICS[name](
      [predictions[place] for place in places],
      [references[place] for place in places],
    )
    values = found.values(rows[places].sum(axis=0), len(places))
    for own, value in zip(found.names, values, strict=True):
      # A draw may lack the classes by which the metric tells that 1 is the positive one.
      if own in expected:
        assert value == pytest.approx(expected[own], abs=1e-9), own
  # And of several draws at once.
  sums = np.stack([rows[places].sum(axis=0) for places in draws[:2]])
  both = found.values(sums, COUNT)
  np.testing.assert_allclose(both[0], found.values(sums[0], COUNT))


def test_an_interval_covers_what_other_examples_give():
  generator = np.random.default_rng(0)
  covered = 0
  for _ in range(200):
    truth = generator.integers(0, 2, 150)
    answers = np.where(generator.random(150) < 0.7, truth, 1 - truth)
    low, high = intervals.intervals(('accuracy',), answers, truth, draws=200)[
      'accuracy'
    ]
    covered += low <= 0.7 <= high
  assert 0.89 <= covered / 200 <= 0.99


def test_a_metric_without_sums_is_drawn_anew():
  generator = np.random.default_rng(1)
  truth = generator.normal(size=COUNT)
  answers = truth + generator.normal(size=COUNT)
  found = intervals.intervals(('spearman', 'pearson'), answers, truth, draws=300)
  value = metrics.METRICS['spearman'](answers, truth)['spearman']
  low, high = found['spearman']
  assert low < value < high
  # Close to that of the other correlation, which comes from sums.
  assert np.abs(np.subtract(found['spearman'], found['pearson'])).max() < 0.15


def test_a_calibration_error_has_its_value_in_its_interval():
  generator = np.random.default_rng(2)
  chances = probabilities(generator, 400)
  # Well calibrated: each draw alone looks worse than the whole.
  truth = [generator.choice(3, p=row) for row in chances]
  value = metrics.calibration_error(chances, truth)['calibration_error_15']
  low, high = intervals.intervals(('calibration_error',), chances, truth)[
    'calibration_error_15'
  ]
  assert 0 <= low < value < high


def test_what_says_nothing_of_other_examples_has_no_interval():
  assert intervals.intervals(('accuracy',), [1], [1]) == {}
  found = intervals.intervals(('accuracy', 'matthews'), [1] * 30, [1] * 30)
  # All are right, which Wilson's interval still bounds.
  assert list(found) == ['accuracy']
  low, high = found['accuracy']
  assert 0.85 < low < 0.95 and high == 1.0


def test_a_split_has_the_intervals_of_its_values_and_of_its_parts():
  parts = [
    tasks.Task(name, name, lambda record: None, labels)
    for name, labels in (('a', ('x', 'y')), ('b', ('u', 'v', 'w')))
  ]
  both = tasks.Task('a+b', 'a', parts[0].example, tuple('xyuvw'), parts=tuple(parts))
  generator = np.random.default_rng(0)
  targets = np.concatenate([generator.integers(0, 2, 40), generator.integers(2, 5, 40)])
  raw = generator.normal(size=(80, 5)) + np.eye(5)[targets]
  values = tasks.score(both, raw, targets)
  found = intervals.of_task(both, raw, targets, values)
  assert {'accuracy', 'brier', 'a/f1', 'b/f1_macro', 'b/brier'} <= set(found)
  assert 'f1' not in found and 'b/f1' not in found and set(found) <= set(values)
  for name, (low, high) in found.items():
    assert low <= values[name] <= high, name
  # Labels of the other part have no probability.
  chances = tasks.probabilities(both, raw, targets)
  assert (chances[:40, 2:] == 0).all() and np.allclose(chances.sum(1), 1)


def test_outputs_that_are_no_numbers_have_no_probabilities():
  task = tasks.Task('t', 't', lambda record: None, ('x', 'y'))
  raw = np.array([[0.0, 1.0], [np.nan, 0.0]])
  values = tasks.score(task, raw, np.array([1, 0]))
  assert 'accuracy' in values and 'brier' not in values


def test_several_labels_have_calibration_too():
  task = tasks.Task(
    't',
    't',
    lambda record: None,
    ('x', 'y', 'z'),
    problem=PROBLEMS['multi_label'],
    metrics=('f1', 'brier', 'calibration_error'),
  )
  targets = np.array([[1, 0, 1], [0, 0, 1]], np.float32)
  sure = np.where(targets > 0, 50.0, -50.0)
  values = tasks.score(task, sure, targets)
  assert values['brier'] == pytest.approx(0)
  assert values['calibration_error_15'] == pytest.approx(0)
  values = tasks.score(task, -sure, targets)
  # Of two classes each: (1 - 0)^2 for both.
  assert values['brier'] == pytest.approx(2)
  assert values['calibration_error_15'] == pytest.approx(1)


def test_ranks_have_an_interval_and_the_spread_of_vectors_has_none():
  found = intervals.intervals(('retrieval',), [1, 2, 20] * 10, ['a'] * 30)
  assert set(found) == {'mrr', 'accuracy_1', 'accuracy_10'}
  assert found['mrr'][0] < (1 + 1 / 2 + 1 / 20) / 3 < found['mrr'][1]
  assert 'uniformity' in metrics.OF_TWO
