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
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, NamedTuple

from tl_jax.config.near import nearest


class ConfigError(ValueError):
  """A config, argument or input cannot be right; the message, one line, names it."""


@dataclasses.dataclass(frozen=True)
class Range:
  """The range of a number that an annotation allows; the number must be finite, too.

  A number x fits where `low <= x <= high`. With `above` the lower end is open, so that
  `low < x`; with `below` the upper end is open.
  """

  low: float = -math.inf
  high: float = math.inf
  above: bool = False
  below: bool = False

  def holds(self, value) -> bool:
    large_enough = value > self.low if self.above else value >= self.low
    small_enough = value < self.high if self.below else value <= self.high
    return large_enough and small_enough

  def __str__(self) -> str:
    limits = []
    if self.low != -math.inf:
      sign = '>' if self.above else '>='
      limits.append(f' {sign} {self.low:g}')
    # That an integer fits into 32 bits goes without saying, until one does not.
    if self.high not in (math.inf, LARGEST):
      sign = '<' if self.below else '<='
      limits.append(f' {sign} {self.high:g}')
    return ' and'.join(limits)


# Sizes, counts and seeds end up in shapes and arrays of 32 bits.
LARGEST = 2**31 - 1
LARGEST_FLOAT = (2 - 2**-23) * 2.0**127
Finite = Annotated[float, Range()]
Positive = Annotated[float, Range(low=0, above=True)]
NonNegative = Annotated[float, Range(low=0)]
Fraction = Annotated[float, Range(low=0, high=1, below=True)]
# Of what nothing and all would both be a mistake.
Part = Annotated[float, Range(low=0, high=1, above=True, below=True)]
Probability = Annotated[float, Range(low=0, high=1)]
Share = Annotated[float, Range(low=0, high=1, above=True)]
Count = Annotated[int, Range(low=1, high=LARGEST)]
Natural = Annotated[int, Range(low=0, high=LARGEST)]

# `int | None` and `Optional[int]` have different origins.
UNIONS = (typing.Union, types.UnionType)
SEQUENCES = (tuple, list, collections.abc.Sequence)
MAPPINGS = (dict, collections.abc.Mapping)


def lookup(table: Mapping[str, Any], name: Any, path: str) -> Any:
  """The entry of `table` that the config names at `path`.

  A name that the table lacks is a ConfigError with the nearest names.
  """
  if not isinstance(name, str):
    some = nearest('', table, most=8)
    raise ConfigError(f'{path}: must be a name, got {shown(name)}; one of: {some}')
  if name not in table:
    raise ConfigError(f'{path}: unknown name {name!r}; nearest: {nearest(name, table)}')
  return table[name]


class _Parameter(NamedTuple):
  """What a key of a group may be: its annotation, and whether it must be given."""

  annotation: Any
  required: bool


def regex_pair(entry: Any, path: str, form: str) -> tuple[str, Any]:
  """The regular expression of a pair, and what it is paired with, which is not checked.

  form: how such a pair is written, for the ConfigError of another one.
  """
  is_pair = isinstance(entry, (tuple, list)) and len(entry) == 2
  if not is_pair or not isinstance(entry[0], str):
    raise ConfigError(f'{path}: must be {form}, got {entry!r}')
  pattern, value = entry
  try:
    re.compile(pattern)
  except re.error as error:
    raise ConfigError(
      f'{path}: {pattern!r} is not a regular expression: {error}'
    ) from error
  return pattern, value


def struct(cls: type, group: Any, path: str) -> Any:
  """The frozen dataclass `cls` with the keys of a config group as its fields.

  A list becomes a tuple. A field that is a dataclass is built from its group. An int is
  accepted as a float; a bool or the text of a number is not.
  Errors: a ConfigError that starts with `path`, for an unknown key, a missing key, a
  value of another type, a number that is not finite or out of its annotated range, and
  whatever ValueError `__post_init__` raises.
  """
  if isinstance(group, cls):
    return group
  hints = typing.get_type_hints(cls, include_extras=True)
  parameters = {}
  for field in dataclasses.fields(cls):
    if field.init:
      has_value = field.default is not dataclasses.MISSING
      has_factory = field.default_factory is not dataclasses.MISSING
      required = not has_value and not has_factory
      parameters[field.name] = _Parameter(hints[field.name], required)
  return _apply(cls, _keywords(parameters, group, path), path, parameters)


