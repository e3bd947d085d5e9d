"""What the labels of a user's file mean: classes by name, sets of classes, or numbers.

>>> spelled(1.0), spelled('1'), spelled(True), spelled(' very  good ')
('1', '1', 'true', 'very good')
>>> in_order({'10', '2', 'none', '1'})
('1', '2', '10', 'none')
"""

import ast
import decimal
import functools
import itertools
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Container, Iterable, Sequence
from typing import Any

from tl_jax.config import ConfigError

SINGLE = 'single_label'
MULTI = 'multi_label'
REGRESSION = 'regression'
CONVERSATION = 'conversation'
CHOICE = 'choice'
TAGS = 'tags'
SPAN = 'span'
# The kind of a task whose labels are texts to write; a column of these is named apart.
TEXT = 'text'
# A number as JSON and CSV files write it. 007 is a code, not a number.
NUMBER = re.compile(r'[+-]?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d{1,3})?')
# Beyond so many digits a number would be too long for a name.
MOST_DIGITS = 40
BOOLEANS = ('true', 'false')
# What parts the labels of one example in a text.
SEPARATORS = '|;,'
# Keeps every digit: two long identifiers that differ in the last one are two labels.
EXACT = decimal.Context(prec=4 * MOST_DIGITS)
# A number as half of the world writes it, and one that has a thousand for some.
_DECIMAL_COMMA = re.compile(r'[+-]?(\d+|\d{1,3}(\.\d{3})+),\d+')
_THOUSANDS = re.compile(r'[+-]?[1-9]\d{0,2},\d{3}')
# Up to so many classes, nobody wonders that every example has another.
FEW_CLASSES = 10


@functools.lru_cache(maxsize=4096, typed=True)
def spelled(value: Any) -> str:
  """The one spelling of a label: 1, 1.0, '1' and '1.0' are '1'; 'TRUE' is 'true'.

  White space around a text and repeated within it does not count, nor how an accent is
  encoded.
  """
  # Python writes True, JSON true: with the cache typed, 1 and True stay apart as well.
  text = str(value).lower() if isinstance(value, bool) else str(value)
  text = unicodedata.normalize('NFC', ' '.join(text.split()))
  if text.lower() in BOOLEANS:
    return text.lower()
  return _number(text) or text


def _number(text: str) -> str:
  """The shortest decimal spelling of a number; '' for a text that is none."""
  if not NUMBER.fullmatch(text) or len(text) > MOST_DIGITS:
    return ''
  number = decimal.Decimal(text)
  if abs(number.adjusted()) > MOST_DIGITS:
    return ''
  # Plus makes minus zero zero.
  return f'{EXACT.plus(number.normalize(EXACT)):f}'


def is_number(name: str) -> bool:
  """Is a spelled label a number?"""
  return bool(_number(name))


def in_order(names: Iterable[str]) -> tuple[str, ...]:
  """Labels in their order: numbers by their size, then texts by their characters."""
  return tuple(sorted(names, key=_rank))


def _rank(name: str) -> tuple[int, decimal.Decimal, str]:
  if is_number(name):
    return 0, decimal.Decimal(name), name
  return 1, decimal.Decimal(0), name


def expected_kind(said: str, known=None) -> str:
  """The kind of a task before its labels are looked at; '' where they must tell it.

  That is what the user says, or else what the model is for that is tried on the task.
  """
  if said or known is None:
    return said
  return known.kind


def kind_of(values: Sequence[Any], places: Sequence[str], column: str) -> str:
  """The kind of a column of labels, found out from its values.

  Lists are sets of classes. Numbers with fractions are values to predict: a class for
  each would be as many classes as values. `places` says where each value stands, as
  `file:line`. Raises ConfigError that names the first line which does not go with the
  others. Raises it also where nearly every example has a label of its own, so that none
  can be learned.
  """
  lists = [is_list(value) for value in values]
  if any(lists):
    _require_all(lists, values, places, column, 'is no list of labels; others are')
    return MULTI
  names = [spelled(value) for value in values]
  numbers = [is_number(name) for name in names]
  # The spelling of a whole number has no point, not even that of 1.0.
  fractions = [
    number and '.' in name for name, number in zip(names, numbers, strict=True)
  ]
  if any(fractions):
    complaint = (
      f'is not a number; others are, with fractions. Say kind={SINGLE} if every number '
      'is a class'
    )
    _require_all(numbers, values, places, column, complaint)
    return REGRESSION
  _require_no_sets(values, places, column)
  _require_classes(names, all(numbers), places[0], column)
  return SINGLE


