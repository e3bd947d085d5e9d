"""What needs no model: the tag that a word has most often."""

import numpy as np
import pytest

from tl_jax.data.words import Words
from tl_jax.evals import TAGGERS


def test_a_word_has_its_most_frequent_tag_and_others_that_of_all():
  texts = [Words(['run', 'run', 'run', 'a']), Words(['a', 'a'])]
  targets = np.array([[2, 1, 2, 0], [0, 0, -1, -1]])
  tag = TAGGERS['most-frequent']
  found = tag(texts, targets, [Words(['run', 'new']), Words(['a'])])
  np.testing.assert_allclose(found[0], [[2, 2 / 3], [0, 0.5]], rtol=1e-6)
  assert found[1].tolist() == [[0, 1], [-1, -1]]
  # Of equally frequent tags the first.
  assert tag([Words(['x', 'x'])], [[3, 1]], [Words(['x'])])[0, 0, 0] == 1
  with pytest.raises(ValueError, match='no word to learn from'):
    tag([], np.zeros((0, 0)), [Words(['x'])])