def call(function: Callable[..., Any], group: Any, path: str, **given: Any) -> Any:
  """Calls `function(**given, **group)`; the group is checked as `struct` checks one.

  The key `name` of the group is the one that chose the function. It is passed on only
  if the function has such a parameter. A key that is `given` cannot come from the
  config.
  """
  keys = _items(group, path)
  if 'name' in keys and 'name' not in _names_of(function):
    del keys['name']
  parameters = _parameters_of(function)
  # Parameters that are given are unknown keys to the group.
  open_to_the_group = {
    name: parameter for name, parameter in parameters.items() if name not in given
  }
  keywords = _keywords(open_to_the_group, keys, path, group.get('name'))
  return _apply(function, {**given, **keywords}, path, open_to_the_group)


def _names_of(function) -> set[str]:
  """The names of all parameters of a function, or of all fields of a dataclass."""
  if dataclasses.is_dataclass(function):
    return {field.name for field in dataclasses.fields(function)}
  return set(inspect.signature(function).parameters)


def _parameters_of(function) -> dict[str, _Parameter]:
  """The parameters of a function that can be given by keyword, by name."""
  hints = typing.get_type_hints(_undecorated(function), include_extras=True)
  by_keyword = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
  found = {}
  for name, parameter in inspect.signature(function).parameters.items():
    if parameter.kind in by_keyword:
      required = parameter.default is parameter.empty
      found[name] = _Parameter(hints.get(name, Any), required)
  return found


def _undecorated(function):
  """The function inside of partials: a partial has a signature, but no type hints."""
  while isinstance(function, functools.partial):
    function = function.func
  return function


def _apply(function, keywords, path, keys):
  """Calls the function; a ValueError of its own becomes a ConfigError at `path`, or at
  the one of the group's `keys` that its message begins with.
  """
  try:
    return function(**keywords)
  except ValueError as error:
    message = one_line(error)
    placed = _placed(message, path, keys)
    # A ConfigError may name a place of its own, which is nearer than this one.
    if placed is None and isinstance(error, ConfigError):
      raise
    raise ConfigError(placed or f'{path}: {message}') from error


def _placed(message: str, path: str, keys: Iterable[str]) -> str | None:
  """A message that begins with a key of the group, with the whole key; None for another.

  >>> _placed('lr: 2 is too much', 'config.optim', ['lr'])
  'config.optim.lr: 2 is too much'
  >>> _placed('optim.lr: 2 is too much', 'config.optim', ['lr'])
  'config.optim.lr: 2 is too much'
  """
  # Paths of files have dots as well.
  if path.partition('.')[0] != 'config':
    return None
  rest = message.removeprefix(f'{path.rpartition(".")[2]}.')
  key = re.match(r'(\w+)[.:[]', rest)
  return f'{path}.{rest}' if key and key[1] in keys else None


def _items(group, path) -> dict:
  """The keys and values of a group; ConfigError for anything else."""
  # A ConfigDict has items, but is not a Mapping.
  if not hasattr(group, 'items'):
    raise ConfigError(f'{path}: must be a group of keys, got {shown(group)}')
  return {str(key): value for key, value in group.items()}


def _keywords(
  parameters: dict[str, _Parameter], group, path, name: str | None = None
) -> dict:
  """The checked keys of a group: none unknown, none missing, each as annotated.

  name: that in the group which chose the parameters.
  """
  items = _items(group, path)
  for key in items:
    if key not in parameters:
      close = nearest(key, parameters)
      hint = _of_another_name(key, parameters, path, name)
      raise ConfigError(f'{path}.{key}: unknown key; nearest: {close}{hint}')
  for name, parameter in parameters.items():
    if parameter.required and name not in items:
      raise ConfigError(f'{path}.{name}: missing; it has no default')
  checked = {}
  for key, value in items.items():
    checked[key] = check(value, parameters[key].annotation, f'{path}.{key}')
  return checked


