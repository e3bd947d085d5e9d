"""What a model thinks of texts that somebody else wrote: the log-probabilities of
candidates behind a prompt, which is read once for all of them.

>>> import jax
>>> from tl_jax import models
>>> arch = models.arch('tiny-gpt', vocabulary=50, head='causal')
>>> params = models.build(arch).init(jax.random.key(0))
>>> ranker = Ranker(models.decoder(arch), params)
>>> (found,) = ranker.rank([Request((5, 6, 7), ((8,), (9, 10)))])
>>> found.sums.shape, bool((found.sums < 0).all())
((2,), True)
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Tokens that all prompts of a call begin with are read once where they are so many.
FEWEST_SHARED = 16
# Candidates of other lengths have batches of their own where they fill so many: each
# length is compiled.
FEWEST_BATCHES = 4
# Prompts have one of few lengths, so that few programs are compiled.
SHORTEST = 16
# Tokens of candidates that are looked at at once.
TOKENS = 1024


class Request(NamedTuple):
  """A prompt, and the candidates that may follow it, all as ids.

  Of an encoder-decoder the prompt is what the encoder reads.
  """

  prompt: Sequence[int]
  candidates: Sequence[Sequence[int]]


class Ranked(NamedTuple):
  """What a model thinks of each candidate of a request.

  sums float64 (candidates,): log P(candidate | prompt), natural, of all its tokens.
  greedy bool (candidates,): is each of its tokens the most probable one?
  """

  sums: np.ndarray
  greedy: np.ndarray


class Ranker:
  """A model that ranks candidates.

  A prompt is read once. Each candidate goes on from its keys and values, in positions
  that follow it, and sees no other candidate. So the numbers are those of as many
  separate texts. What all prompts of a call begin with, as demonstrations, is read once
  for all of them, by a decoder.

  Args:
    decoder: of `models.decoder`.
    start: what the decoder of an encoder-decoder reads before a candidate.
    rows: prompts of a batch.
    room: the most positions of a prompt with a candidate; None without a limit.
    multiple: the number of rows of a batch is a multiple of it.
    place: puts a dict of numpy arrays, rows first, on the devices.
    fetch: brings arrays back.
  """

  def __init__(
    self,
    decoder,
    params,
    *,
    start: Sequence[int] = (),
    rows: int = 8,
    room: int | None = None,
    multiple: int = 1,
    place: Callable[[dict], dict] = lambda batch: batch,
    fetch: Callable[[Any], Any] = jax.device_get,
  ):
    self._decoder, self._params = decoder, params
    self._start = tuple(start)
    self._rows = rows
    self._room, self._multiple = room, multiple
    self._place, self._fetch = place, fetch

  @property
  def _is_decoder(self) -> bool:
    return self._decoder.kind == 'decoder'

  def rank(
    self,
    requests: Sequence[Request],
    watch: Callable[[int], None] = lambda ranked: None,
  ) -> list[Ranked]:
    """What the model thinks of the candidates of each request, in order.

    watch: called after every batch with the number of requests that are ranked.
    Raises ValueError that numbers a request without a prompt or a candidate, with a
    candidate of no tokens, or with more tokens than there is room for.
    """
    if not requests:
      return []
    for number, request in enumerate(requests):
      self._require(number, request)
    found: list[Any] = [None] * len(requests)
    done = 0
    for members in self._groups(requests):
      group = [requests[number] for number in members]
      for numbers, ranked in self._rank_group(group):
        for number, each in zip(numbers, ranked, strict=True):
          found[members[number]] = each
        done += len(numbers)
        watch(done)
    return found

  def _groups(self, requests: Sequence[Request]) -> Iterator[list[int]]:
    """The numbers of requests whose candidates are of like lengths, and of which any
    prompt has room with any candidate.
    """
    own = [_longest_candidate([request]) for request in requests]
    for alike in _alike(own, FEWEST_BATCHES * self._rows):
      if not self._is_decoder or self._room is None:
        yield alike
      else:
        yield from self._with_room(requests, alike, own)

  def _with_room(
    self, requests: Sequence[Request], numbers: list[int], own: list[int]
  ) -> Iterator[list[int]]:
    """These numbers in groups of which any prompt has room with any candidate.

    own: the length of the longest candidate of every request.
    """
    lengths = [len(request.prompt) for request in requests]
    group: list[int] = []
    longest = 0
    for number in sorted(numbers, key=lengths.__getitem__):
      with_this = max(longest, own[number])
      # The prompt is the longest so far.
      if group and lengths[number] + with_this > self._room:
        yield group
        group = []
        with_this = own[number]
      group.append(number)
      longest = with_this
    yield group

  def _rank_group(
    self, requests: Sequence[Request]
  ) -> Iterator[tuple[np.ndarray, list[Ranked]]]:
    """The numbers of some requests and what the model thinks of them, by batches."""
    shared = 0
    if self._is_decoder and len(requests) > 1:
      shared = _common([request.prompt for request in requests])
      shared = shared if shared >= FEWEST_SHARED else 0
    before = None
    for batch in self._batches(requests, shared, _longest_candidate(requests)):
      if shared and before is None:
        # All batches have the same capacity, so that they share one cache.
        before = self._read_shared(requests[0].prompt[:shared], batch.capacity)
      sums, greedy = self._run(batch, before)
      ranked = []
      for row, number in enumerate(batch.numbers):
        count = len(requests[number].candidates)
        own_sums = sums[row, :count].astype(np.float64)
        ranked.append(Ranked(own_sums, greedy[row, :count]))
      yield batch.numbers, ranked

  def _require(self, number: int, request: Request) -> None:
    if not len(request.prompt):
      raise ValueError(f'request {number}: has a prompt of no tokens')
    if not request.candidates or not all(map(len, request.candidates)):
      raise ValueError(
        f'request {number}: has a candidate of no tokens, or none at all'
      )
    longest = max(map(len, request.candidates))
    parts = [len(request.prompt), len(self._start) + longest]
    whole = sum(parts) if self._is_decoder else max(parts)
    if self._room is not None and whole > self._room:
      raise ValueError(
        f'request {number}: {len(request.prompt)} tokens of a prompt and {longest} of a '
        f'candidate are more than the {self._room} positions of the model'
      )

  def _batches(
    self, requests: Sequence[Request], shared: int, longest: int
  ) -> Iterator['_Batch']:
    """The requests in batches of prompts of like lengths."""
    lengths = np.array([len(request.prompt) - shared for request in requests])
    most = max(len(request.candidates) for request in requests)
    # Behind what is shared all have the same capacity: that of the longest.
    capacity = shared + self._padded(int(lengths.max()), shared, longest) + longest
    order = np.argsort(lengths, kind='stable')
    # Every token of a candidate has logits over the vocabulary.
    rows = min(self._rows, len(order), max(1, TOKENS // longest))
    rows = -(-rows // self._multiple) * self._multiple
    for first in range(0, len(order), rows):
      numbers = order[first : first + rows]
      length = self._padded(int(lengths[numbers].max()), shared, longest)
      prompts = [requests[number].prompt[shared:] for number in numbers]
      candidates = [requests[number].candidates for number in numbers]
      yield _Batch(
        numbers,
        _laid(prompts, (rows, length)),
        _laid_twice(candidates, (most, rows, longest)),
        capacity if shared else self._capacity(length, longest),
      )

  def _padded(self, length: int, shared: int, longest: int) -> int:
    """The length that a prompt of so many tokens is padded to."""
    padded = SHORTEST
    while padded < length:
      half = padded + padded // 2
      padded = half if length <= half else 2 * padded
    if self._room is None:
      return padded
    # Padding needs no position, but the capacity of a cache counts it.
    most = self._room - shared - longest if self._is_decoder else self._room
    return min(padded, most)

  def _capacity(self, length: int, longest: int) -> int:
    return length + longest if self._is_decoder else len(self._start) + longest

  def _read_shared(self, ids: Sequence[int], capacity: int):
    """The cache (one row) of the tokens that all prompts begin with."""
    batch = _laid([ids], (1, len(ids)))
    return _read(self._decoder, self._params, batch, capacity)[1]

  def _run(self, batch: '_Batch', before) -> tuple[np.ndarray, np.ndarray]:
    prompts = batch.prompts
    if not self._is_decoder:
      rows = len(prompts['tokens'])
      start = np.tile(np.array(self._start, np.int32), (rows, 1))
      prompts = prompts | dict(
        decoder_tokens=start, decoder_segments=np.ones_like(start)
      )
    placed = self._place(prompts)
    found = _rank(
      self._decoder, self._params, before, placed, batch.candidates, batch.capacity
    )
    return self._fetch(found)


class _Batch(NamedTuple):
  """Prompts (rows, length) and candidates (candidates, rows, length) as tokens and
  segments, with the numbers of their requests.
  """

  numbers: np.ndarray
  prompts: dict
  candidates: dict
  capacity: int


def _alike(lengths: Sequence[int], fewest: int) -> Iterator[list[int]]:
  """Numbers in order of their lengths, in groups of at least so many, but for the last.

  Within a group the longest is at most twice the shortest, unless it would be too few.
  """
  order = np.argsort(lengths, kind='stable')
  group: list[int] = []
  for number in order.tolist():
    # All are padded to the longest of their group.
    is_longer = bool(group) and lengths[number] > 2 * lengths[group[0]]
    if is_longer and len(group) >= fewest:
      yield group
      group = []
    group.append(number)
  yield group


def _common(prompts: Sequence[Sequence[int]]) -> int:
  """How many tokens all prompts begin with; one token at least of each is its own."""
  known = [list(prompt) for prompt in prompts]
  shared = 0
  # Of sorted sequences the first and the last differ soonest.
  for one, other in zip(min(known), max(known), strict=False):
    if one != other:
      break
    shared += 1
  return min(shared, min(map(len, known)) - 1)


def _longest_candidate(requests: Sequence[Request]) -> int:
  """The length that candidates are padded to: a power of two would cost positions."""
  return max(max(map(len, request.candidates)) for request in requests)


def _laid(rows: Sequence[Sequence[int]], shape: tuple[int, int]) -> dict:
  """Ids as `tokens` and `segments` of this shape, padded behind.

  Rows that are missing repeat the first one: a model has nothing to say of no token.
  """
  tokens = np.zeros(shape, np.int32)
  segments = np.zeros(shape, np.int32)
  for place in range(shape[0]):
    ids = rows[place] if place < len(rows) else rows[0]
    tokens[place, : len(ids)] = ids
    segments[place, : len(ids)] = 1
  return dict(tokens=tokens, segments=segments)


def _laid_twice(rows: Sequence[Sequence[Sequence[int]]], shape: tuple) -> dict:
  """The candidates of every row as `tokens` and `segments` (candidates, rows, length);
  those that are missing have no token.
  """
  tokens = np.zeros(shape, np.int32)
  segments = np.zeros(shape, np.int32)
  for row, candidates in enumerate(rows):
    for place, ids in enumerate(candidates):
      tokens[place, row, : len(ids)] = ids
      segments[place, row, : len(ids)] = 1
  return dict(tokens=tokens, segments=segments)


@functools.partial(jax.jit, static_argnames=('decoder', 'capacity'))
def _read(decoder, params, batch: dict, capacity: int):
  return decoder.prefill(params, batch, capacity)


@functools.partial(jax.jit, static_argnames=('decoder', 'capacity'))
def _rank(decoder, params, before, prompts: dict, candidates: dict, capacity: int):
  """(log-probabilities, are they greedy?) of candidates, (rows, candidates) each.

  before: the cache (one row) of what all prompts begin with; None for nothing.
  """
  if before is None:
    logits, cache = decoder.prefill(params, prompts, capacity)
  else:
    rows, length = prompts['tokens'].shape
    cache = _widened(before, rows)
    # Padding is behind, so that the last token's column is the number of tokens.
    last = prompts['segments'].sum(1, keepdims=True) - 1
    logits, cache = decoder.extend(
      params, cache, prompts['tokens'], prompts['segments'], last
    )
    logits = logits[:, 0]

  def judge(candidate: dict):
    tokens, segments = candidate['tokens'], candidate['segments']
    before_each = logits[:, None]
    if tokens.shape[1] > 1:
      # After the last token nothing is asked.
      read = tokens[:, :-1], segments[:, :-1]
      following, _ = decoder.extend(params, cache, *read)
      before_each = jnp.concatenate([before_each, following], 1)
    chances = jax.nn.log_softmax(before_each.astype(jnp.float32))
    own = jnp.take_along_axis(chances, tokens[..., None], -1)[..., 0]
    is_token = segments > 0
    is_best = chances.argmax(-1) == tokens
    return jnp.where(is_token, own, 0).sum(1), (is_best | ~is_token).all(1)

  # One after the other: each takes the memory of a cache.
  sums, greedy = jax.lax.map(judge, candidates)
  return sums.T, greedy.T


def _widened(cache, rows: int):
  """The cache of one row as that of so many equal ones."""

  def widen(leaf):
    if not leaf.ndim:
      return leaf
    return jnp.broadcast_to(leaf, (rows, *leaf.shape[1:]))

  return jax.tree.map(widen, cache)
