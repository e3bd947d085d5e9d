"""Groups of a config checked into frozen dataclasses and keyword arguments.

>>> import dataclasses
>>> @dataclasses.dataclass(frozen=True)
... class Optim:
...   lr: Positive = 1e-3
>>> struct(Optim, {'lr': 1}, path='config.optim')
Optim(lr=1.0)
"""

import collections.abc
import dataclasses
import difflib
import functools
import inspect
import math
import numbers
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any


class ConfigError(ValueError):
  """A config, argument or input that cannot be right; the message is one line that
  names it.
  """


@dataclasses.dataclass(frozen=True)
class Range:
  """What a number must satisfy besides being finite: `low <= x <= high`, or strictly
  where the end is open.
  """

  low: float = -math.inf
  high: float = math.inf
  above: bool = False
  below: bool = False

  def holds(self, value) -> bool:
    least = value > self.low if self.above else value >= self.low
    return least and (value < self.high if self.below else value <= self.high)

  def __str__(self) -> str:
    low = (
      '' if self.low == -math.inf else f' {">" if self.above else ">="} {self.low:g}'
    )
    # That an integer fits into 32 bits goes without saying, until one does not.
    unlimited = self.high in (math.inf, LARGEST)
    high = '' if unlimited else f' {"<" if self.below else "<="} {self.high:g}'
    return ' and'.join(filter(None, (low, high)))


# Sizes, counts and seeds end up in shapes and arrays of 32 bits.
LARGEST = 2**31 - 1
Finite = Annotated[float, Range()]
Positive = Annotated[float, Range(low=0, above=True)]
NonNegative = Annotated[float, Range(low=0)]
Fraction = Annotated[float, Range(low=0, high=1, below=True)]
Probability = Annotated[float, Range(low=0, high=1)]
Count = Annotated[int, Range(low=1, high=LARGEST)]
Natural = Annotated[int, Range(low=0, high=LARGEST)]


def nearest(name: str, candidates: Iterable[str], most: int = 3) -> str:
  """The candidates that look most like `name`, compared whole and by their last dotted
  part.
  """
  last = str(name).rpartition('.')[2]

  def likeness(candidate):
    whole = difflib.SequenceMatcher(None, str(name), candidate).ratio()
    return max(
      whole,
      0.95 * difflib.SequenceMatcher(None, last, candidate.rpartition('.')[2]).ratio(),
    )

  ranked = sorted(map(str, candidates), key=likeness, reverse=True)
  close = [candidate for candidate in ranked if likeness(candidate) >= 0.5]
  return ', '.join(map(repr, (close or ranked)[:most])) or 'none'


def lookup(table: Mapping[str, Any], name: Any, path: str) -> Any:
  """The entry of a literal dict that a config names; ConfigError with the nearest
  names.
  """
  if not isinstance(name, str):
    raise ConfigError(
      f'{path}: must be a name, got {shown(name)}; one of: {nearest("", table, most=8)}'
    )
  if name not in table:
    raise ConfigError(f'{path}: unknown name {name!r}; nearest: {nearest(name, table)}')
  return table[name]


def struct(cls: type, group: Any, path: str) -> Any:
  """The frozen dataclass `cls` with the keys of a config group as its fields.

  Refused with a ConfigError that starts with `path`: an unknown key, a missing one, a
  value of another type (an int is a float; a bool or the text of a number is not), out
  of its annotated range, or not finite; and whatever ValueError `__post_init__` raises.
  Lists become tuples; a field that is a dataclass is built from its group.
  """
  if isinstance(group, cls):
    return group
  hints = typing.get_type_hints(cls, include_extras=True)
  parameters = {
    field.name: (
      hints[field.name],
      field.default is dataclasses.MISSING
      and field.default_factory is dataclasses.MISSING,
    )
    for field in dataclasses.fields(cls)
    if field.init
  }
  return _apply(cls, _keywords(parameters, group, path), path)


