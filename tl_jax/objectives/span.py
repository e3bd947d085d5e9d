"""Span corruption (T5): a decoder writes the spans that were cut out of a text.

>>> objective = span(sentinels=range(99, 89, -1), pad_id=0, eos_id=1)
>>> tokens = jnp.arange(10, 30).reshape(1, 20)
>>> batch = objective.prepare(jax.random.key(0), {'tokens': tokens})
>>> int((batch['segments'] > 0).sum()), float(objective.weights(batch)['span'])
(19, 5.0)

In the encoder's text the k-th span of a segment is replaced by the k-th sentinel. The
target is that sentinel and the lost tokens, then the next, and `eos_id` at the end; of
a segment that loses nothing it is `eos_id` alone. Each encoder text ends with `eos_id`,
too. It is the one at the end of the segment where there is one, which is never cut,
else a new one.

Shapes are static. By default the encoder has as many places as the row. These always
suffice where segments end with `eos_id`, and else for segments of 10 tokens or more at
the default rate. By default the targets have the places of a row with a single segment,
plus one for each 16 tokens, for the rounding and the `eos_id` of more segments. What is
over is dropped from the end of the row. Corruption shortens a text, so that longer rows
of text fill the places: `inputs` of the objective says how many a text takes (512 for
one of 568 tokens at T5's rate and mean), and rows packed by it lose nothing.
"""

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.config import Count, Natural, Part, Range
from tl_jax.objectives.losses import shift_right
from tl_jax.objectives.tokens import token_loss, token_weights
from tl_jax.objectives.types import Array, Entry, Objective
from tl_jax.segments import one_left, one_right, positions_of, segments_of, starts_of


def span(
  *,
  sentinels: Sequence[int],
  pad_id: Natural,
  eos_id: Natural,
  rate: Part = 0.15,
  mean: Annotated[float, Range(low=1)] = 3.0,
  length: Count | None = None,
  targets: Count | None = None,
) -> Objective:
  """T5's denoising (Raffel et al. 2020, section 3.1.4 and appendix; counts and
  partition as in their code).

  A segment of n tokens loses min(max(round(rate * n), 1), n - 1) of them in max(1,
  round(lost / mean)) spans, fewer where the kept tokens or the `sentinels` run out. The
  lost and the kept tokens are each cut into that many parts, uniformly over all ways to
  do so. The parts alternate, kept first. A segment of fewer than two tokens loses
  nothing.

  sentinels: ids in the order of the spans (T5: descending from the end of the
    vocabulary).
  eos_id: ends each text. At the end of a segment it does not count in n.
  length, targets: places of the encoder's text and of the targets; the head of this
    module says the defaults.

  `prepare` replaces tokens, segments and positions (rows, length). It adds
  decoder_tokens (after `pad_id`, T5's start), decoder_segments, decoder_positions,
  targets (rows, targets) int32 and target_weights float32. It drops `types`. Segments
  must be runs whose numbers rise along the row. The term is `span` (nats per target
  token), the metric `accuracy`.
  Errors: ValueError for repeated sentinels, or none.
  """
  names = np.asarray(tuple(sentinels), np.int32)
  if not names.size or len(set(names.tolist())) != names.size:
    raise ValueError(
      f'sentinels: needs one or more ids, all different, got {names.size}'
    )

  def prepare(key, batch):
    tokens = batch['tokens']
    segments = segments_of(batch)
    lost, spans = count_tables(rate, mean, tokens.shape[1], names.size)
    inputs_length = length or tokens.shape[1]
    targets_length = targets or target_places(lost, spans)
    noise = jax.random.uniform(key, tokens.shape)

    def corrupt_row(tokens, segments, noise):
      content, is_last = content_of(tokens, segments, eos_id)
      hidden = cut(content, segments, noise, lost, spans)
      pieces = pieces_of(tokens, segments, content, hidden, is_last, names, eos_id)
      encoder = write(pieces.encoder, pieces.values, segments, inputs_length, pad_id)
      decoder = write(pieces.decoder, pieces.values, segments, targets_length, pad_id)
      return encoder, decoder

    encoder, decoder = jax.vmap(corrupt_row)(tokens, segments, noise)
    return with_texts(batch, encoder, decoder, pad_id)

  def loss(forward, batch, key):
    return token_loss('span', forward, batch, key)

  def inputs(lengths):
    return input_lengths(lengths, rate, mean, names.size)

  return Objective(prepare, token_weights('span'), loss, inputs=inputs)


class Text(NamedTuple):
  """Tokens and segments (places,) of one row."""

  tokens: Array
  segments: Array


