"""A language model that costs nothing: its logits are a hash of the whole prefix, so
any mistake in a cache shows.
"""

import types
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest


class Decoder(NamedTuple):
  prefill: Any
  step: Any
  kind: str


def mix(x):
  x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
  x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
  return x ^ (x >> 16)


def absorb(state, tokens):
  return mix(state * np.uint32(31) + tokens + np.uint32(1))


class Hashing(NamedTuple):
  """The same function twice: `logits` in numpy of a list of ids, `decoder` in jax with
  a cache.
  """

  vocabulary: int = 12
  spread: float = 5.0  # between the largest and the smallest logit, about
  seed: int = 0
  favoured: tuple = ()  # (id, bonus) pairs

  def bonus(self):
    bonus = np.zeros(self.vocabulary, np.float32)
    for token, more in self.favoured:
      bonus[token] += np.float32(more)
    return bonus

  def score(self, state):
    words = np.arange(self.vocabulary).astype(np.uint32) * np.uint32(2654435761)
    found = mix(state[..., None] ^ words) >> 8
    return found.astype(np.float32) * np.float32(self.spread / 2**24) + self.bonus()

  def logits(self, ids, source=None):
    """float32 (vocabulary,) after these ids, given the ids of a source."""
    state = np.array([self.seed], np.uint32)
    if source is not None:
      for token in source:
        state = absorb(state, np.array([token], np.uint32))
      memory, state = state, np.array([self.seed], np.uint32)
    for token in ids:
      state = absorb(state, np.array([token], np.uint32))
    return self.score(state if source is None else mix(state ^ memory))[0]

  def read(self, tokens, segments):
    def one(state, column):
      token, segment = column
      return jnp.where(
        segment > 0, absorb(state, token.astype(jnp.uint32)), state
      ), None

    start = jnp.full(tokens.shape[:1], self.seed, jnp.uint32)
    return jax.lax.scan(one, start, (tokens.T, segments.T))[0]

  def prefill(self, params, batch, capacity):
    prefix = 'decoder_' if 'decoder_tokens' in batch else ''
    state = self.read(batch[prefix + 'tokens'], batch[prefix + 'segments'])
    tokens = batch[prefix + 'tokens']
    history = (
      jnp.zeros((tokens.shape[0], capacity), jnp.int32)
      .at[:, : tokens.shape[1]]
      .set(tokens)
    )
    cache = {
      'state': state,
      'layers': {'history': history},
      'length': jnp.asarray(tokens.shape[1], jnp.int32),
    }
    if prefix:
      cache['memory'] = {'source': self.read(batch['tokens'], batch['segments'])}
    return self._logits(cache), cache

  def step(self, params, cache, tokens):
    history = jax.lax.dynamic_update_index_in_dim(
      cache['layers']['history'], tokens, cache['length'], 1
    )
    cache = {
      **cache,
      'state': absorb(cache['state'], tokens.astype(jnp.uint32)),
      'layers': {'history': history},
      'length': cache['length'] + 1,
    }
    return self._logits(cache), cache

  def _logits(self, cache):
    state = cache['state']
    return self.score(
      mix(state ^ cache['memory']['source']) if 'memory' in cache else state
    )

  def decoder(self, kind='decoder'):
    return Decoder(self.prefill, self.step, kind)


def lay(prompts, prefix='', length=None, left=True, pad=0):
  """Prompts of several lengths as a batch, padded on one side."""
  length = length or max(map(len, prompts))
  tokens, segments = (
    np.full((len(prompts), length), pad, np.int32),
    np.zeros((len(prompts), length), np.int32),
  )
  for row, ids in enumerate(prompts):
    real = slice(length - len(ids), length) if left else slice(0, len(ids))
    tokens[row, real], segments[row, real] = ids, 1
  return {prefix + 'tokens': tokens, prefix + 'segments': segments}


def log_softmax(logits):
  logits = np.asarray(logits, np.float64)
  return logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())


@pytest.fixture(scope='session')
def toys():
  return types.SimpleNamespace(
    Hashing=Hashing, Decoder=Decoder, lay=lay, log_softmax=log_softmax
  )
