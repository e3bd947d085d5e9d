"""A batch whose caches no memory here can hold is refused by the setting that asks."""

import jax
import jax.numpy as jnp
import pytest

from tl_jax import models, parallel
from tl_jax.config import ConfigError
from tl_jax.decode import Decoding, continue_texts, memory
from tl_jax.parallel import Capacity
from tl_jax.parallel.mesh import AXES


@pytest.fixture(autouse=True)
def machine(monkeypatch):
  """A machine with 1 GiB; a test may give it another size, or none that is known."""

  def of(size, **axes):
    found = Capacity(size, 'this machine', dict.fromkeys(AXES, 1) | axes)
    monkeypatch.setattr(parallel, 'capacity_for', lambda shape: size and found)

  of(2**30)
  return of


@pytest.fixture(scope='module')
def decoder():
  # Rotary: no table of positions limits the new tokens.
  return models.decoder(models.arch('tiny-gpt', positions='rotary', head='causal'))


@pytest.mark.parametrize(
  'settings, rows, named',
  [
    (Decoding(max_new_tokens=10**9), 1, 'max_new_tokens: 1000000000'),
    (Decoding(max_new_tokens=2**31 - 1), 1, 'max_new_tokens: 2147483647'),
    (Decoding('beam', beams=10**7), 1, 'beams: 10000000'),
    (Decoding('sample', samples=10**7), 1, 'samples: 10000000'),
    (Decoding(), 2**20, 'batch: 1048576'),
  ],
)
def test_the_setting_that_asks_for_too_much_is_named(decoder, settings, rows, named):
  with pytest.raises(ConfigError) as caught:
    memory.require_memory(decoder, {}, settings, rows, columns=4)
  said = str(caught.value)
  assert said.startswith(f'{named}: decoding {rows} at once needs at least ')
  assert 'but this machine has 1.0 GiB; nearest: ' in said
  nearest = int(said.split('nearest: ')[1].split()[0])
  name = named.split(':')[0]
  if name != 'batch':
    method = settings.method
    fitting = Decoding(method, **{name: nearest})
    memory.require_memory(decoder, {}, fitting, rows, columns=4)


def test_what_is_not_known_is_not_refused(decoder, machine):
  machine(None)
  memory.require_memory(decoder, {}, Decoding(max_new_tokens=10**9), 1, columns=4)


def test_devices_share_the_rows_that_are_placed(decoder, machine):
  machine(2**30, data=64)
  memory.require_memory(decoder, {}, Decoding(), 2**18, columns=4, is_spread=True)
  with pytest.raises(ConfigError, match='^batch: '):
    memory.require_memory(decoder, {}, Decoding(), 2**18, columns=4)


def test_parameters_count(decoder, machine):
  params = {'kernel': jnp.ones((256, 256))}
  machine(2**18 + 2**17)
  memory.require_memory(decoder, params, Decoding(), 1, columns=4)
  machine(2**18 - 1)
  with pytest.raises(ConfigError):
    memory.require_memory(decoder, params, Decoding(), 1, columns=4)


@pytest.mark.parametrize('family', ['tiny-gpt', 'tiny-t5'])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_a_position_takes_what_the_cache_has_for_it(family, dtype):
  arch = models.arch(family, head='causal', vocabulary=20, layers=1)
  made = models.decoder(arch, models.Compute(dtype=dtype))
  tokens = jnp.ones((1, 3), jnp.int32)
  batch = dict(tokens=tokens, segments=tokens)
  batch |= dict(decoder_tokens=tokens, decoder_segments=tokens)

  def size_with(capacity):
    def prefill(key):
      return made.prefill(models.build(arch).init(key), batch, capacity)[1]

    cache = jax.tree.leaves(jax.eval_shape(prefill, jax.random.key(0)))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in cache)

  assert made.position_bytes == size_with(9) - size_with(8)


class Letters:
  prefix = ()

  def encode_batch(self, texts, *, special):
    return [[1] * len(text) for text in texts]


def test_texts_are_refused_before_the_first(decoder):
  settings = Decoding(max_new_tokens=10**9)
  with pytest.raises(ConfigError, match='^max_new_tokens: '):
    continue_texts(decoder, {}, Letters(), ['a'], settings)


def test_rows_are_those_of_the_texts_that_there_are(decoder, machine):
  """A batch larger than the input is none; one of long texts is refused before any is
  decoded.
  """
  machine(2**20)
  texts = continue_texts(decoder, {}, Letters(), ['a' * 2**12], Decoding(), batch=2**20)
  with pytest.raises(ConfigError, match='decoding 1 at once'):
    next(texts)
