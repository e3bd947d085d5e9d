"""Batches for many runs in one step: each member has its own seed and subset, all have one shape.

>>> import numpy as np
>>> from tl_jax.data import tokens
>>> data = pipeline.Examples(tokens.TokenList([np.arange(1, n) for n in (4, 6, 3, 5)]), np.array([0, 1, 0, 1]))
>>> group = cohort(data, [(0, [0, 1, 2]), (1, [1, 2, 3])], batch=2, length=8, slots=4, steps=5)
>>> group.batch_at(0)['tokens'].shape[0], group.batch_at(4)['labels'].shape[2]
(2, 4)
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tl_jax.data import pipeline, subsets


@dataclasses.dataclass(frozen=True)
class Cohort:
  """`batch_at(step)` gives arrays (members, rows, ...); `member(step, m)` the rows of one member."""
  examples: pipeline.Examples
  members: tuple[tuple[int, np.ndarray], ...]
  layout: pipeline.Layout
  size: int
  rows: int

  def member(self, step: int, member: int) -> dict[str, np.ndarray]:
    """The batch of one member: a function of its seed, its subset and the step, not of the other members.

    The number of rows alone is common; ValueError if a step beyond those planned needs more of them.
    """
    seed, subset = self.members[member]
    plan = self.layout.plan(self.examples, chosen(step, self.size, seed, subset))
    if plan.rows > self.rows:
      raise ValueError(f'cohort: step {step} of member {member} needs {plan.rows} rows, {self.rows} were planned')
    return self.layout.batch(self.examples, [plan[row] for row in range(plan.rows)], self.rows)

  def batch_at(self, step: int) -> dict[str, np.ndarray]:
    """The batches of all members, stacked."""
    found = [self.member(step, member) for member in range(len(self.members))]
    return {name: np.stack([batch[name] for batch in found]) for name in found[0]}


def chosen(step: int, size: int, seed: int, subset: np.ndarray) -> np.ndarray:
  """The `size` examples of a step: places step*size.. of the endless sequence of the subset's shuffled epochs."""
  count = len(subset)
  first, last = step * size, (step + 1) * size
  found = []
  for epoch in range(first // count, (last - 1) // count + 1):
    order = subset[subsets.permutation(count, subsets.seed_of(seed, 'source/'), epoch)]
    found.append(order[max(first - epoch * count, 0):last - epoch * count])
  return np.concatenate(found)


def cohort(examples: pipeline.Examples, members: Sequence[tuple[int, Sequence[int]]], *, batch: int, length: int,
           slots: int, steps: int, pad: int = 0, multiple: int = 1, target_length: int | None = None,
           pack: bool = True) -> Cohort:
  """Plans a cohort: members [(seed, indices)], `batch` examples per step and member, in rows of one common number.

  The rows are the most that any member needs in any of `steps` steps (known in advance, because the order is a
  function of seed and step), rounded up to `multiple`. Raises ValueError for a member without examples.
  """
  layout = pipeline.Layout(length, slots if pack else 1, target_length, pad, pack)
  planned = tuple((int(seed), np.asarray(subset, np.int64)) for seed, subset in members)
  if not planned or batch < 1 or steps < 1:
    raise ValueError(f'cohort: {len(planned)} members, {batch} examples per step, {steps} steps')
  for number, (_, subset) in enumerate(planned):
    if not len(subset):
      raise ValueError(f'cohort: member {number} has no examples')
  rows = max(most_rows(examples, layout, seed, subset, batch, steps) for seed, subset in planned)
  return Cohort(examples, planned, layout, batch, -(-rows // multiple) * multiple)


def most_rows(examples: pipeline.Examples, layout: pipeline.Layout, seed: int, subset: np.ndarray, batch: int,
              steps: int) -> int:
  """The most rows that one member needs in any of its steps."""
  if not layout.pack:
    return batch
  return max(layout.plan(examples, chosen(step, batch, seed, subset)).rows for step in range(steps))
