"""Greedy decoding and sampling: one loop of fixed shapes that ends when every sequence
has.

>>> from tl_jax.decode.settings import Decoding
>>> from types import SimpleNamespace
>>> # A model that counts; it needs no cache.
>>> count = lambda last: 9.0 * jax.nn.one_hot(last + 1, 9)
>>> decoder = SimpleNamespace(
...     kind='decoder',
...     prefill=lambda params, batch, capacity: (count(batch['tokens'][:, -1]), {}),
...     step=lambda params, cache, tokens: (count(tokens), cache))
>>> settings = Decoding(max_new_tokens=4, eos=7)
>>> batch = {'tokens': jnp.array([[3], [4]]), 'segments': jnp.ones((2, 1), 'int32')}
>>> numbers, live = jnp.arange(2), jnp.ones(2, bool)
>>> state = begin(decoder, None, batch, settings, jax.random.key(0), numbers, live)
>>> advance(decoder, None, state, settings, 4).tokens.tolist()
[[4, 5, 6, 7], [5, 6, 7, 0]]
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tl_jax.decode import caches, processors
from tl_jax.decode.settings import Decoding


class State(NamedTuple):
  """All sequences between two tokens.

  There are sequences = rows * samples; the samples of one row lie side by side.

  step: int32 (). The number of tokens chosen so far.
  tokens: int32 (sequences, max_new_tokens).
  scores: float32 (sequences, max_new_tokens). The log-probability of each token under
    the model itself, before any processing.
  lengths: int32 (sequences,). New tokens, with the end of sequence.
  done: bool (sequences,). Has the sequence ended?
  keys: a key per sequence for its draws, or None where nothing is drawn.
  seen: bool (sequences, vocabulary), or None without a repetition penalty.
  prompt: int32 (sequences, length), or None where no processor asks what came before.
  cache: the cache of the decoder.
  """

  step: Any
  tokens: Any
  scores: Any
  lengths: Any
  done: Any
  keys: Any
  seen: Any
  prompt: Any
  cache: Any


def begin(
  decoder, params, batch: dict, settings: Decoding, key, numbers, live
) -> State:
  """Reads the prompts and chooses the first token of every sequence.

  The draws of a row depend on `key`, the row's number in the whole input (`numbers`,
  (rows,)), the sample and the position, so not on its batch. A row that is not `live`
  (bool (rows,)) only fills the batch and is done at once.
  """
  logits, cache = caches.prefill(decoder, params, batch, settings)
  rows, vocabulary = logits.shape
  samples = settings.samples
  sequences = rows * samples
  tokens, segments = caches.prompt_of(decoder, batch)
  seen = None
  if settings.repetition_penalty != 1:
    seen = caches.repeat(processors.tokens_in(tokens, segments, vocabulary), samples)
  prompt = processors.prompt_history(tokens, segments, settings)
  if prompt is not None:
    prompt = caches.repeat(prompt, samples)
  keys = None
  if settings.method == 'sample':
    keys = _keys_of_sequences(key, numbers, samples)
  shape = (sequences, settings.max_new_tokens)
  state = State(
    step=jnp.zeros((), jnp.int32),
    tokens=jnp.full(shape, settings.pad, jnp.int32),
    scores=jnp.zeros(shape, jnp.float32),
    lengths=jnp.zeros(sequences, jnp.int32),
    done=caches.repeat(~live, samples),
    keys=keys,
    seen=seen,
    prompt=prompt,
    cache=caches.repeat(cache, samples),
  )
  return _choose(state, caches.repeat(logits, samples), settings)


def _keys_of_sequences(key, numbers, samples: int):
  """A key for every sequence, (rows * samples,), from its row's number and its sample.

  The number of the row is folded in rather than its place in the batch, so that a text
  is continued alike in every batch.
  """
  fold = jax.random.fold_in
  of_rows = jax.vmap(fold, (None, 0))(key, numbers)
  fold_samples = jax.vmap(fold, (None, 0))
  of_samples = jax.vmap(fold_samples, (0, None))(of_rows, jnp.arange(samples))
  return of_samples.reshape(-1)


def advance(
  decoder, params, state: State, settings: Decoding, until, ended=None
) -> State:
  """Goes on until every sequence is done or has `until` tokens.

  `until` may be traced. `ended` (bool (sequences,)) names sequences that are done for a
  reason outside of the loop, as a stop string.
  """
  if ended is not None:
    state = state._replace(done=state.done | ended)

  def goes_on(state):
    return (state.step < until) & ~state.done.all()

  def one_step(state):
    last = jax.lax.dynamic_index_in_dim(state.tokens, state.step - 1, 1, keepdims=False)
    logits, cache = decoder.step(params, state.cache, last)
    return _choose(state._replace(cache=cache), logits.astype(jnp.float32), settings)

  return jax.lax.while_loop(goes_on, one_step, state)


def _choose(state: State, logits, settings: Decoding) -> State:
  """The state with one more token per sequence; a sequence that is done gets a pad.

  logits: float32 (sequences, vocabulary).
  """
  step = state.step
  history = None
  if state.prompt is not None:
    history = jnp.concatenate([state.prompt, state.tokens], 1)
  processed = processors.process(logits, state.seen, step, settings, history)

  if state.keys is None:
    chosen = processors.likeliest(processed)
  else:
    # The key of a draw is that of the sequence and the position, however the loop was
    # cut into pieces.
    keys = jax.vmap(jax.random.fold_in, (0, None))(state.keys, step)
    warped = processors.warp(processed, settings)
    chosen = jax.vmap(jax.random.categorical)(keys, warped)
  chosen = jnp.where(state.done, settings.pad, chosen).astype(jnp.int32)

  # The score is the model's own: of the logits before they were processed.
  log_probabilities = jax.nn.log_softmax(logits)
  scores = jnp.take_along_axis(log_probabilities, chosen[:, None], -1)
  scores = scores[:, 0]
  scores = jnp.where(state.done, 0.0, scores)
  seen = state.seen
  if seen is not None:
    seen = seen | jax.nn.one_hot(chosen, seen.shape[-1], dtype=bool)
  put = jax.lax.dynamic_update_index_in_dim
  tokens = put(state.tokens, chosen, step, 1)
  all_scores = put(state.scores, scores, step, 1)
  # An end of sequence counts, the pads after it do not.
  lengths = state.lengths + ~state.done
  done = state.done | processors.ends(chosen, settings.eos)
  return state._replace(
    step=step + 1,
    tokens=tokens,
    scores=all_scores,
    lengths=lengths,
    done=done,
    seen=seen,
  )
