"""One temperature makes a model as often right as it says, and changes no answer."""

import numpy as np
import pytest

from tl_jax import tasks
from tl_jax.config import ConfigError
from tl_jax.evals.calibrating import (
  Answers,
  calibration,
  curves,
  require_probabilities,
  scaled,
  temperature,
  told,
)
from tl_jax.metrics.calibration import log_loss
from tl_jax.models import NO_CANDIDATE
from tl_jax.tasks import PROBLEMS

COUNT, PLANTED = 3000, 2.5


def task_of(kind, name='t', labels=('x', 'y', 'z')):
  read = lambda record: None  # noqa: E731
  return tasks.Task(name, name, read, labels, problem=PROBLEMS[kind])


def drawn(outputs, generator):
  """A class of each row of outputs, as often as its probability says."""
  noise = generator.gumbel(size=outputs.shape)
  return (outputs + noise).argmax(-1)


def answers_of(kind, seed, factor=PLANTED):
  """Answers of a model that is too sure by a factor."""
  generator = np.random.default_rng(seed)
  outputs = generator.normal(size=(COUNT, 3)) * 2
  if kind == 'multi_label':
    chances = 1 / (1 + np.exp(-outputs))
    targets = (generator.random(outputs.shape) < chances).astype(np.float32)
    return Answers(outputs * factor, targets)
  if kind == 'choice':
    # Some questions have two candidates.
    outputs[::3, 2] = NO_CANDIDATE
  return Answers(outputs * factor, drawn(outputs, generator))


@pytest.mark.parametrize('factor', [PLANTED, 0.4])
@pytest.mark.parametrize('kind', ['single_label', 'multi_label', 'choice'])
def test_a_planted_temperature_is_found_and_no_answer_changes(kind, factor):
  task = task_of(kind)
  validation = answers_of(kind, 1, factor)
  test = answers_of(kind, 2, factor)
  found = calibration(task, validation, test)['t']
  assert found['temperature'] == pytest.approx(factor, rel=0.1)
  assert found['validation'] == COUNT
  assert found['after']['loss'] < found['before']['loss']
  assert found['after']['brier'] < found['before']['brier']
  name = 'calibration_error_15'
  assert found['after'][name] < 0.02 < found['before'][name]
  # Every order stays.
  before = scaled(task, test, 1.0).argsort(-1, kind='stable')
  after = scaled(task, test, found['temperature']).argsort(-1, kind='stable')
  np.testing.assert_array_equal(before, after)


def test_it_is_the_best_temperature_of_these_examples():
  task, answers = task_of('single_label'), answers_of('single_label', 3)
  best = temperature(task, answers)

  def loss(value):
    return log_loss(scaled(task, answers, value), answers.targets)

  assert loss(best) < min(loss(best * 0.97), loss(best * 1.03))


def test_where_all_is_right_the_temperature_stays():
  raw = np.array([[2.0, 1.0], [0.0, 1.0]])
  answers = Answers(raw, np.array([0, 1]))
  assert temperature(task_of('single_label', labels=('x', 'y')), answers) == 1.0


def test_the_end_of_the_range_is_told():
  # Wrong half the time, however sure: the best would be to know nothing.
  raw = np.array([[900.0, 0.0]] * 4)
  answers = Answers(raw, np.array([0, 1, 0, 1]))
  task = task_of('single_label', labels=('x', 'y'))
  (line,) = told(calibration(task, answers, answers))
  assert 'the end of 0.02 to 50, fitted to 4 validation examples: loss ' in line
  three = answers_of('single_label', 7)
  (line,) = told(calibration(task_of('single_label'), three, three))
  assert 'the end of' not in line


def test_tasks_that_share_a_model_have_a_temperature_each():
  first = task_of('single_label', 'a')
  second = task_of('single_label', 'b', ('v', 'w'))
  both = tasks.together((first, second))
  of_first = answers_of('single_label', 4, factor=2.0)
  generator = np.random.default_rng(5)
  outputs = generator.normal(size=(COUNT, 2))
  targets = drawn(outputs, generator)
  # Outputs for the other task, which nobody asks for.
  idle = generator.normal(size=(COUNT, 3))
  raw = np.concatenate(
    [np.hstack([of_first.raw, idle[:, :2]]), np.hstack([idle, outputs * 4])]
  )
  whole = Answers(raw, np.concatenate([of_first.targets, targets + 3]))
  found = calibration(both, whole, whole)
  assert found['a']['temperature'] == pytest.approx(2.0, rel=0.1)
  assert found['b']['temperature'] == pytest.approx(4.0, rel=0.15)
  first, scaled_first, *others = curves(both, whole, found)
  assert first == 'a' and scaled_first.startswith('a, temperature ')
  assert len(others) == 2


def test_curves_have_every_answer_before_and_after():
  task, test = task_of('single_label'), answers_of('single_label', 6)
  fitted = calibration(task, test, test)
  found = curves(task, test, fitted)
  assert list(found) == ['as it is', f'temperature {fitted["t"]["temperature"]:.2f}']
  for bins in found.values():
    assert sum(one.count for one in bins) == COUNT
  assert list(curves(task, test, {})) == ['as it is']


def test_what_has_no_probabilities_is_refused():
  with pytest.raises(ConfigError, match="KEY: t is of kind 'regression'"):
    require_probabilities(task_of('regression'), 'KEY')
  require_probabilities(task_of('choice'), 'KEY')
  answers = Answers(np.array([[np.inf, np.inf]]), np.array([0]))
  with pytest.raises(ValueError, match='t: the model says no numbers'):
    scaled(task_of('single_label', labels=('x', 'y')), answers, 1.0)
