"""The verb `compare`: a paired test of two runs on the same examples.

>>> COMPARE.example
'tl-jax compare /tmp/lora /tmp/full'
"""

import argparse
import pathlib

from tl_jax import files
from tl_jax.cli.console import Screen, in_columns, say
from tl_jax.cli.verb import Verb
from tl_jax.config import ConfigError


def _add_compare(parser):
  what = (
    'the folder of a finished run, or a file of predictions that one left; or several '
    'with commas between'
  )
  parser.add_argument('first', metavar='A', help=what)
  parser.add_argument('second', metavar='B', help='another one')
  parser.add_argument(
    '--metric',
    default='',
    metavar='M',
    help='the only metric to compare by, such as f1_macro (default: those that both '
    'results have)',
  )
  parser.add_argument(
    '--samples',
    type=_at_least(1),
    default=1000,
    metavar='N',
    help='draws of the bootstrap and of the permutation test (default: 1000)',
  )
  parser.add_argument(
    '--seed',
    type=_at_least(0),
    default=0,
    metavar='N',
    help='of the draws (default: 0)',
  )
  parser.add_argument('--json', metavar='FILE', help='writes what was found as JSON')


def _at_least(least: int):
  """The type of a flag that is a whole number of at least `least`."""

  def read(text: str) -> int:
    if not text.isdecimal() or int(text) < least:
      raise argparse.ArgumentTypeError(
        f'needs a whole number of at least {least}, got {text!r}'
      )
    return int(text)

  return read


def _compare(flags, _) -> int:
  # First: what was computed is not lost for a folder that is not there.
  if flags.json:
    _require_output(pathlib.Path(files.require_local(flags.json, 'json')))
  from tl_jax.evals import comparing

  sides = [_runs_of(flags.first), _runs_of(flags.second)]
  if any(len(side) > 1 for side in sides):
    return _compare_several(sides, flags)
  both = comparing.pair(flags.first, flags.second, flags.metric)
  with Screen() as screen, screen.busy(f'comparing by {", ".join(both.names)}'):
    report = comparing.compare(both, flags.samples, flags.seed)
  return _tell(report, _lines(report), flags)


def _runs_of(text: str) -> list[str]:
  """The runs of a side, with commas between; a path may have some of its own."""
  if pathlib.Path(text).exists():
    return [text]
  return [name for name in text.split(',') if name] or [text]


def _compare_several(sides, flags) -> int:
  """Two sides of several runs each."""
  from tl_jax.evals import several

  # Before anything is read or drawn.
  several.require_several(*sides)
  with Screen() as screen, screen.busy(f'comparing {len(sides[0] + sides[1])} runs'):
    report = several.compare(*sides, flags.metric, flags.samples, flags.seed)
  return _tell(report, _lines_of_several(report), flags)


def _tell(report, lines: list[str], flags) -> int:
  """Prints what was found, and writes it where it was asked for."""
  for line in lines:
    say(line)
  if flags.json:
    text = files.encode(report.as_dict(), indent=1) + '\n'
    files.write_atomically(pathlib.Path(flags.json), text.encode())
  return 0


def _require_output(path: pathlib.Path) -> None:
  """Raises ConfigError for a file that cannot be written."""
  if path.is_dir() or not path.parent.is_dir():
    raise ConfigError(f'--json: {path}: needs a file in a folder that is there')


def _lines(report) -> list[str]:
  """What a person reads of a comparison."""
  head = ('', 'A', 'B', 'A - B', 'p', 'examples that differ')
  table = in_columns([head, *map(_row, report.comparisons)])
  count = f'{report.other_predictions:,} of {report.n:,}'
  lines = [
    f'A: {report.first.path}',
    f'B: {report.second.path}',
    f'{count} predictions are not the same',
    '',
    *table,
    '',
    'this is about two models on other examples; of other seeds of their training tell '
    'several runs of each: tl-jax compare A1,A2 B1,B2',
    *filter(None, map(_of_mcnemar, report.comparisons)),
  ]
  if report.left_out:
    lines.append(
      f'not compared, as predictions do not tell it: {", ".join(report.left_out)}'
    )
  return [*lines, report.sentence]


def _lines_of_several(report) -> list[str]:
  """What a person reads of a comparison of several runs."""
  rows = [('', 'A', 'B', 'A - B', 'p', 'of the variance: seeds', 'examples')]
  for found in report.comparisons:
    total = max(found.by_seed + found.by_example, 1e-300)
    shares = [f'{part / total:.0%}' for part in (found.by_seed, found.by_example)]
    values = map(_cell, (found.first, found.second, found.difference))
    rows.append((found.metric, *values, f'{found.p_value:.2g}', *shares))
  return [
    f'A: {len(report.first)} runs: {", ".join(report.first)}',
    f'B: {len(report.second)} runs: {", ".join(report.second)}',
    '',
    *in_columns(rows),
    '',
    f'means over runs on the same {report.n:,} examples; 95 % t intervals of '
    's1²/S1 + s2²/S2 over seeds + the variance over examples (bootstrap)',
    report.sentence,
  ]


def _row(comparison) -> tuple[str, ...]:
  """A line of the table: each value with its interval in brackets."""
  return (
    comparison.metric,
    _cell(comparison.first),
    _cell(comparison.second),
    _cell(comparison.difference),
    f'{comparison.p_value:.2g}',
    f'{comparison.differ:,}',
  )


def _cell(interval) -> str:
  """A value, and its interval where there is one."""
  if interval.low is None:
    return f'{interval.mean:.3f}'
  return f'{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]'


def _of_mcnemar(comparison) -> str:
  """McNemar's test in a line; '' where there is none."""
  if comparison.mcnemar is None:
    return ''
  return (
    f'{comparison.metric}: {comparison.only_first:,} right in A alone, '
    f"{comparison.only_second:,} in B alone; McNemar's exact p = "
    f'{comparison.mcnemar:.2g}'
  )


NOTES = """in brackets stand 95 % intervals of a bootstrap over examples, paired for the
difference; p is that of a permutation test, which exchanges the answers of A and B to an
example at random. below 0.05 there is a difference by that metric. it is about these two
models: how much another seed changes is seen by comparing two seeds.

metrics that are no mean over examples, as F1, correlations and BLEU, are computed anew
for every draw; fewer draws take less time:
  tl-jax compare /tmp/lora /tmp/full --metric=f1_macro --samples=200 --json=found.json
  tl-jax compare /tmp/lora/predictions.jsonl other.jsonl

several runs of each side, as other seeds, with commas between: whether one way to train
is better than the other, for other seeds and other examples:
  tl-jax compare /tmp/lora/0,/tmp/lora/1,/tmp/lora/2 /tmp/full/0,/tmp/full/1,/tmp/full/2

the headline of the task stands first, and the last line is about it.
"""

COMPARE = Verb(
  purpose='a paired test of two runs on the same examples',
  example='tl-jax compare /tmp/lora /tmp/full',
  flags=_add_compare,
  action=_compare,
  notes=NOTES,
)
