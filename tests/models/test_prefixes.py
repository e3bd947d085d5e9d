"""A prefix of a text that a decoder reads as a whole: its tokens see each other, and
nothing else changes.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax.models import Compute, arch, build

TOKENS = jnp.array([[5, 6, 7, 8, 9, 10, 11, 12]])
BATCH = {
  'tokens': TOKENS,
  'segments': jnp.array([[1, 1, 1, 1, 1, 2, 2, 2]]),
  'seen': jnp.array([[1, 1, 1, 0, 0, 1, 0, 0]]),
}
SMALL = dict(
  vocabulary=40, head='causal', layers=2, width=16, heads=2, kv_heads=0, mlp=16
)


@pytest.mark.parametrize(
  ('family', 'layers'),
  [('tiny-gpt', 'unroll'), pytest.param('llama3.2-1b', 'scan', marks=pytest.mark.slow)],
)
def test_the_tokens_of_a_prefix_see_each_other_and_no_more(family, layers):
  model = build(arch(family, **SMALL, head_dim=8), Compute(layers=layers), ordered=True)
  params = model.init(jax.random.key(0))
  apply = jax.jit(lambda batch: model.apply(params, batch).logits[0])
  usual = apply(BATCH)

  def changed(place):
    """Which places see another token at this one?"""
    other = {**BATCH, 'tokens': TOKENS.at[0, place].set(30)}
    return np.flatnonzero(np.abs(apply(other) - usual).max(1) > 1e-6).tolist()

  assert changed(2) == changed(0) == [0, 1, 2, 3, 4]
  assert changed(3) == [3, 4] and changed(4) == [4]
  assert changed(5) == [5, 6, 7] and changed(6) == [6, 7]


def test_a_window_would_hide_a_prefix():
  model = build(arch('tiny-gpt', vocabulary=40, head='causal', windows=(0, 4)))
  with pytest.raises(ValueError, match=r'config\.objective: .*windows'):
    jax.eval_shape(lambda key: model.apply(model.init(key), BATCH), jax.random.key(0))
