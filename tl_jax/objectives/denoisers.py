"""UL2's mixture of denoisers: a decoder restores texts that are spoilt in several ways.

>>> read = lambda text: (7,)
>>> objective = denoisers(sentinels=(99, 98), pad_id=0, eos_id=1, encode=read)
>>> tokens = jnp.arange(10, 30).reshape(1, 20)
>>> batch = objective.prepare(jax.random.key(0), {'tokens': tokens})
>>> int(batch['tokens'][0, 0]), int(batch['decoder_tokens'][0, 0])
(7, 0)

Each text is given to one denoiser. A regular or an extreme one cuts spans, as `span`
does. The sequential one keeps a beginning of the text, and the rest is the target: T5's
prefix language model. The encoder's text begins with the mode of its denoiser, so that
later tasks can ask for that mode by writing it before their texts.

A decoder alone reads the two texts one behind the other: `joined_denoisers`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.config import Count, Natural, NonNegative, lookup
from tl_jax.objectives.span import (
  Pieces,
  content_of,
  count_tables,
  counted,
  cut,
  input_lengths,
  pieces_of,
  with_texts,
  write,
)
from tl_jax.objectives.tokens import token_loss, token_weights
from tl_jax.objectives.types import Array, Entry, Objective
from tl_jax.segments import one_left, positions_of, segments_of, starts_of


class Denoiser(NamedTuple):
  """A way to spoil a text.

  mode: the text before what the encoder reads. rate, mean: of `span`; a rate of 0 is
  that of the sequential denoiser, which cuts no spans.
  """

  mode: str
  rate: float = 0.0
  mean: float = 1.0


# Table 1 of Tay et al. (2022): regular, extreme and sequential. A name says the mean
# length of the spans and the rate in percent.
DENOISERS = {
  'r3_15': Denoiser('[NLU]', 0.15, 3.0),
  'r8_15': Denoiser('[NLU]', 0.15, 8.0),
  'x3_50': Denoiser('[NLG]', 0.5, 3.0),
  'x8_50': Denoiser('[NLG]', 0.5, 8.0),
  'x64_15': Denoiser('[NLG]', 0.15, 64.0),
  'x64_50': Denoiser('[NLG]', 0.5, 64.0),
  's': Denoiser('[S2S]'),
}


def denoisers(
  *,
  sentinels: Sequence[int],
  pad_id: Natural,
  eos_id: Natural,
  encode: Callable[[str], Sequence[int]],
  mixture: dict[str, NonNegative] | None = None,
  modes: bool = True,
  length: Count | None = None,
  targets: Count | None = None,
) -> Objective:
  """UL2's objective (Tay et al. 2022, sections 3.1 and 9.2).

  sentinels, pad_id, eos_id, length: as those of `span`.
  encode: the ids of a text without special pieces, for the modes.
  mixture: {name in `DENOISERS`: weight}. None: all seven alike, as in their code. Each
    segment draws its denoiser with these weights. The sequential one keeps the first p
    of n tokens, p uniform in 1..n-1, and puts no sentinel; alone, without modes, it is
    T5's prefix language model.
  modes: does the encoder's text begin with the mode?
  targets: places of the target texts. By default those that a row of one segment needs
    at most, and one more for each 16 tokens, as in `span`.

  `prepare` does to a batch what that of `span` does. The term is `denoisers`, the
  metric `accuracy`.
  Errors: ValueError for a mixture of no weight, and for a name that is no denoiser.
  """
  names = np.asarray(tuple(sentinels), np.int32)
  if not names.size:
    raise ValueError('sentinels: needs one or more ids')
  ways, limits = _chosen(mixture)
  written = _written_modes(ways, encode, modes)

  def prepare(key, batch):
    tokens = batch['tokens']
    segments = segments_of(batch)
    tables = _tables(ways, written, tokens.shape[1], names.size)
    draws = _draw(key, tokens.shape, limits)
    encoder_places = length or tokens.shape[1]
    decoder_places = targets or _target_places(tables)

    def corrupt_row(tokens, segments, draws):
      content, is_last = content_of(tokens, segments, eos_id)
      kind = draws.kinds[segments]
      is_sequential = jnp.asarray(tables.is_sequential)[kind]
      spans = cut(
        content, segments, draws.noise, tables.lost, tables.spans, draws.kinds
      )
      rest = behind(content, segments, draws.shares)
      hidden = jnp.where(is_sequential, rest, spans)
      pieces = pieces_of(tokens, segments, content, hidden, is_last, names, eos_id)
      pieces = _without_sentinels(pieces, is_sequential)
      modes = jnp.asarray(tables.modes)[kind]
      opened = _with_modes(pieces, segments, modes)
      encoder = write(opened.encoder, opened.values, segments, encoder_places, pad_id)
      decoder = write(pieces.decoder, pieces.values, segments, decoder_places, pad_id)
      return encoder, decoder

    encoder, decoder = jax.vmap(corrupt_row)(tokens, segments, draws)
    return with_texts(batch, encoder, decoder, pad_id)

  def loss(forward, batch, key):
    return token_loss('denoisers', forward, batch, key)

  def inputs(lengths):
    return _most_taken(_inputs_of, lengths, ways, written, names.size)

  return Objective(prepare, token_weights('denoisers'), loss, inputs=inputs)


# With the signature of the other, which says what a config may ask for.
@functools.wraps(denoisers, assigned=('__annotations__',))
def joined_denoisers(**options) -> Objective:
  """UL2's objective for a decoder alone (Tay et al. 2022, section 3.3), in the layout of
  a prefix language model.

  Each segment is what an encoder would read, and behind it what is to be written. The
  former is a prefix whose tokens see each other; only the tokens of the latter are
  predicted.

  The options are those of `denoisers`; `length` counts the places of both texts.
  `prepare` replaces tokens, segments and positions (rows, length), and drops `types`.
  It adds targets (rows, length) int32, target_weights float32, and `seen` (rows,
  length) int32, 1 for the tokens of prefixes. The term is `denoisers`, the metric
  `accuracy`.
  """
  length = options.get('length')
  # Either text may take nearly all places; what both take is cut where they are joined.
  apart = denoisers(**{'targets': length, **options})
  ways, _ = _chosen(options.get('mixture'))
  written = _written_modes(ways, options['encode'], options.get('modes', True))
  most = len(tuple(options['sentinels']))

  def prepare(key, batch):
    places = length or batch['tokens'].shape[1]
    return join(apart.prepare(key, batch), places)

  def inputs(lengths):
    return _most_taken(_both_of, lengths, ways, written, most)

  return apart._replace(prepare=prepare, inputs=inputs)


def join(batch, places: int):
  """A batch of two texts as one of rows that have both: first what is read, then what
  is to be written, segment by segment.

  What exceeds `places` is dropped.
  """
  read = batch['segments']
  written = batch['decoder_segments']
  segments = jnp.concatenate([read, written], 1)
  tokens = jnp.concatenate([batch['tokens'], batch['targets']], 1)
  is_written = jnp.concatenate([jnp.zeros_like(read), jnp.ones_like(written)], 1)
  # Padding, of segment 0, goes to the end.
  numbers = jnp.where(segments > 0, segments, jnp.iinfo(segments.dtype).max)
  order = jnp.argsort(numbers, axis=1, stable=True)[:, :places]
  tokens, segments, is_written = (
    jnp.take_along_axis(array, order, 1) for array in (tokens, segments, is_written)
  )
  is_real = segments > 0
  is_next = one_left(segments) == segments
  weights = is_real & is_next & (one_left(is_written) > 0)
  seen = is_real & (is_written == 0)
  kept = {
    name: value for name, value in batch.items() if not name.startswith('decoder_')
  }
  return kept | {
    'tokens': tokens,
    'segments': segments,
    'positions': positions_of(segments),
    'seen': seen.astype(jnp.int32),
    'targets': one_left(tokens),
    'target_weights': weights.astype(jnp.float32),
  }


def _chosen(mixture) -> tuple[list[Denoiser], np.ndarray]:
  """(the denoisers of a mixture, the chance of each but the last or of one before it)."""
  if mixture is None:
    mixture = dict.fromkeys(DENOISERS, 1.0)
  ways, weights = [], []
  for name, weight in mixture.items():
    way = lookup(DENOISERS, name, 'mixture')
    if weight:
      ways.append(way)
      weights.append(weight)
  if not ways:
    raise ValueError('mixture: no denoiser has a weight above 0')
  total = np.cumsum(weights)
  return ways, total[:-1] / total[-1]


def _written_modes(ways: list[Denoiser], encode, modes: bool) -> list[tuple]:
  """The ids of the mode of each denoiser; none where texts begin with no mode."""
  if not modes:
    return [()] * len(ways)
  return [tuple(encode(way.mode)) for way in ways]


class _Draws(NamedTuple):
  """All that is random, of every row.

  kinds, shares (rows, length + 1): of each segment, which denoiser it has, and which
  part of it is the prefix. noise (rows, length).
  """

  kinds: Array
  shares: Array
  noise: Array


def _draw(key, shape: tuple[int, int], limits) -> _Draws:
  """limits: as `_chosen` has them."""
  kind_key, share_key, noise_key = jax.random.split(key, 3)
  rows, length = shape
  # One for every segment that a row may have, and for its padding.
  by_segment = (rows, length + 1)
  drawn = jax.random.uniform(kind_key, by_segment)
  kinds = jnp.searchsorted(limits, drawn, side='right')
  shares = jax.random.uniform(share_key, by_segment)
  noise = jax.random.uniform(noise_key, shape)
  return _Draws(kinds, shares, noise)


def _without_sentinels(pieces: Pieces, is_sequential) -> Pieces:
  """The pieces of one row, without the sentinels of sequential texts."""
  sentinel, kept, end = pieces.encoder
  _, hidden, _ = pieces.decoder
  sentinel &= ~is_sequential
  return pieces._replace(encoder=(sentinel, kept, end), decoder=(sentinel, hidden, end))


def _with_modes(pieces: Pieces, segments, modes) -> Pieces:
  """The pieces of one row for an encoder whose texts begin with modes.

  modes (length, longest): of every token's text; -1 behind a mode that is shorter.
  """
  begins = starts_of(segments) & (segments > 0)
  is_written = begins & (modes.T >= 0)
  values = *modes.T, *pieces.values
  encoder = *is_written, *pieces.encoder
  return pieces._replace(values=values, encoder=encoder)


class _Tables(NamedTuple):
  """What the denoisers of a mixture do, each in a row.

  lost, spans: (denoisers, length + 1), as `count_tables` has them. modes: ids
  (denoisers, longest), behind which a shorter mode has -1. is_sequential (denoisers,).
  """

  lost: np.ndarray
  spans: np.ndarray
  modes: np.ndarray
  is_sequential: np.ndarray


def _tables(ways: list[Denoiser], written, length: int, most: int) -> _Tables:
  longest = max(map(len, written))
  modes = np.full((len(ways), longest), -1, np.int32)
  lost, spans = [], []
  for row, (way, mode) in enumerate(zip(ways, written, strict=True)):
    modes[row, : len(mode)] = mode
    # Of the sequential one, which cuts no spans, nothing of this is used.
    lost_by_length, spans_by_length = count_tables(way.rate, way.mean, length, most)
    lost.append(lost_by_length)
    spans.append(spans_by_length)
  is_sequential = np.array([not way.rate for way in ways])
  return _Tables(np.stack(lost), np.stack(spans), modes, is_sequential)


def _target_places(tables: _Tables) -> int:
  """The default number of target places of a row."""
  length = tables.lost.shape[1] - 1
  of_spans = tables.lost[:, -1] + tables.spans[:, -1] + 1
  # Behind a prefix of one token there are all the others, and `eos_id`.
  needed = np.where(tables.is_sequential, length, of_spans)
  more = length // 16
  return int(needed.max()) + more


def _most_taken(measure, lengths, ways, written, most: int) -> np.ndarray:
  """What segments of these lengths take of a row under any of the denoisers, at most.

  measure(way, lengths, most): what they take under one, without its mode.
  """
  taken = []
  for way, mode in zip(ways, written, strict=True):
    own = measure(way, lengths, most)
    taken.append(own + len(mode))
  return np.max(taken, axis=0)


def _both_of(way: Denoiser, lengths, most: int) -> np.ndarray:
  """The tokens of both texts together, as `_inputs_of` has those of one."""
  lengths = np.asarray(lengths, np.int64)
  longest = int(lengths.max(initial=0))
  # Every token is in one of the texts; a sentinel and `eos_id` are in both.
  both = lengths + 2
  if not way.rate:
    return both
  _, spans = count_tables(way.rate, way.mean, longest, most)
  return both + 2 * spans[lengths]


def _inputs_of(way: Denoiser, lengths, most: int) -> np.ndarray:
  """The encoder's tokens, at most and without the mode, for segments of these lengths
  without `eos_id`.
  """
  if way.rate:
    return input_lengths(lengths, way.rate, way.mean, most)
  # All tokens but the last, and `eos_id`; a text of one token is not cut.
  return np.maximum(lengths, 2)


def behind(content, segments, share) -> Array:
  """Boolean (length,) of one row: what stands behind the prefix of its segment.

  share (length + 1,): uniform, of each segment. A segment of n tokens has a prefix of
  1..n-1, each as likely; of one token there is nothing behind.
  """
  count, item = counted(content, segments)
  # A product may be rounded up to what it must stay below.
  most = jnp.maximum(count - 1, 1)
  drawn = 1 + jnp.floor(share * most)
  prefix = jnp.minimum(drawn, most)
  return content & (item >= prefix[segments])


def _facts(tokenizer, length) -> dict:
  def encode(text: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode(text, special=False))

  return dict(
    sentinels=tokenizer.sentinels,
    pad_id=tokenizer.pad,
    eos_id=tokenizer.eos,
    encode=encode,
    length=length,
  )


DENOISING = Entry(denoisers, 'causal', ('encoder-decoder',), facts=_facts)
JOINED = Entry(joined_denoisers, 'causal', ('decoder',), facts=_facts)
