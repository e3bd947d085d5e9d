"""From texts to their continuations.

Texts are encoded, batched by length, decoded, cut at stop strings and given in order.

>>> import collections, types, jax.numpy as jnp
>>> Decoder = collections.namedtuple('Decoder', 'prefill step kind')
>>> # A model that knows the alphabet.
>>> after = lambda last: 9.0 * jax.nn.one_hot((last + 1) % 128, 128)
>>> read = lambda params, batch, capacity: (after(batch['tokens'][:, -1]), {})
>>> step = lambda params, cache, token: (after(token), cache)
>>> decoder = Decoder(read, step, 'decoder')
>>> letters = types.SimpleNamespace(
...     encode_batch=lambda texts, special: [list(map(ord, text)) for text in texts],
...     decode=lambda ids: ''.join(map(chr, ids)))
>>> settings = Decoding(max_new_tokens=5, stop='h')
>>> for found in continue_texts(decoder, None, letters, ['abc', 'xy'], settings):
...   found[0].text, found[0].end
('defg', 'stop')
('z{|}~', 'length')
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from tl_jax.config import ConfigError
from tl_jax.decode import generation, memory
from tl_jax.decode.settings import Decoding

# Positions: prompts that are shorter share one compiled program.
LEAST = 16
# How many ids before a new text are decoded with it: enough to decide how its first
# piece is spelled.
CONTEXT = 8


class Continuation(NamedTuple):
  """A text that was generated, without its end.

  tokens: the new ids. The last is the end of sequence, or what completed the stop
    string.
  score: as in Generated, of these tokens. Of beam search it is that of the whole
    sequence, which goes on after a stop string.
  end: what ended the text.
  """

  text: str
  tokens: tuple[int, ...]
  score: float
  end: Literal['eos', 'stop', 'length']


class Prompt(NamedTuple):
  """A text as ids.

  number: its number in the whole input.
  ids: what the model reads.
  context: the ids that the new ones follow. Of an encoder-decoder these are the start
    ids of the decoder.
  """

  number: int
  ids: list[int]
  context: list[int]


def continue_texts(
  decoder,
  params,
  tokenizer,
  texts: Iterable[str | Sequence[int]],
  settings: Decoding,
  *,
  batch: int = 8,
  positions: int | None = None,
  window: int = 8,
  chunk: int = 16,
  row_offset: int = 0,
  multiple: int = 1,
  place: Callable[[dict], dict] | None = None,
  fetch: Callable[[Any], Any] = jax.device_get,
) -> Iterator[tuple[Continuation, ...]]:
  """Yields, for every text in order, its `settings.samples` continuations.

  They come best first where they are ranked. A decoder goes on with a text. An
  encoder-decoder reads it, and its decoder starts with `settings.start`.

  texts: a text that comes as ids is read as these ids, and nothing is put before them.
  tokenizer: has encode_batch(texts, special=bool) -> lists of ids and decode(ids) ->
    text. The ids in its `prefix`, if it has one, come before a decoder's prompt, unless
    the text itself begins with these special pieces.
  batch: how many texts are decoded at once.
  positions: how many the model has; None without a limit.
  window: texts are read this many batches ahead and sorted by length. Lengths and
    batches are filled up to powers of two, so that few programs are compiled.
  chunk: with stop strings the device hands over the tokens every `chunk` steps, so that
    texts which contain one end. Beam search goes on and is cut afterwards. `chunk`
    changes no result.
  row_offset: the number of the first text.
  multiple: a batch has a power of two times this many rows.
  place: puts a dict of numpy arrays, rows first, on the devices.
  fetch: brings arrays back.

  Errors: ConfigError for settings, also for those whose caches the memory can never
  hold. ValueError that numbers the text for one that is empty or too long; nothing of
  its window is yielded then.
  """
  sizes = dict(batch=batch, window=window, chunk=chunk, multiple=multiple)
  for name, value in sizes.items():
    if value < 1:
      raise ConfigError(f'{name}: must be at least 1, got {value}')
  _check_room(decoder, settings, positions)
  work = _Work(
    decoder=decoder,
    params=params,
    tokenizer=tokenizer,
    settings=settings,
    positions=positions,
    chunk=chunk,
    place=place or (lambda batch: batch),
    fetch=fetch,
    is_placed=place is not None,
  )
  _require_memory(work, multiple, length=1)
  # Not a generator itself, so that wrong settings are refused before the first text.
  return _in_windows(work, iter(texts), batch, window, row_offset, multiple)


def _check_room(decoder, settings: Decoding, positions: int | None) -> None:
  """Refuses settings that leave no room for a prompt or for the new tokens."""
  new = settings.max_new_tokens
  if decoder.kind != 'encoder-decoder':
    if positions is not None and new >= positions:
      raise ConfigError(
        f'max_new_tokens: {new} leaves no room for a prompt in the {positions} '
        'positions of the model'
      )
    return
  if not settings.start:
    raise ConfigError(
      'start: an encoder-decoder needs the id that its decoder starts with (of T5, the '
      'pad)'
    )
  # The source has positions of its own.
  if positions is not None and len(settings.start) + new > positions:
    raise ConfigError(
      f'max_new_tokens: {new} after {len(settings.start)} start ids are more than the '
      f'{positions} positions of the model'
    )


class _Work(NamedTuple):
  """What all batches of a call share; see the arguments of `continue_texts`."""

  decoder: Any
  params: Any
  tokenizer: Any
  settings: Decoding
  positions: int | None
  chunk: int
  place: Callable[[dict], dict]
  fetch: Callable[[Any], Any]
  is_placed: bool

  @property
  def encodes(self) -> bool:
    """Is the text the source of an encoder, rather than what the new tokens follow?"""
    return self.decoder.kind == 'encoder-decoder'

  @property
  def room(self) -> int | None:
    """The longest prompt, or source, that the model can take."""
    if self.positions is None or self.encodes:
      return self.positions
    return self.positions - self.settings.max_new_tokens


def _in_windows(work: _Work, texts, batch, window, number, multiple):
  """Decodes the texts window by window; `number` is that of the first text."""
  while found := list(itertools.islice(texts, batch * window)):
    prompts = _encode(work, found, number)
    # Prompts of about one length share a batch, so that little of it is padding.
    prompts.sort(key=lambda prompt: len(prompt.ids))
    rows = multiple * _power(math.ceil(min(batch, len(prompts)) / multiple))
    _require_memory(work, rows, len(prompts[-1].ids))
    done = {}
    for start in range(0, len(prompts), batch):
      some = prompts[start : start + batch]
      rows = multiple * _power(math.ceil(len(some) / multiple))
      continuations = _decode(work, some, rows)
      for prompt, continued in zip(some, continuations, strict=True):
        done[prompt.number] = continued
    for offset in range(len(found)):
      yield done[number + offset]
    number += len(found)


def _require_memory(work: _Work, rows: int, length: int) -> None:
  """Refuses a batch of so many rows, prompts of this length, that the memory here can
  never hold.
  """
  columns = len(work.settings.start) if work.encodes else length
  memory.require_memory(
    work.decoder, work.params, work.settings, rows, columns, is_spread=work.is_placed
  )


def _encode(
  work: _Work, texts: Sequence[str | Sequence[int]], number: int
) -> list[Prompt]:
  """The prompts of some texts, of which the first has this number."""
  start = list(work.settings.start)
  prompts = []
  read = ids_of(work.tokenizer, work.settings, work.decoder.kind, texts)
  for i, ids in enumerate(read, number):
    if not ids:
      raise ValueError(f'text {i}: it is empty, and there are no start ids to continue')
    if work.room is not None and len(ids) > work.room:
      less = '' if work.encodes else f' less {work.settings.max_new_tokens} new ones'
      raise ValueError(
        f'text {i}: its {len(ids)} tokens are more than the {work.positions} positions '
        f'of the model{less}'
      )
    prompts.append(Prompt(i, ids, context=start if work.encodes else ids))
  return prompts


def ids_of(
  tokenizer, settings: Decoding, kind: str, texts: Sequence[str | Sequence[int]]
) -> Iterator[list[int]]:
  """The ids that a model of this kind reads of each text; those of a text that came as
  ids.
  """
  encodes = kind == 'encoder-decoder'
  words = [text for text in texts if isinstance(text, str)]
  encoded = iter(tokenizer.encode_batch(words, special=encodes))
  for text in texts:
    if not isinstance(text, str):
      yield list(text)
    elif encodes:
      yield list(next(encoded))
    else:
      yield [*settings.start, *_begun(tokenizer, next(encoded))]


def _begun(tokenizer, ids: list[int]) -> list[int]:
  """The ids of a text with the tokenizer's prefix before them."""
  prefix = [*getattr(tokenizer, 'prefix', ())]
  parses_special = getattr(tokenizer, 'parse_special', False)
  # A text that begins as prompts do, as a rendered chat does, is not begun twice.
  if parses_special and ids[: len(prefix)] == prefix:
    return ids
  return [*prefix, *ids]


