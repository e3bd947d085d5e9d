"""How embeddings are judged, at the edges."""

import numpy as np
import pytest

from tl_jax.metrics import retrieval, uniformity


def test_ranks_give_the_share_of_firsts_and_the_mean_of_reciprocals():
  found = retrieval([1, 2, 11], ['a', 'b', 'c'])
  assert found['mrr'] == pytest.approx((1 + 1 / 2 + 1 / 11) / 3)
  assert found['accuracy_1'] == pytest.approx(1 / 3)
  assert found['accuracy_10'] == pytest.approx(2 / 3)


def test_nothing_to_find_is_zero_and_a_rank_below_one_is_refused():
  assert set(retrieval([], []).values()) == {0.0}
  with pytest.raises(ValueError, match='a rank of 0'):
    retrieval([0], ['a'])


def test_uniformity_is_zero_for_one_point_and_lower_for_a_spread():
  same = np.tile([1.0, 0.0], (5, 1))
  assert uniformity(same, range(5))['uniformity'] == pytest.approx(0.0)
  spread = np.eye(5)
  # All are at the squared distance 2.
  assert uniformity(spread, range(5))['uniformity'] == pytest.approx(-4.0)
  assert uniformity([[1.0, 0.0]], ['a']) == {'uniformity': 0.0}
