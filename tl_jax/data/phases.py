"""Rows that change on the way of a run: few before many, short before long.

>>> growing = Sizes((0, 10), (4, 16))
>>> growing.at(9), growing.at(10), growing.before(12)
(4, 16, 72)
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Sizes(NamedTuple):
  """How many rows the steps of a stream have.

  From the step `firsts[i]` on they have `rows[i]`; the first of them is step 0. A stream
  that is not read for a while has steps of no rows.
  """

  firsts: tuple[int, ...]
  rows: tuple[int, ...]

  def at(self, step: int) -> int:
    """The number of rows of a step."""
    return self.rows[self._number(step)]

  def before(self, step: int) -> int:
    """How many rows all steps before this one have."""
    number = self._number(step)
    whole = 0
    for place in range(number):
      steps = self.firsts[place + 1] - self.firsts[place]
      whole += steps * self.rows[place]
    return whole + (step - self.firsts[number]) * self.rows[number]

  def changes(
    self, changes: Sequence[tuple[int, Mapping[str, float]]], names: Sequence[str]
  ) -> list[tuple[int, dict[str, float]]]:
    """The rows at which weights change, with those of the sources `names`, from the
    steps at which they do.
    """
    rows = {}
    for step, weights in changes:
      # Of stages that begin at the same row, as no row was read between, the last one.
      rows[self.before(step)] = {name: weights[name] for name in names}
    return list(rows.items())

  def _number(self, step: int) -> int:
    """Which of the sizes holds at a step."""
    # They are few, and this is asked for every step: no array is worth it.
    number = len(self.firsts) - 1
    while self.firsts[number] > step:
      number -= 1
    return number


class Phased(NamedTuple):
  """Streams of rows of different lengths, of which every step reads one.

  streams: all of the same sources; each has rows in its own steps alone. firsts: the
  steps from which on another stream is read, the first of them 0. numbers: which one.
  """

  streams: tuple[Any, ...]
  firsts: tuple[int, ...]
  numbers: tuple[int, ...]

  def batch_at(self, step: int, rows=None) -> dict[str, np.ndarray]:
    """The batch of a step, or its rows with the numbers `rows`."""
    return self._at(step).batch_at(step, rows)

  def tokens_at(self, step: int) -> int:
    """How many tokens the whole batch of a step holds, padding not counted."""
    return self._at(step).tokens_at(step)

  def epoch_of(self, step: int) -> dict[str, int]:
    """The epoch that each source is in, of rows as long as those of this step."""
    return self._at(step).epoch_of(step)

  def passes(self, steps: int) -> dict[str, tuple[int, float]]:
    """{source: (its rows, its passes)} of the first `steps` steps."""
    rows = dict.fromkeys(self.names, 0)
    passes = dict.fromkeys(self.names, 0.0)
    for stream in self.streams:
      for name, (own_rows, own_passes) in stream.passes(steps).items():
        rows[name] += own_rows
        passes[name] += own_passes
    return {name: (rows[name], passes[name]) for name in self.names}

  @property
  def names(self) -> Sequence[str]:
    """The sources."""
    return self.streams[0].names

  @property
  def parts(self) -> Sequence:
    """The sources as the last step reads them."""
    return self.streams[self.numbers[-1]].parts

  def _at(self, step: int):
    """The stream of a step."""
    number = Sizes(self.firsts, self.numbers).at(step)
    return self.streams[number]