def _power(number: int) -> int:
  """The least power of two that is not smaller."""
  return 1 << (number - 1).bit_length()


def _lay(work: _Work, prompts: list[Prompt], rows: int) -> dict:
  """The batch of prompts as numpy arrays (rows, length).

  Rows beyond the prompts repeat the first one: a row of padding alone would have no
  last token.
  """
  longest = max(len(prompt.ids) for prompt in prompts)
  length = max(LEAST, _power(longest))
  if work.room is not None:
    length = min(length, work.room)
  tokens = np.full((rows, length), work.settings.pad, np.int32)
  segments = np.zeros((rows, length), np.int32)
  for row in range(rows):
    prompt = prompts[row] if row < len(prompts) else prompts[0]
    size = len(prompt.ids)
    # A decoder's prompts end together, so that the new tokens follow side by side.
    real = slice(0, size) if work.encodes else slice(length - size, length)
    tokens[row, real] = prompt.ids
    segments[row, real] = 1
  batch = {'tokens': tokens, 'segments': segments}
  if work.encodes:
    start = np.array(work.settings.start, np.int32)
    batch['decoder_tokens'] = np.tile(start, (rows, 1))
    batch['decoder_segments'] = np.ones_like(batch['decoder_tokens'])
  return batch


class _Sequences(NamedTuple):
  """What came back from the device, all rows' samples one after the other.

  tokens: int32 (sequences, max_new_tokens). lengths: int32 (sequences,). scores:
  float32, (sequences, max_new_tokens) for each token, or (sequences, 1) for all.
  """

  tokens: np.ndarray
  lengths: np.ndarray
  scores: np.ndarray

  def ids(self, i: int) -> list[int]:
    """The new ids of sequence i."""
    return self.tokens[i, : self.lengths[i]].tolist()


