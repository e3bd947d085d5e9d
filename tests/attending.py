"""Random attention for tests: its arrays, and what every form of it must make of them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.models.scores import masked_scores, softmax, weighted_values
from tl_jax.models.sight import Sight
from tl_jax.segments import positions_of


class Case(NamedTuple):
  """query (rows, length, key heads, groups, head), keys and values (rows, key heads,
  length, head); pull: a gradient that is zero where there is no token.
  """

  query: Any
  keys: Any
  values: Any
  sight: Sight
  real: Any
  pull: Any


def draw(
  rows, length, heads, groups, head, *, causal, window=0, dtype=jnp.float32
) -> Case:
  """Packed rows: two texts, and padding at the end of the first row."""
  source = np.random.default_rng(0)

  def normal(*shape):
    return jnp.asarray(source.normal(size=shape), dtype)

  segments = np.ones((rows, length), np.int32)
  segments[:, length // 3 :] = 2
  segments[0, length - length // 5 :] = 0
  segments = jnp.asarray(segments)
  positions = positions_of(segments)
  sight = Sight((segments, segments), (positions, positions), causal, window, (window,))
  real = (segments > 0)[..., None, None, None]
  query = normal(rows, length, heads, groups, head) * head**-0.5
  keys = normal(rows, heads, length, head)
  values = normal(rows, heads, length, head)
  pull = normal(rows, length, heads, groups, head) * real
  return Case(query, keys, values, sight, real, pull)


def whole(case: Case, cap=0.0, bias=None, prefix=0):
  """A function (query, keys, values, bias) -> out, of whole products."""
  sight = case.sight._replace(prefix=prefix)

  def attend(query, keys, values, bias=bias):
    scores = masked_scores(query, keys, sight.mask(), bias, cap)
    return weighted_values(softmax(scores, values.dtype), values)

  return attend


def results(attend, case: Case, *more):
  """(out, gradients): out where there is a token."""

  def run(*arrays):
    out, pull = jax.vjp(attend, *arrays)
    return out * case.real, *pull(case.pull.astype(out.dtype))

  return jax.jit(run)(case.query, case.keys, case.values, *more)


def require_equal(found, wanted, tolerance=1e-5):
  for one, other in zip(found, wanted, strict=True):
    one = np.asarray(one, np.float32)
    other = np.asarray(other, np.float32)
    np.testing.assert_allclose(one, other, atol=tolerance, rtol=tolerance)
