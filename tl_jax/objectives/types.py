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
  """One term of a loss: a weighted sum (scalar float32), not yet divided, and the
  coefficient of the term.
  """

  sum: Array
  coefficient: float = 1.0


class Mean(NamedTuple):
  """A metric as a weighted sum and its weight (scalars): sums over batches divide
  exactly. Weight 0 means no value.
  """

  sum: Array
  weight: Array


class Prediction(NamedTuple):
  """How the outputs of a model for an example are read as what it predicts, each a pure
  function.

  weights(batch) -> float32: 1 for every real example, 0 for the rest; its shape is that
  of the examples of a batch.
  divergence(first, second, labels) -> for each example, how far two outputs (...,
    outputs) predict different things, 0 where they agree. labels are the batch's.
  log_probabilities(outputs, labels) -> (..., cases), whose exponentials say how likely
    each case is; None where the outputs are no probabilities. Of several independent
    decisions every decision has cases of its own.
  """

  weights: Callable[[Batch], Array]
  divergence: Callable[[Array, Array, Array], Array]
  log_probabilities: Callable[[Array, Array], Array] | None = None


class Objective(NamedTuple):
  """Three pure functions; every array that they put into a batch has the rows as its
  first axis.

  prepare(key, batch) -> Batch draws everything random, on the whole global batch before
  it is split in any way;
  weights(batch) -> {term: scalar float32} is the total weight of each term, a function
  of the prepared batch alone;
  loss(forward, batch, key) -> ({term: Term}, {metric: Mean}); `key` None means
  evaluation: `train=False`, no dropout.

  prediction says how its outputs are read, where they predict something of an example;
  else it is None.
  inputs(lengths) -> int array: how many tokens the model is given, at most, of texts of
  so many tokens, where these are not as many; it does not fall. None: as many.

  The loss of a step is the sum over terms of coefficient * sum / weight, with both sums
  taken over the global batch and 0 where the weight is 0, so that sharding,
  accumulation and packing change nothing.
  """

  prepare: Callable[[Array, Batch], Batch]
  weights: Callable[[Batch], dict[str, Array]]
  loss: Callable[[Callable, Batch, Array], tuple[dict[str, Term], dict[str, Mean]]]
  prediction: Prediction | None = None
  inputs: Callable[[Any], Any] | None = None
