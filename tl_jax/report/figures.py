"""The figures of a table's page: which plots, of what, under which captions.

>>> figure('caption', lambda theme: '<svg/>').count('data:image/svg+xml')
2
"""

import base64
from collections.abc import Callable, Hashable, Iterable, Mapping
from html import escape

from tl_jax.report import plots
from tl_jax.report.cells import Cells, is_number, read_lines
from tl_jax.report.findings import Findings, amount, metric_words, training
from tl_jax.report.table import Table
from tl_jax.report.text import column_name


def figures(outcome, findings: Findings) -> list[str]:
  """The figures as HTML, in the order of the page.

  A figure that would have nothing to show is left out. ImportError without matplotlib.
  """
  column = _shown_column(outcome.cells)
  lines = _training_lines(outcome, findings, column)
  found = [
    _label_figure(outcome, findings),
    _gain_figure(outcome, findings),
    _target_figure(outcome.table, findings, column, lines),
    _first_loss_figure(outcome),
    _loss_figure(outcome.table, column, lines),
  ]
  return [html for html in found if html]


def figure(caption: str, draw: Callable[[str], str]) -> str:
  """A figure element with the plots for the light page and the dark one inside, as data.

  draw(theme) gives the SVG text of a plot, for the theme 'light' or 'dark'.
  """
  # An image does not see the colours of the page around it, so each theme has its own.
  light = _as_address(draw('light'))
  dark = _as_address(draw('dark'))
  words = escape(caption)
  return (
    f'<figure><picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
    f'<img alt="{words}" src="{light}"></picture>'
    f'<figcaption>{words}</figcaption></figure>'
  )


def _as_address(svg: str) -> str:
  """An SVG as the address of an image, so that the page needs no file beside it."""
  data = base64.b64encode(svg.encode()).decode()
  return f'data:image/svg+xml;base64,{data}'


def _axis(table: Table, columns: Iterable[Hashable]) -> str:
  """The metric of the columns with its unit, as it stands at an axis."""
  name = metric_words(table, columns)
  unit = table.unit.strip()
  return f'{name} ({unit})' if unit else name


def _label_figure(outcome, findings: Findings) -> str:
  """Value against the number of labels."""
  if not findings.curves:
    return ''
  table = outcome.table
  ylabel = _axis(table, outcome.cells.columns)

  def draw(theme):
    plot = plots.label_plot(
      findings.curves, reference=table.reference, ylabel=ylabel, theme=theme
    )
    return plots.as_svg(plot)

  return figure('Mean over the seeds; the bars are 95 % t intervals.', draw)


def _gain_figure(outcome, findings: Findings) -> str:
  """Gain over the reference against the number of labels."""
  if not findings.gains:
    return ''
  table = outcome.table

  def draw(theme):
    plot = plots.gain_plot(
      findings.gains,
      reference=table.reference,
      # The rows in the order of the first figure have the colours of the first figure.
      names=list(findings.curves),
      ylabel=_axis(table, outcome.cells.columns),
      theme=theme,
    )
    return plots.as_svg(plot)

  caption = (
    f'Difference to {table.reference}, paired by seed; the bars are 95 % t intervals.'
  )
  return figure(caption, draw)


def _shown_column(cells: Cells) -> Hashable:
  """The column whose training is drawn: that of the most labels, else the first."""
  if all(map(is_number, cells.columns)):
    return max(cells.columns)
  return cells.columns[0]


def _training_lines(outcome, findings: Findings, column: Hashable) -> dict:
  """row -> the logged lines of every finished seed, in one column."""
  table, cells = outcome.table, outcome.cells
  lines = {}
  # Rows without a curve stay, so that a row has the same colour in every figure.
  for row in cells.rows:
    cell = cells[row, column]
    lines[row] = [
      training(cell, seed, findings.logged[column], table.metric(column))
      for seed in cell.values
    ]
  return lines


def _target_figure(
  table: Table, findings: Findings, column: Hashable, lines: Mapping
) -> str:
  """The column's metric against steps, beside the final value of the reference."""
  if column not in findings.targets or not any(map(any, lines.values())):
    return ''
  target = findings.targets[column]

  def draw(theme):
    plot = plots.target_plot(
      lines,
      metric=findings.logged[column],
      target=target,
      target_name=f'final value of {table.reference}: {amount(target, table)}',
      factor=table.factor,
      reference=table.reference,
      ylabel=_axis(table, [column]),
      theme=theme,
    )
    return plots.as_svg(plot)

  caption = (
    f'{column_name(column)}: thin lines are seeds, thick ones their mean, '
    'a dot where the mean reaches the target.'
  )
  return figure(caption, draw)


def _first_loss_figure(outcome) -> str:
  """The training loss of the runs that were made first."""
  lines = {}
  # A step has a run, or one for every seed that changes it.
  for run in outcome.before:
    logged = read_lines(run.directory / 'metrics.jsonl')
    lines.setdefault(run.row, []).append(logged)
  if not _has_loss(lines):
    return ''

  def draw(theme):
    plot = plots.loss_plot(lines, title='Loss before the table', theme=theme)
    return plots.as_svg(plot)

  return figure('Training loss of what came first.', draw)


def _loss_figure(table: Table, column: Hashable, lines: Mapping) -> str:
  """The training loss of one column."""
  if not _has_loss(lines):
    return ''

  def draw(theme):
    plot = plots.loss_plot(lines, reference=table.reference, theme=theme)
    return plots.as_svg(plot)

  caption = (
    f'Training loss, {column_name(column)}; '
    'thin lines are seeds, thick ones their mean.'
  )
  return figure(caption, draw)


def _has_loss(runs: Mapping[Hashable, list]) -> bool:
  """Did any run log a loss? What is measured and not trained has none."""
  for seeds in runs.values():
    for lines in seeds:
      if any('loss' in line for line in lines):
        return True
  return False
