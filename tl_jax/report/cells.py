"""The cells of a table. A cell holds the runs of one row and column over the seeds.
The difference of two cells is paired by seed.

>>> runs = []
>>> for row, value in (('scratch', 0.5), ('lora', 0.75)):
...   for seed in range(3):
...     result = {'metrics': {'accuracy': value + seed / 100}, 'seconds': 2.0}
...     runs.append(Run(row, 'imdb', seed, result=result))
>>> table = cells(runs, 'accuracy', extra=('seconds',), seeds=range(4))
>>> table['lora', 'imdb'].n, table['lora', 'imdb'].holes
(3, {3: 'not run'})
>>> round((table['lora', 'imdb'] - table['scratch', 'imdb']).mean, 6)
0.25
"""

import dataclasses
import itertools
import json
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path

from tl_jax.config import nearest
from tl_jax.evals.curves import LabelCurve, label_curve
from tl_jax.evals.statistics import Interval, mean, paired_difference, t_interval


class AbsentCell(LookupError):
  """A row or column is asked for that the table has, but not at this scale."""


@dataclasses.dataclass(frozen=True)
class Run:
  """One run of a table: its `result.json`, or None with the reason why there is none.

  Several columns may show numbers of the same run; then their directory is the same.
  Of a step that is made before the table, `row` is the name and `seed` the first of the
  seeds that share it.
  """

  row: Hashable
  column: Hashable
  seed: int
  directory: Path | None = None
  result: Mapping | None = None
  reason: str = ''


@dataclasses.dataclass(frozen=True)
class Cell:
  """The runs of one row and column.

  `first - second` is the paired t interval over the seeds that both cells have.
  """

  row: Hashable
  column: Hashable
  # seed -> headline value, for the seeds that finished
  values: Mapping[int, float]
  # the mean of the values with its t interval over the seeds
  interval: Interval
  # seed -> reason, for the seeds that did not finish
  holes: Mapping[int, str]
  # name -> mean over the finished seeds; None where one of them lacks the number
  extra: Mapping[str, float | None]
  # seed -> run, finished or not
  runs: Mapping[int, Run]

  @property
  def mean(self) -> float | None:
    return self.interval.mean

  @property
  def n(self) -> int:
    return self.interval.n

  def __sub__(self, other: 'Cell') -> Interval:
    return paired_difference(self.values, other.values)

  def training(self, seed: int) -> list[dict]:
    """The lines of the run's `metrics.jsonl`, then those of its `evaluations.jsonl`.

    A file that is not there has no lines.
    """
    run = self.runs.get(seed)
    if not run or not run.directory:
      return []
    metrics = read_lines(run.directory / 'metrics.jsonl')
    evaluations = read_lines(run.directory / 'evaluations.jsonl')
    return metrics + evaluations


@dataclasses.dataclass(frozen=True)
class Cells:
  """All cells by (row, column).

  `cells[row, column]` is a Cell. `cells[row]` is the Cell of the row's mean over all
  columns, seed by seed; a seed that misses a column is a hole there. `cells.curve(row)`
  is the row as a label-efficiency curve.

  rows, columns: those of this scale. all_rows, all_columns: those of the whole table.
  Raises ValueError with the nearest name for an unknown one. Raises AbsentCell for a
  name that is left out at this scale.
  """

  rows: tuple
  columns: tuple
  table: Mapping[tuple, Cell]
  higher_is_better: bool = True
  all_rows: tuple = ()
  all_columns: tuple = ()

  def __getitem__(self, key) -> Cell:
    if isinstance(key, tuple) and len(key) == 2:
      row, column = key
      self._require('row', row, self.rows, self.all_rows)
      self._require('column', column, self.columns, self.all_columns)
      return self.table[key]
    self._require('row', key, self.rows, self.all_rows)
    return _average([self.table[key, column] for column in self.columns])

  def __iter__(self):
    return iter(self.table.values())

  def curve(self, row: Hashable) -> LabelCurve:
    """The row against its numbers of labels.

    These are the columns. Where a column is no number, they are the `labels` of the
    results. Raises AbsentCell where no run of the row finished.
    """
    self._require('row', row, self.rows, self.all_rows)
    points = []
    for column in self.columns:
      cell = self.table[row, column]
      for seed, value in cell.values.items():
        labels = column
        if not is_number(column):
          labels = cell.runs[seed].result.get('labels')
        points.append({'method': row, 'labels': labels, 'seed': seed, 'value': value})
    if not points:
      raise AbsentCell(f'no run of the row {row!r} finished')
    return label_curve(points, row, higher_is_better=self.higher_is_better)

  def _require(self, kind, name, present, known):
    if name in present:
      return
    if name in known:
      raise AbsentCell(f'the {kind} {name!r} is left out at this scale')
    # Cells that were grouped without a table know only the names that they have.
    names = map(str, known or present)
    raise ValueError(
      f'the table has no {kind} {name!r}; nearest: {nearest(str(name), names)}'
    )


