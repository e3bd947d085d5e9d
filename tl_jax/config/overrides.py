"""Text typed by what it replaces, and configs back into canonical text.

>>> import ml_collections
>>> config = ml_collections.ConfigDict({'optim': {'lr': 0.1}})
>>> override(config, 'optim.lr', '1e-3')
>>> to_json(config)
{'optim': {'lr': 0.001}}
"""

import ast
import hashlib
import json
import math
import os
import re
from collections.abc import Iterable
from typing import Any

from tl_jax.config.checks import ConfigError, plain, shown
from tl_jax.config.near import nearest

FLAGS = {'true': True, 'false': False, 'yes': True, 'no': False, '1': True, '0': False}
# What JSON can hold besides objects and arrays; a float must be finite, too.
SCALARS = (type(None), bool, int, float, str)
# Groups that need not show all of their keys: what these may be, the model, the objective
# or the method says that the group names, and refuses the others.
OPEN = ('model', 'objective', 'method')
# JSON's constants, which are no literals of Python.
JSON_CONSTANTS = {'true': True, 'false': False, 'null': None}


def typed(text: str, present: Any, path: str) -> Any:
  """The value that `text` means where the config has the value `present`.

  `None` means None everywhere. A present None takes any literal, or else text. A tuple
  may be written `(1, 2)`, `1,2` or, for one item, `1`. A group may be replaced whole by
  a dict literal, and so may a tuple of pairs.
  Errors: ConfigError where the text means no value of this kind.
  """
  if text == 'None':
    return None
  if present is None:
    value = _literal(text)
    return group(value) if isinstance(value, dict) else value
  if hasattr(present, 'items'):
    return _group(text, present, path)
  if isinstance(present, (tuple, list)):
    return _tuple(text, present, path)
  if isinstance(present, str):
    return text
  return _scalar(text, present, path)


def _group(text, present, path):
  """The dict literal that replaces the group `present`."""
  value = _literal(text)
  if not isinstance(value, dict):
    if not present:
      raise ConfigError(
        f'{path}: is a group with names of your own; give it whole, as '
        f'--{path}="{{\'NAME\': {text}}}"'
      )
    keys = nearest('', map(str, present), most=8)
    raise ConfigError(f'{path}: is a group; give a key of it: {keys}')
  return group(value)


def _scalar(text, present, path):
  """The bool, int or finite float that the text means, as `present` is one."""
  try:
    # A bool is an int, so that it comes first.
    if isinstance(present, bool):
      return FLAGS[text.strip().lower()]
    if isinstance(present, int):
      return int(text)
    if isinstance(present, float) and math.isfinite(float(text)):
      return float(text)
  except (ValueError, KeyError):
    pass
  raise ConfigError(f'{path}: {text!r} is not {_kind(present)}; it is now {present!r}')


def _kind(present) -> str:
  """What kind of value `present` is, in the words of an error message."""
  kinds = {bool: 'true or false', int: 'an integer', float: 'a finite number'}
  other = f'a {type(present).__name__}, which cannot be given as text'
  return kinds.get(type(present), other)


def _literal(text):
  """A Python or JSON literal, else the text itself."""
  try:
    return plain(ast.literal_eval(text.strip()))
  # The last two are what the parser raises for text that is nested too deep.
  except (ValueError, SyntaxError, MemoryError, RecursionError):
    return JSON_CONSTANTS.get(text.strip().lower(), text)


def _tuple(text, present, path):
  """The tuple that the text means, with items of the types that `present` has."""
  value = _literal(text) if text.strip() else ()
  if isinstance(value, dict) and all(isinstance(item, tuple) for item in present):
    # A group whose keys have dots is held as pairs; see `group`.
    return tuple(value.items())
  if isinstance(value, str):
    value = tuple(item.strip() for item in text.split(','))
  if not isinstance(value, tuple):
    value = (value,)
  kinds = {type(item) for item in present}
  # An empty or a mixed tuple says nothing about what its items should be.
  if len(kinds) != 1:
    return value
  return _of_kind(value, kinds.pop(), text, present, path)


def _of_kind(items: tuple, kind: type, text, present, path) -> tuple:
  """The items as they are where all have the type `kind`, ints as floats if need be."""
  if kind is float:
    items = tuple(map(_integer_as_float, items))
  if kind not in (int, float, str, bool):
    return items
  if any(type(item) is not kind for item in items):
    raise ConfigError(
      f'{path}: every item must be {kind.__name__}, as in {tuple(present)!r}; '
      f'got {text!r}'
    )
  return items


def _integer_as_float(item):
  """An int as a float; anything else, also a bool, as it is."""
  if isinstance(item, int) and not isinstance(item, bool):
    return float(item)
  return item


def paths(config: Any, prefix: str = '') -> list[str]:
  """The dotted path of every key at every depth."""
  found = []
  for key, value in config.items():
    found.append(f'{prefix}{key}')
    if hasattr(value, 'items'):
      found += paths(value, f'{prefix}{key}.')
  return found


def override(config: Any, key: str, text: str) -> None:
  """Sets the dotted `key` of a ConfigDict to what `text` means in that place."""
  *parents, last = key.split('.')
  present = value_at(config, key)
  value = typed(text, present, f'config.{key}')
  holder = config
  for parent in parents:
    holder = holder[parent]
  # `typed` has decided which types fit; the ConfigDict's own rules are others: here a
  # group may become pairs.
  with config.unlocked(), holder.ignore_type():
    holder[last] = value


