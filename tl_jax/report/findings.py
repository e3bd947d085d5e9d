"""What follows from a made table: gains, labels saved, steps to a target, and the
sentences that sum it up.

>>> plural(1, 'run'), plural(3, 'claim')
('1 run', '3 claims')
"""

import dataclasses
import importlib.metadata
import math
import os
import platform
import statistics
from collections.abc import Hashable, Iterable, Iterator, Mapping

from tl_jax import __version__
from tl_jax.evals.curves import (
  LabelCurve,
  LabelsSaved,
  Reached,
  labels_saved,
  reach,
  transfer_gain,
)
from tl_jax.evals.statistics import Interval
from tl_jax.report.cells import Cell, Cells, Run, is_number
from tl_jax.report.table import Table

# Those that decide how fast a run is and how it rounds.
PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'scipy')


@dataclasses.dataclass(frozen=True)
class Findings:
  """What follows from the cells of a table.

  The curves are empty where the columns are no numbers of labels. Gains and labels
  saved are empty as well where the table has no reference row.
  """

  # row -> value against the number of labels
  curves: Mapping[Hashable, LabelCurve]
  # row -> labels -> value, of every row but the reference, against the reference
  gains: Mapping[Hashable, Mapping[float, Interval]]
  saved: Mapping[Hashable, Mapping[float, LabelsSaved]]
  # (row, column) -> seed -> where the run reached the reference's final value
  steps: Mapping[tuple, Mapping[int, Reached]]
  seconds: Mapping[tuple, Mapping[int, Reached]]
  # column -> the mean of the reference's last logged values, in the unit of the table
  targets: Mapping[Hashable, float]
  # column -> under which name training logged its metric on held-out data; None where
  # no run did
  logged: Mapping[Hashable, str | None]
  sentences: tuple[str, ...]
  # name of a package or of a part of the machine -> version
  environment: Mapping[str, str]


def find(outcome) -> Findings:
  """Everything that follows from the cells of an outcome."""
  curves = _curves(outcome.cells)
  gains, saved = _against(outcome.table.reference, curves)
  logged = {column: logged_metric(outcome, column) for column in outcome.cells.columns}
  steps = _reached(outcome, logged, 'step')
  findings = Findings(
    curves=curves,
    gains=gains,
    saved=saved,
    steps=steps,
    seconds=_reached(outcome, logged, 'seconds'),
    targets=_targets(outcome, steps, logged),
    logged=logged,
    sentences=(),
    environment=_environment(),
  )
  # The sentences are made of the other findings.
  return dataclasses.replace(findings, sentences=tuple(_sentences(outcome, findings)))


def _curves(cells: Cells) -> dict:
  """row -> curve, of the rows that have a value; empty where columns are no numbers."""
  # A single number of labels is a point, not a curve.
  if len(cells.columns) < 2 or not all(map(is_number, cells.columns)):
    return {}
  curves = {}
  for row in cells.rows:
    if any(cells[row, column].n for column in cells.columns):
      curves[row] = cells.curve(row)
  return curves


def _against(reference: Hashable, curves: Mapping[Hashable, LabelCurve]) -> tuple:
  """(gains, labels saved) of every other row; both empty without a reference curve."""
  gains, saved = {}, {}
  scratch = curves.get(reference)
  if scratch is None:
    return gains, saved
  for row, curve in curves.items():
    if row == reference:
      continue
    gains[row] = transfer_gain(curve, scratch)
    saved[row] = {
      labels: labels_saved(curve, scratch, labels) for labels in curve.labels
    }
  return gains, saved


def logged_metric(outcome, column: Hashable) -> str | None:
  """The name under which training logged a column's metric of held-out data.

  Such a name is `test/accuracy`. None where no run logged any.
  """
  # All runs log under the same name, so the first that logged any settles it.
  metric = outcome.table.metric(column)
  for row in outcome.cells.rows:
    cell = outcome.cells[row, column]
    for seed in cell.values:
      names = {name for line in cell.training(seed) for name in line}
      found = [name for name in names if name.endswith((f'/{metric}', f'_{metric}'))]
      if found:
        # The shortest is the plainest; the alphabet settles a tie, as a set has no order.
        return min(found, key=lambda name: (len(name), name))
  return None


def training(cell: Cell, seed: int, logged: str | None, metric: str) -> list[dict]:
  """The lines that a run logged, with `metric` of its result as the last point.

  logged: under which name the lines have that metric.
  Without that point where the result does not say its steps, and where the last step is
  among the lines: what is logged of validation ends on validation.
  """
  lines = cell.training(seed)
  result = cell.runs[seed].result
  if logged is None or not lines or not is_number(result.get('steps')):
    return lines
  if any(line.get('step') == result['steps'] and logged in line for line in lines):
    return lines
  last = {'step': result['steps'], logged: result['metrics'][metric]}
  seconds = training_seconds(result)
  # What a run logs on its way is its time of training, too.
  if seconds is not None:
    last['seconds'] = seconds
  return [*lines, last]