def cells(
  runs: Iterable[Run],
  headline: str | Mapping[Hashable, str],
  *,
  extra: Sequence[str] = (),
  seeds: Iterable[int] | None = None,
  factor: float = 1.0,
  higher_is_better: bool = True,
) -> Cells:
  """Groups runs into cells.

  Every seed that is not there is a hole with a reason, never left out in silence.

  headline: a name in the results' `metrics`, for all columns or by column.
  extra: names in the results or in their metrics, whose means are wanted.
  seeds: those that every cell should have; by default all that occur anywhere.
  factor: multiplies the headline values, 100 for per cent.
  Raises ValueError for two runs of one row, column and seed, and for a finished run
  without the headline.
  """
  runs = list(runs)
  if seeds is None:
    seeds = sorted({run.seed for run in runs})
  seeds = list(seeds)
  # A dict keeps the order in which the names come first, which a set would not.
  rows = tuple(dict.fromkeys(run.row for run in runs))
  columns = tuple(dict.fromkeys(run.column for run in runs))
  table = {}
  for (row, column), group in _by_cell(runs, rows, columns).items():
    metric = metric_of(headline, column)
    values, holes = _values_and_holes(group, seeds, metric, factor)
    finished = [group[seed] for seed in values]
    means = {name: _mean_of(name, finished) for name in extra}
    interval = t_interval(list(values.values()))
    table[row, column] = Cell(row, column, values, interval, holes, means, group)
  return Cells(rows, columns, table, higher_is_better, rows, columns)


def metric_of(headline: str | Mapping[Hashable, str], column: Hashable) -> str:
  """The metric of a column, where there is one headline for all or one by column."""
  return headline if isinstance(headline, str) else headline[column]


def _by_cell(runs: list[Run], rows: tuple, columns: tuple) -> dict:
  """(row, column) -> seed -> Run. A cell that has no run has an empty dict."""
  # Every pair has a group, so that a cell without any run has holes and is not missing.
  groups: dict[tuple, dict[int, Run]] = {}
  for cell in itertools.product(rows, columns):
    groups[cell] = {}
  for run in runs:
    group = groups[run.row, run.column]
    if run.seed in group:
      raise ValueError(
        f'two runs of row {run.row!r}, column {run.column!r} and seed {run.seed}'
      )
    group[run.seed] = run
  return groups


def _values_and_holes(
  group: Mapping[int, Run], seeds: list[int], headline: str, factor: float
) -> tuple[dict[int, float], dict[int, str]]:
  """The values of the seeds that finished, and the reasons of those that did not."""
  values, holes = {}, {}
  # A run of a seed that nobody asked for counts too, after the others.
  for seed in dict.fromkeys([*seeds, *group]):
    run = group.get(seed)
    if run is None:
      holes[seed] = 'not run'
    elif run.result is None:
      holes[seed] = run.reason or 'no result'
    else:
      values[seed] = factor * _headline(run, headline)
  return values, holes


def read_lines(path: Path) -> list[dict]:
  """The dicts in the lines of a `.jsonl` file; none where there is no file.

  A line that is no JSON is passed over: a killed run leaves its last one half written.
  """
  if not path.is_file():
    return []
  lines = []
  # A kill can cut a character in two, so bytes that are no UTF-8 are replaced.
  for line in path.read_text('utf-8', 'replace').splitlines():
    try:
      value = json.loads(line)
    except ValueError:
      continue
    if isinstance(value, dict):
      lines.append(value)
  return lines


def is_number(value) -> bool:
  """A number of labels, rather than a name?"""
  # To Python, True is an int.
  return isinstance(value, (int, float)) and not isinstance(value, bool)


def _headline(run: Run, headline: str) -> float:
  """The headline value of a finished run. Raises ValueError where there is none."""
  metrics = run.result.get('metrics') or {}
  value = metrics.get(headline)
  if not is_number(value) or not math.isfinite(value):
    where = run.directory or (run.row, run.column, run.seed)
    raise ValueError(
      f'the result of {where} has no number {headline!r} among its metrics; '
      f'nearest: {nearest(headline, metrics)}'
    )
  return float(value)


def _mean_of(name: str, runs: Iterable[Run]) -> float | None:
  """The mean of a number of the results; None unless every one of them has it."""
  values = []
  for run in runs:
    metrics = run.result.get('metrics') or {}
    values.append(run.result.get(name, metrics.get(name)))
  # A mean over some of the seeds would stand beside means over all of them.
  return mean(values) if values and all(map(is_number, values)) else None


def _average(row: list[Cell]) -> Cell:
  """One cell for the mean over columns, of the seeds that have them all."""
  of_each = ([*cell.values, *cell.holes] for cell in row)
  seeds = itertools.chain.from_iterable(of_each)
  values, holes = {}, {}
  for seed in dict.fromkeys(seeds):
    lacking = [cell for cell in row if seed not in cell.values]
    if lacking:
      # One reason is enough: that of the first column without the seed.
      holes[seed] = lacking[0].holes.get(seed, 'not run')
    else:
      values[seed] = mean([cell.values[seed] for cell in row])
  extra = {}
  for name in row[0].extra:
    means = [cell.extra[name] for cell in row]
    extra[name] = None if None in means else mean(means)
  interval = t_interval(list(values.values()))
  # The mean of several runs is no run, so the cell has none.
  return Cell(row[0].row, 'mean', values, interval, holes, extra, {})
