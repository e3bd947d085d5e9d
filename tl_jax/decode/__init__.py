"""Decoding: greedy, sampling and beam search with any model that can go on from a
cache.

>>> import collections, jax, jax.numpy as jnp
>>> Decoder = collections.namedtuple('Decoder', 'prefill step kind')
>>> # A model that counts; it needs no cache.
>>> count = lambda last: 9.0 * jax.nn.one_hot(last + 1, 9)
>>> read = lambda params, batch, capacity: (count(batch['tokens'][:, -1]), {})
>>> step = lambda params, cache, token: (count(token), cache)
>>> decoder = Decoder(read, step, 'decoder')
>>> batch = {'tokens': jnp.array([[3]]), 'segments': jnp.array([[1]])}
>>> generate(decoder, None, batch, Decoding(max_new_tokens=4)).tokens.tolist()
[[[4, 5, 6, 7]]]
"""

from tl_jax.decode.beams import Generated
from tl_jax.decode.generation import generate
from tl_jax.decode.settings import Decoding
from tl_jax.decode.text import Continuation, continue_texts, ids_of

__all__ = [
  'Continuation',
  'Decoding',
  'Generated',
  'continue_texts',
  'generate',
  'ids_of',
]
