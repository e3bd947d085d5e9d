"""A made table as Markdown and as plain text, and the lines of cells of all its pages.

>>> print(aligned([['row', 'n'], ['lora', '5']]))
row   n
lora  5
"""

import math
from collections.abc import Mapping

from tl_jax.evals.curves import LabelsSaved
from tl_jax.evals.statistics import Interval
from tl_jax.report import populations
from tl_jax.report.cells import Cell, is_number, metric_of
from tl_jax.report.findings import (
  Findings,
  amount,
  counted,
  difference,
  distinct,
  ends,
  median_reached,
  metric_words,
  spread,
)
from tl_jax.report.table import Judgement, Table

# Beside the words, so that a missed claim is found at a glance.
MARKS = {'held': '✓', 'missed': '✗', 'undecided': '?'}


def markdown(outcome, findings: Findings) -> str:
  """The outcome as one Markdown page."""
  table = outcome.table
  summary = ' '.join(findings.sentences)
  parts = [f'# {table.title}', f'{table.source}. {heading(outcome)}', summary]
  if outcome.judgements:
    parts.append(f'## Claims\n\n{_markdown_list(claim_lines(outcome))}')
  for title, lines in sections(outcome, findings):
    parts.append(f'## {title}\n\n{_markdown_table(lines)}')
  if outcome.unfinished:
    parts.append(f'## Runs without a result\n\n{_markdown_list(hole_lines(outcome))}')
  versions = [f'{name} {version}' for name, version in findings.environment.items()]
  parts.append(f'## Environment\n\n{", ".join(versions)}')
  return '\n\n'.join(parts) + '\n'


def _markdown_list(lines: list[str]) -> str:
  return '\n'.join(f'- {line}' for line in lines)


def _markdown_table(lines: list[list[str]]) -> str:
  """Lines of cells as a Markdown table, the first line being its head."""
  head, *body = lines
  rule = ['---'] * len(head)
  rows = [_markdown_row(line) for line in [head, rule, *body]]
  return '\n'.join(rows)


def _markdown_row(line: list[str]) -> str:
  # A bar or the end of a line inside a cell would end the cell.
  cells = [cell.replace('|', '\\|').replace('\n', ' ') for cell in line]
  return f'| {" | ".join(cells)} |'


def plain(outcome, findings: Findings) -> str:
  """The outcome for a terminal."""
  parts = [f'{outcome.table.title}\n{heading(outcome)}']
  for title, lines in sections(outcome, findings):
    parts.append(f'{title}\n{aligned(lines)}')
  if outcome.judgements:
    parts.append('Claims\n' + '\n'.join(claim_lines(outcome)))
  if outcome.unfinished:
    parts.append('Runs without a result\n' + '\n'.join(hole_lines(outcome)))
  # Last, where the eye is when the terminal stops.
  parts.append('\n'.join(findings.sentences))
  return '\n\n'.join(parts)


def aligned(lines: list[list[str]]) -> str:
  """Lines of cells as columns of equal width."""
  columns = zip(*lines, strict=True)
  widths = [max(map(len, column)) for column in columns]
  padded = []
  for line in lines:
    cells = []
    for cell, width in zip(line, widths, strict=True):
      cells.append(cell.ljust(width))
    padded.append('  '.join(cells).rstrip())
  return '\n'.join(padded)


def heading(outcome) -> str:
  """What the numbers of the table are."""
  table = outcome.table
  name = metric_words(table, outcome.cells.columns).capitalize()
  unit = f' in {table.unit.strip()}' if table.unit.strip() else ''
  better = 'higher' if table.higher_is_better else 'lower'
  scale = f' Scale: {outcome.scale.name}.' if outcome.scale.name else ''
  return (
    f'{tasks(outcome)}{name}{unit} ({better} is better), mean ± half '
    f'of the 95 % t interval over n seeds{_same(outcome)}.{scale}'
  )


def tasks(outcome) -> str:
  """The task that all runs share, and the number of test examples that they share.

  Empty where there are several tasks.
  """
  results = [run.result for run in outcome.runs if run.result is not None]
  # A measurement of speed is of no task.
  names = {result.get('task') for result in results} - {None}
  if len(names) != 1:
    return ''
  text = f'Task {names.pop()}'
  sizes = {result.get('n') for result in results} - {None}
  if len(sizes) == 1:
    text += f', {sizes.pop():,} test examples'
  return f'{text}. '


def _same(outcome) -> str:
  """The number of seeds, where it is the same in every cell."""
  counts = {counted(cell) for cell in outcome.cells}
  return f', {counts.pop()} in every cell' if len(counts) == 1 else ''


