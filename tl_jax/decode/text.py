"""From texts to their continuations: encoded, batched by length, decoded, cut at stop
strings, in order.

>>> import collections, types, jax.numpy as jnp
>>> Decoder = collections.namedtuple('Decoder', 'prefill step kind')
>>> after = lambda last: 9.0 * jax.nn.one_hot((last + 1) % 128, 128)             # a model that knows the alphabet
>>> decoder = Decoder(lambda params, batch, capacity: (after(batch['tokens'][:, -1]), {}),
...                   lambda params, cache, tokens: (after(tokens), cache), 'decoder')
>>> letters = types.SimpleNamespace(encode_batch=lambda texts, special: [list(map(ord, text)) for text in texts],
...                                 decode=lambda ids: ''.join(map(chr, ids)))
>>> for found in continue_texts(decoder, None, letters, ['abc', 'xy'], Decoding(max_new_tokens=5, stop='h')):
...   found[0].text, found[0].end
('defg', 'stop')
('z{|}~', 'length')
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from tl_jax.config import ConfigError
from tl_jax.decode import generation
from tl_jax.decode.settings import Decoding

LEAST = 16  # positions: shorter prompts share one program
# how many ids before a text decide how its first piece is spelled, and to spare
CONTEXT = 8


class Continuation(NamedTuple):
  """A text that was generated, without its end.

  tokens: ids, with the end of sequence or what completed the stop string; score: as in
  Generated, of these tokens (of beam search: of the whole sequence, which goes on after
  a stop string); end: what ended it.
  """

  text: str
  tokens: tuple[int, ...]
  score: float
  end: Literal['eos', 'stop', 'length']


class Prompt(NamedTuple):
  """number: of the text in the whole input. ids: what the model reads. context: the ids
  that the new ones follow.
  """

  number: int
  ids: list[int]
  context: list[int]


def continue_texts(
  decoder,
  params,
  tokenizer,
  texts: Iterable[str],
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
  """Yields, for every text in order, its `settings.samples` continuations, best first
  where they are ranked.

  A decoder goes on with a text; an encoder-decoder reads it and its decoder starts with
  `settings.start`. `tokenizer` has encode_batch(texts, special=bool) -> lists of ids
  and decode(ids) -> text; ids in its `prefix`, if it has one, come before a decoder's
  prompt, unless special pieces of its text are these. `batch` texts are decoded at
  once; texts are read `window` batches ahead and sorted by length, and lengths and
  batches are filled up to powers of two (a batch to such a one times `multiple`), so
  that few programs are compiled. `positions` is how many the model has, None without a
  limit. With stop strings the device hands over the tokens every `chunk` steps, so that
  texts which contain one end (beam search goes on, and is cut afterwards); `chunk`
  changes no result. `row_offset` is the number of the first text. `place` puts a dict
  of numpy arrays, rows first, on the devices, `fetch` brings arrays back.
  Errors: ConfigError for settings, ValueError that numbers the text for one that is
  empty or too long; nothing of its window is yielded then.
  """
  for name, value in dict(
    batch=batch, window=window, chunk=chunk, multiple=multiple
  ).items():
    if value < 1:
      raise ConfigError(f'{name}: must be at least 1, got {value}')
  if decoder.kind == 'encoder-decoder':
    if not settings.start:
      raise ConfigError(
        'start: an encoder-decoder needs the id that its decoder starts with (of T5, the pad)'
      )
    if (
      positions is not None
      and len(settings.start) + settings.max_new_tokens > positions
    ):
      raise ConfigError(
        f'max_new_tokens: {settings.max_new_tokens} after {len(settings.start)} start ids are more '
        f'than the {positions} positions of the model'
      )
  elif positions is not None and settings.max_new_tokens >= positions:
    raise ConfigError(
      f'max_new_tokens: {settings.max_new_tokens} leaves no room for a prompt in the {positions} '
      'positions of the model'
    )
  work = _Work(
    decoder,
    params,
    tokenizer,
    settings,
    positions,
    chunk,
    place or (lambda batch: batch),
    fetch,
  )
  return _in_windows(work, iter(texts), batch, window, row_offset, multiple)


class _Work(NamedTuple):
  """What every batch shares."""

  decoder: Any
  params: Any
  tokenizer: Any
  settings: Decoding
  positions: int | None
  chunk: int
  place: Callable[[dict], dict]
  fetch: Callable[[Any], Any]

  @property
  def room(self) -> int | None:
    """The longest prompt, or source, that the model can take."""
    if self.positions is None or self.decoder.kind == 'encoder-decoder':
      return self.positions
    return self.positions - self.settings.max_new_tokens


def _in_windows(work: _Work, texts, batch, window, number, multiple):
  while found := list(itertools.islice(texts, batch * window)):
    prompts = sorted(_encode(work, found, number), key=lambda prompt: len(prompt.ids))
    done = {}
    for start in range(0, len(prompts), batch):
      some = prompts[start : start + batch]
      rows = multiple * _power(-(-len(some) // multiple))
      done |= zip(
        (prompt.number for prompt in some), _decode(work, some, rows), strict=True
      )
    yield from (done[number + i] for i in range(len(found)))
    number += len(found)


def _encode(work: _Work, texts: Sequence[str], number: int) -> list[Prompt]:
  encodes = work.decoder.kind == 'encoder-decoder'
  prefix = [] if encodes else [*getattr(work.tokenizer, 'prefix', ())]
  parsed = getattr(work.tokenizer, 'parse_special', False)
  prompts = []
  for i, found in enumerate(
    work.tokenizer.encode_batch(texts, special=encodes), number
  ):
    # A text that begins as prompts do, as a rendered chat does, is not begun twice.
    begun = parsed and bool(prefix) and found[: len(prefix)] == prefix
    before = [] if encodes else [*work.settings.start, *([] if begun else prefix)]
    ids = [*before, *found]
    if not ids:
      raise ValueError(f'text {i}: it is empty, and there are no start ids to continue')
    if work.room is not None and len(ids) > work.room:
      new = '' if encodes else f' less {work.settings.max_new_tokens} new ones'
      raise ValueError(
        f'text {i}: its {len(ids)} tokens are more than the {work.positions} positions of the '
        f'model{new}'
      )
    prompts.append(Prompt(i, ids, list(work.settings.start) if encodes else ids))
  return prompts


def _power(number: int) -> int:
  """The least power of two that is not smaller."""
  return 1 << (number - 1).bit_length()


def _lay(work: _Work, prompts: list[Prompt], rows: int) -> dict:
  """The batch of prompts as numpy arrays; the first prompt again in the rows that are
  left.
  """
  longest = max(len(prompt.ids) for prompt in prompts)
  length = max(LEAST, _power(longest))
  length = length if work.room is None else min(length, work.room)
  tokens = np.full((rows, length), work.settings.pad, np.int32)
  segments = np.zeros((rows, length), np.int32)
  encodes = work.decoder.kind == 'encoder-decoder'
  for row in range(rows):
    ids = prompts[row if row < len(prompts) else 0].ids
    # A decoder's prompts end together, so that the new tokens follow side by side.
    real = slice(0, len(ids)) if encodes else slice(length - len(ids), length)
    tokens[row, real], segments[row, real] = ids, 1
  batch = {'tokens': tokens, 'segments': segments}
  if encodes:
    start = np.tile(np.array(work.settings.start, np.int32), (rows, 1))
    batch |= {'decoder_tokens': start, 'decoder_segments': np.ones_like(start)}
  return batch


def _decode(
  work: _Work, prompts: list[Prompt], rows: int
) -> list[tuple[Continuation, ...]]:
  """The continuations of every prompt of one batch of `rows` rows."""
  settings, samples = work.settings, work.settings.samples
  numbers = np.zeros(rows, np.int32)
  numbers[: len(prompts)] = [prompt.number for prompt in prompts]
  # These two go with the batch, so that on a mesh they are where their rows are.
  given = work.place(
    {
      **_lay(work, prompts, rows),
      'numbers': numbers,
      'live': np.arange(rows) < len(prompts),
    }
  )
  numbers, live = given.pop('numbers'), given.pop('live')
  arguments = (
    given,
    generation.programmed(settings),
    generation.key_of(settings),
    numbers,
    live,
  )
  contexts = [prompt.context for prompt in prompts for _ in range(samples)]
  if settings.stop and settings.method != 'beam':
    tokens, lengths, scores = _watch(work, contexts, arguments)
  else:
    tokens, lengths, scores = work.fetch(
      generation.run(work.decoder, work.params, *arguments)
    )
    tokens, lengths, scores = (
      tokens.reshape(rows * samples, -1),
      lengths.reshape(-1),
      scores.reshape(-1, 1),
    )
  found = [
    _finish(work, context, tokens[i, : lengths[i]].tolist(), scores[i])
    for i, context in enumerate(contexts)
  ]
  return [tuple(found[i : i + samples]) for i in range(0, len(found), samples)]


def _watch(work: _Work, contexts, arguments):
  """(tokens, lengths, scores of tokens) of all sequences, decoded in pieces; a text
  with a stop string goes no on.
  """
  batch, settings, key, numbers, live = arguments
  state = generation.begin(
    work.decoder, work.params, batch, settings, key, numbers, live
  )
  ended = None
  while True:
    step, tokens, lengths, scores, done = work.fetch(
      (state.step, state.tokens, state.lengths, state.scores, state.done)
    )
    ended = np.zeros(len(tokens), bool) if ended is None else ended
    for i, context in enumerate(contexts):
      if not ended[i]:
        ended[i] = (
          _stop_in(
            _spell(work, context, tokens[i, : lengths[i]].tolist()), work.settings
          )
          is not None
        )
    if (done | ended).all() or step >= settings.max_new_tokens:
      return tokens, lengths, scores
    until = np.int32(min(step + work.chunk, settings.max_new_tokens))
    state = generation.advance(work.decoder, work.params, state, settings, until, ended)


def _finish(work: _Work, context: list[int], tokens: list[int], scores) -> Continuation:
  """The text of a sequence, cut at the first stop string; `scores` are of its tokens,
  or one of them all.
  """
  text = _spell(work, context, tokens)
  if _stop_in(text, work.settings) is not None:
    # The tokens, too, end where the stop string was complete, however many the device
    # went on for.
    length = next(
      n
      for n in range(1, len(tokens) + 1)
      if _stop_in(_spell(work, context, tokens[:n]), work.settings) is not None
    )
    tokens = tokens[:length]
    text = _spell(work, context, tokens)
    text, end = text[: _stop_in(text, work.settings)], 'stop'
  else:
    end = 'eos' if tokens and tokens[-1] in work.settings.eos else 'length'
  score = float(
    np.sum(scores[: len(tokens)] if len(scores) > 1 else scores, dtype=np.float64)
  )
  return Continuation(text, tuple(tokens), score, end)


def _stop_in(text: str, settings: Decoding) -> int | None:
  """Where the first stop string begins, None where there is none."""
  return min((text.index(stop) for stop in settings.stop if stop in text), default=None)


def _spell(work: _Work, context: list[int], tokens: list[int]) -> str:
  """The text of new ids as it stands after what they follow: its space, or the half of
  a word, kept.
  """
  if tokens and tokens[-1] in work.settings.eos:
    tokens = tokens[:-1]
  context = context[-CONTEXT:]
  before, whole = (
    work.tokenizer.decode(context),
    work.tokenizer.decode([*context, *tokens]),
  )
  return (
    whole[len(before) :] if whole.startswith(before) else work.tokenizer.decode(tokens)
  )
