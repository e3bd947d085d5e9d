"""The verbs that make many runs and a report of them: `demo`, `table`.

>>> TABLE.example.split()[:3]
['tl-jax', 'table', 'experiments/low_shot.py']
"""

import functools
import tempfile

from tl_jax import config
from tl_jax.cli.console import complain, reporting, say
from tl_jax.cli.verb import Verb, add_workdir


def _add_scale(parser, default):
  what = 'smoke, demo, mini or paper, as the experiment defines them'
  parser.add_argument(
    '--scale', default=default, metavar='S', help=f'{what} (default: {default})'
  )


def _add_demo(parser):
  add_workdir(
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
  add_workdir(
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

  with reporting() as reporter:
    execute = table.execute or functools.partial(train.execute, reporter=reporter)
    outcome = report.run_table(table, scale, workdir, execute, reporter.info)
  # The table is written with what there is; the runs that failed are named at its end.
  for run in outcome.unfinished:
    complain(f'{run.row} {run.column} seed {run.seed}: {run.reason}')
  return 1 if outcome.unfinished else 0


DEMO = Verb(
  purpose='the main job on embedded data: pre-train, transfer, a table and a report, '
  'with no network',
  example='tl-jax demo --workdir=/tmp/demo',
  flags=_add_demo,
  action=_demo,
)
TABLE = Verb(
  purpose='a table of runs: published and measured side by side, claims held or missed',
  example='tl-jax table experiments/low_shot.py --scale=smoke --workdir=/tmp/table',
  flags=_add_table,
  action=_table,
)
