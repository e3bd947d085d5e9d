"""A made table as one HTML page that needs nothing else.

It has no scripts, no files beside it, and asks nothing of the network.

>>> section('Title', '<p>text</p>')
'<section><h2>Title</h2><p>text</p></section>'
"""

import importlib.resources
import importlib.util
import itertools
from collections.abc import Iterator, Sequence
from html import escape

from tl_jax.report.figures import figures
from tl_jax.report.findings import Findings, counted, distinct, plural, spread
from tl_jax.report.text import (
  MARKS,
  beside_published,
  column_name,
  costs,
  differing_metrics,
  heading,
  hole_lines,
  measured,
  sections,
  tasks,
)

# Colours of both themes, narrow screens, print.
STYLE = importlib.resources.files('tl_jax.report').joinpath('page.css')
# Nothing in it has an address: the page asks nothing of the network.
HEAD = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
"""


def page(outcome, findings: Findings) -> str:
  """The page, from the title down to the environment."""
  title = escape(outcome.table.title)
  style = STYLE.read_text('utf-8')
  body = '\n'.join(filter(None, _parts(outcome, findings)))
  return (
    f'{HEAD}<title>{title}</title>\n<style>\n{style}</style>\n</head>\n'
    f'<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n'
  )


def _parts(outcome, findings: Findings) -> Iterator[str]:
  """The parts of the page from top to bottom; one that has nothing to show is empty."""
  # Titles, names of rows and reasons of failures are other people's text: here and below
  # all of it is escaped where it enters the HTML.
  yield f'<h1>{escape(outcome.table.title)}</h1>'
  below = f'{outcome.table.source}. {tasks(outcome)}'.strip()
  yield f'<p class="source">{escape(below)}</p>'
  yield _summary(findings)
  yield _claims(outcome)
  yield _curves(outcome, findings)
  note = f'<p class="note">{escape(heading(outcome))}</p>'
  yield section('Results', note + _results(outcome))
  yield section('Cost of a run', grid(costs(outcome)))
  # The first two, the results and the costs, stand above already.
  for title, lines in sections(outcome, findings)[2:]:
    yield section(title, grid(lines, 'words' if title == 'Published' else ''))
  yield _holes(outcome)
  yield section('Environment', _environment(outcome, findings))


def _summary(findings: Findings) -> str:
  sentences = [f'<p>{escape(text)}</p>' for text in findings.sentences]
  return f'<section class="summary">{"".join(sentences)}</section>'


def _claims(outcome) -> str:
  """The claims with their verdicts and what was measured."""
  items = []
  for found in outcome.judgements:
    verdict = f'{MARKS[found.verdict]} {found.verdict}'
    value = measured(found, outcome.table)
    items.append(
      f'<li><span class="verdict {found.verdict}">{verdict}</span>'
      f'<span>{escape(found.text)}</span><small>{escape(value)}</small></li>'
    )
  if not items:
    return ''
  return section('Claims', f'<ul class="claims">{"".join(items)}</ul>')


def _curves(outcome, findings: Findings) -> str:
  """The figures, or the reason why there are none."""
  if importlib.util.find_spec('matplotlib') is None:
    return (
      '<p class="note">There are no curves on this page, '
      'because matplotlib is not installed.</p>'
    )
  found = figures(outcome, findings)
  return section('Curves', ''.join(found)) if found else ''


def _results(outcome) -> str:
  """The results as a table of HTML: each cell with its notes in small print below."""
  cells = outcome.cells
  # The same n everywhere stands in the heading alone.
  equal = len({counted(cell) for cell in cells}) == 1
  columns = [column_name(column) for column in cells.columns]
  rows = []
  for row in cells.rows:
    values = []
    for column in cells.columns:
      cell = cells[row, column]
      notes = [] if equal else [counted(cell)]
      notes += beside_published(outcome, row, column)
      values.append(_value(spread(cell.interval, outcome.table), ', '.join(notes)))
    rows.append(_row(str(row), values))
  head = _head(columns, differing_metrics(outcome))
  return _table('<table>', f'<th></th>{head}', rows)


def grid(lines: list[list[str]], kind: str = '') -> str:
  """Lines of cells as a table of HTML, the first line being its head."""
  head, *body = lines
  rows = []
  for first, *rest in body:
    rows.append(_row(first, [_stacked(text) for text in rest]))
  return _table(f'<table class="{kind}">', _head(head), rows)


def _table(opening: str, head: str, rows: list[str]) -> str:
  """A table in a box that scrolls by itself where the page is narrower."""
  return (
    f'<div class="wide">{opening}<thead><tr>{head}</tr></thead>'
    f'<tbody>{"".join(rows)}</tbody></table></div>'
  )


def _head(names: list[str], notes: Sequence[str] = ()) -> str:
  """The names of the columns, each with its note, if any, in small print below it."""
  heads = []
  for name, note in itertools.zip_longest(names, notes, fillvalue=''):
    heads.append(f'<th scope="col">{escape(name)}{_small(note)}</th>')
  return ''.join(heads)


def _row(name: str, values: list[str]) -> str:
  return f'<tr><th scope="row">{escape(name)}</th>{"".join(values)}</tr>'


def _stacked(text: str) -> str:
  """A cell with its interval below the value, so that a row of them fits the page."""
  value, bracket, rest = text.partition(' [')
  return _value(value, f'[{rest}' if bracket else '')


def _value(text: str, note: str) -> str:
  """A cell of a table, with a note in small print below it where there is one."""
  return f'<td>{escape(text)}{_small(note)}</td>'


def _small(note: str) -> str:
  return f'<small>{escape(note)}</small>' if note else ''


def _holes(outcome) -> str:
  """The runs without a result, with their reasons."""
  if not outcome.unfinished:
    return ''
  items = [f'<li>{escape(line)}</li>' for line in hole_lines(outcome)]
  note = '<p class="note">They are holes in the table, not averaged over.</p>'
  return section('Runs without a result', f'{note}<ul>{"".join(items)}</ul>')


def _environment(outcome, findings: Findings) -> str:
  """What the table was made with, folded away, and how long it took."""
  settings = dict(findings.environment)
  for name, value in outcome.scale.settings.items():
    settings[f'setting {name}'] = value
  lines = [['', '']]
  for name, value in settings.items():
    lines.append([str(name), str(value)])
  runs = plural(len(distinct(outcome.runs)) + len(outcome.before), 'run')
  seeds = ', '.join(map(str, outcome.scale.seeds))
  return (
    f'<p class="note">{escape(runs)}, seeds {escape(seeds)}; '
    f'the table itself took {outcome.seconds:,.0f} s.</p>'
    f'<details><summary>Versions and settings</summary>{grid(lines, "words")}</details>'
  )


def section(title: str, body: str) -> str:
  """A part of a page under a heading; the body is HTML."""
  return f'<section><h2>{escape(title)}</h2>{body}</section>'
