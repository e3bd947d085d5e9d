"""The verb `steps`: the committed steps of a workdir, and whether they are whole.

>>> STEPS.example
'tl-jax steps /tmp/base'
"""

import pathlib
import time

from tl_jax.cli.console import say
from tl_jax.cli.verb import Verb, require_workdir, workdir


def _add_steps(parser):
  parser.add_argument('workdir', type=workdir, metavar='W', help='the folder of a run')


def _steps(flags, _) -> int:
  folder = pathlib.Path(require_workdir(flags.workdir)) / 'checkpoints'
  from tl_jax import checkpoint

  verdicts = checkpoint.Store(folder).verdicts() if folder.is_dir() else []
  # A run that has not reached its first step is no error.
  if not verdicts:
    say(f'{flags.workdir}: no committed step')
  for verdict in verdicts:
    say(_line_of(verdict))
  return 1 if any(verdict.problems for verdict in verdicts) else 0


def _line_of(verdict) -> str:
  """A committed step in a line: number, bytes, local time, and what is damaged."""
  # A step whose record is damaged does not say when it was written.
  when = '-'
  if verdict.time:
    when = time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(verdict.time))
  judged = 'ok'
  if verdict.problems:
    judged = 'damaged: ' + '; '.join(map(str, verdict.problems))
  return f'{verdict.step:>10}  {verdict.size:>14,} bytes  {when:<19}  {judged}'


STEPS = Verb(
  purpose='committed steps with their checksum verdict',
  example='tl-jax steps /tmp/base',
  flags=_add_steps,
  action=_steps,
)