def training_seconds(result: Mapping) -> float | None:
  """A result's time of training; None where it has none.

  Where it tells no time of training apart, that is its only time, `seconds`.
  """
  seconds = result.get('training_seconds', result.get('seconds'))
  return seconds if is_number(seconds) else None


def amount(value: float | None, table: Table) -> str:
  """A headline value as text, with the table's digits and unit; a dash for none."""
  return '–' if value is None else f'{value:.{table.digits}f}{table.unit}'


def spread(interval: Interval, table: Table, unit: bool = False) -> str:
  """mean ± half the interval; the mean alone where there is no interval."""
  text = '–' if interval.mean is None else f'{interval.mean:.{table.digits}f}'
  if interval.half is not None:
    text += f' ± {interval.half:.{table.digits}f}'
  return f'{text}{table.unit}' if unit else text


def ends(interval: Interval, digits: int) -> str:
  """[low, high] as text, with words for ends that are not there."""
  if interval.low is None:
    return '(no interval)'
  low = f'{interval.low:.{digits}f}'
  # Labels saved have no upper end where the reference may never reach the value.
  high = '∞' if interval.high == math.inf else f'{interval.high:.{digits}f}'
  return f'[{low}, {high}]'


def plural(count: int, noun: str) -> str:
  return f'{count} {noun}' if count == 1 else f'{count} {noun}s'


def distinct(runs: Iterable[Run]) -> list[Run]:
  """Every run once, also where several columns show numbers of it."""
  return list({run.directory: run for run in runs}.values())


def metric_words(table: Table, columns: Iterable[Hashable]) -> str:
  """The metrics of the columns in words, each once."""
  names = dict.fromkeys(table.metric(column) for column in columns)
  return ', '.join(names).replace('_', ' ')


def counted(cell: Cell) -> str:
  """n=3, or n=3 of 5 where seeds are missing."""
  if not cell.holes:
    return f'n={cell.n}'
  return f'n={cell.n} of {cell.n + len(cell.holes)}'


def difference(outcome, row, column) -> float | None:
  """The cell's mean minus the published number; None where either is missing."""
  printed = outcome.table.published.get((row, column))
  measured = outcome.cells[row, column].mean
  if printed is None or printed.value is None or measured is None:
    return None
  return measured - printed.value


def _reached(outcome, logged: Mapping[Hashable, str | None], by: str) -> dict:
  """(row, column) -> seed -> where the run reached its target, in units of `by`.

  Seed by seed: a run's target is the last value of the curve of the reference's run of
  the same seed. Runs that did not log the column's metric are left out.
  """
  table, cells = outcome.table, outcome.cells
  if table.reference not in cells.rows:
    return {}
  reached = {}
  for row in cells.rows:
    for column in cells.columns:
      if logged[column] is None:
        continue
      cell = cells[row, column]
      reference = cells[table.reference, column]
      found = _reached_by_seed(cell, reference, table, logged[column], by)
      if found:
        reached[row, column] = found
  return reached


def _reached_by_seed(
  cell: Cell, reference: Cell, table: Table, logged: str, by: str
) -> dict[int, Reached]:
  """seed -> where the runs of one cell reached the value of the reference's run."""
  found = {}
  metric = table.metric(cell.column)
  for seed in cell.values:
    if seed not in reference.values:
      continue
    lines = [
      line
      for line in training(cell, seed, logged, metric)
      if is_number(line.get(logged)) and is_number(line.get(by))
    ]
    if lines:
      final = _final(reference, seed, logged, table)
      target = _slackened(final, table.higher_is_better)
      found[seed] = reach(
        lines, logged, target, by=by, higher_is_better=table.higher_is_better
      )
  return found


def _final(cell: Cell, seed: int, logged: str, table: Table) -> float:
  """The last value of a run's curve, not times the table's factor.

  Of a run that logged none it is that of its result.
  """
  lines = training(cell, seed, logged, table.metric(cell.column))
  values = [line[logged] for line in lines if is_number(line.get(logged))]
  return values[-1] if values else cell.values[seed] / table.factor


def _slackened(target: float, higher_is_better: bool) -> float:
  """The target, easier by a rounding error.

  It was multiplied by the table's factor and divided by it again, which may end one
  rounding too high. The logged value itself must still count.
  """
  slack = 1e-12 * max(1.0, abs(target))
  return target - slack if higher_is_better else target + slack


def _targets(outcome, steps: Mapping[tuple, Mapping], logged: Mapping) -> dict:
  """column -> the mean of the last values of the reference's curves.

  Only columns of which a run logged a curve have a target to be drawn or shown.
  """
  table, cells = outcome.table, outcome.cells
  drawn = {column for _, column in steps}
  means = {}
  for column in cells.columns:
    cell = cells[table.reference, column] if column in drawn else None
    if cell is not None and cell.values:
      finals = [_final(cell, seed, logged[column], table) for seed in cell.values]
      means[column] = table.factor * sum(finals) / len(finals)
  return means


