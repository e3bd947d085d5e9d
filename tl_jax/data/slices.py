"""Which examples of a file an expression over its splits names.

>>> select('a.csv', ['train', 'test', 'train', 'train'], 'train[:2]+test').tolist()
[0, 2, 1]
"""

import re
from collections.abc import Sequence

import numpy as np

# The split that is the whole file, in its order.
ALL = 'all'
# A split with a range, as train[:10%] or train[100:200].
_SPLIT = re.compile(r'\s*([\w.-]+)\s*(?:\[(-?\d+%?)?:(-?\d+%?)?\])?\s*')


def select(
  path, splits: Sequence[str], expression: str, divided: bool = False
) -> np.ndarray:
  """The numbers of the examples that an expression like `train[:10%]+test` names, (n,).

  splits: of each example. divided: do they come from hashes? path: what errors name.
  Raises ValueError for a split that is not there, and where nothing is left.
  """
  splits = np.asarray(splits)
  found = []
  for part in expression.split('+'):
    match = _SPLIT.fullmatch(part)
    name = match.group(1) if match else part
    own = np.arange(len(splits)) if name == ALL else np.flatnonzero(splits == name)
    if not len(own):
      raise _no_split(path, splits, name, divided)
    start = _bound(match.group(2), len(own))
    stop = _bound(match.group(3), len(own))
    # As slices in Python: bounds beyond the end are the end.
    found.append(own[start:stop])
  places = np.concatenate(found)
  if not len(places):
    raise ValueError(f'{path}: split {expression!r} has no examples')
  return places


def _no_split(path, splits, name: str, divided: bool) -> ValueError:
  # Both splits by hash are there unless there is only one text to divide.
  why = ''
  if divided and name in ('train', 'test'):
    why = ', where all texts are equal'
  there = ', '.join(sorted(set(splits)))
  return ValueError(f'{path}: no split {name!r}{why}; it has {there}')


def _bound(text: str | None, count: int) -> int | None:
  """A bound of a range, as a number of examples: `10%`, `100` or nothing."""
  if text is None:
    return None
  if text.endswith('%'):
    return round(count * int(text[:-1]) / 100)
  return int(text)