def _decode(
  work: _Work, prompts: list[Prompt], rows: int
) -> list[tuple[Continuation, ...]]:
  """The continuations of every prompt of one batch of `rows` rows."""
  settings = work.settings
  samples = settings.samples
  numbers = np.zeros(rows, np.int32)
  numbers[: len(prompts)] = [prompt.number for prompt in prompts]
  arrays = _lay(work, prompts, rows)
  # These two go with the batch, so that on a mesh they are where their rows are.
  arrays['numbers'] = numbers
  arrays['live'] = np.arange(rows) < len(prompts)
  batch = work.place(arrays)
  numbers = batch.pop('numbers')
  live = batch.pop('live')
  arguments = (
    batch,
    generation.programmed(settings),
    generation.key_of(settings),
    numbers,
    live,
  )

  contexts = [prompt.context for prompt in prompts for _ in range(samples)]
  if settings.stop and settings.method != 'beam':
    sequences = _watch(work, contexts, arguments)
  else:
    generated = generation.run(work.decoder, work.params, *arguments)
    tokens, lengths, scores = work.fetch(generated)
    tokens = tokens.reshape(rows * samples, -1)
    scores = scores.reshape(-1, 1)
    sequences = _Sequences(tokens, lengths.reshape(-1), scores)

  found = []
  for i, context in enumerate(contexts):
    found.append(_finish(work, context, sequences.ids(i), sequences.scores[i]))
  starts = range(0, len(found), samples)
  return [tuple(found[start : start + samples]) for start in starts]