def sections(outcome, findings: Findings) -> list[tuple[str, list[list[str]]]]:
  """(title, lines of cells) of every table that there is to show.

  The first line of a table is its head. The results and the costs always come first.
  """
  reference = outcome.table.reference
  found = [('Results', results(outcome)), ('Cost of a run', costs(outcome))]
  wider = of_populations(outcome)
  if wider:
    found.append((populations.TITLE, wider))
  if findings.gains:
    title = f'Gain over {reference}, paired by seed'
    found.append((title, gains(outcome, findings)))
    title = f'Labels that {reference} needs for the same value'
    found.append((title, saved(outcome, findings)))
  for unit, reached in (('Steps', findings.steps), ('Seconds', findings.seconds)):
    if reached:
      title = f'{unit} of training to the final value of {reference}, median over seeds'
      found.append((title, to_target(outcome, findings, reached)))
  if outcome.table.published:
    found.append(('Published', printed(outcome)))
  return found


def results(outcome) -> list[list[str]]:
  """Mean ± half an interval and n of every cell.

  With the published number and the difference to it where there is one. The metrics of
  the columns stand below their names where they differ.
  """
  cells = outcome.cells
  # The same n everywhere stands in the heading alone.
  equal = len({counted(cell) for cell in cells}) == 1
  lines = [_head(cells.columns)]
  metrics = differing_metrics(outcome)
  if metrics:
    lines.append(['metric', *metrics])
  for row in cells.rows:
    line = [str(row)]
    for column in cells.columns:
      cell = cells[row, column]
      text = spread(cell.interval, outcome.table)
      if not equal:
        text += f' ({counted(cell)})'
      line.append('; '.join([text, *beside_published(outcome, row, column)]))
    lines.append(line)
  return lines


def of_populations(outcome) -> list[list[str]]:
  """Every cell with its interval for other seeds and other examples; [] where no run
  has an interval over examples.
  """
  table, cells = outcome.table, outcome.cells
  lines = [_head(cells.columns)]
  is_known = False
  for row in cells.rows:
    line = [str(row)]
    for column in cells.columns:
      cell = cells[row, column]
      metric = metric_of(table.headline, column)
      found = populations.interval_of(cell, metric, table.factor)
      is_known = is_known or found is not None
      line.append('–' if found is None else _with_ends(found, cell, table.digits))
    lines.append(line)
  return lines if is_known else []


def _with_ends(found: Interval, cell: Cell, digits: int) -> str:
  """A mean with its interval, and what is missing of it."""
  text = f'{found.mean:.{digits}f} {ends(found, digits)}'
  if found.n == 1:
    text += ' (examples alone)'
  # A mean over some of the seeds is none over all.
  if cell.holes:
    text += f' ({counted(cell)})'
  return text


def differing_metrics(outcome) -> list[str]:
  """The metric of every column in words; empty where all have the same one."""
  columns = outcome.cells.columns
  metrics = [metric_words(outcome.table, [column]) for column in columns]
  return metrics if len(set(metrics)) > 1 else []


def beside_published(outcome, row, column) -> list[str]:
  """The published number of a cell and the difference to it; empty without one."""
  table = outcome.table
  if (row, column) not in table.published:
    return []
  text = f'published {table.published[row, column].text}'
  away = difference(outcome, row, column)
  # What was printed may be no number, such as a range.
  return [text if away is None else f'{text}, {away:+.{table.digits}f}']


def costs(outcome) -> list[list[str]]:
  """The extra numbers of every row.

  Each is the mean over the finished runs of a cell. Where the columns differ in it, it
  is the range of their means.
  """
  table, cells = outcome.table, outcome.cells
  names = [name.replace('_', ' ') for name in table.extra]
  lines = [['', 'runs', *names]]
  for row in cells.rows:
    members = [cells[row, column] for column in cells.columns]
    runs = [run for run in outcome.runs if run.row == row]
    done = len(distinct(run for run in runs if run.result is not None))
    wanted = len(distinct(runs))
    count = str(done) if done == wanted else f'{done} of {wanted}'
    ranges = [_range_of(name, members) for name in table.extra]
    lines.append([str(row), count, *ranges])
  return lines


def _range_of(name: str, members: list[Cell]) -> str:
  """The range of an extra number over cells, as one number where it is one in print."""
  values = [cell.extra[name] for cell in members if cell.extra[name] is not None]
  if not values:
    return '–'
  low, high = number(min(values)), number(max(values))
  return low if low == high else f'{low} to {high}'


