"""BART's denoising: a decoder writes the text again that the encoder reads with gaps and
with its sentences in another order.

>>> objective = infilling(mask_id=4, stop_id=9, pad_id=0, start_id=3,
...                       special_ids=(0, 3, 4), continues=[False] * 40)
>>> tokens = jnp.arange(10, 30).reshape(1, 20)
>>> batch = objective.prepare(jax.random.key(0), {'tokens': tokens})
>>> bool((batch['tokens'] == 4).any()), batch['targets'].tolist() == tokens.tolist()
(True, True)
"""

import math
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.config import Count, Natural, Part, Range
from tl_jax.objectives.span import Text, with_texts
from tl_jax.objectives.tokens import token_loss, token_weights
from tl_jax.objectives.types import Array, Entry, Objective
from tl_jax.segments import one_left, one_right, segments_of, starts_of

# Lengths of spans that are less likely than this are not drawn, as in BART's code.
LEAST = 1e-7
# In words. Of much longer ones the chances of short lengths are 0 in a float.
MeanLength = Annotated[float, Range(low=1, high=512)]


def infilling(
  *,
  mask_id: Natural | None,
  stop_id: Natural,
  pad_id: Natural,
  start_id: Natural,
  special_ids: Sequence[int],
  continues: Sequence[bool],
  rate: Part = 0.3,
  mean: MeanLength = 3.0,
  permute: bool = True,
  length: Count | None = None,
) -> Objective:
  """Text infilling and sentence permutation (Lewis et al. 2020, section 2.2; counts and
  draws as in their code).

  Sentences end with `stop_id`, or with their text. The sentences of a segment change
  places, every order as likely, unless `permute` is false.
  Then of n words ceil(rate * n) are to be hidden. Spans get lengths from a Poisson
  distribution of this mean, in words, until that many are covered; the last is cut to
  fit. Each span starts at another word, drawn uniformly, and ends with its segment at
  the latest. One `mask_id` stands for it. Spans may meet, so that fewer words than that
  are hidden: of a span that starts in another, no mask is left. Each span of no words
  puts a `mask_id` between two tokens, every place as likely. A packed row is counted as
  one. Special tokens at either end of a segment stay where they are.

  continues: bool (vocabulary,), the ids that go on with the word before them.
  start_id: what the decoder reads first (BART: the end of a text).
  length: places of the encoder's text; by default those of the row. There are only as
    many inserted masks as have room.

  `prepare` changes tokens, segments and positions, and adds decoder_tokens,
  decoder_segments, decoder_positions, targets and target_weights, all of the whole text.
  It drops `types`. Segments must be runs whose numbers rise along the row. The term is
  `infilling` (nats per token), the metric `accuracy`.
  Errors: ValueError for a tokenizer without a mask.
  """
  if mask_id is None:
    raise ValueError('mask_id: the tokenizer has no piece that masks, as <mask>')
  special = np.zeros(len(continues), bool)
  special[list(special_ids)] = True
  cdf = poisson(mean)

  def prepare(key, batch):
    tokens = batch['tokens']
    segments = segments_of(batch)
    places = tokens.shape[1]
    encoder_places = length or places
    wanted = np.ceil(rate * np.arange(places + 1))
    budgets = wanted.astype(np.int32)

    def corrupt_row(tokens, segments, draws):
      content = content_of(tokens, segments, jnp.asarray(special))
      if permute:
        tokens = permute_sentences(tokens, segments, content, stop_id, draws.order)
      continuing = jnp.asarray(continues)[tokens]
      firsts = _firsts(content, segments)
      begins = content & (firsts | ~continuing)
      words = begins.sum()
      sizes = span_lengths(draws.lengths, jnp.asarray(budgets)[words])
      head, hidden = spans(content, begins, segments, sizes, draws.starts)
      seen = head | ~hidden
      kept = seen & (segments > 0)
      gaps = Places(kept, kept & ~_opens(content, segments))
      masked = jnp.where(head, mask_id, tokens)
      text = Text(masked, segments)
      inserts = (sizes == 0).sum()
      return insert(text, gaps, inserts, draws.slots, encoder_places, mask_id, pad_id)

    draws = _draw(key, tokens.shape, cdf)
    encoder = jax.vmap(corrupt_row)(tokens, segments, draws)
    return with_texts(batch, encoder, Text(tokens, segments), start_id)

  def loss(forward, batch, key):
    return token_loss('infilling', forward, batch, key)

  return Objective(prepare, token_weights('infilling'), loss)


