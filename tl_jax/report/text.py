"""A made table as JSON, as Markdown and as plain text.

>>> print(aligned([['row', 'n'], ['lora', '5']]))
row   n
lora  5
"""

import math

from tl_jax.report.cells import is_number
from tl_jax.report.findings import (
  Findings,
  amount,
  counted,
  difference,
  ends,
  median_reached,
  spread,
)

MARKS = {'held': '✓', 'missed': '✗', 'undecided': '?'}


def as_json(outcome, findings: Findings) -> dict:
  """All numbers of the outcome as plain dicts and lists; nothing in it is NaN or
  infinite.
  """
  table, cells = outcome.table, outcome.cells
  saved = [
    {
      'row': row,
      'labels': at,
      'needed': found.needed,
      'censored': found.censored,
      'limit': found.limit,
      'target': found.target,
      'multiplier': found.multiplier.as_dict(),
    }
    for row, points in findings.saved.items()
    for at, found in points.items()
  ]
  return {
    'title': table.title,
    'source': table.source,
    'scale': outcome.scale.name,
    'settings': {
      name: value if isinstance(value, (bool, int, str, type(None))) else str(value)
      for name, value in outcome.scale.settings.items()
    },
    'headline': table.headline,
    'factor': table.factor,
    'unit': table.unit,
    'reference': table.reference,
    'rows': list(cells.rows),
    'columns': list(cells.columns),
    'seeds': list(outcome.scale.seeds),
    'summary': list(findings.sentences),
    'cells': [_cell(outcome, cell) for cell in cells],
    'claims': [
      {
        'text': found.text,
        'verdict': found.verdict,
        'bound': found.bound,
        'reason': found.reason,
        'value': found.interval.as_dict(),
      }
      for found in outcome.judgements
    ],
    'gains': [
      {'row': row, 'labels': labels, **gain.as_dict()}
      for row, gains in findings.gains.items()
      for labels, gain in gains.items()
    ],
    'labels_saved': saved,
    'runs': [
      {
        'row': run.row,
        'column': run.column,
        'seed': run.seed,
        'done': run.result is not None,
        'reason': run.reason,
        'directory': str(run.directory.relative_to(outcome.workdir)),
      }
      for run in (*outcome.before.values(), *outcome.runs)
    ],
    'environment': dict(findings.environment),
    'seconds': round(outcome.seconds, 3),
  }


def markdown(outcome, findings: Findings) -> str:
  """The outcome as one Markdown page."""
  table = outcome.table
  parts = [
    f'# {table.title}',
    f'{table.source}. {heading(outcome)}',
    ' '.join(findings.sentences),
  ]
  if outcome.judgements:
    parts.append(
      '## Claims\n\n' + '\n'.join(f'- {line}' for line in claim_lines(outcome))
    )
  for title, rows in sections(outcome, findings):
    parts.append(f'## {title}\n\n{_markdown_table(rows)}')
  if outcome.unfinished:
    parts.append(
      '## Runs without a result\n\n'
      + '\n'.join(f'- {line}' for line in hole_lines(outcome))
    )
  parts.append(
    '## Environment\n\n'
    + ', '.join(f'{name} {version}' for name, version in findings.environment.items())
  )
  return '\n\n'.join(parts) + '\n'


def plain(outcome, findings: Findings) -> str:
  """The outcome for a terminal."""
  parts = [f'{outcome.table.title}\n{heading(outcome)}']
  parts += [f'{title}\n{aligned(rows)}' for title, rows in sections(outcome, findings)]
  if outcome.judgements:
    parts.append('Claims\n' + '\n'.join(claim_lines(outcome)))
  if outcome.unfinished:
    parts.append('Runs without a result\n' + '\n'.join(hole_lines(outcome)))
  return '\n\n'.join([*parts, '\n'.join(findings.sentences)])


def heading(outcome) -> str:
  """What the numbers of the table are."""
  table = outcome.table
  unit = f' in {table.unit.strip()}' if table.unit.strip() else ''
  better = 'higher' if table.higher_is_better else 'lower'
  scale = f' Scale: {outcome.scale.name}.' if outcome.scale.name else ''
  return (
    f'{tasks(outcome)}{table.headline.replace("_", " ").capitalize()}{unit} ({better} is better), mean ± half '
    f'of the 95 % t interval over n seeds{_same(outcome)}.{scale}'
  )


