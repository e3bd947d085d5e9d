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

DONE, FAILED, WRONG, LATER, INTERRUPTED = 0, 1, 2, 75, 130
# Raised by `checkpoint` and `train`, which are too slow to import only to name a class.
TEMPORARY = ('WorkdirBusy', 'Stopped')


def overview() -> str:
  """The help of the command itself: every verb in a line."""
  lines = [f'  {name:<10}{verb.purpose}' for name, verb in VERBS.items()]
  return '\n'.join(
    [
      'usage: tl-jax VERB ...',
      '',
      *lines,
      '',
      '`tl-jax VERB --help` says more, with an example.',
    ]
  )


def main(argv: Sequence[str] | None = None) -> int:
  """Runs one command and returns its exit code; without `argv`, the process's own, with
  best-effort output.

  An unexpected exception passes through; in a process of its own it is printed as one
  line (as a traceback where TL_JAX_TRACEBACK=1) and the exit code is 1.
  """
  if argv is None:
    console.open_outlets()
    sys.excepthook = _report
    argv = sys.argv[1:]
  try:
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
  """Runs one command; raises what the verb raises, and ConfigError where there is no
  such verb or flag.
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
  verb, overrides = VERBS[name], []
  if verb.overrides:
    words, overrides = split_overrides(words)
  try:
    flags = make_parser(name).parse(words)
  except SystemExit as finished:
    return int(finished.code or 0)
  keep_compiled()
  return verb.action(flags, overrides)


def make_parser(name: str) -> Parser:
  """The parser of a verb's own flags."""
  verb = VERBS[name]
  parser = Parser(
    prog=f'tl-jax {name}',
    description=verb.purpose,
    epilog=f'example:\n  {verb.example}',
    allow_abbrev=False,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  verb.flags(parser)
  return parser


def exit_code(error: BaseException) -> int | None:
  """The exit code of an expected failure, or None for an unexpected one."""
  names = {cls.__name__ for cls in type(error).__mro__}
  if names & set(TEMPORARY):
    return LATER
  return WRONG if isinstance(error, ValueError) and not _is_of_library(error) else None


def _is_of_library(error) -> bool:
  """Was a ValueError raised inside one of the libraries that compute, so that it is no
  verdict on the input?
  """
  frames = traceback.extract_tb(error.__traceback__)
  parts = pathlib.PurePath(frames[-1].filename).parts if frames else ()
  removed = any('JAX has removed' in note for note in getattr(error, '__notes__', ()))
  return removed or bool(set(parts) & {'jax', 'jaxlib', 'flax', 'optax', 'orbax'})


def _trace(error):
  if os.environ.get('TL_JAX_TRACEBACK') == '1':
    traceback.print_exception(error)


def _report(kind, error, trace):
  _trace(error)
  code = exit_code(error)
  console.complain(
    f'error: {kind.__name__}: {error}' if code is None else f'error: {error}'
  )


if __name__ == '__main__':
  raise SystemExit(main())
