"""Greedy decoding and sampling: one loop of fixed shapes that ends when every sequence
has.

>>> from tl_jax.decode.settings import Decoding
>>> from types import SimpleNamespace
>>> count = lambda last: 9.0 * jax.nn.one_hot(last + 1, 9)        # a model that counts; it needs no cache
>>> decoder = SimpleNamespace(
...     kind='decoder', prefill=lambda params, batch, capacity: (count(batch['tokens'][:, -1]), {}),
...     step=lambda params, cache, tokens: (count(tokens), cache))
>>> settings = Decoding(max_new_tokens=4, eos=7)
>>> batch = {'tokens': jnp.array([[3], [4]]), 'segments': jnp.ones((2, 1), 'int32')}
>>> state = begin(decoder, None, batch, settings, jax.random.key(0), jnp.arange(2), jnp.ones(2, bool))
>>> advance(decoder, None, state, settings, 4).tokens.tolist()
[[4, 5, 6, 7], [5, 6, 7, 0]]
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tl_jax.decode import caches, processors
from tl_jax.decode.settings import Decoding


class State(NamedTuple):
  """Between two tokens; sequences = rows * samples, the samples of one row side by
  side.

  step: how many tokens every sequence has been through; tokens int32 and scores float32
  (sequences, max_new_tokens), the score of a token being its log-probability under the
  model itself; lengths (sequences,); done: has it ended?;
  keys: of the draws, a key per sequence, or None; seen (sequences, vocabulary), or None
  without a repetition penalty;
  prompt: int32 (sequences, length), or None where no processor asks what came before.
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
  (rows, vocabulary), many = logits.shape, settings.samples
  seen, keys = None, None
  tokens, segments = caches.prompt_of(decoder, batch)
  if settings.repetition_penalty != 1:
    seen = caches.repeat(processors.tokens_in(tokens, segments, vocabulary), many)
  prompt = processors.prompt_history(tokens, segments, settings)
  if settings.method == 'sample':
    of_rows = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
    of_samples = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None))(
      of_rows, jnp.arange(many)
    )
    keys = of_samples.reshape(rows * many)
  state = State(
    step=jnp.zeros((), jnp.int32),
    tokens=jnp.full((rows * many, settings.max_new_tokens), settings.pad, jnp.int32),
    scores=jnp.zeros((rows * many, settings.max_new_tokens), jnp.float32),
    lengths=jnp.zeros(rows * many, jnp.int32),
    done=caches.repeat(~live, many),
    keys=keys,
    seen=seen,
    prompt=None if prompt is None else caches.repeat(prompt, many),
    cache=caches.repeat(cache, many),
  )
  return _choose(state, caches.repeat(logits, many), settings)


def advance(
  decoder, params, state: State, settings: Decoding, until, ended=None
) -> State:
  """Goes on until every sequence has `until` tokens (may be traced) or is done; those
  that `ended` says are.
  """
  if ended is not None:
    state = state._replace(done=state.done | ended)

  def going(state):
    return (state.step < until) & ~state.done.all()

  def one(state):
    last = jax.lax.dynamic_index_in_dim(state.tokens, state.step - 1, 1, keepdims=False)
    logits, cache = decoder.step(params, state.cache, last)
    return _choose(state._replace(cache=cache), logits.astype(jnp.float32), settings)

  return jax.lax.while_loop(going, one, state)


def _choose(state: State, logits, settings: Decoding) -> State:
  """The state with one more token per sequence; a sequence that is done gets a pad."""
  step = state.step
  history = (
    None if state.prompt is None else jnp.concatenate([state.prompt, state.tokens], 1)
  )
  processed = processors.process(logits, state.seen, step, settings, history)
  if state.keys is None:
    chosen = jnp.argmax(processed, -1)
  else:
    keys = jax.vmap(jax.random.fold_in, (0, None))(state.keys, step)
    chosen = jax.vmap(jax.random.categorical)(
      keys, processors.warp(processed, settings)
    )
  chosen = jnp.where(state.done, settings.pad, chosen).astype(jnp.int32)
  scores = jnp.take_along_axis(jax.nn.log_softmax(logits), chosen[:, None], -1)[:, 0]
  put = lambda array, column: jax.lax.dynamic_update_index_in_dim(
    array, column, step, 1
  )
  seen = state.seen
  if seen is not None:
    seen = seen | jax.nn.one_hot(chosen, seen.shape[-1], dtype=bool)
  return state._replace(
    step=step + 1,
    tokens=put(state.tokens, chosen),
    scores=put(state.scores, jnp.where(state.done, 0.0, scores)),
    lengths=state.lengths + ~state.done,
    done=state.done | processors.ends(chosen, settings.eos),
    seen=seen,
  )
