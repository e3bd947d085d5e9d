"""The verbs: each adds its flags to a parser, and does its work by one call into the
library.

>>> ' '.join(sorted(VERBS))
'data demo evaluate export generate import merge pretrain steps table transfer'
"""

import argparse
import contextlib
import functools
import os
import pathlib
import tempfile
import time
from collections.abc import Callable
from typing import NamedTuple

from tl_jax import config, files
from tl_jax.cli import data, generate, merge, models
from tl_jax.cli.console import Screen, complain, say


class Verb(NamedTuple):
  """A verb of the command line.

  `purpose` says in a line what it does, `example` is a command. `flags` adds its flags
  to a parser. `action(flags, overrides)` does the work and returns the exit code.
  `overrides`: does it take `--config.a.b=value`?
  """

  purpose: str
  example: str
  flags: Callable[[argparse.ArgumentParser], None]
  action: Callable[..., int]
  overrides: bool = False


def _workdir(text: str) -> str:
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


def _add_workdir(
  parser, required=True, what='the folder of the run; the same folder again resumes it'
):
  parser.add_argument(
    '--workdir', required=required, type=_workdir, metavar='W', help=what
  )


def _add_overrides(parser, what: str):
  # For the help alone: overrides are taken out of the command before it is parsed.
  parser.add_argument('--config.KEY', dest='_', metavar='VALUE', help=what)


def _existing(workdir: str) -> str:
  """The workdir. Raises ConfigError where a mistyped one would be made anew."""
  if not os.path.isdir(workdir):
    raise config.ConfigError(f'{workdir}: there is no such workdir')
  return workdir


def _add_training(parser):
  parser.add_argument(
    '--config',
    required=True,
    metavar='C',
    help='FILE.py, FILE.py:argument, FILE.json or FILE.toml; a .py file is executed',
  )
  _add_workdir(parser)
  _add_overrides(parser, 'overrides one value, as in --config.optim.lr=1e-4')


@contextlib.contextmanager
def _reporting():
  """What a run tells goes to the screen; afterwards, also after an error, no bar is
  left on it.
  """
  from tl_jax import train

  # The library prints nothing: it tells, and only the command line has a screen.
  with Screen() as screen:
    yield train.Reporter(screen.say, screen.progress, screen.busy)


def _pretrain(flags, overrides) -> int:
  # The config is checked before the import of jax, which takes seconds.
  loaded = config.load(flags.config, overrides)
  from tl_jax import train

  with _reporting() as reporter:
    train.pretrain(loaded, flags.workdir, reporter)
  return 0


def _transfer(flags, overrides) -> int:
  loaded = config.load(flags.config, overrides)
  from tl_jax import train

  with _reporting() as reporter:
    train.transfer(loaded, flags.workdir, reporter)
  return 0


def _add_evaluate(parser):
  _add_workdir(parser, what='the folder of a finished or interrupted run')
  parser.add_argument(
    '--step', type=_step, metavar='N', help='a committed step; the latest one if absent'
  )
  _add_overrides(parser, 'overrides one value of the saved config')


def _step(text: str) -> int:
  """The type of a flag that names a committed step."""
  if not text.isdecimal():
    raise argparse.ArgumentTypeError(f'needs the number of a step, got {text!r}')
  return int(text)


def _evaluate(flags, overrides) -> int:
  _existing(flags.workdir)
  from tl_jax import train

  with _reporting() as reporter:
    train.evaluate(flags.workdir, flags.step, overrides, reporter)
  return 0


def _add_scale(parser, default):
  what = 'smoke, demo, mini or paper, as the experiment defines them'
  parser.add_argument(
    '--scale', default=default, metavar='S', help=f'{what} (default: {default})'
  )


def _add_demo(parser):
  _add_workdir(
    parser,
    required=False,
    what='where to put the runs and the report (default: a new temporary folder)',
  )
  _add_scale(parser, 'demo')


def _demo(flags, _) -> int:
  table = _open_table('experiments/low_shot.py', flags.scale)
  # Said at once: whoever interrupts the demo wants to find what there is.
  workdir = flags.workdir or tempfile.mkdtemp(prefix='tl_jax_demo_')
  say(f'runs and report: {workdir}')
  return _run_table(table, flags.scale, workdir)


def _add_table(parser):
  parser.add_argument(
    'experiment', metavar='EXPERIMENT.py', help='a file that defines TABLE'
  )
  _add_workdir(
    parser, what='where the runs are kept; cells that are there are not run again'
  )
  _add_scale(parser, 'mini')


