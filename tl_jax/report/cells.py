"""The cells of a table: the runs of one row and column over the seeds, and arithmetic
that pairs them by seed.

>>> runs = [Run(row, 'imdb', seed, result={'metrics': {'accuracy': v + seed / 100}, 'seconds': 2.0})
...         for row, v in (('scratch', 0.5), ('lora', 0.75)) for seed in range(3)]
>>> table = cells(runs, 'accuracy', extra=('seconds',), seeds=range(4))
>>> table['lora', 'imdb'].n, table['lora', 'imdb'].holes
(3, {3: 'not run'})
>>> round((table['lora', 'imdb'] - table['scratch', 'imdb']).mean, 6)
0.25
"""

import dataclasses
import json
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path

from tl_jax.config import nearest
from tl_jax.evals.curves import LabelCurve, label_curve
from tl_jax.evals.statistics import Interval, mean, paired_difference, t_interval


class AbsentCell(LookupError):
  """A row or column that the table has, but not at this scale."""


@dataclasses.dataclass(frozen=True)
class Run:
  """One run of a table: its `result.json`, or None with the reason why there is none."""

  row: Hashable
  column: Hashable
  seed: int
  directory: Path | None = None
  result: Mapping | None = None
  reason: str = ''


@dataclasses.dataclass(frozen=True)
class Cell:
  """The runs of one row and column.

  values: seed -> headline value of the seeds that finished; interval: their mean with a
  t interval over the seeds;
  holes: seed -> reason of the seeds that did not; extra: name -> mean over the finished
  seeds, or None;
  runs: seed -> Run. `first - second` is the paired t interval over the seeds that both
  cells have.
  """

  row: Hashable
  column: Hashable
  values: Mapping[int, float]
  interval: Interval
  holes: Mapping[int, str]
  extra: Mapping[str, float | None]
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
    """The lines of the run's `metrics.jsonl`, then of its `evaluations.jsonl`; none
    where there are no such files.
    """
    run = self.runs.get(seed)
    if not run or not run.directory:
      return []
    return [
      *read_lines(run.directory / 'metrics.jsonl'),
      *read_lines(run.directory / 'evaluations.jsonl'),
    ]


@dataclasses.dataclass(frozen=True)
class Cells:
  """All cells by (row, column).

  `cells[row, column]` is a Cell; `cells[row]` the Cell of the row's mean over all
  columns, seed by seed (a seed that misses a column is a hole); `cells.curve(row)` the
  row as a label-efficiency curve, where columns are numbers of labels. An unknown name
  is a ValueError with the nearest; a name left out at this scale an AbsentCell.
  """

  rows: tuple
  columns: tuple
  table: Mapping[tuple, Cell]
  higher_is_better: bool = True
  all_rows: tuple = ()
  all_columns: tuple = ()

  def __getitem__(self, key) -> Cell:
    if isinstance(key, tuple) and len(key) == 2:
      self._require('row', key[0], self.rows, self.all_rows)
      self._require('column', key[1], self.columns, self.all_columns)
      return self.table[key]
    self._require('row', key, self.rows, self.all_rows)
    return _average([self.table[key, column] for column in self.columns])

  def __iter__(self):
    return iter(self.table.values())

  def curve(self, row: Hashable) -> LabelCurve:
    """The row against its numbers of labels: the columns, or where these are no numbers
    the `labels` of the results.
    """
    self._require('row', row, self.rows, self.all_rows)
    points = []
    for column in self.columns:
      for seed, value in self.table[row, column].values.items():
        labels = (
          column
          if is_number(column)
          else self.table[row, column].runs[seed].result.get('labels')
        )
        points.append({'method': row, 'labels': labels, 'seed': seed, 'value': value})
    if not points:
      raise AbsentCell(f'no run of the row {row!r} finished')
    return label_curve(points, row, higher_is_better=self.higher_is_better)

  def _require(self, kind, name, present, known):
    if name in present:
      return
    if name in known:
      raise AbsentCell(f'the {kind} {name!r} is left out at this scale')
    raise ValueError(
      f'the table has no {kind} {name!r}; nearest: {nearest(str(name), map(str, known or present))}'
    )


