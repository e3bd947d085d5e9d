"""The loss over a vocabulary by parts: the same sums and derivatives as from all logits
at once.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import leaves
from tl_jax.objectives import losses, tokens
from tl_jax.objectives.tokens import score, score_logits, token_prediction

ROWS, PLACES, WIDTH, VOCABULARY = 2, 7, 6, 20


def draw(seed, *shape):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


READOUTS = {
  'tied': leaves.Readout(draw(0, ROWS, PLACES, WIDTH), draw(1, VOCABULARY, WIDTH)),
  'kernel, bias and cap': leaves.Readout(
    draw(0, ROWS, PLACES, WIDTH),
    draw(1, WIDTH, VOCABULARY),
    draw(2, VOCABULARY),
    tied=False,
    cap=2.0,
  ),
  'low rank': leaves.Readout(
    draw(0, ROWS, PLACES, WIDTH),
    leaves.LowRank(
      draw(1, VOCABULARY, WIDTH), draw(3, VOCABULARY, 2), draw(4, 2, WIDTH)
    ),
  ),
}
TARGETS = jnp.asarray(np.random.default_rng(5).integers(0, VOCABULARY, (ROWS, PLACES)))
WEIGHTS = jnp.asarray(
  [[1.0, 0.0, 2.0, 1.0, 1.0, 0.5, 1.0], [0.0, 1.0, 1.0, 0.0, 3.0, 1.0, 0.0]]
)


def whole(readout, smoothing=0.0):
  return score_logits(readout.logits(), TARGETS, WEIGHTS, smoothing)


def by_parts(readout, smoothing=0.0):
  return score(readout, TARGETS, WEIGHTS, smoothing)


@pytest.fixture(
  params=[3, *(pytest.param(number, marks=pytest.mark.slow) for number in (1, 2, 50))],
  ids='at most {} parts'.format,
)
def parts(request, monkeypatch):
  monkeypatch.setattr(tokens, 'MOST', ROWS * PLACES * VOCABULARY / request.param)


@pytest.fixture(params=['here', 'elsewhere'])
def platform(request, monkeypatch):
  if request.param == 'elsewhere':
    monkeypatch.setattr(
      jax.lax, 'platform_dependent', lambda *args, cpu, default: default(*args)
    )


def test_the_logits_of_targets(platform):
  logits = draw(0, ROWS, PLACES, VOCABULARY).at[0, 0].set(-jnp.inf)
  pull = draw(1, ROWS, PLACES)
  found, back = jax.vjp(lambda x: losses.chosen_logits(x, TARGETS), logits)
  plain = lambda x: jnp.take_along_axis(x, TARGETS[..., None], -1)[..., 0]
  wanted, their_back = jax.vjp(plain, logits)
  np.testing.assert_array_equal(found, wanted)
  np.testing.assert_array_equal(back(pull)[0], their_back(pull)[0])


@pytest.mark.parametrize('name', READOUTS)
@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_sums_and_derivatives_are_those_of_all_logits_at_once(
  parts, platform, name, smoothing
):
  readout = READOUTS[name]
  for found, expected in zip(
    by_parts(readout, smoothing), whole(readout, smoothing), strict=True
  ):
    np.testing.assert_allclose(found, expected, rtol=1e-5)
  # Some factor behind the sum, as from the weights of the whole batch.
  found, expected = (
    jax.grad(lambda readout, sums=sums: jnp.square(sums(readout, smoothing)[0]) / 3)(
      readout
    )
    for sums in (by_parts, whole)
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-4), found, expected
  )


def test_forward_mode_and_second_derivatives_are_kept(parts, platform):
  readout = READOUTS['tied']
  step = jax.tree.map(jnp.cos, readout)

  def derivatives(sums):
    loss = lambda readout: sums(readout)[0]
    return [
      jax.jvp(function, (readout,), (step,))[1] for function in (loss, jax.grad(loss))
    ]

  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
    derivatives(by_parts),
    derivatives(whole),
  )


def test_members_of_a_cohort_are_scored_as_one_alone(parts):
  tables = jnp.stack([READOUTS['tied'].weight, READOUTS['tied'].weight * 2])
  loss = lambda table: by_parts(leaves.Readout(READOUTS['tied'].hidden, table))[0]
  together = jax.vmap(jax.value_and_grad(loss))(tables)
  alone = [jax.value_and_grad(loss)(table) for table in tables]
  jax.tree.map(
    lambda both, *one: np.testing.assert_allclose(both, one, rtol=1e-5, atol=1e-6),
    together,
    *alone,
  )


def test_never_more_logits_than_asked_for_and_no_product_for_a_frozen_table(
  monkeypatch,
):
  monkeypatch.setattr(tokens, 'MOST', ROWS * VOCABULARY)  # a place of each row
  readout = READOUTS['tied']
  own = lambda hidden: by_parts(leaves.Readout(hidden, readout.weight))[0]
  frozen = jax.jit(jax.grad(own)).lower(readout.hidden).as_text()
  trained = (
    jax.jit(jax.grad(lambda readout: by_parts(readout)[0])).lower(readout).as_text()
  )
  for text in (frozen, trained):
    assert (
      f'{ROWS}x{PLACES}x{VOCABULARY}xf32' not in text
      and f'{ROWS}x1x{VOCABULARY}xf32' in text
    )
  assert text.count('dot_general') == 3 and frozen.count('dot_general') == 2


def test_bfloat16_states_give_float32_sums_and_bfloat16_gradients(parts):
  readout = READOUTS['tied']
  narrow = leaves.Readout(readout.hidden.astype(jnp.bfloat16), readout.weight)
  loss, gradient = jax.value_and_grad(lambda readout: by_parts(readout)[0])(narrow)
  expected, wide = jax.value_and_grad(lambda readout: whole(readout)[0])(readout)
  assert (
    loss.dtype == jnp.float32
    and gradient.hidden.dtype == jnp.bfloat16
    and gradient.weight.dtype == jnp.float32
  )
  np.testing.assert_allclose(loss, expected, rtol=0.02)
  np.testing.assert_allclose(gradient.weight, wide.weight, rtol=0.1, atol=0.1)


def test_a_model_that_keeps_no_readout_is_taken_at_its_logits():
  class Outputs:
    def __init__(self, logits):
      self.logits = logits

  readout = READOUTS['kernel, bias and cap']
  batch = dict(targets=TARGETS, target_weights=WEIGHTS)
  forward = lambda batch, *, key, train, keep: Outputs(readout.logits())
  terms, metrics = tokens.token_loss('it', forward, batch, None)
  np.testing.assert_allclose(terms['it'].sum, whole(readout)[0])
  np.testing.assert_allclose(metrics['accuracy'].sum, whole(readout)[1])


def test_two_predictions_of_tokens_are_apart_by_both_divergences():
  first, second = jax.random.normal(jax.random.key(0), (2, 1, 3, 5))
  found = token_prediction().divergence(first, second, None)
  p, q = (np.asarray(jax.nn.softmax(each)) for each in (first, second))
  expected = ((p * np.log(p / q)).sum(-1) + (q * np.log(q / p)).sum(-1)) / 2
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  batch = {'target_weights': jnp.array([[0.0, 1.0, 1.0]])}
  assert token_prediction().weights(batch).tolist() == [[0.0, 1.0, 1.0]]
