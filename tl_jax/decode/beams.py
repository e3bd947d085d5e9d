"""Beam search, equal to that of transformers 5 in what it returns; one loop of fixed
shapes.

>>> from types import SimpleNamespace
>>> # The chances of the next token, by the last.
>>> chain = jnp.log(jnp.array([[.1, .5, .4], [.4, .3, .3], [.9, .05, .05]]))
>>> decoder = SimpleNamespace(
...     kind='decoder',
...     prefill=lambda params, batch, capacity: (chain[batch['tokens'][:, -1]], {}),
...     step=lambda params, cache, tokens: (chain[tokens], cache))
>>> batch = {'tokens': jnp.array([[0]]), 'segments': jnp.array([[1]])}
>>> settings = Decoding('beam', max_new_tokens=2, beams=2)
>>> found = search(decoder, None, batch, settings, jnp.array([True]))
>>> # Greedy decoding finds [1, 0], with a chance of 0.2.
>>> found.tokens[0, 0].tolist(), round(float(jnp.exp(2 * found.scores[0, 0])), 3)
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
  """The generated sequences; those of one prompt lie side by side.

  tokens: int32 (rows, samples, max_new_tokens), pad after the end.
  lengths: int32 (rows, samples). They count the new tokens and the end of sequence, if
    there is one.
  scores: float32 (rows, samples). Of beam search it is the sum of log-probabilities
    over the length penalty, best first. Else it is the sum of log-probabilities under
    the model itself, before temperature and other processing.

  A beam that found no sequence has length 0 and score -1e9.
  """

  tokens: Any
  lengths: Any
  scores: Any


class State(NamedTuple):
  """The beams of all rows between two tokens, best first.

  step: int32 (). The number of tokens chosen so far.
  tokens: int32 (rows, beams, max_new_tokens) of the sequences that go on.
  scores: float32 (rows, beams). Their sums of log-probabilities.
  parents: int32 (rows, beams). The beam whose cache each of them goes on from.
  ended: Generated (rows, beams, ...). The best sequences that have ended; a free place
    has length 0.
  open: bool (rows,). Can what has ended still become better?
  seen: bool (rows, beams, vocabulary), or None without a repetition penalty.
  prompt: int32 (rows, beams, length), or None where no processor asks what came before.
  cache: the cache of the decoder, rows * beams sequences.
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
  """The best sequences of each row.

  A row that is not `live` (bool (rows,)) only fills the batch; it finds nothing.
  Errors: ConfigError where the vocabulary is too small to keep the beams going.
  """
  logits, cache = caches.prefill(decoder, params, batch, settings)
  state = _begin(decoder, batch, settings, logits, cache, live)
  rows, vocabulary = logits.shape
  beams = settings.beams

  def goes_on(state):
    return (state.step < settings.max_new_tokens) & state.open.any()

  def one_step(state):
    last = jax.lax.dynamic_index_in_dim(state.tokens, state.step - 1, 2, keepdims=False)
    cache = caches.reorder(state.cache, state.parents)
    logits, cache = decoder.step(params, cache, last.reshape(-1))
    logits = logits.astype(jnp.float32).reshape(rows, beams, vocabulary)
    return _choose(state._replace(cache=cache), logits, settings)

  # The first token comes from the prompt's own logits, the same for every beam.
  first = jnp.broadcast_to(logits[:, None], (rows, beams, vocabulary))
  state = _choose(state, first, settings)
  ended = jax.lax.while_loop(goes_on, one_step, state).ended
  best = Generated(*(part[:, : settings.samples] for part in ended))
  found = best.lengths > 0
  return best._replace(scores=jnp.where(found, best.scores, IMPOSSIBLE))


def _begin(decoder, batch, settings: Decoding, logits, cache, live) -> State:
  """The state before the first token, of float32 logits (rows, vocabulary)."""
  rows, vocabulary = logits.shape
  beams = settings.beams
  needed = _candidates_per_beam(settings)
  if vocabulary < needed:
    raise ConfigError(
      f'beams: a vocabulary of {vocabulary} is too small for beam search with '
      f'{len(settings.eos)} ends of sequence; it needs {needed}'
    )
  side_by_side = lambda array: jnp.repeat(array[:, None], beams, axis=1)
  tokens, segments = caches.prompt_of(decoder, batch)
  seen = None
  if settings.repetition_penalty != 1:
    seen = side_by_side(processors.tokens_in(tokens, segments, vocabulary))
  prompt = processors.prompt_history(tokens, segments, settings)
  if prompt is not None:
    prompt = side_by_side(prompt)
  empty = jnp.full((rows, beams, settings.max_new_tokens), settings.pad, jnp.int32)
  lengths = jnp.zeros((rows, beams), jnp.int32)
  worst = jnp.full((rows, beams), -jnp.inf)
  none_ended = Generated(empty, lengths, worst)
  # All beams are the same prompt. If more than the first were possible, the beams would
  # all find the same sequence.
  scores = jnp.full((rows, beams), IMPOSSIBLE, jnp.float32)
  scores = scores.at[:, 0].set(0.0)
  return State(
    step=jnp.zeros((), jnp.int32),
    tokens=empty,
    scores=scores,
    parents=jnp.zeros((rows, beams), jnp.int32),
    ended=none_ended,
    open=live,
    seen=seen,
    prompt=prompt,
    cache=caches.repeat(cache, beams),
  )


