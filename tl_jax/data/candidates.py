"""A question with several candidates for its answer, and its tokens.

>>> asked = Choices('It rains.', ('Take an umbrella.', 'Take a nap.'))
>>> [str(each) for each in asked.candidates]
['It rains.\\nTake an umbrella.', 'It rains.\\nTake a nap.']

A model reads every candidate with the question, and sees no other one meanwhile. So a
candidate is a segment of its own in a packed row.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from tl_jax.data.pairs import Pair

# The candidates of a file are called so where it has no names for them.
LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'


class Choices(str):
  """A question with its candidates.

  It is the text that question and candidates make, a line each. So whatever knows no
  candidates reads it as any other text. `candidates` has what a model reads for each:
  a `Pair` of the question and the candidate, or one text where there is no question.
  `answers` has the candidates alone, `names` what the file calls them.
  """

  question: str
  answers: tuple[str, ...]
  names: tuple[str, ...]

  def __new__(cls, question: str, answers: Sequence[str], names: Sequence[str] = ()):
    lines = [question, *answers] if question else answers
    found = super().__new__(cls, '\n'.join(lines))
    found.question = question
    found.answers = tuple(answers)
    found.names = tuple(names) or tuple(map(str, range(len(answers))))
    return found

  @property
  def candidates(self) -> tuple[str, ...]:
    """What a model reads for each candidate."""
    if not self.question:
      return self.answers
    return tuple(Pair(self.question, answer) for answer in self.answers)


@dataclasses.dataclass(frozen=True)
class Candidates:
  """What `tokens.Tokens` is, for questions: the tokens of all candidates, in a line.

  `flat` has the tokens (or the types of the tokens) of every candidate of all
  questions, one question after the other. `counts` int (n,) says how many candidates
  each question has.
  """

  flat: Any
  counts: np.ndarray

  def __len__(self) -> int:
    return len(self.counts)

  def __getitem__(self, i: int) -> np.ndarray:
    return np.concatenate([self.flat[place] for place in self.places(i)])

  def places(self, i: int) -> range:
    """The numbers of the candidates of a question among all candidates."""
    return range(self._starts[i], self._starts[i + 1])

  @functools.cached_property
  def lengths(self) -> np.ndarray:
    """How many tokens the candidates of each question have together, int32 (n,)."""
    # From the cumulative lengths: a question may have any number of candidates.
    ends = np.concatenate([[0], np.cumsum(self.flat.lengths, dtype=np.int64)])
    return np.diff(ends[self._starts]).astype(np.int32)

  @functools.cached_property
  def index(self) -> np.ndarray:
    return np.arange(len(self), dtype=np.int32)

  @functools.cached_property
  def most(self) -> int:
    """The most candidates of a question."""
    return int(np.max(self.counts))

  @functools.cached_property
  def _starts(self) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(self.counts, dtype=np.int64)])

  def fill(
    self, members: Sequence[int], row_length: int, examples_per_row: int
  ) -> dict[str, np.ndarray]:
    """The parts of a row of questions that differ from those of whole examples.

    `segments` int32 (row_length,) count the candidates from 1, and `positions` begin
    anew in each. `examples` int32 (examples_per_row, most) has the segments of the
    candidates of every question, 0 for none.
    """
    segments = np.zeros(row_length, np.int32)
    positions = np.zeros(row_length, np.int32)
    examples = np.zeros((examples_per_row, self.most), np.int32)
    start = 0
    segment = 0
    for place, member in enumerate(members):
      for number, candidate in enumerate(self.places(int(member))):
        # No candidate sees another one, nor what is of another question.
        segment += 1
        stop = start + int(self.flat.lengths[candidate])
        segments[start:stop] = segment
        positions[start:stop] = np.arange(stop - start)
        examples[place, number] = segment
        start = stop
    return dict(segments=segments, positions=positions, examples=examples)


def flattened(texts: Sequence[Choices]) -> tuple[list[str], np.ndarray]:
  """(what a model reads for all candidates of all questions, the number of each).

  >>> flattened([Choices('', ('a', 'b')), Choices('', ('c',))])[0]
  ['a', 'b', 'c']
  """
  flat = []
  counts = []
  for text in texts:
    candidates = text.candidates
    flat += candidates
    counts.append(len(candidates))
  return flat, np.array(counts, np.int64)


def are_choices(texts: Sequence[str]) -> bool:
  """Has each of these texts candidates? There is no mixture of the two."""
  return bool(texts) and isinstance(texts[0], Choices)
