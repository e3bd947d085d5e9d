"""A made table as one HTML page that needs nothing else: no scripts, no files beside
it, no network.

>>> figure('caption', lambda theme: '<svg/>').count('data:image/svg+xml')
2
"""

import base64
import importlib.util
from collections.abc import Callable, Mapping
from html import escape

from tl_jax.report import plots
from tl_jax.report.cells import is_number, read_lines
from tl_jax.report.findings import (
  Findings,
  amount,
  counted,
  difference,
  plural,
  spread,
  training,
)
from tl_jax.report.text import (
  MARKS,
  column_name,
  costs,
  heading,
  hole_lines,
  measured,
  sections,
  tasks,
)

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --quiet: #59636e; --line: #d9dde2; --paper: #ffffff; --panel: #f6f7f9;
  --held: #00704f; --missed: #b3261e; --undecided: #7a5b00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --quiet: #a0a8b2; --line: #3a4149; --paper: #15181c;
  --panel: #1d2126; --held: #3cc9a0; --missed: #ff8a80; --undecided: #e6b84c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em; text-wrap: balance; }
h2 { font-size: 1.2rem; margin: 2.8rem 0 .6rem; }
p { margin: .5rem 0; max-width: 52rem; }
.source, .note, figcaption, small { color: var(--quiet); }
.note, figcaption { font-size: .88rem; }
.summary { background: var(--panel); border-radius: .5rem; padding: .8rem 1.2rem; margin: 1.4rem 0; }
ul.claims { list-style: none; margin: 0; padding: 0; }
ul.claims li { display: grid; grid-template-columns: 7.2rem 1fr; gap: .2rem .8rem; padding: .7rem 0;
  border-top: 1px solid var(--line); }