def call(function: Callable[..., Any], group: Any, path: str, **given: Any) -> Any:
  """`function(**given, **group)` with the group's keys checked against its annotations,
  as in `struct`.

  The key `name`, which chose the function, is left out unless the function has such a
  parameter; a key that is `given` cannot come from the config.
  """
  if dataclasses.is_dataclass(function):
    names = {field.name for field in dataclasses.fields(function)}
  else:
    names = set(inspect.signature(function).parameters)
  keys = {
    key: value
    for key, value in _items(group, path).items()
    if key != 'name' or 'name' in names
  }
  hints = typing.get_type_hints(_undecorated(function), include_extras=True)
  parameters = {}
  for name, parameter in inspect.signature(function).parameters.items():
    if name not in given and parameter.kind in (
      parameter.KEYWORD_ONLY,
      parameter.POSITIONAL_OR_KEYWORD,
    ):
      parameters[name] = hints.get(name, Any), parameter.default is parameter.empty
  return _apply(function, {**given, **_keywords(parameters, keys, path)}, path)


def _undecorated(function):
  while isinstance(function, functools.partial):
    function = function.func
  return function


def _apply(function, keywords, path):
  try:
    return function(**keywords)
  except ConfigError:
    raise
  except ValueError as error:
    raise ConfigError(f'{path}: {one_line(error)}') from error


def _items(group, path) -> dict:
  if not hasattr(group, 'items'):
    raise ConfigError(f'{path}: must be a group of keys, got {shown(group)}')
  return {str(key): value for key, value in group.items()}


def _keywords(parameters, group, path) -> dict:
  items = _items(group, path)
  for key in items:
    if key not in parameters:
      raise ConfigError(
        f'{path}.{key}: unknown key; nearest: {nearest(key, parameters)}'
      )
  for name, (_, required) in parameters.items():
    if required and name not in items:
      raise ConfigError(f'{path}.{name}: missing; it has no default')
  return {
    key: check(value, parameters[key][0], f'{path}.{key}')
    for key, value in items.items()
  }


def check(value: Any, annotation: Any, path: str) -> Any:
  """The value as its annotation wants it, or a ConfigError that names `path` and what
  is wanted.
  """
  origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
  if origin is Annotated:
    ranges = [marker for marker in arguments[1:] if isinstance(marker, Range)]
    narrow = any(marker.high == LARGEST for marker in ranges)
    if narrow and isinstance(value, numbers.Integral) and value > LARGEST:
      raise _too_large(value, 32, path)
    try:
      checked = check(value, arguments[0], path)
    except ConfigError as error:
      raise (_unfit(value, annotation, path) if ranges else error) from None
    if all(marker.holds(checked) for marker in ranges):
      return checked
    raise _unfit(value, annotation, path)
  if origin in (typing.Union, types.UnionType):
    return _check_union(value, annotation, path)
  if annotation in (Any, inspect.Parameter.empty, object):
    return plain(value)
  if origin is typing.Literal:
    if any(value == choice and type(value) is type(choice) for choice in arguments):
      return value
    raise ConfigError(
      f'{path}: {value!r} is not a choice; nearest: {nearest(str(value), map(str, arguments))}'
    )
  if dataclasses.is_dataclass(annotation):
    return struct(annotation, value, path)
  return _check_plain(value, annotation, origin or annotation, arguments, path)


