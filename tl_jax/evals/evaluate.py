"""Outputs of a classifier for every example of a pass, once each, whatever the batches
and the devices.

>>> batch = {'identifiers': np.array([[1, 0], [-1, -1]])}
>>> def apply(params, batch):
...   return np.arange(4.0).reshape(2, 2, 1)
>>> outputs(apply, None, [batch], count=2).tolist()
[[1.0], [0.0]]
"""

from collections.abc import Callable, Iterable

import numpy as np


def outputs(apply: Callable, params, batches: Iterable[dict], count: int) -> np.ndarray:
  """The logits of each example: float32 (count, labels).

  Every example must come exactly once, so that no score is ever of fewer examples than
  it says.

  Args:
    apply: apply(params, batch) gives logits (rows, examples, labels).
    batches: dicts of arrays. `identifiers` (rows, examples) has the number of each
      example, -1 in an empty place.
    count: how many examples there are.
  Raises ValueError with the number of examples that did not come exactly once.
  """
  # The number of labels is known from the first logits only.
  found = None
  seen = np.zeros(count, np.int32)
  for batch in batches:
    logits = np.asarray(apply(params, batch), np.float32)
    identifiers = batch['identifiers']
    filled = identifiers >= 0
    if found is None:
      found = np.zeros((count, logits.shape[-1]), np.float32)
    found[identifiers[filled]] = logits[filled]
    # Not `seen[...] += 1`, which counts an example once that comes twice in a batch.
    np.add.at(seen, identifiers[filled], 1)
  wrong = int((seen != 1).sum())
  if wrong:
    raise ValueError(
      f'evaluation: {wrong} of {count} examples did not come exactly once'
    )
  return found
