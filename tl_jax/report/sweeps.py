"""A sweep as a table, a curve for search budgets and a page: what was found, for what.

>>> rows = [Row(0, 'a', {'optim.lr': 0.1}, 'done', value=0.5, split='test')]
>>> rows += [Row(1, 'b', {'optim.lr': 0.2}, 'done', value=0.7, split='test')]
>>> [row.id for row in ranked(rows)], varying(rows)
(['b', 'a'], ['optim.lr'])
"""

import csv
import dataclasses
import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tl_jax import files
from tl_jax.evals.budgets import Budget, budgets
from tl_jax.report.cells import is_number, read_lines
from tl_jax.report.text import aligned
from tl_jax.scale.members import Listing, Member, as_text
from tl_jax.scale.processes import folder_of
from tl_jax.scale.sweep import Outcome
from tl_jax.scale.worker import as_config
from tl_jax.train.course import LOWER_IS_BETTER

VALIDATION = 'validation'
TEST = 'test'
# Members that the table on a terminal shows.
SHOWN = 20


@dataclasses.dataclass(frozen=True)
class Row:
  """A member with what came out of it.

  fields: what it differs in. metric: by which members of its task are compared. value:
  that of its model on `split`; None where there is none. metrics: those on the test
  split. seconds: of all its starts.
  """

  number: int
  id: str
  fields: Mapping[str, Any]
  state: str
  reason: str = ''
  task: str = ''
  metric: str = ''
  split: str = ''
  value: float | None = None
  metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
  seconds: float | None = None
  steps: int | None = None
  stopped: str = ''
  folder: str = ''

  def to_json(self) -> dict:
    return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Group:
  """The finished members of one task, which can be compared, the best one first.

  curve: the expected best value by the number of trials.
  """

  task: str
  metric: str
  split: str
  rows: tuple[Row, ...]
  curve: tuple[Budget, ...]

  @property
  def higher_is_better(self) -> bool:
    return self.metric not in LOWER_IS_BETTER

  @property
  def hours(self) -> float:
    """Hours that a trial took in the mean."""
    seconds = [row.seconds for row in self.rows if row.seconds is not None]
    return sum(seconds) / len(seconds) / 3600 if seconds else 0.0


def rows_of(listing: Listing, workdir: Path, outcome: Outcome) -> list[Row]:
  """Every member with its state and what its files say."""
  metrics = _Metrics(listing)
  found = []
  for member, stands in zip(listing.members, outcome.standings, strict=True):
    folder = folder_of(workdir, member)
    row = Row(
      member.number,
      member.id,
      dict(member.fields),
      stands.state,
      stands.reason,
      folder=str(folder.relative_to(workdir)),
    )
    result = files.find_json(folder / 'result.json')
    if result is not None:
      row = _with_result(row, folder, result, metrics.of(member, result))
    found.append(row)
  return found


class _Metrics:
  """By which metric the members of a base are compared."""

  def __init__(self, listing: Listing):
    self._listing = listing
    self._headlines: dict[tuple[str, str], str] = {}

  def of(self, member: Member, result: Mapping) -> str:
    """The metric of the sweep file, or the headline of the member's task."""
    if self._listing.metric:
      return self._listing.metric
    # A task is opened once per base, not once per member: it may be a large file.
    key = member.base, str(result.get('task'))
    if key not in self._headlines:
      self._headlines[key] = self._headline(member, result)
    return self._headlines[key]

  def _headline(self, member: Member, result: Mapping) -> str:
    from tl_jax.train.checks import check

    try:
      task = check(as_config(self._listing.config(member))).task
    except ValueError:
      # What it was made from is gone; its result is not.
      task = None
    names = list(result.get('metrics') or ())
    if task is not None and task.headline in names:
      return task.headline
    return 'loss' if 'loss' in names or not names else names[0]


def _with_result(row: Row, folder: Path, result: Mapping, metric: str) -> Row:
  """The row with what a finished run says of itself.

  metric: by which it is compared, where the run has it.
  """
  metrics = result.get('metrics') or {}
  watched = _validation(folder, result.get('step'))
  # Of texts to write the loss of the right ones is watched, unless they are written.
  if watched and metric not in watched and 'loss' in watched:
    metric = 'loss'
  value, split = watched.get(metric), VALIDATION
  # Whoever takes the best of many on the test split has no test any more: it is the
  # last resort, and said.
  if value is None:
    value, split = metrics.get(metric), TEST
  return dataclasses.replace(
    row,
    task=str(result.get('task', '')),
    metric=metric,
    split=split,
    value=value if is_number(value) else None,
    metrics=metrics,
    seconds=result.get('seconds'),
    steps=result.get('steps'),
    stopped=str(result.get('stopped') or ''),
  )


