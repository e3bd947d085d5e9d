"""What a model has no row for is refused before it is looked up, and nothing else is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax.models import arch, build, decoder, require_rows

BERT = arch('tiny', vocabulary=40, layers=1, width=16, heads=2, mlp=16, max_positions=8)
ROBERTA = arch('tiny', vocabulary=40, max_positions=10, position_offset=2)
T5 = arch('tiny-t5', vocabulary=40)
LONG = np.full((1, 9), 5)


@pytest.mark.parametrize(
  ('batch', 'said'),
  [
    (dict(tokens=[[5, 40]]), '40.*40 rows'),
    (dict(tokens=[[5, -1]]), '-1'),
    (dict(tokens=[[5, 6]], types=[[0, 2]]), 'types.*2 rows'),
    (dict(tokens=LONG), '9 tokens.*8 positions'),
    (dict(tokens=LONG, segments=np.ones((1, 9), int)), '9 tokens'),
    (dict(tokens=[[5, 6]], positions=[[0, 8]]), '9 tokens.*8 positions'),
    (dict(tokens=[[5, 6]], positions=[[-1, 0]]), 'positions'),
  ],
)
@pytest.mark.parametrize('shape', [BERT, ROBERTA])
def test_what_has_no_row_is_named(shape, batch, said):
  with pytest.raises(ValueError, match=said):
    require_rows(shape, {name: np.array(value) for name, value in batch.items()})


@pytest.mark.parametrize(
  'batch',
  [
    dict(tokens=[[0, 39]], types=[[0, 1]], positions=[[0, 7]]),
    dict(tokens=[[5, 99]], segments=[[1, 0]], positions=[[0, 50]]),  # padding
    dict(tokens=LONG, segments=[[1, 1, 1, 1, 2, 2, 2, 2, 2]]),  # packed
    dict(tokens=LONG, segments=[[1] * 8 + [0]]),
  ],
)
def test_what_has_a_row_or_is_padding_passes(batch):
  require_rows(BERT, {name: np.array(value) for name, value in batch.items()})


def test_a_model_without_a_table_of_positions_has_no_limit():
  require_rows(T5, dict(tokens=np.full((1, 999), 5), decoder_tokens=LONG))
  with pytest.raises(ValueError, match='decoder_tokens'):
    require_rows(T5, dict(tokens=LONG, decoder_tokens=np.full((1, 3), 40)))


def test_apply_refuses_outside_jit_and_passes_traced_ids():
  model = build(BERT)
  params = model.init(jax.random.key(0))
  with pytest.raises(ValueError, match='tokens'):
    model.apply(params, dict(tokens=jnp.full((1, 4), 40)))
  with pytest.raises(ValueError, match='positions'):
    model.apply(params, dict(tokens=jnp.full((1, 9), 5)))
  traced = jax.jit(model.apply)(params, dict(tokens=jnp.full((1, 4), 39)))
  assert traced.hidden.shape == (1, 4, 16)
  # How long a row without segments is, is known within jit too.
  with pytest.raises(ValueError, match='9 tokens'):
    jax.jit(model.apply)(params, dict(tokens=jnp.full((1, 9), 5)))


def test_a_prompt_and_its_continuation_fit_the_positions():
  small = arch('tiny-gpt', vocabulary=40, layers=1, max_positions=8, head='causal')
  params = build(small).init(jax.random.key(0))
  prompt = dict(tokens=jnp.full((1, 5), 5))
  jax.eval_shape(lambda: decoder(small).prefill(params, prompt, capacity=8))
  with pytest.raises(ValueError, match='5 columns and 4 new tokens.*8 positions'):
    decoder(small).prefill(params, prompt, capacity=9)
