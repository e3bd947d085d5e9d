"""What a held body says of the examples: a transfer that trains its head alone runs the
body once for each of them.

>>> import numpy as np
>>> known = Features(np.array([-1, 0]), np.array([[0.5, 2.0]]))
>>> known.put(dict(identifiers=np.array([[1, -1]]), tokens=None))['features'].tolist()
[[[0.5, 2.0], [0.0, 0.0]]]
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from tl_jax import models, parallel, tree
from tl_jax.train import assembly, programs
from tl_jax.train.compilation import together
from tl_jax.train.datasets import Labelled, TaskExamples, labelled_pass

# of a pass over examples, about: small training batches would leave a device idle
ROWS = 32


class Features(NamedTuple):
  """vectors (m, width) of some of n examples; place (n,) says which vector is an
  example's, -1 for none.
  """

  place: np.ndarray
  vectors: np.ndarray

  def put(self, batch: dict) -> dict:
    """A batch of labelled rows with `features` (rows, examples, width) in the place of
    its tokens.
    """
    identifiers = batch['identifiers']
    found = self.vectors[self.place[identifiers]]
    # An empty place has read a vector of another, for -1 is an index, too.
    found = np.where(identifiers[..., None] < 0, np.zeros_like(found), found)
    return {
      name: value
      for name, value in batch.items()
      if name not in ('tokens', 'positions', 'types')
    } | dict(features=found)


class Featured(NamedTuple):
  """A stream of rows with features in the place of tokens."""

  stream: Any
  features: Features

  def batch_at(self, step: int, rows=None) -> dict:
    """The batch of a step, or its rows with the numbers `rows`, as of the stream
    itself.
    """
    return self.features.put(self.stream.batch_at(step, rows))

  def tokens_at(self, step: int) -> int:
    """How many tokens the features of a step's whole batch stand for."""
    return self.stream.tokens_at(step)


class EvaluationInputs:
  """The batches of a task's examples as a forward pass reads them: laid into rows of the
  training shape, and on the mesh when they are read.
  """

  def __init__(self, corpus: TaskExamples, parts: assembly.Components, sharding=None):
    self._corpus, self._arch, self._sharding = corpus, parts.model.arch, sharding
    batch = corpus.group.batch
    self._rows = batch * max(1, ROWS // batch)
    # Kept, because a cohort goes through them hundreds of times.
    self.test = list(self.batches(corpus.test))

  def batches(self, split: Labelled, subset=None) -> Iterator[dict]:
    """The batches of a split, or of its examples with the numbers in `subset`.

    Raises ValueError for ids that the model has no row for: an accelerator would read
    another row and say nothing.
    """
    group, pad = self._corpus.group, self._corpus.pad
    for batch in labelled_pass(group, split, pad, self._rows, subset):
      models.require_rows(self._arch, batch)
      yield batch

  def place(self, batch: dict) -> dict:
    """The batch where the step's batches are."""
    if self._sharding is None:
      return batch
    return parallel.place_batch(batch, self._sharding, self._rows)


class FeatureCache:
  """What a held body says of a task's examples: it runs once for each of them.

  Of the test split it keeps what the body said that was seen last.
  """

  def __init__(
    self, corpus: TaskExamples, parts: assembly.Components, inputs: EvaluationInputs
  ):
    self._corpus, self._inputs = corpus, inputs
    self._read = together(programs.features(parts))
    self._mark = together(programs.marks())
    # Of one body: the members of a cohort come one after the other, most often with
    # the same.
    self._body = self._test = None

  def featured(self, stream, state, first: int, last: int) -> Featured:
    """The stream with features in the place of tokens, from step `first` to `last`."""
    needed = stream.members(first, last)
    return Featured(stream, self._run(state, self._corpus.train, needed))

  def test(self, state) -> list[dict]:
    """The batches of the test split, with features of the body of this state."""
    # By its bits: members of a cohort may have one body or bodies of their own.
    mark = np.asarray(parallel.to_host(self._mark(state.frozen)))
    if self._body is None or not np.array_equal(mark, self._body):
      split = self._corpus.test
      features = self._run(state, split, np.arange(len(split.examples)))
      self._test = [features.put(batch) for batch in self._inputs.test]
      self._body = mark
    return self._test

  def batches(self, split: Labelled, numbers: np.ndarray, state) -> Iterator[dict]:
    """The batches of some examples of a split, with features of the body of a state."""
    features = self._run(state, split, numbers)
    return map(features.put, self._inputs.batches(split, numbers))

  def _run(self, state, split: Labelled, needed: np.ndarray) -> Features:
    """The features of the examples of a split with these numbers."""
    place, vectors = np.full(len(split.examples), -1), None
    place[needed] = np.arange(len(needed))
    for batch in self._inputs.batches(split, needed):
      found = parallel.to_host(self._read(state, self._inputs.place(batch)))
      # Those of all candidates of a question are one vector.
      found = found.reshape(*batch['identifiers'].shape, -1)
      real = batch['identifiers'] >= 0
      # Only the first batch says how wide they are, and of which dtype.
      if vectors is None:
        vectors = np.zeros((len(needed), found.shape[-1]), found.dtype)
      vectors[place[batch['identifiers'][real]]] = found[real]
    return Features(place, vectors)


def holds_body(parts: assembly.Components) -> bool:
  """Is nothing trained but what a new task brings?

  That is a head, and a pooler where the body has none. A head of tokens reads all that
  the body says, which would be too much to keep.
  """
  if parts.model.arch.reads_tokens:
    return False
  trained, _ = parts.method.axes(parts.model.axes)
  return all(map(tree.matcher(assembly.HEAD_PATTERNS), tree.flatten(trained)))
