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
from typing import Any

from tl_jax.config.checks import ConfigError, nearest, plain, shown

FLAGS = {'true': True, 'false': False, 'yes': True, 'no': False, '1': True, '0': False}


def typed(text: str, present: Any, path: str) -> Any:
  """The value that `text` means in the place of the `present` one; ConfigError where it
  means none.

  `None` means None everywhere. A present None takes any literal, or else text. A tuple
  may be written `(1, 2)`, `1,2` or, for one item, `1`. A group may be replaced whole by
  a dict literal, and so may a tuple of pairs.
  """
  if text == 'None':
    return None
  if present is None:
    return _literal(text)
  if hasattr(present, 'items'):
    value = _literal(text)
    if isinstance(value, dict):
      return group(value)
    raise ConfigError(
      f'{path}: is a group; give a key of it: {nearest("", map(str, present), most=8)}'
    )
  if isinstance(present, (tuple, list)):
    return _tuple(text, present, path)
  if isinstance(present, str):
    return text
  try:
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
  kinds = {bool: 'true or false', int: 'an integer', float: 'a finite number'}
  return kinds.get(
    type(present), f'a {type(present).__name__}, which cannot be given as text'
  )


def _literal(text):
  """A Python or JSON literal, else the text itself."""
  try:
    return plain(ast.literal_eval(text.strip()))
  except (ValueError, SyntaxError, MemoryError, RecursionError):
    return {'true': True, 'false': False, 'null': None}.get(text.strip().lower(), text)


def _tuple(text, present, path):
  value = _literal(text) if text.strip() else ()
  if isinstance(value, dict) and all(isinstance(item, tuple) for item in present):
    return tuple(value.items())
  if isinstance(value, str):
    value = tuple(item.strip() for item in text.split(','))
  value = value if isinstance(value, tuple) else (value,)
  kinds = {type(item) for item in present}
  if kinds == {float}:
    value = tuple(
      float(item) if isinstance(item, int) and not isinstance(item, bool) else item
      for item in value
    )
  if (
    len(kinds) == 1
    and kinds <= {int, float, str, bool}
    and {type(item) for item in value} - kinds
  ):
    raise ConfigError(
      f'{path}: every item must be {kinds.pop().__name__}, as in {tuple(present)!r}; got {text!r}'
    )
  return value


def paths(config: Any, prefix: str = '') -> list[str]:
  """The dotted path of every key at every depth."""
  found = []
  for key, value in config.items():
    found.append(f'{prefix}{key}')
    if hasattr(value, 'items'):
      found += paths(value, f'{prefix}{key}.')
  return found


def override(config: Any, key: str, text: str) -> None:
  """Sets the dotted `key` of a ConfigDict to `text`, typed by the value that is there."""
  *parents, last = key.split('.')
  group = config
  for parent in parents:
    group = group[parent] if hasattr(group, 'items') and parent in group else None
  if not hasattr(group, 'items') or last not in group:
    raise ConfigError(
      f'config.{key}: unknown key; nearest: {nearest(key, paths(config))}'
    )
  value = typed(text, group[last], f'config.{key}')
  with config.unlocked(), group.ignore_type():
    group[last] = value


def group(values: dict) -> Any:
  """A dict in the form in which a config holds it, at every depth.

  That is a dict, but pairs where a key has a dot: the name of a source is data, as
  `texts/mine.jsonl`, and no key of a config.

  >>> group({'austen': 1.0}), group({'mine.jsonl': 1.0, 'austen': 2.0})
  ({'austen': 1.0}, (('mine.jsonl', 1.0), ('austen', 2.0)))
  """
  held = {
    key: group(value) if isinstance(value, dict) else value
    for key, value in values.items()
  }
  dotted = any('.' in key for key in held if isinstance(key, str))
  return tuple(held.items()) if dotted else held


def names(text: str) -> tuple[str, ...]:
  """The names in a text, + between them; a + that is part of a name has a backslash.

  A text that is the path of a file, as it stands, is that one name. No text: no name.

  >>> names('debian+vader_nyt'), names(r'c\\+\\+.csv'), names('')
  (('debian', 'vader_nyt'), ('c++.csv',), ())
  """
  if not text:
    return ()
  if '+' in text and os.path.isfile(text):
    return (text,)
  return tuple(part.replace('\\+', '+') for part in re.split(r'(?<!\\)\+', text))


def arguments(arg: str | None, **defaults: Any) -> Any:
  """The argument string of a config, `task=sentiment,method=lora`, as a ConfigDict over
  its defaults.

  A first word without `=` is the value of the first default. Values are typed by the
  defaults; None takes any literal. A comma parts two arguments where KEY= follows,
  unless it has a backslash.
  """
  import ml_collections

  values, seen = dict(defaults), set()
  for i, part in enumerate(re.split(r'(?<!\\),(?=[A-Za-z_]\w*=)', arg) if arg else ()):
    named = re.fullmatch(r'([A-Za-z_]\w*)=(.*)', part, re.DOTALL)
    if not named and i:
      raise ConfigError(f'argument {part!r}: must be KEY=VALUE')
    key, text = named.groups() if named else (next(iter(defaults)), part)
    if key not in defaults:
      raise ConfigError(f'argument {key!r}: unknown; nearest: {nearest(key, defaults)}')
    if key in seen:
      raise ConfigError(f'argument {key!r}: given twice')
    seen.add(key)
    values[key] = typed(text.replace('\\,', ','), defaults[key], f'argument {key!r}')
  return ml_collections.ConfigDict(values)


def to_json(config: Any) -> dict:
  """The config as plain dicts, lists, text and finite numbers, with keys in order;
  ConfigError for anything else.
  """
  return _canonical(config, 'config')


def digest(config: Any) -> str:
  """The SHA-256, in hex, of the config's canonical JSON: equal configs, and no others,
  have equal digests.
  """
  text = json.dumps(
    to_json(config), sort_keys=True, separators=(',', ':'), allow_nan=False
  )
  return hashlib.sha256(text.encode('utf-8', 'backslashreplace')).hexdigest()


def _canonical(value, path):
  if hasattr(value, 'items'):
    items = {key: item for key, item in value.items()}
    for key in items:
      if not isinstance(key, str):
        raise ConfigError(f'{path}: the key {key!r} must be text')
    return {key: _canonical(items[key], f'{path}.{key}') for key in sorted(items)}
  if isinstance(value, (tuple, list)):
    return [_canonical(item, f'{path}[{i}]') for i, item in enumerate(value)]
  if isinstance(value, os.PathLike):
    return os.fspath(value)
  if hasattr(value, 'item') and getattr(value, 'shape', None) == ():
    value = value.item()
  if (
    value is None
    or isinstance(value, (bool, int, str))
    or isinstance(value, float)
    and math.isfinite(value)
  ):
    return value
  raise ConfigError(f'{path}: cannot be written as JSON: {shown(value)}')
