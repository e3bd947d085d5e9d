"""What a held body says of the examples: a transfer that trains its head alone runs the
body once for each of them.

>>> import numpy as np
>>> known = Features(np.array([-1, 0]), np.array([[0.5, 2.0]]))
>>> known.put(dict(identifiers=np.array([[1, -1]]), tokens=None))['features'].tolist()
[[[0.5, 2.0], [0.0, 0.0]]]
"""

from typing import Any, NamedTuple

import numpy as np

from tl_jax import models, parallel, tree
from tl_jax.train import assembly, datasets, programs
from tl_jax.train.compilation import together

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
    found = np.where(identifiers[..., None] < 0, np.zeros_like(found), found)
    return {
      name: value
      for name, value in batch.items()
      if name not in ('tokens', 'positions')
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


class Reader:
  """What a run's steps and its evaluation read: texts, or where the body is held what
  it says of them.
  """

  def __init__(self, ready, sharding=None):
    self.ready, self._sharding = ready, sharding
    self.held = holds_body(ready.parts)
    self._read = together(programs.features(ready.parts))
    self._mark = together(programs.marks())
    # Kept, because a cohort goes through them hundreds of times; with features, those
    # of the body seen last.
    self._test = list(self._pass(ready.test))
    self._body = self._featured = None

  def stream(self, stream, state, first: int = 0):
    """The stream as the step wants it, for a run of this state from step `first` to its
    last.
    """
    if not self.held:
      return stream
    needed = stream.members(first, self.ready.settings.schedule.steps)
    return Featured(stream, self._run(state, self.ready.train, needed))

  def evaluation(self, state) -> list[dict]:
    """The batches of the test split, for a state."""
    if not self.held:
      return self._test
    mark = np.asarray(parallel.to_host(self._mark(state.frozen)))
    if self._body is None or not np.array_equal(mark, self._body):
      features = self._run(
        state, self.ready.test, np.arange(len(self.ready.test.examples))
      )
      self._body, self._featured = mark, [features.put(batch) for batch in self._test]
    return self._featured

  def place(self, batch: dict) -> dict:
    """A batch of `evaluation` where the step's batches are."""
    return (
      batch
      if self._sharding is None
      else parallel.place_batch(batch, self._sharding, self._rows)
    )

  @property
  def _rows(self) -> int:
    batch = self.ready.settings.data.batch
    return batch * max(1, ROWS // batch)

  def _pass(self, split: datasets.Labelled, subset=None):
    """Batches of a split. Raises ValueError for ids that the model has no row for."""
    arch = self.ready.parts.model.arch
    for batch in datasets.labelled_pass(
      self.ready.settings, split, self.ready.tokenizer, self._rows, subset
    ):
      models.require_rows(arch, batch)
      yield batch

  def _run(self, state, split: datasets.Labelled, needed: np.ndarray) -> Features:
    """The features of the examples of a split with these numbers."""
    place, vectors = np.full(len(split.examples), -1), None
    place[needed] = np.arange(len(needed))
    for batch in self._pass(split, needed):
      found = parallel.to_host(self._read(state, self.place(batch)))
      real = batch['identifiers'] >= 0
      if vectors is None:
        vectors = np.zeros((len(needed), found.shape[-1]), found.dtype)
      vectors[place[batch['identifiers'][real]]] = found[real]
    return Features(place, vectors)


def holds_body(parts: assembly.Components) -> bool:
  """Is nothing trained but what a new task brings?

  That is a head, and a pooler where the body has none.
  """
  trained, _ = parts.method.axes(parts.model.axes)
  return all(map(tree.matcher(assembly.HEAD_PATTERNS), tree.flatten(trained)))