def with_texts(batch, encoder: Text, decoder: Text, start_id: int):
  """The batch with the text that the encoder reads, and the one to be written.

  Both have a leading axis of rows. The decoder reads its text one place late, after
  `start_id`; every token of the text is a target.
  """
  # The types of the original positions fit neither text.
  prepared = {name: value for name, value in batch.items() if name != 'types'}
  prepared |= {
    'tokens': encoder.tokens,
    'segments': encoder.segments,
    'positions': positions_of(encoder.segments),
  }
  shifted = shift_right(decoder.tokens, decoder.segments, start_id)
  prepared |= {
    'decoder_tokens': shifted,
    'decoder_segments': decoder.segments,
    'decoder_positions': positions_of(decoder.segments),
  }
  weights = (decoder.segments > 0).astype(jnp.float32)
  return prepared | {'targets': decoder.tokens, 'target_weights': weights}


def count_tables(
  rate: float, mean: float, length: int, most: int
) -> tuple[np.ndarray, np.ndarray]:
  """How many tokens, and in how many spans, a segment of 0..length tokens loses.

  Both are int32 (length + 1,), rounded as Python does. `most` is the number of
  sentinels.
  """
  lost = np.zeros(length + 1, np.int32)
  spans = np.zeros(length + 1, np.int32)
  # A segment of one token loses nothing: one must be kept.
  for n in range(2, length + 1):
    wanted = max(round(rate * n), 1)
    cut_tokens = min(wanted, n - 1)
    wanted_spans = max(round(cut_tokens / mean), 1)
    lost[n] = cut_tokens
    # Every span has a kept token before it, a lost token and a sentinel.
    spans[n] = min(wanted_spans, n - cut_tokens, cut_tokens, most)
  return lost, spans


def input_lengths(lengths, rate: float, mean: float, most: int) -> np.ndarray:
  """The encoder's tokens for segments of these lengths that have no `eos_id` yet.

  Segments that end with `eos_id` take at most as many.
  """
  lengths = np.asarray(lengths, np.int64)
  longest = int(lengths.max(initial=0))
  lost, spans = count_tables(rate, mean, longest, most)
  kept = lengths - lost[lengths]
  # A sentinel for each span, and `eos_id`.
  return kept + spans[lengths] + 1


def target_places(lost: np.ndarray, spans: np.ndarray) -> int:
  """The default number of target places of a row.

  It is that of a single segment, and one more for each 16 tokens.
  """
  length = len(lost) - 1
  single = lost[-1] + spans[-1] + 1
  more = length // 16
  return int(single) + more


def content_of(tokens, segments, eos_id):
  """(content, is_last) of one row, boolean (length,).

  The content is what may be cut: all but padding and an `eos_id` that ends a segment.
  `is_last` is true for the last position of each segment.
  """
  real = segments > 0
  is_last = real & (segments != one_left(segments))
  is_end = is_last & (tokens == eos_id)
  content = real & ~is_end
  return content, is_last


class Pieces(NamedTuple):
  """What the positions of a row write into its two texts.

  values: three int32 (length,), of which a position can write the first, a sentinel,
    then the second, its token, then the third, `eos_id`.
  encoder, decoder: three boolean (length,). Which of the values does each write there?
  """

  values: tuple[Array, Array, Array]
  encoder: tuple[Array, Array, Array]
  decoder: tuple[Array, Array, Array]


def pieces_of(tokens, segments, content, hidden, is_last, names, eos_id) -> Pieces:
  """The pieces of one row whose `hidden` tokens are lost."""
  length = tokens.shape[0]
  first = hidden & ~one_right(hidden)
  # Spans are numbered over the row; a segment's number starts again.
  number = jnp.cumsum(first) - 1
  before = _least(number, first, segments, length + 1)
  in_segment = number - before[segments]
  # Clipped for positions without a span, whose sentinel is not written.
  known = jnp.clip(in_segment, 0, len(names) - 1)
  sentinel = jnp.asarray(names)[known]
  end = jnp.full_like(tokens, eos_id)
  values = sentinel, tokens, end
  kept = content & ~hidden
  encoder = first, kept, is_last
  decoder = first, hidden, is_last
  return Pieces(values, encoder, decoder)


def write(emits, values, segments, places: int, pad_id: int) -> Text:
  """The text of one row: what its positions write, one after another.

  emits, values: as many arrays (length,) as a position can write tokens. A position
  writes those of its `values` that it `emits`, in the order given. What exceeds
  `places` is dropped.
  """
  emitted = jnp.stack(emits, axis=-1).reshape(-1)
  number = jnp.cumsum(emitted) - 1
  # What is not emitted goes to the place after the last, which is dropped.
  index = jnp.where(emitted, number, places)
  tokens = jnp.stack(values, axis=-1).reshape(-1)
  owners = jnp.repeat(segments, len(emits))
  written = jnp.full(places, pad_id, tokens.dtype)
  written = written.at[index].set(tokens, mode='drop')
  written_segments = jnp.zeros(places, owners.dtype)
  written_segments = written_segments.at[index].set(owners, mode='drop')
  return Text(written, written_segments)