def _validation(folder: Path, step: int | None) -> dict[str, float]:
  """metric -> value on the validation split at the step that is the run's model."""
  found = {}
  for line in read_lines(folder / 'evaluations.jsonl'):
    # What came after the step that is kept is not of the model which is kept.
    if step is not None and line.get('step', 0) > step:
      break
    for name, value in line.items():
      split, _, metric = name.partition('/')
      if split == VALIDATION and is_number(value):
        found[metric] = value
  return found


def ranked(rows: Sequence[Row]) -> list[Row]:
  """The rows that have a value, the best first; of equals the earlier one."""
  having = [row for row in rows if row.value is not None]
  lower = bool(having) and having[0].metric in LOWER_IS_BETTER
  return sorted(having, key=lambda row: row.value if lower else -row.value)


def groups_of(rows: Sequence[Row]) -> list[Group]:
  """The finished members by task and by what their value is of."""
  found: dict[tuple, list[Row]] = {}
  for row in rows:
    if row.value is not None:
      found.setdefault((row.task, row.metric, row.split), []).append(row)
  groups = []
  for (task, metric, split), members in found.items():
    values = [row.value for row in members]
    curve = budgets(values, metric not in LOWER_IS_BETTER)
    best = tuple(ranked(members))
    groups.append(Group(task, metric, split, best, tuple(curve)))
  return groups


def varying(rows: Sequence[Row]) -> list[str]:
  """The fields in which the members differ, in the order in which they were given."""
  names = dict.fromkeys(name for row in rows for name in row.fields)
  found = []
  for name in names:
    values = {repr(row.fields.get(name)) for row in rows}
    if len(values) > 1:
      found.append(name)
  return found


def figure_of(value: Any) -> str:
  """A number with four digits, anything else as the command line has it."""
  if value is None:
    return ''
  return f'{value:.4g}' if isinstance(value, float) else as_text(value)


def table_of(group: Group, names: Sequence[str], most: int | None = None) -> list:
  """Lines of cells: the head, then the members from the best one down."""
  head = ['', *names, f'{group.split} {group.metric}']
  if group.split != TEST:
    head.append(f'{TEST} {group.metric}')
  # Of equal lengths nobody asks.
  has_steps = len({row.steps for row in group.rows}) > 1
  head += ['steps', 'seconds'] if has_steps else ['seconds']
  lines = [head]
  for row in group.rows[:most]:
    line = [str(row.number), *(figure_of(row.fields.get(name)) for name in names)]
    line.append(f'{row.value:.4f}')
    if group.split != TEST:
      tested = row.metrics.get(group.metric)
      line.append(f'{tested:.4f}' if is_number(tested) else '')
    if has_steps:
      line.append(figure_of(row.steps))
    line.append('' if row.seconds is None else f'{row.seconds:.0f}')
    lines.append(line)
  return lines


def over_seeds(group: Group, names: Sequence[str]) -> list[list[str]]:
  """Lines of cells: what differs beside the seed, with the mean over the seeds, best
  first; [] where no two members differ in the seed alone.
  """
  others = [name for name in names if name != 'seed']
  settings = _by_setting(group, others)
  if 'seed' not in names or len(settings) == len(group.rows):
    return []
  sign = -1 if group.higher_is_better else 1
  means = []
  for rows in settings:
    total = math.fsum(row.value for row in rows)
    means.append((total / len(rows), rows))
  means.sort(key=lambda pair: sign * pair[0])
  lines = [[*others, f'mean {group.split} {group.metric}', 'worst', 'best', 'seeds']]
  for mean, rows in means:
    line = [figure_of(rows[0].fields.get(name)) for name in others]
    # The rows are ranked: the first is the best.
    line += [f'{mean:.4f}', f'{rows[-1].value:.4f}', f'{rows[0].value:.4f}']
    lines.append([*line, str(len(rows))])
  return lines