def value_at(config: Any, key: str) -> Any:
  """The value at a dotted key; None at one that an open group does not show.

  Raises ConfigError with the nearest keys for any other that is not there.
  """
  *parents, last = key.split('.')
  holder = config
  for parent in parents:
    is_there = hasattr(holder, 'items') and parent in holder
    holder = holder[parent] if is_there else None
  if hasattr(holder, 'items'):
    if last in holder:
      return holder[last]
    if last and '.'.join(parents) in OPEN:
      return None
  close = nearest(key, paths(config))
  raise ConfigError(f'config.{key}: unknown key; nearest: {close}')


def group(values: dict) -> Any:
  """The form in which a config holds a dict: itself, or pairs where a key has a dot.

  A ConfigDict reads a dot as a path. The names of sources, as `texts/mine.jsonl`, have
  dots and are data, so that a dict of them is held as a tuple of pairs. Dicts inside of
  the dict are held in the same way.

  >>> group({'austen': 1.0}), group({'mine.jsonl': 1.0, 'austen': 2.0})
  ({'austen': 1.0}, (('mine.jsonl', 1.0), ('austen', 2.0)))
  """
  held = {}
  for key, value in values.items():
    held[key] = group(value) if isinstance(value, dict) else value
  dotted = any('.' in key for key in held if isinstance(key, str))
  return tuple(held.items()) if dotted else held


def names(text: str) -> tuple[str, ...]:
  """The names in a text like `debian+vader_nyt`.

  A + that is part of a name is written with a backslash before it. A text that, as it
  stands, is a path that is there is that one name. An empty text has no names. Raises
  ConfigError for a + with no name on one of its sides, and for a name that stands twice:
  it would count once, and nobody be told.

  >>> names('debian+vader_nyt'), names(r'c\\+\\+.csv'), names('')
  (('debian', 'vader_nyt'), ('c++.csv',), ())
  """
  if not text:
    return ()
  if '+' in text and os.path.exists(text):
    return (text,)
  # A + without a backslash before it.
  parts = re.split(r'(?<!\\)\+', text)
  if not all(map(str.strip, parts)):
    raise ConfigError(
      f'{text!r}: no name on one side of a +; leave the + out, or write \\+ for one '
      'that is part of a name'
    )
  found = tuple(part.replace('\\+', '+') for part in parts)
  again = standing_twice(found)
  if again is not None:
    raise ConfigError(f'{again!r} stands twice in {text!r}')
  return found


def standing_twice(names: Iterable[str]) -> str | None:
  """The first name that stands there a second time; None where each stands once.

  The same file may be written in several ways.

  >>> standing_twice(['a.csv', 'debian', './a.csv'])
  './a.csv'
  """
  seen = set()
  for name in names:
    # Of a name that is no path this changes nothing.
    own = os.path.realpath(name)
    if own in seen:
      return name
    seen.add(own)
  return None


def arguments(arg: str | None, **defaults: Any) -> Any:
  """The argument string of a config, as `task=sentiment,method=lora`, over defaults.

  The result is a ConfigDict. A first word without `=` is the value of the first
  default. Values are typed by the defaults; a default of None takes any literal. A
  comma separates two arguments where KEY= follows it, unless a backslash precedes it.
  Errors: ConfigError for an unknown key, a key given twice or a value of another type.
  """
  import ml_collections

  values = dict(defaults)
  seen = set()
  # A comma without a backslash before it and with KEY= after it.
  parts = re.split(r'(?<!\\),(?=[A-Za-z_]\w*=)', arg) if arg else ()
  for i, part in enumerate(parts):
    named = re.fullmatch(r'([A-Za-z_]\w*)=(.*)', part, re.DOTALL)
    if named:
      key, text = named.groups()
    elif i == 0:
      key, text = next(iter(defaults)), part
    else:
      raise ConfigError(f'argument {part!r}: must be KEY=VALUE')
    if key not in defaults:
      raise ConfigError(f'argument {key!r}: unknown; nearest: {nearest(key, defaults)}')
    if key in seen:
      raise ConfigError(f'argument {key!r}: given twice')
    seen.add(key)
    unescaped = text.replace('\\,', ',')
    values[key] = typed(unescaped, defaults[key], f'argument {key!r}')
  return ml_collections.ConfigDict(values)


def to_json(config: Any) -> dict:
  """The config as plain dicts, lists, text and finite numbers, with keys in order.

  Errors: ConfigError for a value of any other kind.
  """
  return _canonical(config, 'config')


def digest(config: Any) -> str:
  """The SHA-256, in hex, of the config's canonical JSON.

  Equal configs have equal digests, and different configs different ones.
  """
  text = json.dumps(
    to_json(config), sort_keys=True, separators=(',', ':'), allow_nan=False
  )
  return hashlib.sha256(text.encode()).hexdigest()


def _canonical(value, path):
  """The value as JSON has it; `path` names it in an error message."""
  if hasattr(value, 'items'):
    return _canonical_group(value, path)
  if isinstance(value, (tuple, list)):
    return [_canonical(item, f'{path}[{i}]') for i, item in enumerate(value)]
  if isinstance(value, os.PathLike):
    return os.fspath(value)
  # A scalar of numpy or jax is the number it holds.
  if hasattr(value, 'item') and getattr(value, 'shape', None) == ():
    value = value.item()
  is_number = not isinstance(value, float) or math.isfinite(value)
  if isinstance(value, SCALARS) and is_number:
    return value
  raise ConfigError(f'{path}: cannot be written as JSON: {shown(value)}')


def _canonical_group(values, path) -> dict:
  """A group with its keys, all of them text, in order."""
  # Of a ConfigDict, the values of `items` have their references resolved.
  items = dict(values.items())
  for key in items:
    if not isinstance(key, str):
      raise ConfigError(f'{path}: the key {key!r} must be text')
  return {key: _canonical(items[key], f'{path}.{key}') for key in sorted(items)}
