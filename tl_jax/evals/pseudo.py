"""Pseudo-log-likelihoods of texts under a masked language model (Salazar et al. 2020).

>>> batch = hide([[2, 7, 8, 3]], [(0, 1), (0, 2)], rows=2, length=4, mask=4)
>>> batch['tokens'].tolist(), batch['targets'].tolist()
([[2, 4, 8, 3], [2, 7, 4, 3]], [7, 8])

Each token of a text is hidden in turn, and the model says how probable it is in its
place among all others. The logarithms of these probabilities are summed.
"""

import collections
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Lengths of rows are multiples of it, so that few programs are compiled.
STEP = 16

Texts = Sequence[Sequence[int]]
# The number of a text, and the place of the token in it that is hidden.
Hidden = tuple[int, int]


def likelihoods(
  model,
  params,
  texts: Texts,
  frame: tuple[int, int],
  mask: int,
  *,
  rows: int = 64,
  place: Callable[[dict], dict] = lambda batch: batch,
  fetch: Callable[[Any], Any] = jax.device_get,
  watch: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
  """The pseudo-log-likelihood of each text, float64 (n,), natural.

  Args:
    model: of `models.build`, with the head of a masked language model.
    texts: ids with the special ones around them.
    frame: how many special ids stand before and behind; they are never hidden.
    mask: the id of what stands in the place of a hidden token.
    rows: of a batch.
    place: puts a dict of numpy arrays, rows first, on the devices.
    fetch: brings arrays back.
    watch: called after every batch with how many tokens were hidden so far.
  Raises ValueError that numbers a text without a token to hide.
  """
  # Compiled once for every length.
  chances = jax.jit(lambda params, batch: _chances(model, params, batch))
  found = np.zeros(len(texts))
  done = 0
  # Short texts are not padded to the longest: most of a batch would be padding.
  for length, hidden in _by_length(texts, frame).items():
    for first in range(0, len(hidden), rows):
      some = hidden[first : first + rows]
      batch = hide(texts, some, rows, length, mask)
      placed = place(batch)
      fetched = fetch(chances(params, placed))
      own = np.asarray(fetched, np.float64)
      count = len(some)
      numbers = [number for number, _ in some]
      # Not `+=`: several rows of a batch belong to one text.
      np.add.at(found, numbers, own[:count])
      done += count
      watch(done)
  return found


def hide(
  texts: Texts, hidden: Sequence[Hidden], rows: int, length: int, mask: int
) -> dict[str, np.ndarray]:
  """A batch with one hidden token in every row: `tokens` and `segments` (rows, length),
  `score` (rows, 1), the places of what is hidden, and `targets` (rows,), what was there.

  Rows that are missing repeat the first one: a model has nothing to say of no token.
  """
  shape = (rows, length)
  tokens = np.zeros(shape, np.int32)
  segments = np.zeros(shape, np.int32)
  score = np.zeros((rows, 1), np.int32)
  targets = np.zeros(rows, np.int32)
  for row in range(rows):
    source = row if row < len(hidden) else 0
    number, place = hidden[source]
    ids = texts[number]
    size = len(ids)
    tokens[row, :size] = ids
    segments[row, :size] = 1
    score[row] = place
    targets[row] = ids[place]
    # After the whole text is there, whose own token it takes the place of.
    tokens[row, place] = mask
  return dict(tokens=tokens, segments=segments, score=score, targets=targets)


def _by_length(texts: Texts, frame: tuple[int, int]) -> dict[int, list[Hidden]]:
  """What is hidden in rows of each length, the shortest first."""
  found: dict[int, list[Hidden]] = collections.defaultdict(list)
  for number, ids in enumerate(texts):
    steps = -(-len(ids) // STEP)
    length = steps * STEP
    # Special ids say nothing of the text: they stand around every one.
    places = list(_own_places(ids, frame))
    if not places:
      raise ValueError(f'text {number}: has no token')
    found[length] += [(number, place) for place in places]
  return dict(sorted(found.items()))


def _own_places(ids: Sequence[int], frame: tuple[int, int]) -> Iterator[int]:
  """The places of the tokens within the frame."""
  before, behind = frame
  yield from range(before, len(ids) - behind)


def _chances(model, params, batch: dict):
  """log P of the hidden token in every row, float32 (rows,)."""
  seen = dict(tokens=batch['tokens'], segments=batch['segments'])
  # Logits of one place in a row: those of all would be as large as the vocabulary.
  logits = model.apply(params, seen, score=batch['score']).logits
  single = logits[:, 0].astype(jnp.float32)
  chances = jax.nn.log_softmax(single)
  targets = batch['targets'][:, None]
  own = jnp.take_along_axis(chances, targets, axis=-1)
  return own[:, 0]
