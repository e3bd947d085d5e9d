"""Span corruption (T5): spans of text are cut out, a sentinel stays, the decoder writes
what was cut.

>>> objective = span(sentinels=range(99, 89, -1), pad_id=0, eos_id=1)
>>> batch = objective.prepare(jax.random.key(0), {'tokens': jnp.arange(10, 30).reshape(1, 20)})
>>> int((batch['segments'] > 0).sum()), float(objective.weights(batch)['span'])
(19, 5.0)
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.config import Count, Fraction, Natural, Positive
from tl_jax.objectives.losses import positions_of, segments_of, shift_right
from tl_jax.objectives.tokens import token_loss, token_weights
from tl_jax.objectives.types import Array, Objective


def span(
  *,
  sentinels: Sequence[int],
  pad_id: Natural,
  eos_id: Natural,
  rate: Fraction = 0.15,
  mean: Positive = 3.0,
  length: Count | None = None,
  targets: Count | None = None,
) -> Objective:
  """T5's denoising (Raffel et al. 2020, section 3.1.4 and appendix; counts and
  partition as in their code).

  A segment of n tokens loses min(max(round(rate * n), 1), n - 1) of them in max(1,
  round(lost / mean)) spans (fewer where the kept tokens or the `sentinels` run out).
  Lost and kept tokens are each cut into that many parts, uniformly over all ways to do
  so, and alternate, kept first. The k-th span of a segment is replaced by sentinels[k]
  (T5: descending from the end of the vocabulary); its target is that sentinel and the
  lost tokens, then the next, and `eos_id` at the end. Each encoder text ends with
  `eos_id` too: the one at the end of the segment where it has one (never cut, not
  counted in n), else a new one. A segment of fewer than two tokens loses nothing, its
  target is `eos_id`.

  Static shapes: the encoder has `length` places, by default those of the row. These
  always suffice where segments end with `eos_id`, and else for segments of 10 tokens or
  more at the default rate; what is over is dropped from the end of the row. Longer rows
  of text fill them: `inputs` says how many places a text takes (512 for one of 568
  tokens at T5's rate and mean), so that rows can be packed by it and nothing is
  dropped. Targets have `targets` places, by default those of a row with a single
  segment plus one for each 16 tokens, for the rounding and `eos_id` of more segments;
  what is over is dropped from the end of the row likewise.

  `prepare` replaces tokens, segments, positions (rows, length) and adds decoder_tokens
  (after `pad_id`, T5's start), decoder_segments, decoder_positions, targets (rows,
  targets) int32 and target_weights float32; it drops `types`. Segments must be runs
  whose numbers rise along the row. The term is `span` (nats per target token), the
  metric `accuracy`. ValueError for repeated or no sentinels.
  """
  names = np.asarray(tuple(sentinels), np.int32)
  if not names.size or len(set(names.tolist())) != names.size:
    raise ValueError(
      f'sentinels: needs one or more ids, all different, got {names.size}'
    )

  def prepare(key, batch):
    tokens, segments = batch['tokens'], segments_of(batch)
    lost, spans = count_tables(rate, mean, tokens.shape[1], names.size)
    shape = length or tokens.shape[1], targets or target_places(lost, spans)
    noise = jax.random.uniform(key, tokens.shape)
    encoder, decoder = jax.vmap(
      lambda *row: _corrupt(*row, lost, spans, names, pad_id, eos_id, *shape)
    )(tokens, segments, noise)
    rest = {name: value for name, value in batch.items() if name != 'types'}
    return {
      **rest,
      'tokens': encoder.tokens,
      'segments': encoder.segments,
      'positions': positions_of(encoder.segments),
      'decoder_tokens': shift_right(decoder.tokens, decoder.segments, pad_id),
      'decoder_segments': decoder.segments,
      'decoder_positions': positions_of(decoder.segments),
      'targets': decoder.tokens,
      'target_weights': (decoder.segments > 0).astype(jnp.float32),
    }

  def loss(forward, batch, key):
    return token_loss('span', forward, batch, key)

  def inputs(lengths):
    return input_lengths(lengths, rate, mean, names.size)

  return Objective(prepare, token_weights('span'), loss, inputs=inputs)


class Text(NamedTuple):
  tokens: Array
  segments: Array


def count_tables(
  rate: float, mean: float, length: int, most: int
) -> tuple[np.ndarray, np.ndarray]:
  """(lost tokens, spans) of a segment of 0..length tokens: two int32 (length + 1,),
  rounded as Python does.
  """
  lost = [0, 0] + [min(max(round(rate * n), 1), n - 1) for n in range(2, length + 1)]
  spans = [
    min(max(round(x / mean), 1), n - x, x, most) if x else 0 for n, x in enumerate(lost)
  ]
  return np.array(lost[: length + 1], np.int32), np.array(spans[: length + 1], np.int32)


def input_lengths(lengths, rate: float, mean: float, most: int) -> np.ndarray:
  """The encoder's tokens for segments of so many tokens that have no `eos_id` yet;
  those that end with one take at most as many.
  """
  lengths = np.asarray(lengths, np.int64)
  lost, spans = count_tables(rate, mean, int(lengths.max(initial=0)), most)
  return lengths - lost[lengths] + spans[lengths] + 1


def target_places(lost: np.ndarray, spans: np.ndarray) -> int:
  """The default number of target places of a row: one segment's, and one more for each
  16 tokens.
  """
  return int(lost[-1] + spans[-1] + 1) + (len(lost) - 1) // 16


def _corrupt(
  tokens, segments, noise, lost_table, span_table, names, pad_id, eos_id, inputs, places
):
  """(encoder, decoder) Text of one row (length,): of `inputs` and of `places` tokens."""
  length = tokens.shape[0]
  real = segments > 0
  last = real & (segments != jnp.pad(segments[1:], (0, 1)))
  content = real & ~(last & (tokens == eos_id))
  hidden = cut(content, segments, noise, lost_table, span_table)
  first = hidden & ~jnp.pad(hidden[:-1], (1, 0))
  # Spans are numbered over the row; a segment's number starts again.
  number = jnp.cumsum(first) - 1
  before = jax.ops.segment_min(jnp.where(first, number, length), segments, length + 1)
  name = jnp.asarray(names)[jnp.clip(number - before[segments], 0, len(names) - 1)]
  end = jnp.full_like(tokens, eos_id)
  kept = content & ~hidden
  encoder = write((first, kept, last), (name, tokens, end), segments, inputs, pad_id)
  decoder = write((first, hidden, last), (name, tokens, end), segments, places, pad_id)
  return encoder, decoder


def write(emits, values, segments, places: int, pad_id: int) -> Text:
  """The tokens that each position emits, in the order given, one after another; what
  exceeds `places` is dropped.
  """
  emitted = jnp.stack(emits, axis=-1).reshape(-1)
  index = jnp.where(emitted, jnp.cumsum(emitted) - 1, places)
  tokens = jnp.stack(values, axis=-1).reshape(-1)
  owners = jnp.repeat(segments, len(emits))
  return Text(
    jnp.full(places, pad_id, tokens.dtype).at[index].set(tokens, mode='drop'),
    jnp.zeros(places, owners.dtype).at[index].set(owners, mode='drop'),
  )


def cut(content, segments, noise, lost_table, span_table):
  """Boolean (length,) of one row: which tokens are lost; `content` (length,) may be,
  `noise` is uniform (length,).
  """
  length = content.shape[0]
  count = jax.ops.segment_sum(content.astype(jnp.int32), segments, length + 1)
  count = count.at[0].set(0)
  lost, spans = jnp.asarray(lost_table)[count], jnp.asarray(span_table)[count]
  # Stand for the kept items of a segment by its first places, for the lost ones by
  # those after, and cut each group.
  place = jnp.cumsum(content) - 1
  begin = jax.ops.segment_min(jnp.where(content, place, length), segments, length + 1)
  item = place - begin[segments]
  kept = (count - lost)[segments]
  is_lost = item >= kept
  item = jnp.where(is_lost, item - kept, item)
  group = jnp.where(content, 2 * segments + is_lost, 2 * length + 2)
  starts = content & (
    (item == 0) | draw(content & (item > 0), group, noise, spans[segments] - 1)
  )
  # The k-th part of a group is the k-th span of its segment; a segment without spans
  # keeps all in one part.
  parts = jnp.where(count > 0, jnp.maximum(spans, 1), 0)
  ahead = jnp.cumsum(parts) - parts
  part = jnp.cumsum(starts)
  part_before = jax.ops.segment_min(
    jnp.where(content, part, 2 * length), group, 2 * length + 3
  )
  index = jnp.where(content, ahead[segments] + part - part_before[group], length)
  kept_lengths = (
    jnp.zeros(length, jnp.int32)
    .at[jnp.where(is_lost, length, index)]
    .add(1, mode='drop')
  )
  lost_lengths = (
    jnp.zeros(length, jnp.int32)
    .at[jnp.where(is_lost, index, length)]
    .add(1, mode='drop')
  )
  ends = jnp.cumsum(kept_lengths + lost_lengths)
  change = (
    jnp.zeros(length + 1, jnp.int32).at[ends - lost_lengths].add(1).at[ends].add(-1)
  )
  return content & (jnp.cumsum(change)[jnp.clip(place, 0, length)] > 0)


def draw(eligible, group, noise, most):
  """Boolean (length,): the `most` (length,) eligible places of each group with the
  smallest noise, or all of them.
  """
  length = eligible.shape[0]
  group = jnp.where(eligible, group, 2 * length + 2)
  ordered, _, places = jax.lax.sort((group, noise, jnp.arange(length)), num_keys=2)
  fresh = ordered != jnp.pad(ordered[:-1], (1, 0), constant_values=-1)
  rank = jnp.arange(length) - jax.lax.cummax(jnp.where(fresh, jnp.arange(length), 0))
  return eligible & (jnp.zeros(length, jnp.int32).at[places].set(rank) < most)
