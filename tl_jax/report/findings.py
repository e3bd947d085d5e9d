"""What a made table says: gains, labels saved, steps to a target, and the sentences
that sum it up.

>>> plural(1, 'run'), plural(3, 'claim')
('1 run', '3 claims')
"""

import dataclasses
import importlib.metadata
import math
import os
import platform
import statistics
from collections.abc import Hashable, Mapping

from tl_jax.evals.curves import (
  LabelCurve,
  LabelsSaved,
  Reached,
  labels_saved,
  reach,
  transfer_gain,
)
from tl_jax.evals.statistics import Interval
from tl_jax.report.cells import Cell, is_number
from tl_jax.report.table import Table

PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'scipy')


@dataclasses.dataclass(frozen=True)
class Findings:
  """curves: row -> curve, where columns are numbers of labels; gains, saved: row ->
  labels -> value, against the reference row; steps, seconds: (row, column) -> seed ->
  where the run reached the reference's final value; targets: column -> that value's
  mean; sentences: text.
  """

  curves: Mapping[Hashable, LabelCurve]
  gains: Mapping[Hashable, Mapping[float, Interval]]
  saved: Mapping[Hashable, Mapping[float, LabelsSaved]]
  steps: Mapping[tuple, Mapping[int, Reached]]
  seconds: Mapping[tuple, Mapping[int, Reached]]
  targets: Mapping[Hashable, float]
  metric: str | None
  sentences: tuple[str, ...]
  environment: Mapping[str, str]


def find(outcome) -> Findings:
  """Everything that follows from the cells of an outcome; empty where the table's
  columns are not numbers of labels.
  """
  table, cells = outcome.table, outcome.cells
  curves, gains, saved = {}, {}, {}
  if len(cells.columns) > 1 and all(map(is_number, cells.columns)):
    curves = {
      row: cells.curve(row)
      for row in cells.rows
      if any(cells[row, column].n for column in cells.columns)
    }
  reference = curves.get(table.reference)
  if reference is not None:
    others = {row: curve for row, curve in curves.items() if row != table.reference}
    gains = {row: transfer_gain(curve, reference) for row, curve in others.items()}
    saved = {
      row: {at: labels_saved(curve, reference, at) for at in curve.labels}
      for row, curve in others.items()
    }
  metric = logged_metric(outcome)
  steps, seconds = (_reached(outcome, metric, by) for by in ('step', 'seconds'))
  findings = Findings(
    curves,
    gains,
    saved,
    steps,
    seconds,
    _targets(outcome, steps),
    metric,
    (),
    _environment(),
  )
  return dataclasses.replace(findings, sentences=tuple(_sentences(outcome, findings)))


def logged_metric(outcome) -> str | None:
  """The name under which training logged the headline metric of held-out data, such as
  `test/accuracy`, or None.
  """
  headline = outcome.table.headline
  for cell in outcome.cells:
    for seed in cell.values:
      names = {name for line in cell.training(seed) for name in line}
      found = [
        name for name in names if name.endswith((f'/{headline}', f'_{headline}'))
      ]
      if found:
        return min(found, key=lambda name: (len(name), name))
  return None


def training(cell: Cell, seed: int, metric: str | None, headline: str) -> list[dict]:
  """The lines that a run logged, and its result as the last point of `metric` where the
  result says its steps.
  """
  lines, result = cell.training(seed), cell.runs[seed].result
  if metric is not None and lines and is_number(result.get('steps')):
    last = {'step': result['steps'], metric: result['metrics'][headline]}
    # What a run logs on its way is its time of training, too.
    seconds = training_seconds(result)
    lines.append(last if seconds is None else last | {'seconds': seconds})
  return lines


def training_seconds(result: Mapping) -> float | None:
  """What a result says of its time of training; where it has one time only, that; None
  where it has none.
  """
  seconds = result.get('training_seconds', result.get('seconds'))
  return seconds if is_number(seconds) else None


def amount(value: float | None, table: Table) -> str:
  """A headline value as text, with the table's digits and unit; a dash for none."""
  return '–' if value is None else f'{value:.{table.digits}f}{table.unit}'


def spread(interval: Interval, table: Table, unit: bool = False) -> str:
  """mean ± half the interval; the mean alone where there is no interval."""
  half = interval.half
  text = '–' if interval.mean is None else f'{interval.mean:.{table.digits}f}'
  return (
    text
    + ('' if half is None else f' ± {half:.{table.digits}f}')
    + (table.unit if unit else '')
  )


def ends(interval: Interval, digits: int) -> str:
  """[low, high] as text, with words for ends that are not there."""
  if interval.low is None:
    return '(no interval)'
  return f'[{interval.low:.{digits}f}, {"∞" if interval.high == float("inf") else f"{interval.high:.{digits}f}"}]'


def plural(count: int, noun: str) -> str:
  return f'{count} {noun}' if count == 1 else f'{count} {noun}s'


def counted(cell: Cell) -> str:
  """n=3, or n=3 of 5 where seeds are missing."""
  return f'n={cell.n}' + (f' of {cell.n + len(cell.holes)}' if cell.holes else '')


