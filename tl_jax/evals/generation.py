"""Texts that a model writes for the examples of a task.

>>> import collections, types, jax, jax.numpy as jnp
>>> Decoder = collections.namedtuple('Decoder', 'prefill step kind')
>>> # A model that knows the alphabet.
>>> after = lambda last: 9.0 * jax.nn.one_hot((last + 1) % 128, 128)
>>> read = lambda params, batch, capacity: (after(batch['tokens'][:, -1]), {})
>>> step = lambda params, cache, token: (after(token), cache)
>>> letters = types.SimpleNamespace(
...     encode_batch=lambda texts, special: [list(map(ord, text)) for text in texts],
...     decode=lambda ids: ''.join(map(chr, ids)))
>>> writer = Decoder(read, step, 'decoder')
>>> settings = decode.Decoding(max_new_tokens=3, eos=ord('g'))
>>> write(writer, None, letters, [[97, 98], [101]], settings)
['cde', 'f']
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from tl_jax import config, decode, interop

# Batches of texts that are read together and sorted by their lengths.
WINDOW = 8
# Digits of a score.
DIGITS = 6


def write(
  decoder,
  params,
  tokenizer,
  prompts: Sequence[Sequence[int]],
  settings: decode.Decoding,
  *,
  batch: int = 8,
  **placing,
) -> list[str]:
  """The text that a model writes for each prompt of ids, without white space around it.

  All prompts are sorted by length before they are put into batches of `batch` texts, so
  that little of a batch is padding. `placing` is what `decode.continue_texts` takes of
  devices: positions, multiple, place and fetch.
  """
  batches = -(-len(prompts) // batch)
  continued = decode.continue_texts(
    decoder,
    params,
    tokenizer,
    prompts,
    settings,
    batch=batch,
    # One window of all: they are in memory anyway.
    window=max(1, batches),
    **placing,
  )
  return [found[0].text.strip() for found in continued]


def settings_of(
  path, loaded, chosen: Mapping[str, Any], tell: Callable[[str], None]
) -> decode.Decoding:
  """The settings of decoding: what the folder of a model says, under those `chosen`.

  `tell` is called with a line for each thing that the folder says and no setting can
  follow. Raises ConfigError that names the folder for a value that cannot be.
  """
  found, ignored = interop.generation_settings(loaded, chosen)
  for line in ignored:
    tell(f'{path}: {line}')
  try:
    return decode.Decoding(**found)
  except config.ConfigError as error:
    raise config.ConfigError(f'{path}: {error}') from error


def answers(
  decoder,
  params,
  tokenizer,
  texts: Iterable[str],
  settings: decode.Decoding,
  read: Callable[[Sequence[str]], tuple[Iterable[list[int]], int]],
  *,
  batch: int,
  positions: int | None,
  first: int = 0,
  tidy: Callable[[str], str] = str,
  watch: Callable[[int, int], None] = lambda answered, cut: None,
  **placing,
) -> Iterator[list[dict[str, Any]]]:
  """Yields what a model writes for each text, window by window.

  An answer is a dict of `text`, `score` and `end`; of several samples these are of the
  best, and `texts` has all. No text stops it: one that is too long is cut, of an
  encoder-decoder at its end and else at its beginning, and one without any token has
  answers of None.

  Args:
    read: gives the ids that the model reads of each of some texts, and how many of these
      texts it has cut.
    positions: of the model; None without a limit.
    first: the number of the first text, on which random draws depend.
    tidy: makes an answer of what is written.
    watch: called after every window with the number of its texts, and of all texts that
      were cut so far.
    placing: as of `write`.
  """
  room = positions
  if positions is not None and decoder.kind != 'encoder-decoder':
    room = positions - settings.max_new_tokens
  texts = iter(texts)
  cut = 0
  while some := list(itertools.islice(texts, batch * WINDOW)):
    asked, cut_before = read(some)
    prompts = [_fitting(ids, room, decoder.kind, tokenizer) for ids in asked]
    cut += cut_before + sum(is_cut for _, is_cut in prompts)
    # Random draws go by the number of a text, so one without tokens keeps its place.
    given = [ids or [settings.pad] for ids, _ in prompts]
    continued = decode.continue_texts(
      decoder,
      params,
      tokenizer,
      given,
      settings,
      batch=batch,
      positions=positions,
      window=WINDOW,
      row_offset=first,
      **placing,
    )
    found = []
    for (ids, _), samples in zip(prompts, continued, strict=True):
      nothing = dict(text=None, score=None, end=None)
      found.append(_answer(samples, tidy) if ids else nothing)
    watch(len(some), cut)
    yield found
    first += len(some)


def _fitting(ids, room: int | None, kind: str, tokenizer) -> tuple[list[int], bool]:
  """(ids that fit the room, are they fewer than there were?)."""
  ids = list(ids)
  if room is None or len(ids) <= room:
    return ids, False
  if kind == 'encoder-decoder':
    suffix = list(tokenizer.suffix)
    return ids[: room - len(suffix)] + suffix, True
  # What is written follows the end of a prompt.
  prefix = list(getattr(tokenizer, 'prefix', ()))
  if ids[: len(prefix)] != prefix:
    prefix = []
  kept = room - len(prefix)
  return prefix + ids[len(ids) - kept :], True


def _answer(
  samples: Sequence[decode.Continuation], tidy: Callable[[str], str]
) -> dict[str, Any]:
  """What is written of one text."""
  best = samples[0]
  said = dict(text=tidy(best.text), score=round(best.score, DIGITS), end=best.end)
  if len(samples) > 1:
    said['texts'] = [tidy(sample.text) for sample in samples]
  return said
