"""The shape of an objective: what it draws, what it weighs, what it sums.

>>> term = Term(sum=6.0, coefficient=0.5)
>>> term.coefficient * term.sum / 3.0
1.0
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

Array = Any
Batch = dict[str, Array]
# The kinds of models.
MODELS = ('encoder', 'decoder', 'encoder-decoder')


class Term(NamedTuple):
  """One term of a loss.

  sum: a weighted sum, scalar float32, that is not yet divided by its weight.
  coefficient: what the term is multiplied with.
  """

  sum: Array
  coefficient: float = 1.0


class Mean(NamedTuple):
  """A metric as a weighted sum and its weight, two scalars.

  So metrics of several batches can be added up before they are divided. Weight 0 means
  that there is no value.
  """

  sum: Array
  weight: Array


class Prediction(NamedTuple):
  """How the outputs of a model for an example are read, as pure functions.

  weights(batch) -> float32: 1 for every real example, 0 for the rest. Its shape is that
    of the examples of a batch; of texts to write, every token is one.
  divergence(first, second, labels) -> for each example, how far two outputs (...,
    outputs) predict different things, 0 where they agree. labels are the batch's, None
    where it has none.
  log_probabilities(outputs, labels) -> (..., cases), whose exponentials say how likely
    each case is. Of several independent decisions every decision has cases of its own.
    None where the outputs are no probabilities.
  """

  weights: Callable[[Batch], Array]
  divergence: Callable[[Array, Array, Array], Array]
  log_probabilities: Callable[[Array, Array], Array] | None = None


class Segments(NamedTuple):
  """What an objective wants of the documents of a mixture, where it reads pairs of
  segments instead of texts.

  swaps, short: as of `data.segment_pairs.Rules`. sentences: as of
  `data.sentences.documents`. duplicates: how many times the documents are cut.
  """

  swaps: bool
  short: float
  duplicates: int
  sentences: str


class Objective(NamedTuple):
  """What a model is trained to do, as pure functions.

  prepare(key, batch) -> Batch draws everything random. It sees the whole global batch,
    before that is split in any way. Every array that it adds has the rows as its first
    axis.
  weights(batch) -> {term: scalar float32} is the total weight of each term. It depends
    on the prepared batch alone.
  loss(forward, batch, key) -> ({term: Term}, {metric: Mean}). `key` None means
    evaluation: `train=False`, no dropout.
  prediction says how the outputs for an example are read. None where they predict
    nothing of an example.
  inputs(lengths) -> int array: how many tokens, at most, the model is given of texts of
    these lengths. It does not fall with the length. None: as many.
  segments: which pairs it reads. None: texts as they are.

  The loss of a step is the sum over terms of coefficient * sum / weight, 0 where the
  weight is 0. Both sums are taken over the global batch, so that sharding, accumulation
  and packing change nothing.
  """

  prepare: Callable[[Array, Batch], Batch]
  weights: Callable[[Batch], dict[str, Array]]
  loss: Callable[[Callable, Batch, Array], tuple[dict[str, Term], dict[str, Mean]]]
  prediction: Prediction | None = None
  inputs: Callable[[Any], Any] | None = None
  segments: Segments | None = None


class Entry(NamedTuple):
  """An objective as a config names it.

  make(**options, **facts) -> Objective: the constructor.
  head: the head of the model whose outputs it reads.
  kinds: the kinds of model that can have it.
  reads: what its batches hold: text alone, text with a target text, or text with
    labels.
  facts(tokenizer, length) -> dict: the arguments of `make` that no config gives.
    `length` counts the tokens of a row.
  fields: what else of the model's architecture it asks for.
  """

  make: Callable[..., Objective]
  head: str
  kinds: tuple[str, ...]
  reads: Literal['text', 'pairs', 'labels'] = 'text'
  facts: Callable[[Any, int], dict] = lambda tokenizer, length: {}
  fields: dict = {}
