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
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.config import Count, Fraction, Natural, Positive
from tl_jax.objectives.span import Text, with_texts
from tl_jax.objectives.tokens import token_loss, token_weights
from tl_jax.objectives.types import Array, Entry, Objective
from tl_jax.segments import segments_of, starts_of

# Lengths of spans that are less likely than this are not drawn, as in BART's code.
LEAST = 1e-7


def infilling(
  *,
  mask_id: Natural | None,
  stop_id: Natural,
  pad_id: Natural,
  start_id: Natural,
  special_ids: Sequence[int],
  continues: Sequence[bool],
  rate: Fraction = 0.3,
  mean: Positive = 3.0,
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
    inputs_length = length or places
    budgets = np.ceil(rate * np.arange(places + 1)).astype(np.int32)
    order_key, length_key, start_key, slot_key = jax.random.split(key, 4)
    order = jax.random.uniform(order_key, tokens.shape)
    drawn = jax.random.uniform(length_key, tokens.shape)
    lengths = jnp.searchsorted(cdf, drawn, side='right').astype(jnp.int32)
    noise = jax.random.uniform(start_key, tokens.shape)
    slots = jax.random.uniform(slot_key, (len(tokens), 2 * places))

    def corrupt_row(tokens, segments, order, lengths, noise, slots):
      content = content_of(tokens, segments, jnp.asarray(special))
      if permute:
        tokens = permute_sentences(tokens, segments, content, stop_id, order)
      continuing = jnp.asarray(continues)[tokens]
      begins = content & (_firsts(content, segments) | ~continuing)
      budget = jnp.asarray(budgets)[begins.sum()]
      sizes = span_lengths(lengths, budget)
      head, hidden = spans(content, begins, segments, sizes, noise)
      kept = (segments > 0) & (head | ~hidden)
      gaps = Places(kept, kept & ~_opens(content, segments))
      text = Text(jnp.where(head, mask_id, tokens), segments)
      inserts = (sizes == 0).sum()
      return insert(text, gaps, inserts, slots, inputs_length, mask_id, pad_id)

    encoder = jax.vmap(corrupt_row)(tokens, segments, order, lengths, noise, slots)
    return with_texts(batch, encoder, Text(tokens, segments), start_id)

  def loss(forward, batch, key):
    return token_loss('infilling', forward, batch, key)

  return Objective(prepare, token_weights('infilling'), loss)


def poisson(mean: float) -> np.ndarray:
  """The chance (lengths,) of a length of at most 0, 1, ... in a Poisson distribution."""
  chances = [math.exp(-mean)]
  # Up to the mean chances grow, and behind it they fall.
  while len(chances) <= mean or chances[-1] >= LEAST:
    chances.append(chances[-1] * mean / len(chances))
  total = np.cumsum(chances)
  # One less than there are lengths: what is behind the last has the longest.
  return (total / total[-1])[:-1]


def content_of(tokens, segments, special) -> Array:
  """Boolean (length,) of one row: all but padding and the special tokens at the ends of
  segments.
  """
  real = segments > 0
  after = jnp.pad(segments[1:], (0, 1))
  is_edge = _firsts(real, segments) | (segments != after)
  is_framing = is_edge & special[tokens]
  return real & ~is_framing


def _firsts(content, segments) -> Array:
  """Boolean (length,): content that has none of its segment right before it."""
  follows = jnp.pad(content[:-1], (1, 0))
  return content & (starts_of(segments[None])[0] | ~follows)


def _opens(content, segments) -> Array:
  """Boolean (length,): the special tokens that begin segments."""
  return (segments > 0) & starts_of(segments[None])[0] & ~content


def permute_sentences(tokens, segments, content, stop_id: int, noise) -> Array:
  """The tokens of one row with the sentences of each segment in another order.

  noise: uniform (length,).
  """
  length = len(tokens)
  firsts = _firsts(content, segments)
  # A text ends with a sentence, whatever its last token.
  goes_on = jnp.pad(content[1:] & ~firsts[1:], (0, 1))
  is_last = content & ~goes_on
  stops = content & ((tokens == stop_id) | is_last)
  # Of several stops in a row the first one ends the sentence.
  follows_stop = jnp.pad(stops[:-1], (1, 0)) & ~firsts
  ends = stops & ~follows_stop
  follows_end = jnp.pad(ends[:-1], (1, 0))
  begins = content & (firsts | follows_end)
  sentence = jnp.cumsum(begins) - 1
  # What is behind the last end, a stop behind a stop, stays behind.
  count = jax.ops.segment_sum(ends.astype(jnp.int32), sentence, length)
  rank = jnp.where(count[sentence] > 0, noise[sentence], 1.0)
  # The special tokens stay in front and behind.
  frame = jnp.where(_opens(content, segments), -1.0, 2.0)
  rank = jnp.where(content, rank, frame)
  run = jnp.cumsum(starts_of(segments[None])[0])
  index = jnp.arange(length)
  *_, places = jax.lax.sort((run, rank, sentence, index), num_keys=4)
  return tokens[places]


def span_lengths(lengths, budget) -> Array:
  """The lengths (length,) of the spans of one row, from those that were drawn.

  There are as many as it takes to cover `budget` words; behind them it is -1.
  """
  total = jnp.cumsum(lengths)
  before = total - lengths
  left = budget - before
  return jnp.where(left > 0, jnp.minimum(lengths, left), -1)


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
  by_rank = jnp.where(is_span, sizes, 0)[first_spans]
  order = jnp.argsort(jnp.where(begins, noise, 2.0))
  rank = jnp.zeros(length, jnp.int32)
  rank = rank.at[order].set(jnp.arange(length))
  size = jnp.where(begins, by_rank[rank], 0)
  # Where spans begin and end among the words; none goes on behind its segment.
  word = jnp.clip(jnp.cumsum(begins) - 1, 0, length)
  last = jax.ops.segment_max(jnp.where(content, word, -1), segments, length + 1)
  behind = last[segments] + 1
  end = jnp.minimum(word + size, behind)
  starts = size > 0
  change = jnp.zeros(length + 1, jnp.int32)
  change = change.at[jnp.where(starts, word, length)].add(1)
  change = change.at[jnp.where(starts, end, length)].add(-1)
  depth = jnp.where(content, jnp.cumsum(change)[word], 0)
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
  wanted = jnp.minimum(wanted, jnp.maximum(length - count, 0))
  # Which slots of that line hold masks?
  slots = open_.sum() + wanted - 1
  slot = jnp.arange(len(noise))
  order = jnp.argsort(jnp.where(slot < slots, noise, 2.0))
  rank = jnp.zeros_like(slot)
  rank = rank.at[order].set(slot)
  is_mask = (slot < slots) & (rank < wanted)
  # Then how many masks stand before the k-th token?
  token = jnp.cumsum(~is_mask) - 1
  ahead = jnp.zeros(len(kept), slot.dtype)
  own = jnp.where(is_mask, len(kept), token)
  ahead = ahead.at[own].set(slot - token, mode='drop')
  number = jnp.cumsum(open_) - 1
  moved = jnp.where(number >= 0, ahead[number], 0)

  index = jnp.where(kept, jnp.cumsum(kept) - 1 + moved, length)
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
  tokens = jnp.where(is_used & ~is_token, mask_id, tokens)
  return Text(tokens, jnp.where(is_used, segments, 0))


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
