"""From a batch of prompts to sequences of tokens, in one compiled program.

>>> import collections
>>> Decoder = collections.namedtuple('Decoder', 'prefill step kind')
>>> count = lambda last: 9.0 * jax.nn.one_hot(last + 1, 9)        # a model that counts; it needs no cache
>>> decoder = Decoder(lambda params, batch, capacity: (count(batch['tokens'][:, -1]), {}),
...                   lambda params, cache, tokens: (count(tokens), cache), 'decoder')
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
  """Decodes every row of a batch: Generated(tokens (rows, samples, max_new_tokens),
  lengths, scores).

  `batch` holds tokens and segments (rows, length), of an encoder-decoder also
  decoder_tokens and decoder_segments; segment 0 is padding, on either side.
  `row_offset` is the number of the first row in the whole input: a row's draws depend
  on it, the seed and the position, whatever the batch. A program is compiled for every
  decoder (one value, not one that is built anew), settings but their seed, and shape;
  it also works inside a jit of the caller's.
  Errors: ConfigError for stop strings (see continue_texts) and ids outside the
  vocabulary; ValueError for the batch.
  """
  if settings.stop:
    raise ConfigError(
      'stop: generate sees no text; continue_texts cuts at stop strings'
    )
  tokens, _ = caches.prompt_of(decoder, batch)
  rows = tokens.shape[0]
  return run(
    decoder,
    params,
    batch,
    programmed(settings),
    key_of(settings),
    row_offset + jnp.arange(rows),
    jnp.ones(rows, bool),
  )


def programmed(settings: Decoding) -> Decoding:
  """The settings without what a compiled program need not know."""
  return dataclasses.replace(settings, seed=0, stop=(), start=())


def key_of(settings: Decoding):
  """The key of all draws."""
  return rng.stream(settings.seed, 'decode')


@functools.partial(jax.jit, static_argnames=('decoder', 'settings'))
def run(decoder, params, batch, settings, key, numbers, live) -> Generated:
  """`generate` with the rows' numbers, and with rows that are not live and only fill
  the batch.
  """
  if settings.method == 'beam':
    return beams.search(decoder, params, batch, settings, live)
  state = loop.begin(decoder, params, batch, settings, key, numbers, live)
  state = loop.advance(decoder, params, state, settings, settings.max_new_tokens)
  shape = live.shape[0], settings.samples
  return Generated(
    state.tokens.reshape(*shape, -1),
    state.lengths.reshape(shape),
    state.scores.sum(-1).reshape(shape),
  )


# The same loop in pieces, for a host that looks at the text in between.
begin = jax.jit(loop.begin, static_argnames=('decoder', 'settings'))
advance = jax.jit(loop.advance, static_argnames=('decoder', 'settings'))
