"""What a verb is, and the flags that several verbs have.

>>> verb = Verb('says a word', 'tl-jax say --word=ja', lambda parser: None, print)
>>> verb.overrides
False
"""

import argparse
import os
from collections.abc import Callable
from typing import NamedTuple

from tl_jax import config, files


class Verb(NamedTuple):
  """A verb of the command line.

  `purpose` says in a line what it does, `example` is a command. `flags` adds its flags
  to a parser. `action(flags, overrides)` does the work and returns the exit code.
  `overrides`: does it take `--config.a.b=value`, or what else `prefix` says in the place
  of config? `notes` is what its help says behind the example. `configs` are files that
  came with the package, whose docstrings the help shows: what their arguments may be.
  """

  purpose: str
  example: str
  flags: Callable[[argparse.ArgumentParser], None]
  action: Callable[..., int]
  overrides: bool = False
  notes: str = ''
  configs: tuple[str, ...] = ()
  prefix: str = 'config'


def workdir(text: str) -> str:
  """The type of a flag that names a workdir, which need not exist yet."""
  try:
    files.require_local(text, 'workdir')
  except ValueError as error:
    raise argparse.ArgumentTypeError(str(error)) from error
  if not text.strip() or '\0' in text:
    raise argparse.ArgumentTypeError('needs a folder')
  # lexists: a dangling link is there and is no folder.
  if os.path.lexists(text) and not os.path.isdir(text):
    raise argparse.ArgumentTypeError(f'{text!r} is not a folder')
  return text


def add_workdir(
  parser, required=True, what='the folder of the run; the same folder again resumes it'
):
  """Adds the flag --workdir, the folder of a run."""
  parser.add_argument(
    '--workdir', required=required, type=workdir, metavar='W', help=what
  )


def add_overrides(parser, what: str):
  """Adds --config.KEY=VALUE to the help of a verb that takes it."""
  # For the help alone: overrides are taken out of the command before it is parsed.
  parser.add_argument('--config.KEY', dest='_', metavar='VALUE', help=what)


def require_workdir(path: str) -> str:
  """The path of a workdir. Raises ConfigError where a mistyped one would be made anew."""
  if not os.path.isdir(path):
    raise config.ConfigError(f'{path}: there is no such workdir{config.beside(path)}')
  return path