def _check_plain(value, annotation, kind, arguments, path):
  truth = isinstance(value, bool) or type(value).__name__ in ('bool_', 'bool')
  if kind is float and isinstance(value, numbers.Real) and not truth:
    number = _float(value)
    if math.isfinite(number):
      return number
  elif kind is int and isinstance(value, numbers.Integral) and not truth:
    if not -(2**63) <= value < 2**63:
      raise _too_large(value, 64, path)
    return int(value)
  elif kind is bool and truth:
    return bool(value)
  elif kind in (tuple, list, collections.abc.Sequence) and isinstance(
    value, (tuple, list)
  ):
    return _check_items(tuple(value), annotation, arguments, path)
  elif kind in (dict, collections.abc.Mapping) and (
    hasattr(value, 'items') or _are_pairs(value)
  ):
    wanted = arguments[1] if len(arguments) == 2 else Any
    items = list(value.items() if hasattr(value, 'items') else value)
    for key, _ in items:
      if [other for other, _ in items].count(key) > 1:
        raise ConfigError(f'{path}.{key}: given twice')
    return {key: check(item, wanted, f'{path}.{key}') for key, item in items}
  elif kind is collections.abc.Callable:
    if callable(value):
      return value
  elif (
    kind not in (float, int, bool)
    and isinstance(kind, type)
    and isinstance(value, kind)
  ):
    return value
  raise _unfit(value, annotation, path)


def _are_pairs(value) -> bool:
  """Is this a dict as pairs, the form for keys that are no names of a config?"""
  if not isinstance(value, (tuple, list)) or not value:
    return False
  return all(
    isinstance(pair, (tuple, list)) and len(pair) == 2 and isinstance(pair[0], str)
    for pair in value
  )


def _float(value) -> float:
  try:
    return float(value)
  except OverflowError:
    return math.inf


def _check_items(value, annotation, arguments, path):
  if not arguments:
    return plain(value)
  many = (
    len(arguments) == 2
    and arguments[1] is Ellipsis
    or typing.get_origin(annotation) is not tuple
  )
  wanted = arguments[:1] * len(value) if many else arguments
  if len(wanted) != len(value):
    raise ConfigError(
      f'{path}: needs {len(wanted)} items, got {len(value)}: {shown(value)}'
    )
  return tuple(
    check(item, kind, f'{path}[{i}]')
    for i, (item, kind) in enumerate(zip(value, wanted, strict=True))
  )


def _check_union(value, annotation, path):
  choices = typing.get_args(annotation)
  if value is None and type(None) in choices:
    return None
  choices = [choice for choice in choices if choice is not type(None)]
  failures = []
  for choice in choices:
    try:
      return check(value, choice, path)
    except ConfigError as error:
      failures.append(error)
  raise (
    failures[0]
    if len(failures) == 1 and value is not None
    else _unfit(value, annotation, path)
  )


def _unfit(value, annotation, path) -> ConfigError:
  return ConfigError(f'{path}: must be {_wanted(annotation)}, got {shown(value)}')


def _too_large(value, bits: int, path: str) -> ConfigError:
  return ConfigError(f'{path}: {shown(value)} does not fit into {bits} bits')


def _wanted(annotation) -> str:
  origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
  if origin is Annotated:
    return _wanted(arguments[0]) + ''.join(
      str(marker) for marker in arguments[1:] if isinstance(marker, Range)
    )
  if origin in (typing.Union, types.UnionType):
    return ' or '.join(_wanted(choice) for choice in arguments)
  named = {
    float: 'a finite number',
    int: 'an integer',
    bool: 'true or false',
    str: 'text',
    type(None): 'None',
    tuple: 'a tuple',
    list: 'a tuple',
    dict: 'a group of keys',
  }
  kind = origin or annotation
  return named.get(kind, getattr(kind, '__name__', str(kind)))


def shown(value: Any) -> str:
  """A value and its type, short enough for an error message."""
  text = ' '.join(repr(value).split())
  text = text if len(text) <= 60 else text[:57] + '...'
  return 'None' if value is None else f'{text} ({type(value).__name__})'


def one_line(error: BaseException) -> str:
  """The message of an error on one line."""
  return ' '.join(str(error).split()) or type(error).__name__


def plain(value: Any) -> Any:
  """The value with groups as plain dicts and lists as tuples, at every depth."""
  if hasattr(value, 'items'):
    return {key: plain(item) for key, item in value.items()}
  return tuple(map(plain, value)) if isinstance(value, (tuple, list)) else value
