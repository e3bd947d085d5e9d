"""What files hold where a value is missing.

>>> is_missing(None), is_missing(float('nan')), is_missing(' NaN '), is_missing('None')
(True, True, True, False)
>>> may_be_missing('None'), may_be_missing('no')
(True, False)
"""

import math
from typing import Any

# An empty cell and NaN are what pandas writes, and <NA> where it made texts of all
# values. The others are what Excel, SQL and MySQL write.
WORDS = ('', 'nan', '<na>', '#n/a', 'null', '\\n')
# These stand for a missing value in some files, and for a class like any other in some.
DOUBTFUL = ('none', 'n/a', 'na')


def is_missing(value: Any) -> bool:
  """Does a cell hold nothing, or what says that there is nothing?"""
  if isinstance(value, str):
    return value.strip().casefold() in WORDS
  if isinstance(value, float):
    return math.isnan(value)
  return value is None


def may_be_missing(value: Any) -> bool:
  """Is this a word that other values of the column must tell the meaning of?"""
  return isinstance(value, str) and value.strip().casefold() in DOUBTFUL