def median_reached(found: Mapping[int, Reached]) -> str:
  """The median over seeds of the steps or seconds to a target.

  A run that never got there took longer than all others.
  """
  amounts = []
  for reached in found.values():
    amounts.append(math.inf if reached.at is None else reached.at)
  # The higher of the middle two: half of the runs had arrived by then.
  middle = statistics.median_high(amounts)
  if middle < math.inf:
    return f'{middle:.3g}'
  limit = max(reached.limit for reached in found.values())
  return f'> {limit:.3g}'


def _sentences(outcome, findings: Findings) -> Iterator[str]:
  """What a reader in a hurry should know: what ran, who won, what became of the claims."""
  yield _finished(outcome, findings)
  for row, gains in findings.gains.items():
    yield from _gain_sentences(outcome, findings, row, gains)
  if not findings.gains:
    yield from _best_row(outcome)
  if outcome.judgements:
    yield _verdicts(outcome)


def _finished(outcome, findings: Findings) -> str:
  """How many runs finished and how long all of them trained."""
  done = distinct(run for run in outcome.runs if run.result is not None)
  before = [run for run in outcome.before if run.result is not None]
  count = len(distinct(outcome.runs))
  text = f'{len(done)} of {plural(count, "run")} finished.'
  # What was made first is no run of the table, but it took time, too.
  of_runs = [training_seconds(run.result) for run in [*done, *before]]
  seconds = sum(value or 0.0 for value in of_runs)
  if seconds:
    text += f' Training took {seconds:,.0f} s on {findings.environment["cores"]}.'
  return text


def _best_row(outcome) -> Iterator[str]:
  """Which row has the best mean over all columns, where there is one to compare with."""
  table, cells = outcome.table, outcome.cells
  # Of each row, only seeds that have all columns: rows are compared on equal terms.
  ranked = [cells[row] for row in cells.rows if cells[row].mean is not None]
  if len(ranked) < 2:
    return
  first = max if table.higher_is_better else min
  best = first(ranked, key=lambda cell: cell.mean)
  value = spread(best.interval, table, unit=True)
  yield f'{best.row} has the best mean over all columns: {value} ({counted(best)}).'


def _verdicts(outcome) -> str:
  """How many claims were held, missed and undecided."""
  verdicts = [judgement.verdict for judgement in outcome.judgements]
  counts = []
  for verdict in ('held', 'missed', 'undecided'):
    counts.append(f'{verdicts.count(verdict)} {verdict}')
  return f'Of {plural(len(verdicts), "claim")}: {", ".join(counts)}.'


def _gain_sentences(outcome, findings: Findings, row, gains) -> Iterator[str]:
  """What a row gains at the fewest labels and how many labels the reference would need.

  The fewest labels are where transfer matters most.
  """
  table, cells = outcome.table, outcome.cells
  measured = [labels for labels, gain in gains.items() if gain.n]
  # No seed may be shared at all, as where a row has failed.
  if not measured:
    return
  few = min(measured)
  gain = gains[few]
  ours = spread(cells[row, few].interval, table, unit=True)
  theirs = spread(cells[table.reference, few].interval, table, unit=True)
  # A difference of percentages is in points.
  points = ' points' if table.unit.strip() == '%' else table.unit
  interval = f' {ends(gain, table.digits)}' if gain.low is not None else ''
  size = f'{gain.mean:.{table.digits}f}{points}{interval}'
  seeds = plural(gain.n, 'shared seed')
  needed = _labels_needed(findings.saved[row][few])
  yield (
    f'With {few:g} labels, {row} reaches {ours} against {theirs} for '
    f'{table.reference}: a gain of {size} over {seeds}. '
    f'To match that, {table.reference} needs {needed}.'
  )


def _labels_needed(saved: LabelsSaved) -> str:
  """The labels that the reference needs as text, with words where it is only a bound."""
  words = {'above': 'more than ', 'below': 'no more than ', '': ''}[saved.censored]
  text = f'{words}{saved.limit:.0f} labels'
  if not saved.censored:
    text += f' ({saved.multiplier.mean:.1f} times as many)'
  return text


def _environment() -> dict[str, str]:
  """Versions and the machine, without importing anything heavy."""
  versions = {}
  for name in PACKAGES:
    try:
      versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      versions[name] = 'not installed'
  # A container may use fewer cores than the machine has; only Linux can tell.
  if hasattr(os, 'sched_getaffinity'):
    cores = len(os.sched_getaffinity(0))
  else:
    cores = os.cpu_count() or 1
  return {
    'tl_jax': __version__,
    'python': platform.python_version(),
    **versions,
    'system': f'{platform.system()} {platform.machine()}',
    'cores': plural(cores, 'core'),
  }
