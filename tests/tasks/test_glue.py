"""The tasks of GLUE with two texts: their columns, labels and metrics."""

import numpy as np
import pytest

from tl_jax import tasks
from tl_jax.data import sources
from tl_jax.tasks import glue


@pytest.mark.parametrize('task', glue.PAIRS, ids=lambda task: task.name)
def test_a_record_is_a_pair(task):
  assert tasks.find(task.name) is task and task.source == f'glue/{task.name}'
  names = task.example.keywords['columns'].text
  record = dict(zip(names, ('a dog', 'one cat'), strict=True), label=1, idx=7)
  (text,), target, _ = task.example(record)
  assert (text.first, text.second, target) == ('a dog', 'one cat', 1)
  # As a file with these columns is read.
  assert text == f'{names[0]}: a dog\n{names[1]}: one cat'
  assert (
    task.splits['test'].startswith('validation') and task.splits['train'] == 'train'
  )


@pytest.mark.parametrize('task', glue.PAIRS, ids=lambda task: task.name)
def test_labels_are_in_the_order_of_the_set(task, tmp_path):
  builder = sources._public_builder(task.source, 'glue', str(tmp_path))
  label = builder.info.features['label']
  if task.problem.exclusive:
    assert tuple(label.names) == task.labels
  else:
    assert label.np_dtype == np.float32


def test_scores_are_those_of_glue():
  classes = np.eye(2)[[1, 1, 0, 0]], np.array([1, 0, 0, 0])
  assert tasks.score(glue.MRPC, *classes)['f1'] == pytest.approx(2 / 3)
  assert tasks.score(glue.QNLI, *classes) == {'accuracy': 0.75}
  rising = np.array([[1.0], [2.0], [4.0]])
  found = tasks.score(glue.STSB, rising, rising**2)
  assert found.keys() == {'pearson', 'spearman'}
  assert found['spearman'] == pytest.approx(1)
