"""The shape of an objective: what it draws, what it weighs, what it sums.

>>> term = Term(sum=6.0, coefficient=0.5)
>>> term.coefficient * term.sum / 3.0
1.0
"""

from collections.abc import Callable
from typing import Any, NamedTuple

Array = Any
Batch = dict[str, Array]


class Term(NamedTuple):
  """One term of a loss: a weighted sum (scalar float32), not yet divided, and the coefficient of the term."""
  sum: Array
  coefficient: float = 1.0


class Mean(NamedTuple):
  """A metric as a weighted sum and its weight (scalars): sums over batches divide exactly. Weight 0 means no value."""
  sum: Array
  weight: Array


class Objective(NamedTuple):
  """Three pure functions; every array that they put into a batch has the rows as its first axis.

  prepare(key, batch) -> Batch draws everything random, on the whole global batch before it is split in any way;
  weights(batch) -> {term: scalar float32} is the total weight of each term, a function of the prepared batch alone;
  loss(forward, batch, key) -> ({term: Term}, {metric: Mean}); `key` None means evaluation: `train=False`, no dropout.

  The loss of a step is the sum over terms of coefficient * sum / weight, with both sums taken over the global batch
  and 0 where the weight is 0, so that sharding, accumulation and packing change nothing.
  """
  prepare: Callable[[Array, Batch], Batch]
  weights: Callable[[Batch], dict[str, Array]]
  loss: Callable[[Callable, Batch, Array], tuple[dict[str, Term], dict[str, Mean]]]