def tasks(outcome) -> str:
  """The task that all runs share and how many test examples judge it; nothing where
  there are several.
  """
  results = [run.result for run in outcome.runs if run.result is not None]
  names = {result.get('task') for result in results} - {None}
  if len(names) != 1:
    return ''
  sizes = {result.get('n') for result in results} - {None}
  judged = f', {sizes.pop():,} test examples' if len(sizes) == 1 else ''
  return f'Task {names.pop()}{judged}. '


def _same(outcome) -> str:
  counts = {counted(cell) for cell in outcome.cells}
  return f', {counts.pop()} in every cell' if len(counts) == 1 else ''


def sections(outcome, findings: Findings) -> list[tuple[str, list[list[str]]]]:
  """(title, lines of cells, the first being the head) of every table that there is to
  show.
  """
  found = [('Results', results(outcome)), ('Cost of a run', costs(outcome))]
  if findings.gains:
    found.append(
      (f'Gain over {outcome.table.reference}, paired by seed', gains(outcome, findings))
    )
    found.append(
      (
        f'Labels that {outcome.table.reference} needs for the same value',
        saved(outcome, findings),
      )
    )
  for unit, reached in (('Steps', findings.steps), ('Seconds', findings.seconds)):
    if reached:
      title = f'{unit} of training to the final value of {outcome.table.reference}, median over seeds'
      found.append((title, to_target(outcome, findings, reached)))
  if outcome.table.published:
    found.append(('Published', printed(outcome)))
  return found


def results(outcome) -> list[list[str]]:
  """Mean ± half an interval and n of every cell, with the published number and the
  difference where there is one.
  """
  table, cells = outcome.table, outcome.cells
  lines = [_head(cells.columns)]
  # The same n everywhere stands in the heading alone.
  equal = len({counted(cell) for cell in cells}) == 1
  for row in cells.rows:
    texts = []
    for column in cells.columns:
      cell, away = cells[row, column], difference(outcome, row, column)
      text = spread(cell.interval, table) + ('' if equal else f' ({counted(cell)})')
      if (row, column) in table.published:
        text += f'; published {table.published[row, column].text}'
        text += '' if away is None else f', {away:+.{table.digits}f}'
      texts.append(text)
    lines.append([str(row), *texts])
  return lines


def costs(outcome) -> list[list[str]]:
  """The extra numbers of every row: the mean over its finished runs, or the range of
  the columns' means.
  """
  table, cells = outcome.table, outcome.cells
  lines = [['', 'runs', *(name.replace('_', ' ') for name in table.extra)]]
  for row in cells.rows:
    members = [cells[row, column] for column in cells.columns]
    done, wanted = (
      sum(cell.n for cell in members),
      sum(cell.n + len(cell.holes) for cell in members),
    )
    texts = []
    for name in table.extra:
      values = [cell.extra[name] for cell in members if cell.extra[name] is not None]
      low, high = (number(min(values)), number(max(values))) if values else ('–', '–')
      texts.append(low if low == high else f'{low} to {high}')
    lines.append(
      [str(row), str(done) if done == wanted else f'{done} of {wanted}', *texts]
    )
  return lines


def gains(outcome, findings: Findings) -> list[list[str]]:
  """The paired gain of every row over the reference, by number of labels."""
  table = outcome.table
  lines = [_head(outcome.cells.columns)]
  for row, points in findings.gains.items():
    lines.append(
      [
        str(row),
        *(_gain(points.get(column), table) for column in outcome.cells.columns),
      ]
    )
  return lines


def saved(outcome, findings: Findings) -> list[list[str]]:
  """How many labels the reference needs to match every row, by number of labels, and
  how many times as many.
  """
  lines = [_head(outcome.cells.columns)]
  for row, points in findings.saved.items():
    texts = []
    for column in outcome.cells.columns:
      found = points.get(column)
      known = found is not None and not found.censored
      texts.append(
        '–'
        if found is None
        else f'{found}' + (f' (×{found.multiplier.mean:.1f})' if known else '')
      )
    lines.append([str(row), *texts])
  return lines


