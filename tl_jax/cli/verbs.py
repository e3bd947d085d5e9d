"""The verbs: each adds its flags to a parser, and does its work by one call into the
library.

>>> sorted(VERBS)
['demo', 'evaluate', 'export', 'generate', 'import', 'merge', 'pretrain', 'steps', 'table', 'transfer']
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

from tl_jax import config
from tl_jax.checkpoint import files
from tl_jax.cli import merge, models
from tl_jax.cli.console import Screen, complain, say


class Verb(NamedTuple):
  """What a verb does in one line, an example, its flags, its action, and whether it
  takes `--config.a.b=value`.
  """

  purpose: str
  example: str
  flags: Callable[[argparse.ArgumentParser], None]
  action: Callable[..., int]
  overrides: bool = False


def _workdir(text: str) -> str:
  try:
    files.require_local(text, 'workdir')
  except ValueError as error:
    raise argparse.ArgumentTypeError(str(error)) from error
  if not text.strip() or '\0' in text:
    raise argparse.ArgumentTypeError('needs a folder')
  if os.path.lexists(text) and not os.path.isdir(text):
    raise argparse.ArgumentTypeError(f'{text!r} is not a folder')
  return text


def _add_workdir(
  parser, required=True, what='the folder of the run; the same folder again resumes it'
):
  parser.add_argument(
    '--workdir', required=required, type=_workdir, metavar='W', help=what
  )


def _existing(workdir: str) -> str:
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
  parser.add_argument(
    '--config.KEY',
    dest='_',
    metavar='VALUE',
    help='overrides one value, as in --config.optim.lr=1e-4',
  )


@contextlib.contextmanager
def _watching():
  """What a run tells goes to the screen; afterwards, also after an error, no bar is
  left on it.
  """
  from tl_jax import train

  with Screen() as screen:
    yield train.Watch(screen.say, screen.progress, screen.busy)


def _pretrain(flags, overrides) -> int:
  loaded = config.load(flags.config, overrides)
  from tl_jax import train

  with _watching() as watch:
    train.pretrain(loaded, flags.workdir, watch)
  return 0


def _transfer(flags, overrides) -> int:
  loaded = config.load(flags.config, overrides)
  from tl_jax import train

  with _watching() as watch:
    train.transfer(loaded, flags.workdir, watch)
  return 0


def _add_evaluate(parser):
  _add_workdir(parser, what='the folder of a finished or interrupted run')
  parser.add_argument(
    '--step', type=_step, metavar='N', help='a committed step; the latest one if absent'
  )
  parser.add_argument(
    '--config.KEY',
    dest='_',
    metavar='VALUE',
    help='overrides one value of the saved config',
  )


def _step(text: str) -> int:
  if not text.isdecimal():
    raise argparse.ArgumentTypeError(f'needs the number of a step, got {text!r}')
  return int(text)


def _evaluate(flags, overrides) -> int:
  _existing(flags.workdir)
  from tl_jax import train

  with _watching() as watch:
    train.evaluate(flags.workdir, flags.step, overrides, watch)
  return 0


def _add_scale(parser, default):
  parser.add_argument(
    '--scale',
    default=default,
    metavar='S',
    help=f'smoke, demo, mini or paper, as the experiment defines them (default: {default})',
  )


def _add_demo(parser):
  _add_workdir(
    parser,
    required=False,
    what='where to put the runs and the report (default: a new temporary folder)',
  )
  _add_scale(parser, 'demo')


def _demo(flags, _) -> int:
  workdir = flags.workdir or tempfile.mkdtemp(prefix='tl_jax_demo_')
  say(f'runs and report: {workdir}')
  return _run_table('experiments/low_shot.py', flags.scale, workdir)


def _add_table(parser):
  parser.add_argument(
    'experiment', metavar='EXPERIMENT.py', help='a file that defines TABLE'
  )
  _add_workdir(
    parser, what='where the runs are kept; cells that are there are not run again'
  )
  _add_scale(parser, 'mini')


def _table(flags, _) -> int:
  return _run_table(flags.experiment, flags.scale, flags.workdir)


def _run_table(path: str, scale: str, workdir: str) -> int:
  path = config.locate(path)
  table = getattr(config.execute(path), 'TABLE', None)
  if table is None:
    raise config.ConfigError(f'{path}: defines no TABLE')
  table.at(scale)
  from tl_jax import report, train

  with _watching() as watch:
    execute = table.execute or functools.partial(train.execute, watch=watch)
    outcome = report.run_table(table, scale, workdir, execute, watch.say)
  for run in outcome.unfinished:
    complain(f'{run.row} {run.column} seed {run.seed}: {run.reason}')
  return 1 if outcome.unfinished else 0


def _add_steps(parser):
  parser.add_argument('workdir', type=_workdir, metavar='W', help='the folder of a run')


def _steps(flags, _) -> int:
  folder = pathlib.Path(_existing(flags.workdir)) / 'checkpoints'
  from tl_jax import checkpoint

  verdicts = checkpoint.Store(folder).verdicts() if folder.is_dir() else []
  if not verdicts:
    say(f'{flags.workdir}: no committed step')
  for verdict in verdicts:
    when = (
      time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(verdict.time))
      if verdict.time
      else '-'
    )
    judged = (
      'damaged: ' + '; '.join(map(str, verdict.problems)) if verdict.problems else 'ok'
    )
    say(f'{verdict.step:>10}  {verdict.size:>14,} bytes  {when:<19}  {judged}')
  return 1 if any(verdict.problems for verdict in verdicts) else 0


VERBS = {
  'demo': Verb(
    'the main job on embedded data: pre-train, transfer, a table and a report, with no network',
    'tl-jax demo --workdir=/tmp/demo',
    _add_demo,
    _demo,
  ),
  'pretrain': Verb(
    'pre-trains a model; run again with the same workdir, it resumes',
    'tl-jax pretrain --config=configs/pretrain.py:tiny --workdir=/tmp/base --config.optim.lr=1e-3',
    _add_training,
    _pretrain,
    True,
  ),
  'transfer': Verb(
    'takes a checkpoint to a task under a method',
    'tl-jax transfer --config=configs/transfer.py:task=sentiment,method=lora,init=/tmp/base '
    '--workdir=/tmp/lora',
    _add_training,
    _transfer,
    True,
  ),
  'evaluate': Verb(
    'metrics of a committed step; writes predictions.jsonl',
    'tl-jax evaluate --workdir=/tmp/lora --step=200',
    _add_evaluate,
    _evaluate,
    True,
  ),
  'generate': Verb(
    'text from a decoder or encoder-decoder',
    'tl-jax generate --model=/tmp/gpt --prompt=Once --method=sample --top-p=0.9',
    models.add_generate,
    models.run_generate,
  ),
  'import': Verb(
    'a Hugging Face folder or GGUF file, checked and written as a folder that every verb opens',
    'tl-jax import model.gguf /tmp/model --dtype=bfloat16',
    models.add_import,
    models.run_import,
  ),
  'export': Verb(
    'the model of a workdir as a folder that from_pretrained of transformers opens',
    'tl-jax export /tmp/base /tmp/exported',
    models.add_export,
    models.run_export,
  ),
  'merge': Verb(
    'transfers of one model made one and scored on the task of each: soup, task vectors, TIES, ...',
    'tl-jax merge ties /tmp/sentiment /tmp/register --output=/tmp/merged --density=0.3',
    merge.add_merge,
    merge.run_merge,
  ),
  'table': Verb(
    'a table of runs: published and measured side by side, claims held or missed',
    'tl-jax table experiments/low_shot.py --scale=smoke --workdir=/tmp/table',
    _add_table,
    _table,
  ),
  'steps': Verb(
    'committed steps with their checksum verdict',
    'tl-jax steps /tmp/base',
    _add_steps,
    _steps,
  ),
}
