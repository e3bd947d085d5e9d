"""`tl-jax VERB ...`: finds the verb, runs it, and turns what happened into an exit
code.

>>> main(['--version'])
tl-jax 0.1.0
0

0: done. 2: the command, config or input is wrong, said in one line before anything is
compiled. 75: try again later.
130, 143: a second signal. 1: any other failure.
"""

import argparse
import os
import pathlib
import sys
import traceback
from collections.abc import Sequence

import tl_jax
from tl_jax.cli import console
from tl_jax.cli.arguments import Parser, split_overrides
from tl_jax.cli.compiled import keep_compiled
from tl_jax.cli.verbs import VERBS
from tl_jax.config import ConfigError, nearest

DONE = 0
FAILED = 1
WRONG = 2
# EX_TEMPFAIL of sysexits.h: a scheduler may start the same command again.
LATER = 75
# As a shell says it: 128 and the number of the signal.
INTERRUPTED = 130
# What jax says of a machine that has too little memory, or no such device.
OUTSIDE = ('RESOURCE_EXHAUSTED', 'Unable to initialize backend')
# Raised by `checkpoint` and `train`, which are too slow to import only to name a class.
TEMPORARY = ('WorkdirBusy', 'Stopped')


def overview() -> str:
  """The help of the command itself: every verb in a line."""
  lines = [f'  {name:<10}{verb.purpose}' for name, verb in VERBS.items()]
  before = ['usage: tl-jax VERB ...', '']
  after = ['', '`tl-jax VERB --help` says more, with an example.']
  return '\n'.join([*before, *lines, *after])


def main(argv: Sequence[str] | None = None) -> int:
  """Runs one command and returns its exit code.

  Without `argv` it is the command of this process, whose output then is best effort. An
  unexpected exception passes through. In a process of its own it is printed as one line,
  and the exit code is 1. Where it is a fault of the program, its traceback comes before
  that line; that of any other failure does where TL_JAX_TRACEBACK=1.
  """
  if argv is None:
    console.open_outlets()
    sys.excepthook = _report
    argv = sys.argv[1:]
  try:
    with console.notices():
      return run(list(argv))
  except KeyboardInterrupt:
    console.complain('interrupted')
    return INTERRUPTED
  except Exception as error:
    code = exit_code(error)
    if code is None:
      raise
    _trace(error)
    console.complain(f'error: {error}')
    return code


def run(argv: list[str]) -> int:
  """Runs one command and returns its exit code.

  Raises what the verb raises, and ConfigError where there is no such verb or flag.
  """
  if not argv or argv[0] in ('--help', '-h', 'help'):
    if not argv:
      raise ConfigError(f'a verb is needed: {", ".join(VERBS)}')
    console.say(overview())
    return DONE
  if argv[0] == '--version':
    console.say('tl-jax', tl_jax.__version__)
    return DONE
  name, *words = argv
  if name not in VERBS:
    raise ConfigError(f'unknown verb {name!r}; nearest: {nearest(name, VERBS)}')
  verb = VERBS[name]
  overrides = []
  if verb.overrides:
    words, overrides = split_overrides(words, verb.prefix)
  try:
    flags = make_parser(name).parse(words)
  except SystemExit as finished:
    # argparse ends the process after --help; whoever calls `main` wants a number.
    return int(finished.code or 0)
  # After --help and wrong flags, which compile nothing.
  keep_compiled()
  return verb.action(flags, overrides)


def make_parser(name: str) -> Parser:
  """The parser of a verb's own flags."""
  verb = VERBS[name]
  notes = f'\n\n{verb.notes}' if verb.notes else ''
  parser = Parser(
    prog=f'tl-jax {name}',
    description=verb.purpose,
    epilog=f'example:\n  {verb.example}{notes}',
    # `--work` for --workdir would change its meaning with the next flag.
    allow_abbrev=False,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    configs=verb.configs,
  )
  verb.flags(parser)
  return parser


def exit_code(error: BaseException) -> int | None:
  """The exit code of an expected failure, or None for an unexpected one."""
  names = {cls.__name__ for cls in type(error).__mro__}
  if names & set(TEMPORARY):
    return LATER
  # The house raises ValueError for what its user can mend.
  if isinstance(error, ValueError) and not _is_of_library(error):
    return WRONG
  return None


def _is_of_library(error) -> bool:
  """Was a ValueError raised inside a library that computes?

  Then it is a fault of the program, not a verdict on the input.
  """
  # jax notes it on the error that a name which it has removed raises.
  removed = any('JAX has removed' in note for note in getattr(error, '__notes__', ()))
  parts = _place_of(error).parts
  return removed or bool(set(parts) & {'jax', 'jaxlib', 'flax', 'optax', 'orbax'})


def _place_of(error) -> pathlib.PurePath:
  """The file in which an error was raised: that of its innermost frame."""
  frames = traceback.extract_tb(error.__traceback__)
  return pathlib.PurePath(frames[-1].filename if frames else '')


def is_fault(error: BaseException) -> bool:
  """Is an error a fault of the program, so that only its traceback helps?

  It is none where something outside of it failed: a file, a package or memory that is
  not there, another process, or a loss that is no number. The house says such a thing
  in words.
  """
  if exit_code(error) is not None or isinstance(error, (OSError, MemoryError)):
    return False
  if any(words in str(error) for words in OUTSIDE):
    return False
  house = pathlib.PurePath(tl_jax.__file__).parent
  is_of_house = _place_of(error).is_relative_to(house)
  in_words = isinstance(error, (RuntimeError, ImportError))
  # Subclasses that Python raises for a mistake in the code.
  mistaken = isinstance(error, (NotImplementedError, RecursionError))
  return mistaken or not (is_of_house and in_words)


def _trace(error):
  """Prints the traceback for whoever looks for the fault."""
  if is_fault(error) or os.environ.get('TL_JAX_TRACEBACK') == '1':
    traceback.print_exception(error)


def _report(kind, error, trace):
  """The hook of sys.excepthook: an error that nobody expected, in one line.

  Before it is the traceback of a fault of the program.
  """
  _trace(error)
  said = str(error)
  if exit_code(error) is None:
    # Such a message often makes no sense without its kind: KeyError: 'w'.
    said = f'{kind.__name__}: {said}'
  if is_fault(error):
    said += ' (not foreseen; the traceback above says where)'
  console.complain(f'error: {said}')


if __name__ == '__main__':
  raise SystemExit(main())