def gains(outcome, findings: Findings) -> list[list[str]]:
  """The paired gain of every row over the reference, by number of labels."""
  table, columns = outcome.table, outcome.cells.columns
  lines = [_head(columns)]
  for row, points in findings.gains.items():
    texts = [_gain(points.get(column), table) for column in columns]
    lines.append([str(row), *texts])
  return lines


def _gain(gain: Interval | None, table: Table) -> str:
  """A gain with its sign, its interval and its number of pairs."""
  if gain is None or gain.mean is None:
    return '–'
  interval = f' {ends(gain, table.digits)}' if gain.low is not None else ''
  return f'{gain.mean:+.{table.digits}f}{interval} (n={gain.n})'


def saved(outcome, findings: Findings) -> list[list[str]]:
  """How many labels the reference needs to match every row, by number of labels.

  In brackets, how many times as many these are.
  """
  columns = outcome.cells.columns
  lines = [_head(columns)]
  for row, points in findings.saved.items():
    texts = [_saved(points.get(column)) for column in columns]
    lines.append([str(row), *texts])
  return lines


def _saved(found: LabelsSaved | None) -> str:
  if found is None:
    return '–'
  # A bound on the labels has no multiplier worth a decimal.
  if found.censored:
    return str(found)
  return f'{found} (×{found.multiplier.mean:.1f})'


def to_target(outcome, findings: Findings, reached: Mapping) -> list[list[str]]:
  """The median number of steps or seconds to the reference's final value, by column."""
  table, cells = outcome.table, outcome.cells
  # Of the other columns no run logged a curve.
  columns = [column for column in cells.columns if column in findings.targets]
  targets = [amount(findings.targets[column], table) for column in columns]
  lines = [_head(columns), ['value', *targets]]
  for row in cells.rows:
    texts = []
    for column in columns:
      found = reached.get((row, column))
      texts.append(median_reached(found) if found else '–')
    lines.append([str(row), *texts])
  return lines


def printed(outcome) -> list[list[str]]:
  """The published numbers with their provenance.

  Also those that no cell stands beside.
  """
  lines = [['row', 'column', 'value', 'metric', 'table', 'provenance']]
  for (row, column), found in outcome.table.published.items():
    provenance = found.provenance
    if not found.checked:
      provenance += ', not checked'
    where = f'{found.paper}, {found.table}'
    lines.append([str(row), str(column), found.text, found.metric, where, provenance])
  return lines


def claim_lines(outcome) -> list[str]:
  """One line for each claim: mark, verdict, sentence, and what was measured."""
  lines = []
  for found in outcome.judgements:
    mark = MARKS[found.verdict]
    value = measured(found, outcome.table)
    lines.append(f'{mark} {found.verdict}: {found.text} ({value})')
  return lines


def measured(found: Judgement, table: Table) -> str:
  """What a claim's value came out as, beside its bound, and why it was undecided."""
  interval = found.interval
  # A claim may be about a ratio, which whole numbers of a headline say too little of.
  digits = max(table.digits, 2)
  text = _mean(interval, digits)
  if interval.low is not None:
    text += f' {ends(interval, digits)}'
  if interval.n:
    text += f', n={interval.n}'
  text += f'; claimed {found.bound}'
  if found.reason:
    text += f'; {found.reason}'
  return text


def _mean(interval: Interval, digits: int) -> str:
  if interval.mean is None:
    return '–'
  if math.isinf(interval.mean):
    return '∞'
  return f'{interval.mean:.{digits}f}'


def hole_lines(outcome) -> list[str]:
  """One line for each run without a result, with its reason."""
  lines = []
  for run in outcome.unfinished:
    lines.append(f'{run.row}, {run.column}, seed {run.seed}: {run.reason}')
  return lines


def number(value: float) -> str:
  """A number that a person can read.

  Whole numbers and those of a hundred or more have no decimals, and a comma between
  thousands. Others have three significant digits.
  """
  # The size first: what is infinite cannot be rounded.
  is_round = abs(value) >= 100 or value == round(value)
  return f'{value:,.0f}' if is_round else f'{value:.3g}'


def column_name(column) -> str:
  """A column as the title of a figure names it."""
  return f'{number(column)} labels' if is_number(column) else str(column)


def _head(columns) -> list[str]:
  """The first line of a table: what its columns are, then each of them."""
  if all(map(is_number, columns)):
    return ['labels', *map(number, columns)]
  return ['', *map(column_name, columns)]