def counted(content, segments):
  """(count, item) of one row, from its content, boolean (length,), and its segments.

  count (length + 1,): how much content each segment has. item (length,): of each
  position with content, the number of it in its segment, from 0 on.
  """
  length = content.shape[0]
  ones = content.astype(jnp.int32)
  count = jax.ops.segment_sum(ones, segments, length + 1)
  # Segment 0 is padding.
  count = count.at[0].set(0)
  place = jnp.cumsum(content) - 1
  begin = _least(place, content, segments, length + 1)
  return count, place - begin[segments]


def cut(content, segments, noise, lost_table, span_table, kind=0):
  """Boolean (length,) of one row: which tokens are lost?

  content: boolean (length,), the tokens that may be lost. noise: uniform (length,).
  lost_table, span_table: see `count_tables`; or such tables of several kinds (kinds,
  length + 1). Then kind (length + 1,) says which one each segment has.
  """
  length = content.shape[0]
  count, item = counted(content, segments)
  lost = jnp.atleast_2d(lost_table)[kind, count]
  spans = jnp.atleast_2d(span_table)[kind, count]

  # Stand for the kept items of a segment by its first places, for the lost ones by
  # those after, and cut each group.
  kept = (count - lost)[segments]
  is_lost = item >= kept
  item = jnp.where(is_lost, item - kept, item)
  # Two groups for each segment, and one, the last, for what is no content.
  own = 2 * segments + is_lost
  group = jnp.where(content, own, 2 * length + 2)
  # A group begins with a part; the other parts begin at items drawn from the rest.
  is_rest = content & (item > 0)
  drawn = draw(is_rest, group, noise, spans[segments] - 1)
  starts = content & ((item == 0) | drawn)

  # The k-th part of a group is the k-th span of its segment; a segment without spans
  # keeps all in one part.
  some = jnp.maximum(spans, 1)
  parts = jnp.where(count > 0, some, 0)
  ahead = jnp.cumsum(parts) - parts
  part = jnp.cumsum(starts)
  part_before = _least(part, content, group, 2 * length + 3)
  in_group = part - part_before[group]
  in_row = ahead[segments] + in_group
  index = jnp.where(content, in_row, length)

  # The lengths of the parts, then where the lost ones begin and end among the content.
  of_kept = jnp.where(is_lost, length, index)
  of_lost = jnp.where(is_lost, index, length)
  kept_lengths = _occurrences(of_kept, length)
  lost_lengths = _occurrences(of_lost, length)
  ends = jnp.cumsum(kept_lengths + lost_lengths)
  begins = ends - lost_lengths
  change = jnp.zeros(length + 1, jnp.int32)
  change = change.at[begins].add(1)
  change = change.at[ends].add(-1)
  in_span = jnp.cumsum(change) > 0
  place = jnp.cumsum(content) - 1
  known = jnp.clip(place, 0, length)
  return content & in_span[known]


def _least(values, counts, group, groups: int):
  """The least value of each group, (groups,), among those that count.

  values, counts (boolean) and group are (length,). Of a group in which none counts it
  is a number that means nothing.
  """
  beyond = 2 * values.shape[0]
  counted_values = jnp.where(counts, values, beyond)
  return jax.ops.segment_min(counted_values, group, groups)


def _occurrences(index, most: int):
  """How often each number below `most` occurs: int32 (most,)."""
  counts = jnp.zeros(most, jnp.int32)
  return counts.at[index].add(1, mode='drop')


def draw(eligible, group, noise, most):
  """Boolean (length,): the eligible places of each group with the smallest noise.

  There are `most` (length,) of each group, or all of them.
  """
  length = eligible.shape[0]
  # The rest goes into a group of its own, the last.
  group = jnp.where(eligible, group, 2 * length + 2)
  index = jnp.arange(length)
  ordered, _, places = jax.lax.sort((group, noise, index), num_keys=2)
  is_first = starts_of(ordered)
  first_or_zero = jnp.where(is_first, index, 0)
  first = jax.lax.cummax(first_or_zero)
  rank_of_place = jnp.zeros(length, jnp.int32)
  rank_of_place = rank_of_place.at[places].set(index - first)
  return eligible & (rank_of_place < most)


def _facts(tokenizer, length) -> dict:
  return dict(
    sentinels=tokenizer.sentinels,
    pad_id=tokenizer.pad,
    eos_id=tokenizer.eos,
    length=length,
  )


SPAN = Entry(span, 'causal', ('encoder-decoder',), facts=_facts)
