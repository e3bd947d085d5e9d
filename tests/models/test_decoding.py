"""Reading one token at a time gives what reading them all at once gives."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import decode, models
from tl_jax.decode import generation

SMALL = dict(vocabulary=61, head='causal', layers=3, width=32, heads=4, mlp=48)
ARCHS = {
  'gpt2': models.arch('gpt2', **SMALL),
  'gpt3': models.arch('gpt3-small', **SMALL | dict(windows=(0, 3), head_dim=12)),
  'opt-350m': models.arch('opt-350m', **SMALL | dict(embedding_width=20)),
  'llama': models.arch('llama3.2-1b', **SMALL | dict(kv_heads=2)),
  'gemma2': models.arch(
    'gemma2-2b', **SMALL | dict(kv_heads=2, windows=(4, 0), head_dim=10)
  ),
  'gemma3': models.arch(
    'gemma3-1b', **SMALL | dict(kv_heads=2, windows=(4, 4, 0), head_dim=10)
  ),
  't5': models.arch('t5-small', **SMALL | dict(decoder_layers=2, head_dim=10)),
  'bart': models.arch('bart-base', **SMALL),
}
LENGTH, PROMPT = 11, 5


def made(arch):
  params = models.build(arch).init(jax.random.key(1))
  return jax.tree.map(lambda x: 4 * x if x.ndim > 1 else x + 0.1, params)


def batch_of(arch, length):
  """Two rows, the second padded on the left, cut to a length; the source of an
  encoder-decoder padded on the right.
  """
  draw = np.random.default_rng(0)
  tokens = jnp.array(draw.integers(0, 61, (2, LENGTH)), jnp.int32)[:, :length]
  segments = jnp.array([[1] * LENGTH, [0] * 3 + [1] * (LENGTH - 3)], jnp.int32)[
    :, :length
  ]
  if arch.kind == 'decoder':
    return dict(tokens=tokens, segments=segments)
  source = jnp.array(draw.integers(0, 61, (2, 7)), jnp.int32)
  return dict(
    tokens=source,
    segments=jnp.array([[1] * 7, [1] * 5 + [0] * 2], jnp.int32),
    decoder_tokens=tokens,
    decoder_segments=segments,
  )


# Sequences of gpt2 and t5 that were read in this way are compared with those of
# transformers.
@pytest.mark.parametrize(
  'name',
  [
    pytest.param(name, marks=[] if name == 'gemma2' else pytest.mark.slow)
    for name in ARCHS
  ],
)
def test_cached_reading_equals_the_full_forward_at_every_position(name):
  arch = ARCHS[name]
  params, whole = made(arch), batch_of(arch, LENGTH)
  full = models.build(arch).apply(params, whole).logits
  tokens = whole['tokens'] if arch.kind == 'decoder' else whole['decoder_tokens']
  reader = models.decoder(arch)
  logits, cache = reader.prefill(params, batch_of(arch, PROMPT), LENGTH)
  step = jax.jit(reader.step)
  for position in range(PROMPT, LENGTH):
    assert jnp.abs(logits - full[:, position - 1]).max() < 1e-4
    logits, cache = step(params, cache, tokens[:, position])
  assert jnp.abs(logits - full[:, -1]).max() < 1e-4
  assert full.std() > 0.1


def test_one_architecture_is_compiled_once():
  arch = ARCHS['gpt2']
  params, batch = made(arch), batch_of(arch, PROMPT)
  settings = decode.Decoding(max_new_tokens=2)
  decode.generate(models.decoder(arch), params, batch, settings)
  before = generation.run._cache_size()
  for compute in (None, models.Compute()):
    again = models.decoder(dataclasses.replace(arch), compute)
    decode.generate(again, params, batch, settings)
    assert again.step is models.decoder(arch).step
  assert generation.run._cache_size() == before
  assert models.decoder(arch, models.Compute(dtype='bfloat16')).step is not again.step


def test_a_model_that_writes_nothing_is_refused():
  with pytest.raises(ValueError, match='encoder'):
    models.decoder(models.arch('tiny'))
  with pytest.raises(ValueError, match='classifier'):
    models.decoder(models.arch('tiny-gpt', head='classifier'))


def test_a_prompt_longer_than_the_cache_is_refused():
  arch = ARCHS['gpt2']
  with pytest.raises(ValueError, match='capacity'):
    models.decoder(arch).prefill(made(arch), batch_of(arch, 5), 4)
