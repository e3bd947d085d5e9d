"""Problems of labels: what a target is, what a prediction is, and who competes."""

import numpy as np
import pytest

from tl_jax.tasks import PROBLEMS, Example, Task, decide, score


def examples(*targets):
  return [Example(('a text',), target) for target in targets]


@pytest.mark.parametrize(
  ('name', 'targets', 'shape', 'dtype'),
  [
    ('single_label', (1, 0, 2), (3,), np.int32),
    ('multi_label', ((1, 0), (0, 1)), (2, 2), np.float32),
    ('regression', (0.5, 2), (2, 1), np.float32),
  ],
)
def test_targets_are_gathered_in_the_form_of_the_problem(name, targets, shape, dtype):
  found = PROBLEMS[name].gather(examples(*targets))
  assert found.shape == shape and found.dtype == dtype
  np.testing.assert_array_equal(found.reshape(-1), np.reshape(targets, -1))


@pytest.mark.parametrize(
  ('name', 'targets', 'counts'),
  [
    ('single_label', [1, 1, 0], [1, 2, 0]),
    ('multi_label', [[1.0, 0, 1], [1, 0, 0]], [2, 0, 1]),
    ('regression', [[0.5], [1.0]], [2]),
  ],
)
def test_labels_are_counted(name, targets, counts):
  assert PROBLEMS[name].count(np.array(targets), len(counts)) == counts


def test_a_target_moves_to_where_a_model_has_its_label():
  assert PROBLEMS['single_label'].move(1, [2, 0], 3) == 0
  assert PROBLEMS['multi_label'].move((1, 0), [2, 0], 3) == (0, 0, 1)
  assert PROBLEMS['regression'].move is None


def test_a_set_of_labels_is_what_lies_above_one_half():
  task = Task('t', 's', None, ('a', 'b'), PROBLEMS['multi_label'])
  outputs = np.array([[3.0, -1.0], [-2.0, 0.5]])
  found = decide(task, outputs, np.zeros((2, 2)))
  assert [task.named(row) for row in found] == [['a'], ['b']]
  assert score(task, outputs, np.eye(2))['accuracy'] == 1.0