ul.claims li:last-child { border-bottom: 1px solid var(--line); }
ul.claims small { grid-column: 2; font-variant-numeric: tabular-nums; }
.verdict { font-weight: 650; } .held { color: var(--held); } .missed { color: var(--missed); }
.undecided { color: var(--undecided); }
figure { margin: 1.4rem 0 2rem; } figure img { display: block; width: 100%; max-width: 50rem; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; min-width: 60%; }
th, td { text-align: right; padding: .45rem .7rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
thead th { color: var(--quiet); font-weight: 600; border-bottom: 2px solid var(--line); white-space: nowrap; }
tbody th { font-weight: 600; } td { white-space: nowrap; } td small { display: block; }
table.words th, table.words td { text-align: left; white-space: normal; }
details { margin-top: 1rem; } summary { cursor: pointer; color: var(--quiet); }
@media (max-width: 34rem) { ul.claims li { grid-template-columns: 1fr; } ul.claims small { grid-column: 1; } }
@media print { main { max-width: none; padding: 0; } figure, table, li { break-inside: avoid; } }
"""


def page(outcome, findings: Findings) -> str:
  """The page: title, summary, claims, curves, tables, runs without a result,
  environment.
  """
  table = outcome.table
  below = f'{table.source}. {tasks(outcome)}'.strip()
  parts = [
    f'<h1>{escape(table.title)}</h1>',
    f'<p class="source">{escape(below)}</p>',
    '<section class="summary">'
    + ''.join(f'<p>{escape(text)}</p>' for text in findings.sentences)
    + '</section>',
    _claims(outcome),
    *_figures(outcome, findings),
    _section(
      'Results', f'<p class="note">{escape(heading(outcome))}</p>' + _results(outcome)
    ),
    _section('Cost of a run', _grid(costs(outcome))),
  ]
  for title, lines in sections(outcome, findings)[2:]:
    parts.append(_section(title, _grid(lines, 'words' if title == 'Published' else '')))
  if outcome.unfinished:
    items = ''.join(f'<li>{escape(line)}</li>' for line in hole_lines(outcome))
    parts.append(
      _section(
        'Runs without a result',
        '<p class="note">They are holes in the table, not averaged over.</p>'
        f'<ul>{items}</ul>',
      )
    )
  parts.append(_section('Environment', _environment(outcome, findings)))
  return (
    f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    f'<title>{escape(table.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n'
    + '\n'.join(filter(None, parts))
    + '\n</main>\n</body>\n</html>\n'
  )


def figure(caption: str, draw: Callable[[str], str]) -> str:
  """A figure element: draw(theme) -> SVG text, for the light page and the dark one,
  inside the page as data.
  """
  light, dark = (
    f'data:image/svg+xml;base64,{base64.b64encode(draw(theme).encode()).decode()}'
    for theme in ('light', 'dark')
  )
  words = escape(caption)
  return (
    f'<figure><picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
    f'<img alt="{words}" src="{light}"></picture><figcaption>{words}</figcaption></figure>'
  )


def _figures(outcome, findings: Findings) -> list[str]:
  table, cells = outcome.table, outcome.cells
  if importlib.util.find_spec('matplotlib') is None:
    return [
      '<p class="note">There are no curves on this page, because matplotlib is not installed.</p>'
    ]
  name = table.headline.replace('_', ' ') + (
    f' ({table.unit.strip()})' if table.unit.strip() else ''
  )
  found = []
  if findings.curves:
    found.append(
      figure(
        'Mean over the seeds; the bars are 95 % t intervals.',
        lambda theme: plots.as_svg(
          plots.label_plot(
            findings.curves, reference=table.reference, ylabel=name, theme=theme
          )
        ),
      )
    )
  if findings.gains:
    found.append(
      figure(
        f'Difference to {table.reference}, paired by seed; the bars are 95 % t intervals.',
        lambda theme: plots.as_svg(
          plots.gain_plot(
            findings.gains,
            reference=table.reference,
            names=list(findings.curves),
            ylabel=name,
            theme=theme,
          )
        ),
      )
    )
  column = (
    max(cells.columns) if all(map(is_number, cells.columns)) else cells.columns[0]
  )
  lines = {
    row: [
      training(cells[row, column], seed, findings.metric, table.headline)
      for seed in cells[row, column].values
    ]
    for row in cells.rows
  }
  # Rows without a curve stay, so that a row has the same colour in every figure.
  if column in findings.targets and any(map(any, lines.values())):
    target = findings.targets[column]
    found.append(
      figure(
        f'{column_name(column)}: thin lines are seeds, thick ones their mean, a dot where the mean reaches the target.',
        lambda theme: plots.as_svg(
          plots.target_plot(
            lines,
            metric=findings.metric,
            target=target,
            factor=table.factor,
            reference=table.reference,
            ylabel=name,
            target_name=f'final value of {table.reference}: {amount(target, table)}',
            theme=theme,
          )
        ),
      )
    )
  found += _losses(outcome, lines, column)
  return [_section('Curves', ''.join(found))] if found else []


def _losses(outcome, lines: Mapping, column) -> list[str]:
  first = {
    name: [read_lines(run.directory / 'metrics.jsonl')]
    for name, run in outcome.before.items()
    if run.directory
  }
  found = []
  for caption, title, runs, reference in (
    ('Training loss of what came first.', 'Loss before the table', first, None),
    (
      f'Training loss, {column_name(column)}; thin lines are seeds, thick ones their mean.',
      'Training loss',
      lines,
      outcome.table.reference,
    ),
  ):
    if any(
      'loss' in line for seeds in runs.values() for seed in seeds for line in seed
    ):
      found.append(
        figure(
          caption,
          lambda theme, runs=runs, title=title, reference=reference: plots.as_svg(
            plots.loss_plot(runs, title=title, reference=reference, theme=theme)
          ),
        )
      )
  return found


def _claims(outcome) -> str:
  items = ''.join(
    f'<li><span class="verdict {found.verdict}">{MARKS[found.verdict]} {found.verdict}</span>'
    f'<span>{escape(found.text)}</span><small>{escape(measured(found, outcome.table))}</small></li>'
    for found in outcome.judgements
  )
  return _section('Claims', f'<ul class="claims">{items}</ul>') if items else ''


def _results(outcome) -> str:
  table, cells = outcome.table, outcome.cells
  head = ''.join(
    f'<th scope="col">{escape(column_name(column))}</th>' for column in cells.columns
  )
  # The same n everywhere stands in the heading alone.
  equal = len({counted(cell) for cell in cells}) == 1
  body = []
  for row in cells.rows:
    texts = []
    for column in cells.columns:
      cell, away = cells[row, column], difference(outcome, row, column)
      notes = [] if equal else [counted(cell)]
      if (row, column) in table.published:
        notes.append(f'published {table.published[row, column].text}')
        notes += [] if away is None else [f'{away:+.{table.digits}f}']
      small = f'<small>{escape(", ".join(notes))}</small>' if notes else ''
      texts.append(f'<td>{escape(spread(cell.interval, table))}{small}</td>')
    body.append(f'<tr><th scope="row">{escape(str(row))}</th>{"".join(texts)}</tr>')
  return (
    f'<div class="wide"><table><thead><tr><th></th>{head}</tr></thead>'
    f'<tbody>{"".join(body)}</tbody></table></div>'
  )


def _grid(lines: list[list[str]], kind: str = '') -> str:
  head, *body = lines
  top = ''.join(f'<th scope="col">{escape(text)}</th>' for text in head)
  rows = ''
  for first, *rest in body:
    values = ''.join(map(_stacked, rest))
    rows += f'<tr><th scope="row">{escape(first)}</th>{values}</tr>'
  return f'<div class="wide"><table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{rows}</tbody></table></div>'


def _stacked(text: str) -> str:
  """A cell with its interval below the value, so that a row of them fits the page."""
  value, bracket, rest = text.partition(' [')
  if not bracket:
    return f'<td>{escape(text)}</td>'
  return f'<td>{escape(value)}<small>[{escape(rest)}</small></td>'


def _environment(outcome, findings: Findings) -> str:
  settings = {
    **findings.environment,
    **{f'setting {name}': value for name, value in outcome.scale.settings.items()},
  }
  lines = [['', ''], *([str(name), str(value)] for name, value in settings.items())]
  runs = plural(len(outcome.runs) + len(outcome.before), 'run')
  return (
    f'<p class="note">{escape(runs)}, seeds {escape(", ".join(map(str, outcome.scale.seeds)))}; '
    f'the table itself took {outcome.seconds:,.0f} s.</p>'
    f'<details><summary>Versions and settings</summary>{_grid(lines, "words")}</details>'
  )


def _section(title: str, body: str) -> str:
  return f'<section><h2>{escape(title)}</h2>{body}</section>'
