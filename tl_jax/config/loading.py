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

from tl_jax.config.checks import ConfigError, one_line, plain, shown
from tl_jax.config.near import beside, nearest
from tl_jax.config.overrides import group, override

# Bytes. A larger file is no config, and reading it whole could exhaust the memory.
LARGEST_FILE = 2**20

# The folders of the repository whose files are found from anywhere, by these words.
SHIPPED = (('configs',), ('experiments',))


def locate(name: str) -> pathlib.Path:
  """The path of a config or experiment file.

  It is the path as given or, where that does not exist and begins with `configs/` or
  `experiments/`, that of the file of this name that came with the package.
  """
  path = pathlib.Path(name).expanduser()
  if os.path.lexists(path) or path.parts[:1] not in SHIPPED:
    return path
  package = pathlib.Path(__file__).resolve().parents[1]
  # A checkout has the folders beside the package, an installation inside of it.
  for root in (package.parent, package):
    if (root / path).is_file():
      return root / path
  return path


def read(path: pathlib.Path) -> bytes:
  """The bytes of a regular file of at most 1 MiB; ConfigError for anything else."""
  try:
    data = _read_regular(path)
  except ConfigError:
    raise
  except (OSError, ValueError) as error:
    # ValueError: a path with a null byte.
    reason = getattr(error, 'strerror', None) or one_line(error)
    hint = beside(path) if isinstance(error, FileNotFoundError) else ''
    raise ConfigError(f'{path}: {reason}{hint}') from error
  if not data.strip():
    raise ConfigError(f'{path}: is empty')
  return data


def _read_regular(path: pathlib.Path) -> bytes:
  """The bytes of a regular file that is not too large."""
  # The kind comes before the read, which would wait forever on a pipe.
  status = os.stat(path)
  if stat.S_ISDIR(status.st_mode):
    raise ConfigError(f'{path}: is a directory, not a config file')
  if not stat.S_ISREG(status.st_mode):
    raise ConfigError(f'{path}: is not a regular file')
  if status.st_size > LARGEST_FILE:
    raise ConfigError(f'{path}: {status.st_size} bytes is too large for a config file')
  return path.read_bytes()


class _Source(importlib.machinery.SourceFileLoader):
  """A loader that compiles the file as it is now.

  Python's own may take cached bytecode, which is stale after an edit within the same
  second.
  """

  def get_code(self, fullname):
    return self.source_to_code(read(pathlib.Path(self.path)), self.path)


def execute(path: str | pathlib.Path) -> types.ModuleType:
  """The module that a Python config or experiment file defines.

  The code of the file is run, so trust the file.
  """
  path = locate(str(path))
  # Said here, an empty file or a directory is named without a line number.
  read(path)
  # One name for each path, so that two files of one name do not replace each other.
  path_digest = hashlib.sha256(str(path.absolute()).encode()).hexdigest()
  name = f'tl_jax_file_{path_digest[:16]}'
  spec = importlib.util.spec_from_loader(name, _Source(name, str(path)))
  module = importlib.util.module_from_spec(spec)
  # Dataclasses of the file look themselves up here while it is executed.
  sys.modules[name] = module
  guard(path, lambda: spec.loader.exec_module(module))
  return module


def guard(path, action):
  """What a function of the user's file gives.

  Whatever it raises becomes a ConfigError of one line, with the file and the line.
  """
  try:
    return action()
  except (Exception, SystemExit) as error:
    line = _line_of(error, str(path))
    # The message of a ConfigError is written to stand alone; others need their type.
    kind = '' if isinstance(error, ConfigError) else f'{type(error).__name__}: '
    # ml_collections takes a dot for the way into a group; a file's name has one.
    dotted = 'does not accept dots' in str(error)
    hint = "; write such a group as pairs, (('mine.jsonl', 1.0),)" if dotted else ''
    raise ConfigError(f'{path}:{line}: {kind}{one_line(error)}{hint}') from error


def _line_of(error: BaseException, filename: str) -> int:
  """The line of the file that the error comes from: that of the innermost frame."""
  if isinstance(error, SyntaxError) and error.lineno:
    return error.lineno
  for frame in reversed(traceback.extract_tb(error.__traceback__)):
    if frame.filename == filename:
      return frame.lineno
  return 1


def load(spec: str, overrides: Iterable[tuple[str, str]] = ()) -> Any:
  """The ConfigDict of `FILE.py:argument`, `FILE.json` or `FILE.toml`.

  A Python file is executed and its `get_config(argument)` called. JSON and TOML are
  data only; the `config.json` of a workdir is one of them. The overrides, pairs like
  ('a.b', 'text'), are applied in order. Errors: ConfigError, one line, for whatever is
  wrong.
  """
  # Here rather than above: the command line answers --help without it.
  import ml_collections

  found = re.fullmatch(r'(.*?\.(py|json|toml))(?::(.*))?', str(spec), re.DOTALL)
  if not found:
    # A file that is missing or unreadable is worth saying before its ending is.
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
    # A group with a dotted key becomes pairs, and a config cannot be pairs.
    if not isinstance(config, dict):
      raise ConfigError(f'{path}: a key with a dot: {nearest(".", dict(config))}')
  config = ml_collections.ConfigDict(config)
  for key, text in overrides:
    override(config, key, text)
  config.lock()
  return config


def _run(path, argument):
  """What `get_config` of a Python file returns, called with the argument if any."""
  import ml_collections

  function = getattr(execute(path), 'get_config', None)
  if not callable(function):
    raise ConfigError(f'{path}: has no function get_config')
  given = () if argument is None else (argument,)
  signature = inspect.signature(function)
  # Bound first, so that a TypeError inside of the function is told from a wrong call.
  try:
    signature.bind(*given)
  except TypeError as error:
    raise ConfigError(
      f'{path}: get_config{signature} cannot take the argument {argument!r}'
    ) from error
  config = guard(path, lambda: function(*given))
  if not isinstance(config, (dict, ml_collections.ConfigDict)):
    raise ConfigError(
      f'{path}: get_config must return a ConfigDict, got {shown(config)}'
    )
  return config


def _parse(path, kind):
  """The dict in a JSON or TOML file."""
  try:
    # Some editors begin a file with a byte order mark, which no parser takes.
    text = read(path).decode('utf-8-sig')
    if kind == 'toml':
      values = tomllib.loads(text)
    else:
      values = json.loads(text, parse_constant=_refuse)
  except ConfigError:
    raise
  except (ValueError, RecursionError) as error:
    raise ConfigError(f'{path}: {one_line(error)}') from error
  if not isinstance(values, dict):
    raise ConfigError(
      f'{path}: must hold an object with the config, got {shown(values)}'
    )
  # The config.json of a workdir keeps the config beside its digest.
  if set(values) == {'config', 'hash'} and isinstance(values['config'], dict):
    values = values['config']
  return values


def _refuse(constant):
  """Python's parser would accept NaN and Infinity, which are no JSON."""
  raise ValueError(f'{constant} is not a number of strict JSON')