def _require_no_sets(values, places: Sequence[str], column: str) -> None:
  """Raises ConfigError for texts that may be several labels with a mark between them.

  So they may where a part of one label is another label, or a part of another: `a|b`
  beside `b`. A class that is called `Home; Garden` everywhere is one.
  """
  texts = [value if isinstance(value, str) else '' for value in values]
  for mark in SEPARATORS:
    shared = _shared_parts(set(texts), mark)
    for text, place in zip(texts, places, strict=True):
      common = [part for part in _parts(text, mark) if part in shared]
      if mark in text and common:
        raise ConfigError(
          f'{place}: {column}: {text[:40]!r} may be one label or several, as '
          f'{common[0]!r} is part of others too; say kind={MULTI} if several, '
          f'kind={SINGLE} if one'
        )


def _shared_parts(texts: Collection[str], mark: str) -> set[str]:
  """The parts that several of these texts have; none where nothing is parted."""
  if not any(mark in text for text in texts):
    return set()
  counts = Counter()
  for text in texts:
    counts.update(set(_parts(text, mark)))
  return {part for part, count in counts.items() if count > 1}


def _parts(text: str, mark: str) -> list[str]:
  """What stands between the marks of a text."""
  stripped = [part.strip() for part in text.split(mark)]
  return [part for part in stripped if part]


def _require_classes(names: list[str], numbers: bool, place: str, column: str) -> None:
  """Raises ConfigError for so many different labels that they are no classes.

  More than half as many numbers as examples; of texts one for each example.
  """
  count = len(names)
  different = len(set(names))
  most = count // 2 if numbers else count - 1
  if different <= max(FEW_CLASSES, most):
    return
  # Each of the three ways out is the right one for some file.
  hint = f'kind={REGRESSION} to predict numbers, ' if numbers else ''
  raise ConfigError(
    f'{place}: {column}: {different} different labels in {count} examples; say '
    f'{hint}kind={SINGLE} if each is a class, or label=COLUMN if this is not the column'
  )


def _require_all(good: list[bool], values, places, column: str, complaint: str) -> None:
  """Raises ConfigError for the first value that is not good."""
  for fine, value, place in zip(good, values, places, strict=True):
    if not fine:
      raise ConfigError(f'{place}: {column}: {str(value)[:40]!r} {complaint}')


def is_list(value: Any) -> bool:
  """Is a label a list, or the text of one, as pandas writes it into a CSV file?"""
  if isinstance(value, list):
    return True
  return isinstance(value, str) and isinstance(_literal(value), (list, tuple))


def _literal(text: str):
  """The list that a text in brackets spells; None for any other text."""
  if not (text.startswith('[') and text.endswith(']')):
    return None
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError, MemoryError, RecursionError):
    return None


def require_one_spelling(
  names: Iterable[str], places: Iterable[str], column: str
) -> None:
  """Raises ConfigError at the first line whose label is another's in another spelling.

  That is a label that differs in case only, and 0 or 1 beside true or false.
  """
  # The first spelling of each label, by its folded form.
  seen: dict[str, str] = {}
  known = set()
  for name, place in zip(names, places, strict=True):
    # A label that was looked at is fine wherever it stands again.
    if name in known:
      continue
    known.add(name)
    # NFKC folds forms that look alike, such as full-width letters.
    key = unicodedata.normalize('NFKC', name).casefold()
    other = seen.setdefault(key, name)
    if other != name:
      raise ConfigError(
        f'{place}: {column}: {name!r} differs from {other!r}, which stands before it, '
        'in case or form alone; spell a class in one way'
      )
    _require_no_mix(seen, name, f'{place}: {column}')


