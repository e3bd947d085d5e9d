"""Beam search, equal to that of transformers 5 in what it returns; one loop of fixed
shapes.

>>> from types import SimpleNamespace
>>> chain = jnp.log(jnp.array([[.1, .5, .4], [.4, .3, .3], [.9, .05, .05]]))       # the next token, by the last
>>> decoder = SimpleNamespace(
...     kind='decoder', prefill=lambda params, batch, capacity: (chain[batch['tokens'][:, -1]], {}),
...     step=lambda params, cache, tokens: (chain[tokens], cache))
>>> batch = {'tokens': jnp.array([[0]]), 'segments': jnp.array([[1]])}
>>> found = search(decoder, None, batch, Decoding('beam', max_new_tokens=2, beams=2), jnp.array([True]))
>>> found.tokens[0, 0].tolist(), round(float(jnp.exp(2 * found.scores[0, 0])), 3)       # greedy: [1, 0], 0.2
([2, 0], 0.36)
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tl_jax.config import ConfigError
from tl_jax.decode import caches, processors
from tl_jax.decode.settings import Decoding, penalties

# A log-probability that stands for impossible; finite, because transformers adds to it.
IMPOSSIBLE = -1e9


class Generated(NamedTuple):
  """What `generate` returns, sequences side by side with their prompt's other samples.

  tokens: int32 (rows, samples, max_new_tokens), pad after the end. lengths: int32
  (rows, samples), new tokens with the end of sequence, if there is one. scores: float32
  (rows, samples); of beam search the sum of log-probabilities over the length penalty,
  best first, else the sum of log-probabilities under the model itself, before
  temperature and other processing. A beam that found no sequence has length 0 and score
  -1e9.
  """

  tokens: Any
  lengths: Any
  scores: Any


class State(NamedTuple):
  """Between two tokens: the sequences that go on, best first, and the best that have
  ended.

  step: tokens so far; tokens (rows, beams, max_new_tokens) and scores (rows, beams),
  sums of log-probabilities, of those that go on; parents (rows, beams): whose cache
  each goes on from; ended: a Generated (rows, beams, ...), with length 0 for a free
  place; open (rows,): can what has ended still become better?; seen (rows, beams,
  vocabulary), or None without a repetition penalty; prompt: int32 (rows, beams,
  length), or None where no processor asks what came before.
  """

  step: Any
  tokens: Any
  scores: Any
  parents: Any
  ended: Generated
  open: Any
  seen: Any
  prompt: Any
  cache: Any


def search(decoder, params, batch: dict, settings: Decoding, live) -> Generated:
  """The best sequences of each row; a row that is not `live` (bool (rows,)) only fills
  the batch.

  Errors: ConfigError where the vocabulary is too small to keep the beams going.
  """
  logits, cache = caches.prefill(decoder, params, batch, settings)
  (rows, vocabulary), beams, most = (
    logits.shape,
    settings.beams,
    settings.max_new_tokens,
  )
  if vocabulary < _share(settings):
    raise ConfigError(
      f'beams: a vocabulary of {vocabulary} is too small for beam search with {len(settings.eos)} '
      f'ends of sequence; it needs {_share(settings)}'
    )
  side_by_side = lambda array: jnp.repeat(array[:, None], beams, axis=1)
  tokens, segments = caches.prompt_of(decoder, batch)
  seen = None
  if settings.repetition_penalty != 1:
    seen = side_by_side(processors.tokens_in(tokens, segments, vocabulary))
  prompt = processors.prompt_history(tokens, segments, settings)
  empty = jnp.full((rows, beams, most), settings.pad, jnp.int32)
  state = State(
    step=jnp.zeros((), jnp.int32),
    tokens=empty,
    # All beams are the same prompt: only the first may be gone on from.
    scores=jnp.full((rows, beams), IMPOSSIBLE, jnp.float32).at[:, 0].set(0.0),
    parents=jnp.zeros((rows, beams), jnp.int32),
    ended=Generated(
      empty, jnp.zeros((rows, beams), jnp.int32), jnp.full((rows, beams), -jnp.inf)
    ),
    open=live,
    seen=seen,
    prompt=None if prompt is None else side_by_side(prompt),
    cache=caches.repeat(cache, beams),
  )
  state = _choose(
    state, jnp.broadcast_to(logits[:, None], (rows, beams, vocabulary)), settings
  )

  def going(state):
    return (state.step < most) & state.open.any()

  def one(state):
    last = jax.lax.dynamic_index_in_dim(state.tokens, state.step - 1, 2, keepdims=False)
    cache = caches.reorder(state.cache, state.parents)
    logits, cache = decoder.step(params, cache, last.reshape(-1))
    logits = logits.astype(jnp.float32).reshape(rows, beams, vocabulary)
    return _choose(state._replace(cache=cache), logits, settings)

  tokens, lengths, scores = (
    part[:, : settings.samples] for part in jax.lax.while_loop(going, one, state).ended
  )
  return Generated(tokens, lengths, jnp.where(lengths > 0, scores, IMPOSSIBLE))


def _share(settings: Decoding) -> int:
  """How many candidates are kept per beam: enough that as many as the beams do not end
  the sequence.
  """
  return max(2, 1 + len(settings.eos))


def _choose(state: State, logits, settings: Decoding) -> State:
  """The state after one more token."""
  rows, beams, vocabulary = logits.shape
  step, kept = state.step, _share(settings) * beams
  history = (
    None if state.prompt is None else jnp.concatenate([state.prompt, state.tokens], -1)
  )
  found = processors.process(
    jax.nn.log_softmax(logits), state.seen, step, settings, history
  )
  found = (found + state.scores[..., None]).reshape(rows, beams * vocabulary)
  scores, places = jax.lax.top_k(found, kept)
  parents, chosen = places // vocabulary, (places % vocabulary).astype(jnp.int32)
  tokens = caches.pick(state.tokens, parents)
  tokens = jax.lax.dynamic_update_index_in_dim(tokens, chosen, step, 2)
  ends = processors.ends(chosen, settings.eos) | (step + 1 >= settings.max_new_tokens)

  going, order = jax.lax.top_k(jnp.where(ends, scores + IMPOSSIBLE, scores), beams)
  seen, parents = state.seen, jnp.take_along_axis(parents, order, -1)
  if seen is not None:
    last = jnp.take_along_axis(chosen, order, -1)
    seen = caches.pick(seen, parents) | jax.nn.one_hot(last, vocabulary, dtype=bool)
  ended = _keep_best(state, tokens, scores, ends, settings)
  state = state._replace(
    step=step + 1,
    tokens=caches.pick(tokens, order),
    scores=going,
    parents=parents,
    ended=ended,
    seen=seen,
  )
  return state._replace(open=state.open & _can_improve(state, settings))


def _keep_best(state: State, tokens, scores, ends, settings: Decoding) -> Generated:
  """The best of what had ended and of those candidates that end now and are among the
  first `beams`.
  """
  beams = settings.beams
  now = (
    ends
    & (jnp.arange(ends.shape[1]) < beams)
    & state.open[:, None]
    & (scores > IMPOSSIBLE / 2)
  )
  divisor = jnp.asarray(penalties(settings))[state.step + 1]
  candidates = Generated(
    tokens,
    jnp.where(now, state.step + 1, 0),
    jnp.where(now, scores / divisor, -jnp.inf),
  )
  merged = Generated(
    *(jnp.concatenate(pair, 1) for pair in zip(state.ended, candidates, strict=True))
  )
  best, order = jax.lax.top_k(merged.scores, beams)
  return Generated(
    caches.pick(merged.tokens, order),
    jnp.take_along_axis(merged.lengths, order, -1),
    best,
  )


def _can_improve(state: State, settings: Decoding):
  """bool (rows,): has a place no sequence yet, or could a sequence that goes on take
  one?

  Where it could is a guess: that its score stays as it is, at its present length or,
  with early_stopping 'never' and a penalty that favours length, at the greatest. With
  early_stopping True, full places are enough to stop.
  """
  longest = settings.early_stopping == 'never' and settings.length_penalty > 0
  divisor = jnp.asarray(penalties(settings))[
    settings.max_new_tokens if longest else state.step
  ]
  better = state.scores[:, 0] / divisor > state.ended.scores.min(-1)
  full = (state.ended.lengths > 0).all(-1)
  return better & ~full if settings.early_stopping is True else better
