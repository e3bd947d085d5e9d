"""Vectors of packed texts are those of each text alone, however they are pooled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import models
from tl_jax.models.pooling import POOLS

LENGTHS = (3, 5, 1)


@pytest.fixture(scope='module')
def found():
  """(states of each text alone, vectors of all of them in one row)."""
  arch = models.arch('tiny', vocabulary=50, layers=1)
  model = models.build(arch)
  params = model.init(jax.random.key(0))
  ids = jax.random.randint(jax.random.key(1), (12,), 5, 50)
  cuts = np.cumsum((0, *LENGTHS))
  pieces = [ids[first:end] for first, end in zip(cuts, cuts[1:], strict=False)]
  states = [model.apply(params, {'tokens': piece[None]}).hidden[0] for piece in pieces]
  batch = {
    'tokens': ids[None],
    'segments': jnp.array([[1] * 3 + [2] * 5 + [3] + [0] * 3]),
    'examples': jnp.array([[1, 2, 3, 0]]),
  }
  vectors = models.embed(arch, models.Compute(), params, batch, POOLS)
  own = models.embed(arch, models.Compute(), params, batch)
  return [np.asarray(state) for state in states], vectors[0, :3], own[0, :3]


POOLED = {
  'cls': lambda state: state[0],
  'lasttoken': lambda state: state[-1],
  'mean': lambda state: state.mean(0),
  'max': lambda state: state.max(0),
  'mean_sqrt_len_tokens': lambda state: state.sum(0) / np.sqrt(len(state)),
  'weightedmean': lambda state: np.average(
    state, 0, weights=np.arange(len(state)) + 1.0
  ),
}


@pytest.mark.parametrize('mode', POOLS)
def test_a_mode_is_what_its_name_says(found, mode):
  states, vectors, own = found
  width = states[0].shape[-1]
  place = POOLS.index(mode) * width
  wanted = np.stack([POOLED[mode](state) for state in states])
  np.testing.assert_allclose(vectors[:, place : place + width], wanted, atol=1e-5)
  if mode == 'cls':
    np.testing.assert_allclose(own, wanted, atol=1e-5)
