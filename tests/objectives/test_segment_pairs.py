"""The loss on pairs of segments: two means, from one pass of a model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import models
from tl_jax.objectives import OBJECTIVES, Nominal

SPECIAL = (0, 1, 2, 3, 4)


@pytest.fixture(scope='module')
def model():
  arch = models.arch(
    'tiny', layers=1, width=16, heads=2, mlp=16, vocabulary=60, head='masked',
    pair_head=True,
  )  # fmt: skip
  return models.build(arch)


def batch():
  draw = np.random.default_rng(0)
  tokens = draw.integers(5, 60, (3, 12))
  segments = np.array([[1] * 5 + [2] * 6 + [0], [1] * 12, [1] * 8 + [0] * 4])
  tokens[:, 0] = 2
  tokens[0, 5] = 2
  tokens[segments == 0] = 0
  return dict(
    tokens=jnp.asarray(tokens),
    segments=jnp.asarray(segments),
    types=jnp.asarray((np.arange(12) > 3) * (segments > 0), jnp.int32),
    examples=jnp.array([[1, 2], [1, 0], [1, 0]]),
    labels=jnp.array([[0, 1], [1, 0], [0, 0]]),
  )


def made(name):
  entry = OBJECTIVES[name]
  return entry.make(**entry.facts(Nominal(vocabulary_size=60), 12))


@pytest.fixture(scope='module')
def objective():
  return made('next_sentence')


def test_the_order_of_sentences_asks_for_other_pairs(objective):
  other = made('sentence_order')
  assert other.segments == objective.segments._replace(swaps=True)
  assert not objective.segments.swaps


def losses(model, objective, params, prepared):
  forward = lambda *args, **how: model.apply(params, *args, **how)
  terms, metrics = objective.loss(forward, prepared, None)
  return {name: term.sum for name, term in terms.items()}, metrics


def test_two_means_and_what_hides_hides_no_special_piece(model, objective):
  given = batch()
  prepared = jax.jit(objective.prepare)(jax.random.key(0), given)
  weights = objective.weights(prepared)
  assert float(weights['pair']) == 4 and float(weights['masked']) == 4
  changed = np.asarray(prepared['tokens'] != given['tokens'])
  assert not changed[np.isin(given['tokens'], SPECIAL)].any()
  chosen = np.asarray(prepared['targets'])[np.asarray(prepared['target_weights']) > 0]
  assert not np.isin(chosen, SPECIAL).any()
  params = model.init(jax.random.key(1))
  terms, metrics = jax.jit(lambda p, b: losses(model, objective, p, b))(
    params, prepared
  )
  found = model.apply(params, prepared, keep=('pair',)).pair
  assert found.shape == (3, 2, 2)
  right = jnp.take_along_axis(jax.nn.log_softmax(found), given['labels'][..., None], -1)
  expected = -float((right[..., 0] * (given['examples'] > 0)).sum())
  np.testing.assert_allclose(terms['pair'], expected, rtol=1e-5)
  assert float(metrics['pair_accuracy'].weight) == 4


def test_each_term_trains_its_own_head_and_both_the_body(model, objective):
  prepared = jax.jit(objective.prepare)(jax.random.key(0), batch())
  params = model.init(jax.random.key(1))

  def gradient(name):
    return jax.jit(jax.grad(lambda p: losses(model, objective, p, prepared)[0][name]))(
      params
    )

  moves = lambda leaf: bool(jnp.abs(leaf).max() > 0)
  for name, pair in (('pair', True), ('masked', False)):
    found = gradient(name)
    assert moves(found['pooler']['kernel']) == pair
    assert moves(found['head']['pair']['kernel']) == pair
    assert moves(found['head']['transform']['kernel']) != pair
    assert moves(found['layers']['0']['mlp']['in']['kernel'])


def test_the_pairs_of_a_packed_row_know_nothing_of_each_other(model):
  params = jax.tree.map(lambda leaf: 5 * leaf, model.init(jax.random.key(1)))
  given = batch()
  other = {**given, 'tokens': given['tokens'].at[0, 7].set(9)}
  first, second = (
    model.apply(params, each, keep=('pair',)).pair for each in (given, other)
  )
  np.testing.assert_allclose(first[0, 0], second[0, 0], atol=1e-6)
  assert np.abs(first[0, 1] - second[0, 1]).max() > 1e-5
