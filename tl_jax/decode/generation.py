"""From a batch of prompts to sequences of tokens, in one compiled program.

>>> import collections
>>> Decoder = collections.namedtuple('Decoder', 'prefill step kind')
>>> # A model that counts; it needs no cache.
>>> count = lambda last: 9.0 * jax.nn.one_hot(last + 1, 9)
>>> read = lambda params, batch, capacity: (count(batch['tokens'][:, -1]), {})
>>> step = lambda params, cache, token: (count(token), cache)
>>> decoder = Decoder(read, step, 'decoder')
>>> batch = {'tokens': jnp.array([[3], [4]]), 'segments': jnp.ones((2, 1), 'int32')}
>>> generate(decoder, None, batch, Decoding(max_new_tokens=4, eos=7)).tokens.tolist()
[[[4, 5, 6, 7]], [[5, 6, 7, 0]]]
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from tl_jax import rng
from tl_jax.config import ConfigError
from tl_jax.decode import beams, caches, loop
from tl_jax.decode.beams import Generated
from tl_jax.decode.settings import Decoding


def generate(
  decoder, params, batch: dict, settings: Decoding, *, row_offset=0
) -> Generated:
  """Decodes every row of a batch.

  `batch` holds tokens and segments (rows, length), of an encoder-decoder also
  decoder_tokens and decoder_segments. Segment 0 is padding, on either side.
  `row_offset` is the number of the first row in the whole input. The draws of a row
  depend on its number, the seed and the position, and not on the batch.

  A program is compiled for every decoder, shape and settings without their seed. The
  decoder is compared by value: build it once. The function also works inside a jit of
  the caller's.
  Errors: ConfigError for stop strings (see continue_texts) and for ids outside the
  vocabulary; ValueError for the batch.
  """
  if settings.stop:
    raise ConfigError(
      'stop: generate sees no text; continue_texts cuts at stop strings'
    )
  tokens, _ = caches.prompt_of(decoder, batch)
  rows = tokens.shape[0]
  numbers = row_offset + jnp.arange(rows)
  live = jnp.ones(rows, bool)
  return run(
    decoder,
    params,
    batch,
    programmed(settings),
    key_of(settings),
    numbers,
    live,
  )


def programmed(settings: Decoding) -> Decoding:
  """The settings without what a compiled program need not know.

  Settings are static to jit: a seed among them would compile a program for every seed.
  """
  return dataclasses.replace(settings, seed=0, stop=(), start=())


def key_of(settings: Decoding):
  """The key that all draws of a decoding come from."""
  return rng.stream(settings.seed, 'decode')


@functools.partial(jax.jit, static_argnames=('decoder', 'settings'))
def run(decoder, params, batch, settings, key, numbers, live) -> Generated:
  """`generate` as a compiled program.

  numbers: int32 (rows,), the rows' numbers in the whole input. live: bool (rows,); a
  row that is not live only fills the batch.
  """
  if settings.method == 'beam':
    return beams.search(decoder, params, batch, settings, live)
  state = loop.begin(decoder, params, batch, settings, key, numbers, live)
  state = loop.advance(decoder, params, state, settings, settings.max_new_tokens)
  # The loop knows sequences only; here they are sorted by their prompts.
  shape = (live.shape[0], settings.samples)
  tokens = state.tokens.reshape(*shape, -1)
  lengths = state.lengths.reshape(shape)
  scores = state.scores.sum(-1).reshape(shape)
  return Generated(tokens, lengths, scores)


# The same loop in pieces, for a host that looks at the text in between.
begin = jax.jit(loop.begin, static_argnames=('decoder', 'settings'))
advance = jax.jit(loop.advance, static_argnames=('decoder', 'settings'))
