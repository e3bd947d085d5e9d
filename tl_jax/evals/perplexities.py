"""How perplexed a language model is by documents of any length.

>>> windows([7, 8, 9], [1], [], length=3)
[([1, 7, 8], 1), ([1, 9], 1)]

A document is read in windows, each of which begins as a text does. A decoder is asked for
every token behind those of its window. An encoder with a masked head is asked for every
token, too: a seventh of a window is hidden at a time, about as many as in pre-training
(after the pseudo-perplexity of Salazar et al. 2020, which hides one at a time).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import interop
from tl_jax.tasks.prompts import beginning

# Tokens of the longest window, where the model has room for it.
LONGEST = 512
# Rows have one of few lengths, so that few programs are compiled.
SHORTEST = 32
# Tokens of a batch, each of which has logits over the vocabulary.
TOKENS = 2048
# An encoder reads a window so many times: each time another seventh is hidden.
PASSES = 7

# The ids of a window, and how many of the frame stand before its own.
Window = tuple[list[int], int]


class Reader(NamedTuple):
  """How a model reads a window: what stands around it, and how long it may be.

  mask: the id of what is hidden; None of a decoder, from which nothing is.
  """

  before: list[int]
  behind: list[int]
  longest: int
  mask: int | None = None


def reader_of(loaded: interop.Loaded) -> Reader:
  """How a model reads documents. Raises ValueError for one that has no word for tokens."""
  arch, tokenizer = loaded.arch, loaded.tokenizer
  if tokenizer is None:
    raise ValueError('has no tokenizer')
  room = min(LONGEST, arch.max_positions if arch.room is None else arch.room)
  asked = (arch.kind, arch.head)
  if asked == ('decoder', 'causal'):
    return Reader(beginning(tokenizer), [], room)
  if asked != ('encoder', 'masked'):
    raise ValueError(
      f'an {arch.kind} with the head {arch.head!r} finds no text probable; a decoder that '
      'writes text does, or an encoder with its head for masked tokens'
    )
  if tokenizer.mask is None:
    raise ValueError('its tokenizer has no token for what is hidden')
  return Reader(list(tokenizer.prefix), list(tokenizer.suffix), room, tokenizer.mask)


def scorer(loaded: interop.Loaded) -> Callable[[Sequence[str]], np.ndarray]:
  """A function that gives the perplexity of each text, float64 (n,).

  That is e to the mean loss of its tokens; NaN for a text without one. Raises ValueError
  as `reader_of` does; the function raises it where a loss is no number.
  """
  reader = reader_of(loaded)
  # Once for all calls: each program is compiled once.
  judge = jax.jit(_judge(loaded.model, reader.mask))

  def score(texts: Sequence[str]) -> np.ndarray:
    framed: list[Window] = []
    owners = []
    for owner, ids in enumerate(loaded.tokenizer.encode_batch(texts, special=False)):
      own = windows(ids, reader.before, reader.behind, reader.longest)
      framed += own
      owners += [owner] * len(own)
    losses = np.zeros(len(texts))
    counts = np.zeros(len(texts))
    for members, batch in _batches(framed, len(reader.behind)):
      found = np.asarray(judge(loaded.params, batch), np.float64)
      of = [owners[member] for member in members]
      # Not `+=`: a batch has several windows of a document.
      np.add.at(losses, of, found[: len(members)])
      np.add.at(counts, of, batch['own'][: len(members)].sum(1))
    if not np.isfinite(losses).all():
      # Else it would look like a text without tokens.
      raise ValueError('the model gives no finite loss for some text')
    with np.errstate(invalid='ignore'):
      return np.exp(losses / counts)

  return score


def windows(
  ids: Sequence[int], before: Sequence[int], behind: Sequence[int], length: int
) -> list[Window]:
  """The windows of a document of these ids, at most so long with their frame."""
  size = length - len(before) - len(behind)
  found = []
  for first in range(0, len(ids), size):
    own = ids[first : first + size]
    found.append(([*before, *own, *behind], len(before)))
  return found


def _batches(
  framed: Sequence[Window], behind: int
) -> Iterator[tuple[list[int], dict[str, np.ndarray]]]:
  """(the numbers of its windows, a batch), the shortest windows first.

  A batch has `tokens` and `segments`, and `own`: is a token one of the document?
  """
  by_length: dict[int, list[int]] = {}
  for number, (ids, _) in enumerate(framed):
    length = SHORTEST
    while length < len(ids):
      length *= 2
    by_length.setdefault(length, []).append(number)
  for length, numbers in sorted(by_length.items()):
    # All batches of a length have as many rows, some of them empty.
    rows = max(1, TOKENS // length)
    for first in range(0, len(numbers), rows):
      members = numbers[first : first + rows]
      shape = (rows, length)
      batch = dict(
        tokens=np.zeros(shape, np.int32),
        segments=np.zeros(shape, np.int32),
        own=np.zeros(shape, bool),
      )
      for row, member in enumerate(members):
        ids, before = framed[member]
        batch['tokens'][row, : len(ids)] = ids
        batch['segments'][row, : len(ids)] = 1
        batch['own'][row, before : len(ids) - behind] = True
      yield members, batch


def _judge(model, mask: int | None):
  """A function of (params, batch) that gives the loss of every row, float32 (rows,)."""

  def chances(params, tokens, segments):
    logits = model.apply(params, dict(tokens=tokens, segments=segments)).logits
    return jax.nn.log_softmax(logits.astype(jnp.float32))

  def of_decoder(params, batch):
    tokens, own = batch['tokens'], batch['own']
    found = chances(params, tokens, batch['segments'])
    # What a token says is of the next one.
    said = jnp.take_along_axis(found[:, :-1], tokens[:, 1:, None], -1)[..., 0]
    return -jnp.where(own[:, 1:], said, 0).sum(1)

  def of_encoder(params, batch):
    tokens, own = batch['tokens'], batch['own']
    turns = jnp.arange(tokens.shape[1]) % PASSES

    def hide(turn):
      hidden = own & (turns == turn)
      seen = jnp.where(hidden, mask, tokens)
      found = chances(params, seen, batch['segments'])
      said = jnp.take_along_axis(found, tokens[..., None], -1)[..., 0]
      return -jnp.where(hidden, said, 0).sum(1)

    # One after the other: each has logits over the vocabulary.
    return jax.lax.map(hide, jnp.arange(PASSES)).sum(0)

  return of_decoder if mask is None else of_encoder
