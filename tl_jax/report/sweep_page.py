"""A sweep as one HTML page that needs nothing else: tables, curves, reasons.

>>> from tl_jax.report.sweeps import Row
>>> 'lr=0.1' in _holes([Row(0, 'lr=0.1', {}, 'failed', 'diverged')])
True
"""

import importlib.util
from collections.abc import Sequence
from html import escape

from tl_jax.report import plots
from tl_jax.report.figures import figure
from tl_jax.report.html import HEAD, STYLE, grid, section
from tl_jax.report.sweeps import (
  TEST,
  Group,
  Row,
  curve_lines,
  holes,
  over_seeds,
  table_of,
  varying,
)
from tl_jax.scale.members import Listing

# Members in a table of the page; members.csv has all.
MOST_ROWS = 500


def page(listing: Listing, rows: Sequence[Row], groups: Sequence[Group]) -> str:
  """The page, from the title down to the reasons of failures."""
  # Names and reasons are other people's text: it is escaped where it enters the HTML.
  title = escape(f'Sweep {listing.file}')
  style = STYLE.read_text('utf-8')
  parts = [f'<h1>{title}</h1>', _summary(listing, rows, groups)]
  for group in groups:
    parts += _group(group, varying(group.rows))
  parts += [_holes(rows), _shared(rows)]
  body = '\n'.join(filter(None, parts))
  return (
    f'{HEAD}<title>{title}</title>\n<style>\n{style}</style>\n</head>\n'
    f'<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n'
  )


def _summary(listing: Listing, rows: Sequence[Row], groups: Sequence[Group]) -> str:
  """How many members there are, and which is the best."""
  done = sum(row.state == 'done' for row in rows)
  bases = ', '.join(listing.bases)
  sentences = [f'{done} of {len(rows)} members have a result. Configs: {bases}.']
  for group in groups:
    best = group.rows[0]
    sentence = (
      f'{group.task}: the best {group.metric} on {group.split} is {best.value:.4f}, '
      f'of member {best.number} ({best.id}).'
    )
    if group.split == TEST:
      sentence += (
        ' Nothing was held out for validation, so the best of many is chosen on the '
        'test split, and better there than it is.'
      )
    sentences.append(sentence)
  words = ''.join(f'<p>{escape(text)}</p>' for text in sentences)
  return f'<section class="summary">{words}</section>'


def _group(group: Group, names: Sequence[str]) -> list[str]:
  """The parts about the members of one task."""
  lines = table_of(group, names, MOST_ROWS)
  note = ''
  if len(group.rows) > MOST_ROWS:
    note = (
      f'<p class="note">The best {MOST_ROWS} of {len(group.rows)}; members.csv has '
      'all.</p>'
    )
  means = over_seeds(group, names)
  parts = [section(f'Members: {group.task}', note + grid(lines))]
  if means:
    parts.append(section('Mean over seeds', grid(means[: MOST_ROWS + 1])))
  note = (
    '<p class="note">The expected best value of so many independent trials, equations '
    '6 and 7 of Dodge et al. 2019, with a 95 % bootstrap interval. Of as many trials as '
    'were made it is below the best one.</p>'
  )
  parts.append(
    section('Search budget', note + _curve(group) + grid(curve_lines(group)))
  )
  return parts


def _curve(group: Group) -> str:
  """The plot of the curve; nothing where it is a point, or matplotlib is missing."""
  if len(group.curve) < 2 or importlib.util.find_spec('matplotlib') is None:
    return ''
  label = f'expected {group.split} {group.metric}'

  def draw(theme):
    plot = plots.budget_plot(group.curve, ylabel=label, theme=theme)
    return plots.as_svg(plot)

  return figure('The line is the expected value, the band its 95 % interval.', draw)


def _holes(rows: Sequence[Row]) -> str:
  """The members without a result, with their reasons."""
  lines = holes(rows)
  if not lines:
    return ''
  items = ''.join(f'<li>{escape(line)}</li>' for line in lines)
  return section('Members without a result', f'<ul>{items}</ul>')


def _shared(rows: Sequence[Row]) -> str:
  """What all members set alike, folded away."""
  names = set(varying(rows))
  lines = [['field', 'value']]
  for name, value in rows[0].fields.items():
    if name not in names:
      lines.append([name, str(value)])
  if len(lines) == 1:
    return ''
  return f'<details><summary>Shared settings</summary>{grid(lines, "words")}</details>'