def _by_setting(group: Group, names: Sequence[str]) -> list[list[Row]]:
  """The members that are equal in the fields `names`, together."""
  found: dict[tuple, list[Row]] = {}
  for row in group.rows:
    # By their texts: a value may be a list, which is no key of a dict.
    key = tuple(repr(row.fields.get(name)) for name in names)
    found.setdefault(key, []).append(row)
  return list(found.values())


def curve_lines(group: Group) -> list[list[str]]:
  """Lines of cells: the expected best value at budgets that double."""
  lines = [['trials', 'hours', f'expected {group.split} {group.metric}', '95 %']]
  last = len(group.curve)
  for point in group.curve:
    # Budgets that double, and the one that was spent: a line for each would be a page.
    is_power = point.trials & (point.trials - 1) == 0
    if is_power or point.trials == last:
      interval = '' if point.low is None else f'{point.low:.4f} to {point.high:.4f}'
      hours = f'{point.trials * group.hours:.2g}'
      lines.append([str(point.trials), hours, f'{point.expected:.4f}', interval])
  return lines


def holes(rows: Sequence[Row]) -> list[str]:
  """A line for each member without a result, with its reason."""
  found = []
  for row in rows:
    if row.state != 'done':
      found.append(f'{row.number} {row.id}: {row.state}: {row.reason}'.rstrip(': '))
    elif row.value is None:
      found.append(f'{row.number} {row.id}: its result has no {row.metric or "metric"}')
  return found


def plain(rows: Sequence[Row], groups: Sequence[Group]) -> str:
  """The sweep for a terminal."""
  parts = []
  for group in groups:
    names = varying(group.rows)
    title = f'{group.task}: {group.metric} on {group.split}'
    if group.split == TEST:
      title += ', as nothing was held out for validation'
    parts.append(f'{title}\n{aligned(table_of(group, names, SHOWN))}')
    if len(group.rows) > SHOWN:
      parts.append(f'... and {len(group.rows) - SHOWN} more')
    means = over_seeds(group, names)
    if means:
      parts.append(f'Mean over seeds\n{aligned(means[: SHOWN + 1])}')
    words = 'Expected best value of a search (Dodge et al. 2019)'
    parts.append(f'{words}\n{aligned(curve_lines(group))}')
  return '\n\n'.join(parts)


def as_csv(rows: Sequence[Row]) -> str:
  """All members as comma-separated values: fields, state, value, metrics, costs."""
  fields = list(dict.fromkeys(name for row in rows for name in row.fields))
  metrics = list(dict.fromkeys(name for row in rows for name in row.metrics))
  head = ['number', 'id', *fields, 'state', 'task', 'metric', 'split', 'value']
  head += [f'{TEST}/{name}' for name in metrics] + [
    'seconds',
    'steps',
    'stopped',
    'reason',
  ]
  with io.StringIO() as text:
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(head)
    for row in rows:
      line = [row.number, row.id]
      line += [_cell(row.fields.get(name)) for name in fields]
      line += [row.state, row.task, row.metric, row.split, _cell(row.value)]
      line += [_cell(row.metrics.get(name)) for name in metrics]
      line += [_cell(row.seconds), _cell(row.steps), row.stopped, row.reason]
      writer.writerow(line)
    return text.getvalue()


def _cell(value: Any) -> str:
  return '' if value is None else as_text(value)


def write(
  listing: Listing, workdir: Path, outcome: Outcome, say: Callable[[str], None]
) -> list[Row]:
  """Writes members.csv, members.jsonl, budget.json and report.html; says the table."""
  from tl_jax.report.sweep_page import page

  rows = rows_of(listing, workdir, outcome)
  groups = groups_of(rows)
  curves = []
  for group in groups:
    points = [point._asdict() for point in group.curve]
    which = dict(task=group.task, metric=group.metric, split=group.split)
    curves.append(dict(**which, hours_per_trial=group.hours, curve=points))
  lines = ''.join(files.encode(row.to_json()) + '\n' for row in rows)
  texts = {
    'members.csv': as_csv(rows),
    'members.jsonl': lines,
    'budget.json': files.encode(curves, indent=1) + '\n',
    'report.html': page(listing, rows, groups),
  }
  for name, content in texts.items():
    files.write_atomically(workdir / name, content.encode())
  if groups:
    say(plain(rows, groups))
  done = sum(row.state == 'done' for row in rows)
  say(f'{done} of {len(rows)} members are done; report: {workdir / "report.html"}')
  return rows