class _Draws(NamedTuple):
  """All that is random, of every row: (rows, length) each, but for slots, which are
  twice as many.

  order: by it sentences stand in their new order. lengths: of spans, in words. starts:
  by it the words come that spans start at. slots: by it places come for masks.
  """

  order: Array
  lengths: Array
  starts: Array
  slots: Array


def _draw(key, shape: tuple[int, int], cdf) -> _Draws:
  """cdf: as `poisson` has it."""
  order_key, length_key, start_key, slot_key = jax.random.split(key, 4)
  rows, length = shape
  order = jax.random.uniform(order_key, shape)
  chances = jax.random.uniform(length_key, shape)
  lengths = jnp.searchsorted(cdf, chances, side='right')
  starts = jax.random.uniform(start_key, shape)
  slots = jax.random.uniform(slot_key, (rows, 2 * length))
  return _Draws(order, lengths, starts, slots)


def poisson(mean: float) -> np.ndarray:
  """The chance (lengths,) of a length of at most 0, 1, ... in a Poisson distribution."""
  chances = [math.exp(-mean)]
  # Up to the mean chances grow, and behind it they fall.
  while len(chances) <= mean or chances[-1] >= LEAST:
    factor = mean / len(chances)
    chances.append(chances[-1] * factor)
  total = np.cumsum(chances)
  # One less than there are lengths: what is behind the last has the longest.
  parts = total / total[-1]
  return parts[:-1]


def content_of(tokens, segments, special) -> Array:
  """Boolean (length,) of one row: all but padding and the special tokens at the ends of
  segments.
  """
  real = segments > 0
  is_last = segments != one_left(segments)
  is_edge = is_last | starts_of(segments)
  is_framing = is_edge & special[tokens]
  return real & ~is_framing


def _firsts(content, segments) -> Array:
  """Boolean (length,): content that has none of its segment right before it."""
  is_first = starts_of(segments) | ~one_right(content)
  return content & is_first


def _opens(content, segments) -> Array:
  """Boolean (length,): the special tokens that begin segments."""
  is_framing = (segments > 0) & ~content
  return is_framing & starts_of(segments)


def permute_sentences(tokens, segments, content, stop_id: int, noise) -> Array:
  """The tokens of one row with the sentences of each segment in another order.

  noise: uniform (length,).
  """
  length = len(tokens)
  firsts = _firsts(content, segments)
  # A text ends with a sentence, whatever its last token.
  is_inner = content & ~firsts
  is_last = content & ~one_left(is_inner)
  is_stop = (tokens == stop_id) | is_last
  stops = content & is_stop
  # Of several stops in a row the first one ends the sentence.
  follows_stop = is_inner & one_right(stops)
  ends = stops & ~follows_stop
  follows_end = content & one_right(ends)
  begins = firsts | follows_end
  sentence = jnp.cumsum(begins) - 1
  # What is behind the last end, a stop behind a stop, stays behind.
  ones = ends.astype(jnp.int32)
  count = jax.ops.segment_sum(ones, sentence, length)
  has_end = count[sentence] > 0
  rank = jnp.where(has_end, noise[sentence], 1.0)
  # The special tokens stay in front and behind.
  opens = _opens(content, segments)
  frame = jnp.where(opens, -1.0, 2.0)
  rank = jnp.where(content, rank, frame)
  run = jnp.cumsum(starts_of(segments))
  # The last key counts first; a sort of all four at once takes long to compile.
  places = jnp.lexsort((sentence, rank, run))
  return tokens[places]


def span_lengths(lengths, budget) -> Array:
  """The lengths (length,) of the spans of one row, from those that were drawn.

  There are as many as it takes to cover `budget` words; behind them it is -1.
  """
  total = jnp.cumsum(lengths)
  before = total - lengths
  left = budget - before
  fitting = jnp.minimum(lengths, left)
  return jnp.where(left > 0, fitting, -1)


