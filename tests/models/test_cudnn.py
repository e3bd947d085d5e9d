"""What cuDNN is asked for is attention of whole products; here jax's own XLA form
answers in its place.
"""

import functools

import attending
import jax
import pytest

from tl_jax.models import cudnn
from tl_jax.models.operands import gather


@pytest.fixture(autouse=True)
def answered_by_xla(monkeypatch):
  plain = jax.nn.dot_product_attention

  def attend(*arrays, implementation, **named):
    assert implementation == 'cudnn'
    return plain(*arrays, implementation='xla', **named)

  monkeypatch.setattr(jax.nn, 'dot_product_attention', attend)


@pytest.mark.parametrize(
  'causal, window, groups', [(True, 0, 2), (True, 9, 1), (False, 10, 1), (False, 0, 2)]
)
def test_it_is_asked_for_whole_products(causal, window, groups):
  case = attending.draw(2, 40, 2, groups, 8, causal=causal, window=window)

  def attend(query, keys, values):
    return cudnn.attend(gather(query, keys, values, case.sight), causal)

  wanted = attending.results(attending.whole(case), case)
  attending.require_equal(attending.results(attend, case), wanted)


def test_a_part_of_the_queries_sees_what_it_saw_in_the_whole(monkeypatch):
  case = attending.draw(2, 40, 1, 1, 8, causal=True)
  whole = attending.whole(case)(case.query, case.keys, case.values)
  operands = gather(case.query, case.keys, case.values, case.sight)
  later = functools.partial(jax.lax.slice_in_dim, start_index=20, limit_index=40)
  part = operands._replace(
    query=later(operands.query, axis=1),
    query_segments=later(operands.query_segments, axis=1),
    query_positions=later(operands.query_positions, axis=1),
  )
  made = cudnn.attend(part, causal=True)
  shown = case.real[:, 20:]
  attending.require_equal([made * shown], [whole[:, 20:] * shown])
