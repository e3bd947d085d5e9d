"""Rotary positions whose divisors depend on the length of the text."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import tree
from tl_jax.config import ConfigError
from tl_jax.models import arch, build, decoder
from tl_jax.models.rotary import last_positions

LENGTH = 6
FIELDS = dict(
  vocabulary=50,
  width=16,
  layers=2,
  heads=2,
  kv_heads=1,
  mlp=24,
  head='causal',
  windows=(0,),
)
# Heads of 8: four frequencies, and as many divisors for texts of up to six tokens and
# for longer ones.
LONG = arch(
  'phi3-mini',
  rotary_scaling=(1.2, LENGTH, 1.0, 1.0, 1.5, 2.0, 1.0, 4.0, 9.0, 20.0),
  **FIELDS,
)
TOKENS = np.random.default_rng(0).integers(1, 50, (1, 10)).astype(np.int32)


def spread(params):
  """Random parameters, large enough that another angle shows."""

  def draw(name, leaf):
    return leaf + jnp.asarray(
      0.3 * np.random.default_rng([*name.encode()]).normal(size=leaf.shape), 'float32'
    )

  return tree.map_named(draw, params)


PARAMS = spread(jax.jit(build(LONG).init)(jax.random.key(0)))
APPLY = jax.jit(build(LONG).apply)


def logits(tokens, **batch):
  return np.asarray(APPLY(PARAMS, dict(tokens=tokens, **batch)).logits)


def test_every_token_knows_where_its_text_ends():
  segments = jnp.array([[1, 1, 1, 2, 2, 0], [0, 1, 1, 1, 1, 1]])
  positions = jnp.array([[0, 1, 2, 0, 1, 0], [0, 0, 1, 2, 3, 4]])
  assert last_positions(segments, positions).tolist() == [
    [2, 2, 2, 1, 1, 0],
    [0, 4, 4, 4, 4, 4],
  ]


def test_texts_in_one_row_are_as_long_as_they_are_alone():
  segments = np.array([[1] * 3 + [2] * 7])
  together = logits(TOKENS, segments=segments)
  np.testing.assert_allclose(together[:, :3], logits(TOKENS[:, :3]), atol=1e-5)
  np.testing.assert_allclose(together[:, 3:], logits(TOKENS[:, 3:]), atol=1e-5)


def test_a_text_beyond_the_original_length_turns_otherwise():
  short, long = logits(TOKENS[:, :LENGTH]), logits(TOKENS[:, : LENGTH + 1])
  # What comes later says how far all are turned.
  assert np.abs(short - long[:, :LENGTH]).max() > 1e-2


@pytest.mark.parametrize('capacity', [LENGTH, 10])
def test_the_room_of_a_cache_says_how_far_keys_are_turned(capacity):
  reader = decoder(LONG)
  _, cache = jax.jit(reader.prefill, static_argnames='capacity')(
    PARAMS, dict(tokens=TOKENS[:, :4]), capacity=capacity
  )
  for i in range(4, capacity):
    said, cache = jax.jit(reader.step)(PARAMS, cache, TOKENS[:, i])
  np.testing.assert_allclose(said, logits(TOKENS[:, :capacity])[:, -1], atol=1e-4)


@pytest.mark.parametrize(
  ('fields', 'said'),
  [
    (dict(rotary_scaling=(1.0, 6.0, 1.0, 2.0, 3.0, 4.0)), 'twice 4 divisors'),
    (
      dict(rotary_scaling=LONG.rotary_scaling, rotary_layers=(True, False)),
      'turn alike',
    ),
  ],
)
def test_numbers_that_do_not_fit_are_named(fields, said):
  with pytest.raises(ConfigError, match=said):
    arch('phi3-mini', **(FIELDS | fields))
