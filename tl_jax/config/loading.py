"""Config files, executed or read, into ConfigDicts.

>>> import pathlib, tempfile
>>> path = pathlib.Path(tempfile.mkdtemp()) / 'config.toml'
>>> _ = path.write_text('seed = 1')
>>> load(str(path), [('seed', '2')]).seed
2
"""

import hashlib
import importlib.machinery
import importlib.util
import inspect
import json
import os
import pathlib
import re
import stat
import sys
import tomllib
import traceback
import types
from collections.abc import Iterable
from typing import Any

from tl_jax.config.checks import ConfigError, nearest, one_line, plain, shown
from tl_jax.config.overrides import group, override

LARGEST_FILE = 2**20


def locate(name: str) -> pathlib.Path:
  """The path of a config or experiment file: as it is said, or the one that came with
  the package.
  """
  path = pathlib.Path(name).expanduser()
  if not os.path.lexists(path) and path.parts[:1] in (('configs',), ('experiments',)):
    package = pathlib.Path(__file__).resolve().parents[1]
    for root in (package.parent, package):
      if (root / path).is_file():
        return root / path
  return path


def read(path: pathlib.Path) -> bytes:
  """The bytes of a regular file of at most 1 MiB; ConfigError for anything else."""
  try:
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
      raise ConfigError(f'{path}: is a directory, not a config file')
    if not stat.S_ISREG(status.st_mode):
      raise ConfigError(f'{path}: is not a regular file')
    if status.st_size > LARGEST_FILE:
      raise ConfigError(
        f'{path}: {status.st_size} bytes is too large for a config file'
      )
    data = path.read_bytes()
  except (OSError, ValueError) as error:
    if isinstance(error, ConfigError):
      raise
    siblings = (
      [str(other) for other in path.parent.glob('*.*')] if path.parent.is_dir() else []
    )
    hint = (
      f'; nearest: {nearest(str(path), siblings)}'
      if siblings and isinstance(error, FileNotFoundError)
      else ''
    )
    raise ConfigError(
      f'{path}: {getattr(error, "strerror", None) or one_line(error)}{hint}'
    ) from error
  if not data.strip():
    raise ConfigError(f'{path}: is empty')
  return data


class _Source(importlib.machinery.SourceFileLoader):
  """Compiles the file as it is now: a cached bytecode may be older than an edit within
  the same second.
  """

  def get_code(self, fullname):
    return self.source_to_code(read(pathlib.Path(self.path)), self.path)


def execute(path: str | pathlib.Path) -> types.ModuleType:
  """The module that a Python config or experiment file defines; its code is run, so
  trust the file.
  """
  path = locate(str(path))
  read(path)
  name = 'tl_jax_file_' + hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:16]
  spec = importlib.util.spec_from_loader(name, _Source(name, str(path)))
  module = importlib.util.module_from_spec(spec)
  sys.modules[name] = module
  _guard(path, lambda: spec.loader.exec_module(module))
  return module


def _guard(path, action):
  """Runs the user's code; whatever it raises becomes one line with the file and the
  line.
  """
  try:
    return action()
  except (Exception, SystemExit) as error:
    if isinstance(error, SyntaxError) and error.lineno:
      line = error.lineno
    else:
      frames = traceback.extract_tb(error.__traceback__)
      line = next(
        (frame.lineno for frame in reversed(frames) if frame.filename == str(path)), 1
      )
    kind = '' if isinstance(error, ConfigError) else f'{type(error).__name__}: '
    raise ConfigError(f'{path}:{line}: {kind}{one_line(error)}') from error


def load(spec: str, overrides: Iterable[tuple[str, str]] = ()) -> Any:
  """The ConfigDict of `FILE.py:argument`, `FILE.json` or `FILE.toml`, with overrides
  ('a.b', 'text') applied.

  A Python file is executed and its `get_config(argument)` called. JSON and TOML are
  data only; the `config.json` of a workdir is one of them. Raises ConfigError, one
  line, for whatever is wrong.
  """
  import ml_collections

  found = re.fullmatch(r'(.*?\.(py|json|toml))(?::(.*))?', str(spec), re.DOTALL)
  if not found:
    read(locate(str(spec)))
    raise ConfigError(
      f'{spec}: a config is FILE.py, FILE.py:argument, FILE.json or FILE.toml'
    )
  name, kind, argument = found.groups()
  path = locate(name)
  if kind == 'py':
    config = _run(path, argument)
  elif argument is not None:
    raise ConfigError(f'{path}: a {kind} config takes no argument, got {argument!r}')
  else:
    config = _parse(path, kind)
  if isinstance(config, dict):
    config = group(plain(config))
    if not isinstance(config, dict):
      raise ConfigError(f'{path}: a key with a dot: {nearest(".", dict(config))}')
  config = ml_collections.ConfigDict(config)
  for key, text in overrides:
    override(config, key, text)
  config.lock()
  return config


def _run(path, argument):
  import ml_collections

  function = getattr(execute(path), 'get_config', None)
  if not callable(function):
    raise ConfigError(f'{path}: has no function get_config')
  given = () if argument is None else (argument,)
  try:
    inspect.signature(function).bind(*given)
  except TypeError as error:
    raise ConfigError(
      f'{path}: get_config{inspect.signature(function)} cannot take the argument '
      f'{argument!r}'
    ) from error
  config = _guard(path, lambda: function(*given))
  if not isinstance(config, (dict, ml_collections.ConfigDict)):
    raise ConfigError(
      f'{path}: get_config must return a ConfigDict, got {shown(config)}'
    )
  return config


def _parse(path, kind):
  try:
    text = read(path).decode('utf-8-sig')
    values = (
      tomllib.loads(text)
      if kind == 'toml'
      else json.loads(text, parse_constant=_refuse)
    )
  except ConfigError:
    raise
  except (ValueError, RecursionError) as error:
    raise ConfigError(f'{path}: {one_line(error)}') from error
  if not isinstance(values, dict):
    raise ConfigError(
      f'{path}: must hold an object with the config, got {shown(values)}'
    )
  if set(values) == {'config', 'hash'} and isinstance(values['config'], dict):
    values = values['config']
  return values


def _refuse(constant):
  raise ValueError(f'{constant} is not a number of strict JSON')
