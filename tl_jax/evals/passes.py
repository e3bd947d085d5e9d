"""Many texts through one compiled function: packed into rows of few shapes, in order.

>>> [row_length(tokens) for tokens in (5, 128, 129, 300, 600)]
[128, 128, 192, 384, 768]
"""

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from tl_jax import models
from tl_jax.data import extracts, packing, pairs, tagged, tokens
from tl_jax.data.candidates import Candidates, Choices, are_choices, flattened
from tl_jax.data.passages import PassageQuestion
from tl_jax.data.words import Words, are_words
from tl_jax.evals.evaluate import outputs

# Texts that are read, encoded and packed together.
WINDOW = 2048
# Tokens of the shortest row. It holds several short texts, so that all batches of a
# file of short texts have one shape.
SHORTEST = 128
# A row has a place for an example every so many tokens.
TOKENS_PER_PLACE = 4
# Batches that a device has waiting while the results of an earlier one are fetched.
AHEAD = 2


class Reader(NamedTuple):
  """How texts become rows.

  length: the most tokens of a text; longer ones are cut. rows: of a batch of the
  shortest rows; batches of longer rows have about as many tokens. multiple: the number
  of rows of every batch is a multiple of it. alone: does every text have a row to
  itself? pairs: does the model read two texts in a frame? Else they are joined.
  """

  tokenizer: Any
  arch: models.Arch
  length: int
  rows: int
  multiple: int = 1
  alone: bool = False
  pairs: bool = False


class Window(NamedTuple):
  """Texts as ids, and the rows that these are packed into.

  count: how many texts there are. places: the numbers of those that have tokens. ids:
  of these. rows: (tokens in the row, members) each. cut: how many texts were too long.
  types: those of the tokens, as `ids`, for a model that tells pairs apart by them.
  questions: of questions with candidates, whose candidates are segments; else None.
  parts: of sentences with words to tag, or of questions on passages, whose windows are
  the texts and whose words or tokens are counted here; else None.
  """

  count: int
  places: np.ndarray
  ids: list[np.ndarray]
  rows: list[tuple[int, list[int]]]
  cut: int
  types: list[np.ndarray] | None = None
  questions: Candidates | None = None
  parts: tagged.Windows | extracts.Extracts | None = None


def row_length(tokens: int) -> int:
  """The length of the row for a text of so many tokens: 128, 192, 256, 384, 512, ..."""
  whole = SHORTEST
  while whole < tokens:
    # Steps of a half keep padding below a third, with two shapes for each doubling.
    half = whole + whole // 2
    if tokens <= half:
      return half
    whole *= 2
  return whole


def read_window(reader: Reader, texts: Iterable[str]) -> Window:
  """Encodes texts and packs them into rows."""
  tokenizer, length = reader.tokenizer, reader.length
  texts = list(texts)
  if are_choices(texts):
    return _read_choices(reader, texts)
  if are_words(texts):
    return _read_words(reader, texts)
  if reader.arch.head == 'span':
    return _read_passages(reader, texts)
  if reader.pairs and pairs.are_framed(texts, tokenizer):
    return _read_pairs(reader, texts)
  suffix = list(tokenizer.suffix)
  ids = []
  places = []
  cut = 0
  for place, found in enumerate(tokenizer.encode_batch(texts)):
    if len(found) > length:
      # What ends a text stays at its end.
      found = found[: length - len(suffix)] + suffix
      cut += 1
    # A model has nothing to say of no token at all.
    if found:
      ids.append(np.asarray(found, np.int32))
      places.append(place)
  sizes = np.array([len(each) for each in ids], np.int64)
  rows = plan_rows(sizes, reader.alone)
  return Window(len(texts), np.array(places, np.int64), ids, rows, cut)


def _read_pairs(reader: Reader, texts: list[str]) -> Window:
  """Encodes texts of which some are pairs; in a frame, each has tokens."""
  tokenizer = reader.tokenizer

  def encode(plain: list[str]) -> tokens.TokenList:
    return tokens.TokenList(tokenizer.encode_batch(plain, special=False))

  framed = pairs.frame(texts, tokenizer, reader.length, encode)
  places = np.arange(len(framed), dtype=np.int64)
  cut = int((framed.whole > reader.length).sum())
  rows = plan_rows(framed.lengths.astype(np.int64), reader.alone)
  ids = [framed[place] for place in places]
  types = None
  if reader.arch.types > 1:
    types = [framed.types[place] for place in places]
  return Window(len(texts), places, ids, rows, cut, types)


def _read_choices(reader: Reader, texts: list[Choices]) -> Window:
  """Encodes questions with candidates.

  Raises ValueError for a candidate without a token: a model has no score for it.
  """
  flat, counts = flattened(texts)
  found = read_window(reader, flat)
  if len(found.places) < found.count:
    missing = sorted(set(range(found.count)) - set(found.places.tolist()))
    raise ValueError(f'a candidate has no token: {flat[missing[0]]!r}')
  questions = Candidates(tokens.TokenList(found.ids), counts)
  numbers = range(len(texts))
  # As the ids: those of all candidates, one after the other.
  types = found.types
  if types is not None:
    of_questions = Candidates(tokens.TokenList(types), counts)
    types = [of_questions[number] for number in numbers]
  return Window(
    len(texts),
    np.arange(len(texts)),
    [questions[number] for number in numbers],
    plan_rows(questions.lengths.astype(np.int64), reader.alone),
    found.cut,
    types,
    questions,
  )


def _read_words(reader: Reader, texts: list[Words]) -> Window:
  """Encodes sentences, of which nothing is cut."""
  found = tagged.windows(texts, reader.tokenizer, reader.length)
  count = sum(len(text.words) for text in texts)
  rows = plan_rows(found.lengths.astype(np.int64), reader.alone)
  return Window(count, np.arange(count), found.arrays, rows, 0, parts=found)


