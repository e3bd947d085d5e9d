"""Outputs of a classifier for every example of a pass, once each, whatever the batches
and the devices.

>>> import numpy as np
>>> batch = {'identifiers': np.array([[1, 0], [-1, -1]])}
>>> outputs(lambda params, batch: np.arange(4.0).reshape(2, 2, 1), None, [batch], count=2).tolist()
[[1.0], [0.0]]
"""

from collections.abc import Callable, Iterable

import numpy as np


def outputs(apply: Callable, params, batches: Iterable[dict], count: int) -> np.ndarray:
  """float32 (count, labels): what `apply(params, batch)` -> (rows, slots, labels) says
  of each example.

  A batch has `identifiers` (rows, slots): the example in each slot, -1 for none. Every
  example must come exactly once; ValueError names the number that did not, so that no
  score is ever of fewer examples than it says.
  """
  found, seen = None, np.zeros(count, np.int32)
  for batch in batches:
    logits = np.asarray(apply(params, batch), np.float32)
    real = batch['identifiers'] >= 0
    if found is None:
      found = np.zeros((count, logits.shape[-1]), np.float32)
    found[batch['identifiers'][real]] = logits[real]
    np.add.at(seen, batch['identifiers'][real], 1)
  if (seen != 1).any():
    raise ValueError(
      f'evaluation: {int((seen != 1).sum())} of {count} examples did not come exactly once'
    )
  return found