def _table(flags, _) -> int:
  table = _open_table(flags.experiment, flags.scale)
  return _run_table(table, flags.scale, flags.workdir)


def _open_table(path: str, scale: str):
  """The TABLE of an experiment file. Raises ValueError where it has no such scale."""
  path = config.locate(path)
  table = getattr(config.execute(path), 'TABLE', None)
  if table is None:
    raise config.ConfigError(f'{path}: defines no TABLE')
  table.at(scale)
  return table


def _run_table(table, scale: str, workdir: str) -> int:
  """Makes the runs of a table; 1 where some of them are missing at its end."""
  from tl_jax import report, train

  with _reporting() as reporter:
    execute = table.execute or functools.partial(train.execute, reporter=reporter)
    outcome = report.run_table(table, scale, workdir, execute, reporter.info)
  # The table is written with what there is; the runs that failed are named at its end.
  for run in outcome.unfinished:
    complain(f'{run.row} {run.column} seed {run.seed}: {run.reason}')
  return 1 if outcome.unfinished else 0


def _add_steps(parser):
  parser.add_argument('workdir', type=_workdir, metavar='W', help='the folder of a run')


def _steps(flags, _) -> int:
  folder = pathlib.Path(_existing(flags.workdir)) / 'checkpoints'
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


DEMO = Verb(
  purpose='the main job on embedded data: pre-train, transfer, a table and a report, '
  'with no network',
  example='tl-jax demo --workdir=/tmp/demo',
  flags=_add_demo,
  action=_demo,
)
PRETRAIN = Verb(
  purpose='pre-trains a model; run again with the same workdir, it resumes',
  example='tl-jax pretrain --config=configs/pretrain.py:tiny --workdir=/tmp/base '
  '--config.optim.lr=1e-3',
  flags=_add_training,
  action=_pretrain,
  overrides=True,
)
TRANSFER = Verb(
  purpose='takes a checkpoint to a task under a method',
  example='tl-jax transfer '
  '--config=configs/transfer.py:task=sentiment,method=lora,init=/tmp/base '
  '--workdir=/tmp/lora',
  flags=_add_training,
  action=_transfer,
  overrides=True,
)
EVALUATE = Verb(
  purpose='metrics of a committed step; writes predictions.jsonl',
  example='tl-jax evaluate --workdir=/tmp/lora --step=200',
  flags=_add_evaluate,
  action=_evaluate,
  overrides=True,
)
GENERATE = Verb(
  purpose='text from a decoder or encoder-decoder',
  example='tl-jax generate --model=/tmp/gpt --prompt=Once --method=sample --top-p=0.9',
  flags=generate.add_generate,
  action=generate.run_generate,
)
IMPORT = Verb(
  purpose='a Hugging Face folder or GGUF file, checked and written as a folder that '
  'every verb opens',
  example='tl-jax import model.gguf /tmp/model --dtype=bfloat16',
  flags=models.add_import,
  action=models.run_import,
)
EXPORT = Verb(
  purpose='the model of a workdir as a folder that from_pretrained of transformers '
  'opens',
  example='tl-jax export /tmp/base /tmp/exported',
  flags=models.add_export,
  action=models.run_export,
)
MERGE = Verb(
  purpose='transfers of one model made one and scored on the task of each: soup, task '
  'vectors, TIES, ...',
  example='tl-jax merge ties /tmp/sentiment /tmp/register --output=/tmp/merged '
  '--density=0.3',
  flags=merge.add_merge,
  action=merge.run_merge,
)
TABLE = Verb(
  purpose='a table of runs: published and measured side by side, claims held or missed',
  example='tl-jax table experiments/low_shot.py --scale=smoke --workdir=/tmp/table',
  flags=_add_table,
  action=_table,
)
DATA = Verb(
  purpose='sets for tasks and pre-training: `data fetch NAME` brings one by the client '
  'of its registry',
  example='tl-jax data fetch spam',
  flags=data.add_data,
  action=data.run_data,
)
STEPS = Verb(
  purpose='committed steps with their checksum verdict',
  example='tl-jax steps /tmp/base',
  flags=_add_steps,
  action=_steps,
)
# In the order in which a person meets them: `tl-jax --help` lists them so.
VERBS = {
  'demo': DEMO,
  'pretrain': PRETRAIN,
  'transfer': TRANSFER,
  'evaluate': EVALUATE,
  'generate': GENERATE,
  'import': IMPORT,
  'export': EXPORT,
  'merge': MERGE,
  'table': TABLE,
  'data': DATA,
  'steps': STEPS,
}