def _read_passages(reader: Reader, texts: list[PassageQuestion]) -> Window:
  """Encodes questions on passages, of which nothing is cut."""
  found, _ = extracts.encode(texts, reader.tokenizer, reader.length)
  count = int(found.units.sum())
  rows = plan_rows(found.lengths.astype(np.int64), reader.alone)
  places = np.arange(count)
  ids = [window.ids for window in found.windows]
  types = found.types if reader.arch.types > 1 else None
  return Window(count, places, ids, rows, 0, types, parts=found)


def plan_rows(sizes: np.ndarray, alone: bool) -> list[tuple[int, list[int]]]:
  """(tokens in the row, members) of every row, for texts of these sizes (n,).

  Each text is in a row of the length that it needs at least. What is left of a long row
  is filled with short texts.

  >>> plan_rows(np.array([150, 40, 30]), alone=False)
  [(192, [0, 1]), (128, [2])]
  """
  lengths = np.array([row_length(size) for size in sizes], np.int64)
  waiting = np.arange(len(sizes))
  rows = []
  # The longest rows first: short texts fill them up.
  for length in sorted(set(lengths.tolist()), reverse=True):
    most = 1 if alone else length // TOKENS_PER_PLACE
    plan = packing.plan(sizes, length, waiting, most)
    taken = []
    for row in range(plan.rows):
      members = plan[row].tolist()
      # A row of short texts alone is shorter than this.
      if lengths[members].max() == length:
        rows.append((length, members))
        taken += members
    waiting = np.setdiff1d(waiting, taken)
  return rows


def batches_of(reader: Reader, window: Window) -> Iterator[dict[str, np.ndarray]]:
  """The batches of a window: those of one row length all have one shape.

  Arrays are as the model reads them. `identifiers` (rows, examples) are the numbers of
  the texts among those that have tokens, -1 in an empty place.
  """
  by_length = collections.defaultdict(list)
  for length, members in window.rows:
    by_length[length].append(members)
  numbers = np.arange(len(window.ids), dtype=np.int32)
  for length, rows in by_length.items():
    count = -(-reader.rows * SHORTEST // length)
    count = -(-count // reader.multiple) * reader.multiple
    for first in range(0, len(rows), count):
      some = rows[first : first + count]
      filled = [_fill(reader, window, numbers, members, length) for members in some]
      empty = lambda length=length: _fill(reader, window, numbers, [], length)
      yield packing.stack(filled, count, empty)


def _fill(reader: Reader, window: Window, numbers, members, length: int) -> dict:
  """The arrays of one row, each of int32 with its tokens or its examples as its axis."""
  pad = reader.tokenizer.pad
  most = 1 if reader.alone else length // TOKENS_PER_PLACE
  row = packing.fill(members, window.ids, length, pad=pad)
  if window.types is not None:
    row |= packing.fill_types(members, window.types, length)
  row |= packing.fill_examples(members, numbers, most)
  if window.questions is not None:
    row |= window.questions.fill(members, length, most)
  if window.parts is not None:
    row |= window.parts.fill(members, length, most)
  return row


def run(
  reader: Reader,
  forward: Callable[[dict], Any],
  fetch: Callable[[Any], np.ndarray],
  width: int,
  texts: Iterable[str],
  watch: Callable[[int, int], None] = lambda answered, cut: None,
  collect: Callable[[Window, np.ndarray], Any] = lambda window, found: found,
) -> Iterator[Any]:
  """Yields what a function says of the texts, float32 (texts, width), window by window.

  The texts are read, encoded and packed one window ahead. A text without any token has
  a row of NaN.

  Args:
    forward: forward(batch) starts the work on a batch of numpy arrays; what comes has
      an axis of rows, of examples, and of `width` numbers, or one for each candidate.
      Of sentences the second axis is of tokens, and every word has a row of numbers; so
      it is of questions on passages, and every token of the passage.
    fetch: brings that back as an array.
    watch: called after every batch with the number of texts of this window that have
      an answer, and of all texts that were cut so far.
    collect: collect(window, found) is what is yielded of a window.
  Raises ValueError where what is said of a text is no number.
  """
  texts = iter(texts)
  answered = 0
  cut = 0

  def read() -> Window | None:
    some = list(itertools.islice(texts, WINDOW))
    return read_window(reader, some) if some else None

  def started(window: Window) -> Iterator[dict]:
    """The batches in order, each with its results; the device is kept busy."""
    waiting = collections.deque()
    for batch in batches_of(reader, window):
      # An accelerator would read another row for an id that it has none for.
      models.require_rows(reader.arch, batch)
      identifiers = batch.pop('identifiers')
      waiting.append(dict(identifiers=identifiers, found=forward(batch)))
      if len(waiting) > AHEAD:
        yield waiting.popleft()
    yield from waiting

  def take(_, batch: dict) -> np.ndarray:
    nonlocal answered
    found = fetch(batch['found'])
    answered += int((batch['identifiers'] >= 0).sum())
    watch(answered, cut)
    return found

  with ThreadPoolExecutor(1) as pool:
    coming = pool.submit(read)
    while (window := coming.result()) is not None:
      coming = pool.submit(read)
      answered = 0
      cut += window.cut
      # How many candidates a question has, only the questions say.
      most = width if window.questions is None else window.questions.most
      found = np.full((window.count, most), np.nan, np.float32)
      if window.ids:
        known = outputs(take, None, started(window), len(window.places))
        if not np.isfinite(known).all():
          raise ValueError('the model gives no finite numbers for some text')
        found[window.places] = known
      yield collect(window, found)