def difference(outcome, row, column) -> float | None:
  """The cell's mean minus the published number; None where either is missing."""
  printed, cell = outcome.table.published.get((row, column)), outcome.cells[row, column]
  return (
    None
    if printed is None or printed.value is None or cell.mean is None
    else cell.mean - printed.value
  )


def _reached(outcome, metric: str | None, by: str) -> dict:
  """(row, column) -> seed -> where the run reached its target, in steps or seconds, for
  runs that logged the headline.

  Seed by seed: a run's target is the final value of the reference's run of the same
  seed.
  """
  table, cells = outcome.table, outcome.cells
  if metric is None or table.reference not in cells.rows:
    return {}
  reached = {}
  for row in cells.rows:
    for column in cells.columns:
      cell, reference, found = cells[row, column], cells[table.reference, column], {}
      for seed in cell.values:
        lines = [
          line
          for line in training(cell, seed, metric, table.headline)
          if is_number(line.get(metric)) and is_number(line.get(by))
        ]
        if lines and seed in reference.values:
          target = reference.values[seed] / table.factor
          # The division may undo the factor one rounding too high; the logged value
          # itself must still count.
          target -= math.copysign(1e-12, 1 if table.higher_is_better else -1) * max(
            1.0, abs(target)
          )
          found[seed] = reach(
            lines, metric, target, by=by, higher_is_better=table.higher_is_better
          )
      if found:
        reached[row, column] = found
  return reached


def _targets(outcome, steps: Mapping) -> dict:
  """column -> the mean of the reference's final values, where any run of the column has
  a curve.
  """
  table, cells = outcome.table, outcome.cells
  return {
    column: cells[table.reference, column].mean
    for column in cells.columns
    if any(column == other for _, other in steps)
  }


def median_reached(found: Mapping[int, Reached]) -> str:
  """The median over seeds of steps or seconds to a target; a run that never got there
  took longer than all.
  """
  steps = [
    float('inf') if reached.at is None else reached.at for reached in found.values()
  ]
  middle = statistics.median_high(steps)
  limit = max(reached.limit for reached in found.values())
  return f'> {limit:.3g}' if middle == float('inf') else f'{middle:.3g}'


def _sentences(outcome, findings: Findings):
  table, cells, runs = outcome.table, outcome.cells, outcome.runs
  done = [run for run in runs if run.result is not None]
  made = [*done, *(run for run in outcome.before.values() if run.result is not None)]
  seconds = sum(training_seconds(run.result) or 0.0 for run in made)
  took = (
    f' Training took {seconds:,.0f} s on {findings.environment["cores"]}.'
    if seconds
    else ''
  )
  yield f'{len(done)} of {plural(len(runs), "run")} finished.{took}'
  for row, gains in findings.gains.items():
    yield from _gain_sentences(outcome, findings, row, gains)
  if not findings.gains:
    ranked = [cells[row] for row in cells.rows if cells[row].mean is not None]
    if len(ranked) > 1:
      best = (max if table.higher_is_better else min)(
        ranked, key=lambda cell: cell.mean
      )
      value = spread(best.interval, table, unit=True)
      yield f'{best.row} has the best mean over all columns: {value} ({counted(best)}).'
  if outcome.judgements:
    verdicts = [judgement.verdict for judgement in outcome.judgements]
    counts = ', '.join(
      f'{verdicts.count(verdict)} {verdict}'
      for verdict in ('held', 'missed', 'undecided')
    )
    yield f'Of {plural(len(verdicts), "claim")}: {counts}.'


def _gain_sentences(outcome, findings: Findings, row, gains):
  table, cells = outcome.table, outcome.cells
  measured = [labels for labels, gain in gains.items() if gain.n]
  if not measured:
    return
  few = min(measured)
  gain = gains[few]
  interval = f' {ends(gain, table.digits)}' if gain.low is not None else ''
  points = ' points' if table.unit.strip() == '%' else table.unit
  text = (
    f'With {few:g} labels, {row} reaches {spread(cells[row, few].interval, table, unit=True)} against '
    f'{spread(cells[table.reference, few].interval, table, unit=True)} for {table.reference}: a gain of '
    f'{gain.mean:.{table.digits}f}{points}{interval} over {plural(gain.n, "shared seed")}.'
  )
  saved = findings.saved[row][few]
  times = '' if saved.censored else f' ({saved.multiplier.mean:.1f} times as many)'
  words = {'above': 'more than ', 'below': 'no more than ', '': ''}[saved.censored]
  count = f'{words}{saved.limit:.0f}'
  yield f'{text} To match that, {table.reference} needs {count} labels{times}.'


def _environment() -> dict[str, str]:
  """Versions and the machine, without importing anything heavy."""
  versions = {}
  for name in PACKAGES:
    try:
      versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      versions[name] = 'not installed'
  cores = (
    len(os.sched_getaffinity(0))
    if hasattr(os, 'sched_getaffinity')
    else os.cpu_count() or 1
  )
  from tl_jax import __version__

  return {
    'tl_jax': __version__,
    'python': platform.python_version(),
    **versions,
    'system': f'{platform.system()} {platform.machine()}',
    'cores': plural(cores, 'core'),
  }