def spans(content, begins, segments, sizes, noise) -> tuple[Array, Array]:
  """(head, hidden) of one row, boolean (length,): the tokens that spans hide, and the
  first ones of spans, where a mask remains.

  begins: the first tokens of words. sizes (length,): of the spans, in words; where it is
  0 or less there is none. noise: uniform (length,).
  """
  length = len(content)
  # Spans without words apart, the k-th span starts at the k-th word of a random order.
  is_span = sizes > 0
  first_spans = jnp.argsort(~is_span, stable=True)
  by_rank = jnp.maximum(sizes, 0)[first_spans]
  by_chance = jnp.where(begins, noise, 2.0)
  order = jnp.argsort(by_chance)
  rank = jnp.zeros(length, jnp.int32)
  rank = rank.at[order].set(jnp.arange(length))
  size = jnp.where(begins, by_rank[rank], 0)
  # Where spans begin and end among the words; none goes on behind its segment.
  number = jnp.cumsum(begins) - 1
  word = jnp.maximum(number, 0)
  own = jnp.where(content, word, -1)
  last = jax.ops.segment_max(own, segments, length + 1)
  behind = last[segments] + 1
  end = jnp.minimum(word + size, behind)
  starts = size > 0
  change = jnp.zeros(length + 1, jnp.int32)
  change = change.at[word].add(starts)
  change = change.at[end].add(-1 * starts)
  depth_of_word = jnp.cumsum(change)
  depth = jnp.where(content, depth_of_word[word], 0)
  # A start that another span covers, too, is hidden with it.
  return starts & (depth == 1), depth > 0


class Places(NamedTuple):
  """Boolean (length,) of one row: the tokens that are kept, and those of them that a
  mask may stand before.
  """

  kept: Array
  open: Array


def insert(
  text: Text, places: Places, wanted, noise, length: int, mask_id: int, pad_id: int
) -> Text:
  """The kept tokens of one row with `wanted` masks between them.

  noise: uniform (2 * length of the row,). Of all ways to lay the masks and the tokens in
  a line that ends with a token, each is as likely. length: places of the result; there
  are only as many masks as have room.
  """
  kept, open_ = places
  count = kept.sum()
  room = jnp.maximum(length - count, 0)
  wanted = jnp.minimum(wanted, room)
  # Which slots of that line hold masks?
  slots = open_.sum() + wanted - 1
  slot = jnp.arange(len(noise))
  is_slot = slot < slots
  by_chance = jnp.where(is_slot, noise, 2.0)
  order = jnp.argsort(by_chance)
  rank = jnp.zeros_like(slot)
  rank = rank.at[order].set(slot)
  is_mask = is_slot & (rank < wanted)
  # Then how many masks stand before the k-th token?
  token = jnp.cumsum(~is_mask) - 1
  ahead = jnp.zeros(len(kept), slot.dtype)
  own = jnp.where(is_mask, len(kept), token)
  ahead = ahead.at[own].set(slot - token, mode='drop')
  number = jnp.cumsum(open_) - 1
  moved = jnp.where(number >= 0, ahead[number], 0)

  place = jnp.cumsum(kept) - 1 + moved
  index = jnp.where(kept, place, length)
  is_token = jnp.zeros(length, bool)
  is_token = is_token.at[index].set(True, mode='drop')
  tokens = jnp.full(length, pad_id, text.tokens.dtype)
  tokens = tokens.at[index].set(text.tokens, mode='drop')
  # A mask belongs to the segment of the token behind it.
  beyond = jnp.iinfo(jnp.int32).max
  segments = jnp.full(length, beyond, jnp.int32)
  segments = segments.at[index].set(text.segments, mode='drop')
  segments = jax.lax.cummin(segments, reverse=True)
  is_used = jnp.arange(length) < count + wanted
  is_mask = is_used & ~is_token
  tokens = jnp.where(is_mask, mask_id, tokens)
  segments = jnp.where(is_used, segments, 0)
  return Text(tokens, segments)


def _facts(tokenizer, length) -> dict:
  del length
  (*_, stop) = tokenizer.encode('.', special=False)
  return dict(
    mask_id=tokenizer.mask,
    stop_id=stop,
    pad_id=tokenizer.pad,
    start_id=tokenizer.eos,
    special_ids=tokenizer.special_ids,
    continues=tokenizer.continues,
  )


INFILLING = Entry(infilling, 'causal', ('encoder-decoder',), facts=_facts)
