"""Replaced token detection: what is replaced, and who learns from it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import models
from tl_jax.models.backbone import Outputs
from tl_jax.objectives import OBJECTIVES, Nominal
from tl_jax.objectives.electra import corrupt

VOCABULARY = 60
SPECIAL = (0, 1, 2, 3, 4)


@pytest.fixture(scope='module')
def model():
  small = dict(layers=1, vocabulary=VOCABULARY, width=16, mlp=16, heads=2)
  return models.build(
    models.arch('tiny-electra', head='replaced', **small | dict(generator=8))
  )


@pytest.fixture(scope='module')
def objective():
  entry = OBJECTIVES['electra']
  return entry.make(**entry.facts(Nominal(vocabulary_size=VOCABULARY), 20), rate=0.25)


def batch(rows=4, length=20):
  tokens = np.random.default_rng(0).integers(5, VOCABULARY, (rows, length))
  tokens[:, 0] = 2
  segments = np.ones((rows, length), np.int32)
  segments[1, 12:] = 0
  return dict(tokens=jnp.asarray(tokens), segments=jnp.asarray(segments))


@pytest.fixture(scope='module')
def prepared(objective):
  return jax.jit(objective.prepare)(jax.random.key(0), batch())


def test_a_token_that_was_drawn_right_is_original(prepared):
  # A generator that is certain: it is right at the first place, wrong at the others.
  targets = prepared['targets']
  said = jnp.where(jnp.arange(targets.shape[1]) == 0, targets, 7)
  logits = 1e4 * jax.nn.one_hot(said, VOCABULARY)
  corrupted, replaced = corrupt(prepared, logits)
  original, real = batch()['tokens'], prepared['target_weights'] > 0
  expected = np.zeros(original.shape, bool)
  for row, place in zip(*np.nonzero(np.asarray(real)), strict=True):
    at = int(prepared['score'][row, place])
    expected[row, at] = place > 0 and int(original[row, at]) != 7
  np.testing.assert_array_equal(replaced, expected)
  assert expected.any()
  np.testing.assert_array_equal(corrupted['tokens'], np.where(expected, 7, original))


def test_tokens_are_drawn_with_the_probability_that_the_generator_gives(objective):
  many = jax.jit(objective.prepare)(jax.random.key(1), batch(400))
  odds = np.full(VOCABULARY, -1e9)
  odds[[10, 11]] = np.log([0.25, 0.75])
  shape = *many['score'].shape, VOCABULARY
  drawn = corrupt(many, jnp.broadcast_to(jnp.asarray(odds), shape))[0]['tokens']
  at_score = np.take_along_axis(np.asarray(drawn), np.asarray(many['score']), 1)
  found = at_score[np.asarray(many['target_weights']) > 0]
  rate = (found == 10).mean()
  assert set(found) == {10, 11}
  assert abs(rate - 0.25) < 4 * (0.25 * 0.75 / len(found)) ** 0.5


def test_the_generator_sees_85_percent_hidden_and_no_special_piece_changes(objective):
  given = batch(400)
  many = jax.jit(objective.prepare)(jax.random.key(2), given)
  seen = np.take_along_axis(np.asarray(many['tokens']), np.asarray(many['score']), 1)
  seen = seen[np.asarray(many['target_weights']) > 0]
  chosen = np.asarray(many['targets'])[np.asarray(many['target_weights']) > 0]
  is_hidden = seen == 4
  assert abs(is_hidden.mean() - 0.85) < 4 * (0.85 * 0.15 / len(seen)) ** 0.5
  assert (seen[~is_hidden] == chosen[~is_hidden]).all()
  assert not np.isin(chosen, SPECIAL).any()


def sums(model, objective, params, prepared):
  forward = lambda *args, **how: model.apply(params, *args, **how)
  terms, _ = objective.loss(forward, prepared, None)
  return {name: term.sum for name, term in terms.items()}


def test_the_discriminator_teaches_the_generator_nothing_and_both_the_table(
  model, objective, prepared
):
  params = model.init(jax.random.key(1))

  def gradient(name):
    loss = lambda p: sums(model, objective, p, prepared)[name]
    return jax.jit(jax.grad(loss))(params)

  moves = lambda part: any(bool((leaf != 0).any()) for leaf in jax.tree.leaves(part))
  generator, replaced = gradient('generator'), gradient('replaced')
  assert moves(generator['head']['generator'])
  assert not moves(replaced['head']['generator'])
  assert not moves(generator['layers']) and moves(replaced['layers'])
  assert not moves(generator['head']['kernel']) and moves(replaced['head']['kernel'])
  for name in ('tokens', 'positions', 'norm'):
    assert moves(generator['embedding'][name]) and moves(replaced['embedding'][name])


def test_the_loss_is_over_all_real_tokens(objective, prepared):
  # Logits of 0 are a coin: log 2 for every token that is no padding.
  def forward(given, *, score=None, generator=False, **how):
    del how
    if generator:
      return Outputs(None, jnp.zeros((*score.shape, VOCABULARY)))
    return Outputs(None, jnp.zeros(given['tokens'].shape))

  terms, metrics = objective.loss(forward, prepared, None)
  weights = objective.weights(prepared)
  assert float(weights['replaced']) == 72 == float(metrics['replaced_accuracy'].weight)
  mean = terms['replaced'].sum / weights['replaced']
  np.testing.assert_allclose(mean, np.log(2), rtol=1e-6)
  assert terms['replaced'].coefficient == 50 and terms['generator'].coefficient == 1
