"""What outputs mean is said by name, for one question or several."""

import numpy as np
import pytest

from tl_jax.evals import prediction


def test_several_tasks_answer_each_for_itself():
  labels = ('mood: bad', 'mood: good', 'topic: a', 'topic: b', 'topic: c')
  parts = prediction.parts_of('single_label', labels, 5, ('mood', 'topic'))
  (said,) = prediction.describe(parts, np.array([[1.0, 0.0, 9.0, 0.0, 0.0]]))
  assert said['tasks']['mood']['label'] == 'bad'
  assert said['tasks']['topic']['label'] == 'a'
  # The outputs of another task are no rivals.
  assert said['tasks']['mood']['probability'] == pytest.approx(
    1 / (1 + np.exp(-1)), abs=1e-6
  )


@pytest.mark.parametrize('kind', ['single_label', 'multi_label', 'regression'])
def test_a_text_without_an_output_keeps_the_keys(kind):
  parts = prediction.parts_of(kind, ('a', 'b'), 2)
  known, nothing = prediction.describe(parts, np.array([[0.0, 1.0], [np.nan] * 2]))
  assert known.keys() == nothing.keys()
  first = next(iter(nothing.values()))
  assert first in (None, [None, None])


def test_large_outputs_are_probabilities_all_the_same():
  found = np.array([[1000.0, -1000.0]])
  for kind in ('single_label', 'multi_label'):
    parts = prediction.parts_of(kind, ('a', 'b'), 2)
    (said,) = prediction.describe(parts, found)
    assert said['probabilities'] == dict(a=1.0, b=0.0)
