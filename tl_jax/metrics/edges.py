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
  """The number of examples.

  Errors: ValueError where the two differ in length, or either is a scalar or text.
  """
  for name, values in (('predictions', predictions), ('references', references)):
    # A text has a length, but its characters are no examples.
    if isinstance(values, str) or not hasattr(values, '__len__'):
      kind = type(values).__name__
      raise ValueError(
        f'{what}: {name} must be a list or an array of examples, not {kind}'
      )
  if len(predictions) != len(references):
    raise ValueError(
      f'{what}: {len(predictions)} predictions for {len(references)} references'
    )
  return len(references)


def finite(value) -> float:
  """The value as a float that JSON can hold.

  Overflow becomes the largest float. Errors: ValueError for NaN.
  """
  value = float(value)
  if math.isnan(value):
    raise ValueError('a metric came out as NaN')
  return min(max(value, -sys.float_info.max), sys.float_info.max)


def labels(values, what: str, name: str) -> np.ndarray:
  """Class labels (n,) or indicators (n, labels) as an array.

  Errors: ValueError for real numbers, missing values or NaN.
  """
  array = np.asarray(values)
  # Whole numbers as floats are labels: so they come out of many a table.
  if array.dtype.kind == 'f':
    if not np.isfinite(array).all() or (array != np.round(array)).any():
      raise ValueError(f'{what}: {name} must be class labels, not real numbers or NaN')
    return array.astype(np.int64)
  if array.dtype.kind not in 'biuUS':
    raise ValueError(
      f'{what}: {name} must be integers, booleans or text, all of one kind'
    )
  if array.dtype.kind == 'b':
    return array.astype(np.int64)
  return array


def reals(values, what: str, name: str) -> np.ndarray:
  """Real values (n,) or (n, 1) as a float64 array (n,).

  Errors: ValueError for values that are not finite, and for another shape.
  """
  try:
    array = np.asarray(values, np.float64)
  except (TypeError, ValueError) as error:
    raise ValueError(f'{what}: {name} must be real numbers') from error
  several_columns = array.ndim == 2 and array.shape[1] != 1 and array.size
  if array.ndim > 2 or several_columns:
    raise ValueError(
      f'{what}: {name} must be one real number per example, not the shape {array.shape}'
    )
  if not np.isfinite(array).all():
    row = int(np.argwhere(~np.isfinite(array))[0][0])
    raise ValueError(f'{what}: {name} has a value that is not finite at example {row}')
  return array.reshape(-1)