def _require_no_mix(seen: Container[str], name: str, where: str) -> None:
  """Raises ConfigError for 0 or 1 beside true or false, with `name` the newer label."""
  booleans = {each for each in BOOLEANS if each in seen}
  digits = {each for each in ('0', '1') if each in seen}
  if not (booleans and digits):
    return
  others = sorted(booleans if name in digits else digits)
  raise ConfigError(
    f'{where}: {name!r} beside {", ".join(map(repr, others))}, which stands before it; '
    'spell a class in one way'
  )


def sets_of(
  values: Sequence[Any], places: Sequence[str], column: str
) -> list[tuple[str, ...]]:
  """The classes of every example of a `multi_label` column, spelled.

  A value is a list of classes, the text of such a list, or a text with | or ; or ,
  between the classes. Where all values are lists of zeros and ones of one length above
  1, they are indicators: an example has the classes whose place holds a 1, and a class
  is named by its place from 0. Raises ConfigError for an empty label.
  """
  lists = [listed(value) for value in values]
  if _are_indicators(lists):
    return [_switched_on(row) for row in lists]
  found = []
  for row, place in zip(lists, places, strict=True):
    names = tuple(dict.fromkeys(spelled(item) for item in row))
    if '' in names:
      raise ConfigError(f'{place}: {column}: an empty label among {str(row)[:40]}')
    found.append(names)
  return found


def _switched_on(row: list) -> tuple[str, ...]:
  """The places that hold a 1, as names."""
  return tuple(str(place) for place, on in enumerate(row) if float(on))


def indicator_names(values: Sequence[Any]) -> tuple[str, ...]:
  """The names of all classes of indicators, with or without examples; () for lists."""
  lists = [listed(value) for value in values]
  if not _are_indicators(lists):
    return ()
  return tuple(str(place) for place in range(len(lists[0])))


def listed(value: Any) -> list:
  """The items of a `multi_label` value, as they are written."""
  if isinstance(value, str):
    if not value.strip():
      return []
    # ['a', 'b'] is how pandas writes a list into a CSV file.
    literal = _literal(value)
    value = re.split(f'[{SEPARATORS}]', value) if literal is None else list(literal)
  return value if isinstance(value, list) else [value]


def _are_indicators(lists: list[list]) -> bool:
  """Do all rows have one length above 1, and nothing but the numbers 0 and 1?"""
  lengths = {len(row) for row in lists}
  if len(lengths) != 1 or lengths.pop() < 2:
    return False
  items = itertools.chain.from_iterable(lists)
  return all(isinstance(item, (int, float)) and item in (0, 1) for item in items)


def decimal_commas(values: Sequence[Any]) -> list[int]:
  """The places of labels such as 0,5 and 1.000,5, where no label is such as 0.5."""
  texts = [value if isinstance(value, str) else '' for value in values]
  if any(is_number(text) and '.' in text for text in texts):
    return []
  return [place for place, text in enumerate(texts) if _DECIMAL_COMMA.fullmatch(text)]


def may_be_thousands(texts: Iterable[str]) -> bool:
  """Could the comma of each of these numbers part thousands, as that of 1,500?"""
  return all(map(_THOUSANDS.fullmatch, texts))


def number_of(value: Any, place: str, column: str, commas: bool = False) -> float:
  """The number that a `regression` column holds.

  With `commas` a comma comes before the fraction, and points part thousands. Raises
  ConfigError for anything but a finite number.
  """
  plain = value
  if commas and isinstance(value, str) and ',' in value:
    plain = value.replace('.', '').replace(',', '.')
  try:
    number = float(plain)
  except (TypeError, ValueError, OverflowError):
    number = math.nan
  if not math.isfinite(number):
    raise ConfigError(
      f'{place}: {column}: {str(value)[:40]!r} is not a finite number, as '
      f'kind={REGRESSION} needs'
    )
  return number
