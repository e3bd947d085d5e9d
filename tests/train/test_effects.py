"""Settings that would change nothing under the method of a run."""

import pytest

from tl_jax import config
from tl_jax.train.outline import outline

DECAY = ('optim.layer_decay', '0.8')
NARROW = ('compute.frozen', 'bfloat16')


def outline_of(method, *overrides, spec='configs/transfer.py:task=sentiment'):
  return outline(config.load(f'{spec},method={method}', overrides))


IDLE = [
  (
    'probe',
    DECAY,
    "config.optim.layer_decay: 0.8, but config.method 'probe' trains no",
  ),
  ('full', NARROW, "config.compute.frozen: 'bfloat16' .* config.method 'full' trains"),
]


@pytest.mark.parametrize(('method', 'given', 'message'), IDLE)
def test_a_setting_without_effect_is_refused_with_the_method(method, given, message):
  with pytest.raises(config.ConfigError, match=message):
    outline_of(method, given)


@pytest.mark.parametrize(
  ('method', 'given'), [('lora', DECAY), ('bitfit', DECAY), ('probe', NARROW)]
)
def test_a_setting_that_some_leaves_have_is_taken(method, given):
  assert outline_of(method, given).parts