def _watch(work: _Work, contexts, arguments) -> _Sequences:
  """Decodes in pieces of `chunk` steps; a text with a stop string goes no further.

  contexts: the ids before each sequence, without those of rows that fill the batch.
  """
  batch, settings, key, numbers, live = arguments
  state = generation.begin(
    work.decoder, work.params, batch, settings, key, numbers, live
  )
  stopped = None
  while True:
    # One fetch for all of them: each would wait for the device.
    wanted = state.step, state.tokens, state.lengths, state.scores, state.done
    step, tokens, lengths, scores, done = work.fetch(wanted)
    sequences = _Sequences(tokens, lengths, scores)
    if stopped is None:
      stopped = np.zeros(len(tokens), bool)
    for i, context in enumerate(contexts):
      if not stopped[i]:
        text = _spell(work, context, sequences.ids(i))
        # `settings` is for the compiled program and has no stop strings.
        stopped[i] = _stop_in(text, work.settings) is not None
    if (done | stopped).all() or step >= settings.max_new_tokens:
      return sequences
    # Of one type in all calls: for a Python int the program would be compiled again.
    until = np.int32(min(step + work.chunk, settings.max_new_tokens))
    state = generation.advance(
      work.decoder, work.params, state, settings, until, stopped
    )


def _finish(work: _Work, context: list[int], tokens: list[int], scores) -> Continuation:
  """The text of a sequence, cut at the first stop string.

  scores: float32 (max_new_tokens,) for each token, or (1,) for all of them.
  """
  text = _spell(work, context, tokens)
  if _stop_in(text, work.settings) is not None:
    tokens = _until_stop(work, context, tokens)
    text = _spell(work, context, tokens)
    text = text[: _stop_in(text, work.settings)]
    end = 'stop'
  elif tokens and tokens[-1] in work.settings.eos:
    end = 'eos'
  else:
    end = 'length'
  if len(scores) > 1:
    scores = scores[: len(tokens)]
  score = float(np.sum(scores, dtype=np.float64))
  return Continuation(text, tuple(tokens), score, end)


def _until_stop(work: _Work, context: list[int], tokens: list[int]) -> list[int]:
  """The tokens up to the one that completes a stop string, which there must be.

  The device may have gone on after it, by a number of steps that depends on `chunk`.
  """
  for length in range(1, len(tokens)):
    text = _spell(work, context, tokens[:length])
    if _stop_in(text, work.settings) is not None:
      return tokens[:length]
  return tokens


def _stop_in(text: str, settings: Decoding) -> int | None:
  """The position in `text` where the first stop string begins, None without one."""
  starts = [text.index(stop) for stop in settings.stop if stop in text]
  return min(starts, default=None)


def _spell(work: _Work, context: list[int], tokens: list[int]) -> str:
  """The text of new ids as it stands after the ids that they follow.

  How a piece is spelled depends on what is before it: decoded alone, the first one
  would lose its space.
  """
  if tokens and tokens[-1] in work.settings.eos:
    tokens = tokens[:-1]
  context = context[-CONTEXT:]
  before = work.tokenizer.decode(context)
  whole = work.tokenizer.decode([*context, *tokens])
  if whole.startswith(before):
    return whole[len(before) :]
  # The new ids changed how the context is spelled.
  return work.tokenizer.decode(tokens)