def _candidates_per_beam(settings: Decoding) -> int:
  """How many candidates are kept per beam.

  Each beam can end in as many ways as there are ends of sequence. With one candidate
  more per beam, as many as the beams do not end.
  """
  return max(2, 1 + len(settings.eos))


def _choose(state: State, logits, settings: Decoding) -> State:
  """The state after one more token, of float32 logits (rows, beams, vocabulary)."""
  rows, beams, vocabulary = logits.shape
  step = state.step

  # The candidates: the best continuations of all beams of a row together.
  history = None
  if state.prompt is not None:
    history = jnp.concatenate([state.prompt, state.tokens], -1)
  log_probabilities = jax.nn.log_softmax(logits)
  processed = processors.process(log_probabilities, state.seen, step, settings, history)
  totals = processed + state.scores[..., None]
  totals = totals.reshape(rows, beams * vocabulary)
  candidates = _candidates_per_beam(settings) * beams
  scores, places = jax.lax.top_k(totals, candidates)
  parents = places // vocabulary
  chosen = (places % vocabulary).astype(jnp.int32)
  tokens = caches.pick(state.tokens, parents)
  tokens = jax.lax.dynamic_update_index_in_dim(tokens, chosen, step, 2)
  is_last = step + 1 >= settings.max_new_tokens
  ends = processors.ends(chosen, settings.eos) | is_last

  # The beams of the next step: the best candidates that do not end. At the last step
  # all end; adding keeps their order, as transformers does.
  going_scores = jnp.where(ends, scores + IMPOSSIBLE, scores)
  best_scores, order = jax.lax.top_k(going_scores, beams)
  parents = jnp.take_along_axis(parents, order, -1)
  seen = state.seen
  if seen is not None:
    last = jnp.take_along_axis(chosen, order, -1)
    newest = jax.nn.one_hot(last, vocabulary, dtype=bool)
    seen = caches.pick(seen, parents) | newest
  ended = _keep_best(state, tokens, scores, ends, settings)
  state = state._replace(
    step=step + 1,
    tokens=caches.pick(tokens, order),
    scores=best_scores,
    parents=parents,
    ended=ended,
    seen=seen,
  )
  return state._replace(open=state.open & _can_improve(state, settings))


def _keep_best(state: State, tokens, scores, ends, settings: Decoding) -> Generated:
  """The best sequences among those that had ended and the candidates that end now.

  tokens: int32 (rows, candidates, max_new_tokens); scores and ends: (rows, candidates),
  best first. `state` is that before this token.
  """
  beams = settings.beams
  # A candidate beyond the first `beams` is there to go on, not to end.
  among_the_first = jnp.arange(ends.shape[1]) < beams
  # What goes on from an impossible score is no sequence.
  is_possible = scores > IMPOSSIBLE / 2
  ends_now = ends & among_the_first & state.open[:, None] & is_possible
  length = state.step + 1
  divisor = jnp.asarray(penalties(settings))[length]
  lengths = jnp.where(ends_now, length, 0)
  ended_scores = jnp.where(ends_now, scores / divisor, -jnp.inf)
  candidates = Generated(tokens, lengths, ended_scores)
  pairs = zip(state.ended, candidates, strict=True)
  merged = Generated(*(jnp.concatenate(pair, 1) for pair in pairs))
  best, order = jax.lax.top_k(merged.scores, beams)
  tokens = caches.pick(merged.tokens, order)
  lengths = jnp.take_along_axis(merged.lengths, order, -1)
  return Generated(tokens, lengths, best)


def _can_improve(state: State, settings: Decoding):
  """bool (rows,): could a sequence that goes on still get a place among the ended ones?

  The best sequence that goes on is compared with the worst that has ended; a free place
  has score -inf. Its final score is a guess: that its sum stays as it is, at its
  present length. With early_stopping 'never' and a penalty that favours length, the
  guess is the greatest length. With early_stopping True, full places are enough to
  stop.
  """
  by_length = jnp.asarray(penalties(settings))
  if settings.early_stopping == 'never' and settings.length_penalty > 0:
    divisor = by_length[settings.max_new_tokens]
  else:
    divisor = by_length[state.step]
  reachable = state.scores[:, 0] / divisor
  better = reachable > state.ended.scores.min(-1)
  if settings.early_stopping is not True:
    return better
  full = (state.ended.lengths > 0).all(-1)
  return better & ~full
