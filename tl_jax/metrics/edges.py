"""What every metric checks first, so that no edge is left to a library's taste.

>>> same_length([1, 2], [2, 1], 'accuracy')
2
>>> finite(float('inf')) < float('inf')
True
"""

import math
import sys

import numpy as np


def same_length(predictions, references, what: str) -> int:
  """The number of examples; ValueError when the two differ in length or either has none
  by being a scalar or text.
  """
  for name, values in (('predictions', predictions), ('references', references)):
    if isinstance(values, str) or not hasattr(values, '__len__'):
      raise ValueError(
        f'{what}: {name} must be a list or an array of examples, not {type(values).__name__}'
      )
  if len(predictions) != len(references):
    raise ValueError(
      f'{what}: {len(predictions)} predictions for {len(references)} references'
    )
  return len(references)


def finite(value) -> float:
  """The value as a float that JSON can hold: overflow becomes the largest float; NaN is
  a ValueError.
  """
  value = float(value)
  if math.isnan(value):
    raise ValueError('a metric came out as NaN')
  return min(max(value, -sys.float_info.max), sys.float_info.max)


def labels(values, what: str, name: str) -> np.ndarray:
  """Class labels (n,) or indicators (n, labels) as an array; ValueError for real
  numbers, missing values or NaN.
  """
  array = np.asarray(values)
  if array.dtype.kind == 'f':
    if not np.isfinite(array).all() or (array != np.round(array)).any():
      raise ValueError(f'{what}: {name} must be class labels, not real numbers or NaN')
    return array.astype(np.int64)
  if array.dtype.kind not in 'biuUS':
    raise ValueError(
      f'{what}: {name} must be integers, booleans or text, all of one kind'
    )
  return array.astype(np.int64) if array.dtype.kind == 'b' else array


def reals(values, what: str, name: str) -> np.ndarray:
  """Real values as a flat float64 array; (n, 1) is read as (n,); ValueError for
  anything not finite.
  """
  try:
    array = np.asarray(values, np.float64)
  except (TypeError, ValueError) as error:
    raise ValueError(f'{what}: {name} must be real numbers') from error
  if array.ndim > 2 or (array.ndim == 2 and array.shape[1] != 1 and array.size):
    raise ValueError(
      f'{what}: {name} must be one real number per example, not the shape {array.shape}'
    )
  if not np.isfinite(array).all():
    row = int(np.argwhere(~np.isfinite(array))[0][0])
    raise ValueError(f'{what}: {name} has a value that is not finite at example {row}')
  return array.reshape(-1)