def cells(
  runs: Iterable[Run],
  headline: str,
  *,
  extra: Sequence[str] = (),
  seeds: Iterable[int] | None = None,
  factor: float = 1.0,
  higher_is_better: bool = True,
) -> Cells:
  """Groups runs into cells; every seed that is not there is a hole with a reason, never
  left out in silence.

  headline: a name in the results' `metrics`; factor: multiplies it (100 for per cent);
  extra: names in the result or in its metrics whose means are wanted; seeds: those that
  every cell should have, by default all that occur anywhere.
  ValueError: two runs of one row, column and seed; a finished run without the headline.
  """
  runs = list(runs)
  seeds = list(seeds) if seeds is not None else sorted({run.seed for run in runs})
  rows, columns = (
    tuple(dict.fromkeys(getattr(run, name) for run in runs))
    for name in ('row', 'column')
  )
  grouped: dict[tuple, dict[int, Run]] = {
    (row, column): {} for row in rows for column in columns
  }
  for run in runs:
    group = grouped[run.row, run.column]
    if run.seed in group:
      raise ValueError(
        f'two runs of row {run.row!r}, column {run.column!r} and seed {run.seed}'
      )
    group[run.seed] = run
  table = {}
  for (row, column), group in grouped.items():
    done = {
      seed: group[seed]
      for seed in [*seeds, *group]
      if seed in group and group[seed].result is not None
    }
    values = {seed: factor * _headline(run, headline) for seed, run in done.items()}
    holes = {
      seed: (group[seed].reason or 'no result') if seed in group else 'not run'
      for seed in [*seeds, *group]
      if seed not in done
    }
    means = {name: _mean_of(name, done.values()) for name in extra}
    table[row, column] = Cell(
      row, column, values, t_interval(list(values.values())), holes, means, group
    )
  return Cells(rows, columns, table, higher_is_better, rows, columns)


def read_lines(path: Path) -> list[dict]:
  """The complete lines of a `.jsonl` file; none where there is no file; a half-written
  last line is passed over.
  """
  if not path.is_file():
    return []
  lines = []
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
  return isinstance(value, (int, float)) and not isinstance(value, bool)


def _headline(run: Run, headline: str) -> float:
  metrics = run.result.get('metrics') or {}
  if not is_number(metrics.get(headline)) or not math.isfinite(metrics[headline]):
    raise ValueError(
      f'the result of {run.directory or (run.row, run.column, run.seed)} has no number '
      f'{headline!r} among its metrics; nearest: {nearest(headline, metrics)}'
    )
  return float(metrics[headline])


def _mean_of(name: str, runs: Iterable[Run]) -> float | None:
  """The mean of a number of the results; None unless every one of them has it."""
  values = [
    run.result.get(name, (run.result.get('metrics') or {}).get(name)) for run in runs
  ]
  return mean(values) if values and all(map(is_number, values)) else None


def _average(row: list[Cell]) -> Cell:
  """One cell for the mean over columns, of the seeds that have them all."""
  seeds = list(
    dict.fromkeys(seed for cell in row for seed in [*cell.values, *cell.holes])
  )
  holes = {
    seed: next(
      cell.holes.get(seed, 'not run') for cell in row if seed not in cell.values
    )
    for seed in seeds
    if any(seed not in cell.values for cell in row)
  }
  values = {
    seed: mean([cell.values[seed] for cell in row])
    for seed in seeds
    if seed not in holes
  }
  extra = {
    name: None
    if any(cell.extra[name] is None for cell in row)
    else mean([cell.extra[name] for cell in row])
    for name in row[0].extra
  }
  return Cell(
    row[0].row, 'mean', values, t_interval(list(values.values())), holes, extra, {}
  )