def _of_another_name(key: str, parameters, path: str, name: str | None) -> str:
  """The end of a message on a key that is like none: it may be of the name before."""
  is_misspelt = bool(difflib.get_close_matches(key, parameters))
  if name is None or is_misspelt or path.partition('.')[0] != 'config':
    return ''
  return f'; where it is of another name: --{path}="{{\'name\': {name!r}}}" begins anew'


def check(value: Any, annotation: Any, path: str) -> Any:
  """The value as its annotation wants it.

  Errors: a ConfigError that names `path` and what is wanted there.
  """
  origin = typing.get_origin(annotation)
  if origin is Annotated:
    return _check_annotated(value, annotation, path)
  if origin in UNIONS:
    return _check_union(value, annotation, path)
  if annotation in (Any, inspect.Parameter.empty, object):
    return plain(value)
  if origin is typing.Literal:
    return _check_literal(value, annotation, path)
  if dataclasses.is_dataclass(annotation):
    return struct(annotation, value, path)
  if annotation in (float, int, bool):
    return _check_number(value, annotation, path)
  return _check_container(value, annotation, path)


def _check_annotated(value, annotation, path):
  """The value of an `Annotated[kind, Range(...), ...]`, inside of all its ranges."""
  kind = typing.get_args(annotation)[0]
  ranges = _ranges(annotation)
  if _exceeds_32_bits(value, kind, ranges):
    raise _too_large(value, 32, path)
  try:
    checked = check(value, kind, path)
  except ConfigError as error:
    # With a range, the message says the range as well as the kind.
    raise (_unfit(value, annotation, path) if ranges else error) from None
  if not all(marker.holds(checked) for marker in ranges):
    raise _unfit(value, annotation, path)
  return checked


def _exceeds_32_bits(value, kind, ranges: list[Range]) -> bool:
  """Is it a number that becomes another one, or infinite, in an array of 32 bits?"""
  if kind is float and isinstance(value, numbers.Real):
    return LARGEST_FLOAT < abs(_float(value)) < math.inf
  narrow = any(marker.high == LARGEST for marker in ranges)
  return narrow and isinstance(value, numbers.Integral) and value > LARGEST


def _ranges(annotation) -> list[Range]:
  """The ranges among what an `Annotated` says besides the type."""
  return [marker for marker in typing.get_args(annotation) if isinstance(marker, Range)]


def _check_literal(value, annotation, path):
  """The value where it is one of the choices, of the same type: True is not 1."""
  choices = typing.get_args(annotation)
  for choice in choices:
    if value == choice and type(value) is type(choice):
      return value
  close = nearest(str(value), map(str, choices))
  raise ConfigError(f'{path}: {value!r} is not a choice; nearest: {close}')


def _check_number(value, annotation, path):
  """The value as a finite float, an int of 64 bits or a bool."""
  # bool is a subclass of int, and numpy has a bool of its own.
  is_bool = isinstance(value, bool) or type(value).__name__ in ('bool_', 'bool')
  if is_bool:
    if annotation is bool:
      return bool(value)
    raise _unfit(value, annotation, path)
  if annotation is int and isinstance(value, numbers.Integral):
    if not -(2**63) <= value < 2**63:
      raise _too_large(value, 64, path)
    return int(value)
  if annotation is float and isinstance(value, numbers.Real):
    number = _float(value)
    if math.isfinite(number):
      return number
  raise _unfit(value, annotation, path)


def _check_container(value, annotation, path):
  """The value as a tuple, a dict, or an instance of whatever class is wanted."""
  kind = typing.get_origin(annotation) or annotation
  if kind in SEQUENCES and isinstance(value, (tuple, list)):
    return _check_items(tuple(value), annotation, path)
  if kind in MAPPINGS and (hasattr(value, 'items') or _are_pairs(value)):
    return _check_mapping(value, annotation, path)
  if isinstance(kind, type) and isinstance(value, kind):
    return value
  raise _unfit(value, annotation, path)