def to_target(outcome, findings: Findings, reached) -> list[list[str]]:
  """The median number of steps or seconds to the reference's final value, by column."""
  columns = [column for column in outcome.cells.columns if column in findings.targets]
  lines = [
    _head(columns),
    ['value', *(amount(findings.targets[column], outcome.table) for column in columns)],
  ]
  for row in outcome.cells.rows:
    found = [reached.get((row, column)) for column in columns]
    lines.append(
      [str(row), *('–' if not one else median_reached(one) for one in found)]
    )
  return lines


def printed(outcome) -> list[list[str]]:
  """The published numbers with their provenance, also those that no cell stands beside."""
  lines = [['row', 'column', 'value', 'table', 'provenance']]
  for (row, column), found in outcome.table.published.items():
    checked = found.provenance if found.checked else f'{found.provenance}, not checked'
    lines.append(
      [str(row), str(column), found.text, f'{found.paper}, {found.table}', checked]
    )
  return lines


def claim_lines(outcome) -> list[str]:
  """One line for each claim: mark, sentence, measured value with its interval, bound,
  reason.
  """
  lines = []
  for found in outcome.judgements:
    lines.append(
      f'{MARKS[found.verdict]} {found.verdict}: {found.text} ({measured(found, outcome.table)})'
    )
  return lines


def measured(found, table) -> str:
  """What a claim's value came out as, beside its bound."""
  interval, digits = found.interval, max(table.digits, 2)
  value = (
    '–'
    if interval.mean is None
    else '∞'
    if math.isinf(interval.mean)
    else f'{interval.mean:.{digits}f}'
  )
  if interval.low is not None:
    value += f' {ends(interval, digits)}'
  count = f', n={interval.n}' if interval.n else ''
  return f'{value}{count}; claimed {found.bound}' + (
    f'; {found.reason}' if found.reason else ''
  )


def hole_lines(outcome) -> list[str]:
  return [
    f'{run.row}, {run.column}, seed {run.seed}: {run.reason}'
    for run in outcome.unfinished
  ]


def number(value: float) -> str:
  """A number that a person can read: thousands separated, four significant digits below
  a hundred.
  """
  return (
    f'{value:,.0f}' if abs(value) >= 100 or value == round(value) else f'{value:.3g}'
  )


def column_name(column) -> str:
  return f'{number(column)} labels' if is_number(column) else str(column)


def _head(columns) -> list[str]:
  numbers = all(map(is_number, columns))
  return (
    ['labels', *map(number, columns)] if numbers else ['', *map(column_name, columns)]
  )


def aligned(lines: list[list[str]]) -> str:
  """Lines of cells as columns of equal width."""
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  return '\n'.join(
    '  '.join(
      cell.ljust(width) for cell, width in zip(line, widths, strict=True)
    ).rstrip()
    for line in lines
  )


def _cell(outcome, cell) -> dict:
  found = outcome.table.published.get((cell.row, cell.column))
  return {
    'row': cell.row,
    'column': cell.column,
    **cell.interval.as_dict(),
    'values': {str(seed): value for seed, value in cell.values.items()},
    'holes': {str(seed): reason for seed, reason in cell.holes.items()},
    'extra': dict(cell.extra),
    'published': None
    if found is None
    else {
      'value': found.value,
      'text': found.text,
      'checked': found.checked,
      'provenance': found.provenance,
    },
    'difference': difference(outcome, cell.row, cell.column),
  }


def _gain(gain, table) -> str:
  if gain is None or gain.mean is None:
    return '–'
  interval = f' {ends(gain, table.digits)}' if gain.low is not None else ''
  return f'{gain.mean:+.{table.digits}f}{interval} (n={gain.n})'


def _markdown_table(lines: list[list[str]]) -> str:
  escaped = [
    [cell.replace('|', '\\|').replace('\n', ' ') for cell in line] for line in lines
  ]
  head, *body = escaped
  return '\n'.join(
    f'| {" | ".join(line)} |' for line in [head, ['---'] * len(head), *body]
  )
