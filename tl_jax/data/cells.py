"""The cells of a row of a user's file: a text, a label, or several of them.

>>> label('a.csv', 2, dict(label=' pos '), ('label',), labelled=True)
{'label': 'pos'}
>>> label('a.csv', 2, dict(price='1', speed='0'), ('price', 'speed'), labelled=True)
{'label': ['price']}
"""

import math
from typing import Any

from tl_jax.data import missing, tokenizers
from tl_jax.data.separated import NoColumn

# How files write 1 and 0 in a column that says whether an example has a label.
# A column with a missing value has 1.0 and 0.0 once pandas wrote it.
YES = (1, '1', '1.0', 'true', 'True', 'TRUE')
NO = (0, '0', '0.0', 'false', 'False', 'FALSE')


def text_in(file, line: int, row: dict, name: str) -> str:
  """The text in one column of a row."""
  value = row.get(name)
  if name in row and not isinstance(value, str) and missing.is_missing(value):
    value = ''
  if not isinstance(value, str):
    raise wrong(file, line, row, name, wanted='a text')
  return tokenizers.plain(value)


def label(
  file, line: int, row: dict, names: tuple[str, ...], labelled: bool
) -> dict[str, Any]:
  """{'label': value} of a row, a missing value as it stands; {} without a column.

  labelled: has every row the column?
  """
  if len(names) > 1:
    return {'label': _indicated(file, line, row, names)}
  if not names:
    return {}
  (name,) = names
  if name not in row and not labelled:
    return {}
  value = row.get(name)
  if isinstance(value, str):
    value = value.strip()
  if name in row and missing.is_missing(value):
    return {'label': value}
  values = value if isinstance(value, list) else [value]
  if not all(map(_is_label, values)):
    raise wrong(file, line, row, name, wanted='a label, which is a text or a number')
  return {'label': value}


def _is_label(value) -> bool:
  """Is this a text, or a number that is one?"""
  if isinstance(value, float):
    return math.isfinite(value)
  if isinstance(value, str):
    # Two halves of characters would become one label.
    return bool(value.strip()) and value == tokenizers.plain(value)
  return isinstance(value, int)


def listed(
  file, line: int, row: dict, names: tuple[str, ...], labelled: bool
) -> dict[str, Any]:
  """{'label': the texts of the columns}; of a row without the first {'label': None}.

  Raises ValueError for one that holds no text.
  """
  del labelled
  texts = [text_in(file, line, row, name).strip() for name in names]
  return {'label': [text for text in texts if text] if texts[0] else None}


def _indicated(file, line: int, row: dict, names: tuple[str, ...]) -> list[str] | None:
  """The columns that hold a 1; None where one holds nothing.

  Raises ValueError for one that holds neither 0 nor 1.
  """
  if any(name in row and missing.is_missing(row[name]) for name in names):
    return None
  found = []
  for name in names:
    value = row.get(name)
    if isinstance(value, str):
      value = value.strip()
    if value not in YES + NO:
      rule = '; of several label columns each holds 0 or 1'
      raise wrong(file, line, row, name, rule)
    if value in YES:
      found.append(name)
  return found


def wrong(
  file,
  line: int,
  row: dict,
  field: str,
  rule: str = '',
  wanted: str = 'allowed',
) -> ValueError:
  """The error of a field of a row, which may break a rule that stands behind it.

  wanted: what a value that is there is not.
  """
  place = f'{file}:{line}: {field}'
  if field not in row:
    there = ', '.join(map(str, list(row)[:8])) or 'nothing'
    return NoColumn(f'{place}: missing; the line has {there}{rule}', field)
  value = row[field]
  if value is None or value == '':
    return ValueError(f'{place}: empty{rule}')
  kind = type(value).__name__
  return ValueError(f'{place}: {str(value)[:40]!r} ({kind}) is not {wanted}{rule}')