def _check_mapping(value, annotation, path) -> dict:
  """The groups or pairs of `value` as a dict, each item as annotated."""
  arguments = typing.get_args(annotation)
  wanted = arguments[1] if len(arguments) == 2 else Any
  pairs = value.items() if hasattr(value, 'items') else value
  keys = [key for key, _ in pairs]
  # Pairs may name a key twice, of which a dict would silently keep the last.
  for key in keys:
    if keys.count(key) > 1:
      raise ConfigError(f'{path}.{key}: given twice')
  return {key: check(item, wanted, f'{path}.{key}') for key, item in pairs}


def _are_pairs(value) -> bool:
  """Is this a dict written as pairs?

  That is the form for keys with a dot, which a config cannot have as keys of its own.
  """
  if not isinstance(value, (tuple, list)) or not value:
    return False
  for pair in value:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
      return False
    if not isinstance(pair[0], str):
      return False
  return True


def _float(value) -> float:
  """The number as a float; an integer beyond its range is infinite."""
  try:
    return float(value)
  except OverflowError:
    return math.inf


def _check_items(value: tuple, annotation, path) -> tuple:
  """The items of a tuple, each as annotated; their number, too, where it is fixed."""
  arguments = typing.get_args(annotation)
  if not arguments:
    return plain(value)
  # A list has items of one kind, and so has a tuple[kind, ...].
  is_tuple = typing.get_origin(annotation) is tuple
  repeated = len(arguments) == 2 and arguments[1] is Ellipsis
  if repeated or not is_tuple:
    kinds = arguments[:1] * len(value)
  else:
    kinds = arguments
  if len(kinds) != len(value):
    raise ConfigError(
      f'{path}: needs {len(kinds)} items, got {len(value)}: {shown(value)}'
    )
  checked = []
  for i, (item, kind) in enumerate(zip(value, kinds, strict=True)):
    checked.append(check(item, kind, f'{path}[{i}]'))
  return tuple(checked)


def _check_union(value, annotation, path):
  """The value as the first choice of the union that it fits."""
  choices = typing.get_args(annotation)
  if value is None and type(None) in choices:
    return None
  failures = []
  for choice in choices:
    if choice is type(None):
      continue
    try:
      return check(value, choice, path)
    except ConfigError as error:
      failures.append(error)
  # Of an optional group, the message about the key inside of it says more.
  if len(failures) == 1 and value is not None:
    raise failures[0]
  raise _unfit(value, annotation, path)


def _unfit(value, annotation, path) -> ConfigError:
  return ConfigError(f'{path}: must be {_wanted(annotation)}, got {shown(value)}')


def _too_large(value, bits: int, path: str) -> ConfigError:
  return ConfigError(f'{path}: {shown(value)} does not fit into {bits} bits')


# How an error message calls the types that a config writes.
NAMES = {
  float: 'a finite number',
  int: 'an integer',
  bool: 'true or false',
  str: 'text',
  type(None): 'None',
  tuple: 'a tuple',
  list: 'a tuple',
  dict: 'a group of keys',
}


def _wanted(annotation) -> str:
  """An annotation in the words of an error message."""
  origin = typing.get_origin(annotation)
  arguments = typing.get_args(annotation)
  if origin is Annotated:
    return _wanted(arguments[0]) + ''.join(map(str, _ranges(annotation)))
  if origin in UNIONS:
    return ' or '.join(_wanted(choice) for choice in arguments)
  if origin is typing.Literal:
    return ' or '.join(map(repr, arguments))
  kind = origin or annotation
  if kind in NAMES:
    return NAMES[kind]
  return getattr(kind, '__name__', str(kind))


def shown(value: Any) -> str:
  """The value and its type as text that is short enough for an error message."""
  if value is None:
    return 'None'
  text = ' '.join(repr(value).split())
  if len(text) > 60:
    text = text[:57] + '...'
  return f'{text} ({type(value).__name__})'


def one_line(error: BaseException) -> str:
  """The message of an error on one line."""
  return ' '.join(str(error).split()) or type(error).__name__


def plain(value: Any) -> Any:
  """The value with groups as plain dicts and lists as tuples, at every depth."""
  if hasattr(value, 'items'):
    return {key: plain(item) for key, item in value.items()}
  if isinstance(value, (tuple, list)):
    return tuple(map(plain, value))
  return value
