"""Plots of a made table: label-efficiency, gain, training loss and the way to a target,
in one style.

>>> lines = [{'step': 1, 'loss': 3.0}, {'step': 2, 'loss': 2.0}]
>>> as_svg(loss_plot({'pretrain': [lines]})).startswith('<svg')
True

Every plot is a function of data and a theme, 'light' or 'dark', and gives a matplotlib
Figure outside any global state. Lines are named at their right end instead of in a
legend; markers differ as well as colours.
"""

import dataclasses
import functools
import io
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tl_jax.report.line_names import name_lines

LABELS = 'labelled examples (logarithmic)'
# Rows differ by shape as well as by colour, for print in grey.
MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X', 'h')
# Letters as outlines need no font where they are shown. A salt that stays the same makes
# the names inside the file the same each time.
SVG = {'svg.fonttype': 'path', 'svg.hashsalt': 'tl_jax'}
# The mean over the seeds is a thick line, each seed a thin one.
THIN = 0.8


@dataclasses.dataclass(frozen=True)
class Theme:
  """The colours of a page.

  The series are the hues of Okabe and Ito (2008), which people with colour-blindness
  tell apart. They are darkened or lightened until they can be read as text on the
  background.
  """

  # text
  ink: str
  # axes
  quiet: str
  # grid lines
  faint: str
  # the reference
  grey: str
  # all other rows, in order
  series: tuple[str, ...]


THEMES = {
  'light': Theme(
    ink='#1f2328',
    quiet='#59636e',
    faint='#e3e6ea',
    grey='#6b7280',
    series=('#0072b2', '#c44e00', '#00805c', '#a6478b', '#8f6400', '#3b3b98'),
  ),
  'dark': Theme(
    ink='#e6e8eb',
    quiet='#a0a8b2',
    faint='#32383f',
    grey='#a3abb8',
    series=('#56b4e9', '#f0894a', '#3cc9a0', '#e59cc7', '#e6b84c', '#a9a9f5'),
  ),
}


def style(theme: Theme) -> dict:
  """The matplotlib settings of every plot here."""
  # matplotlib brings this font with it, so a plot is the same on every machine.
  text = {
    'font.family': 'sans-serif',
    'font.sans-serif': ['DejaVu Sans'],
    'font.size': 10,
    'text.color': theme.ink,
  }
  # The page behind the plot shows its own colour.
  background = {
    'figure.facecolor': 'none',
    'savefig.facecolor': 'none',
    'axes.facecolor': 'none',
  }
  # Values are read off horizontal lines; a frame would add none.
  axes = {
    'axes.edgecolor': theme.quiet,
    'axes.labelcolor': theme.quiet,
    'axes.linewidth': 0.8,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.spines.left': False,
    'axes.axisbelow': True,
    'axes.grid': True,
    'axes.grid.axis': 'y',
    'grid.color': theme.faint,
    'grid.linewidth': 0.8,
  }
  title = {
    'axes.titlesize': 11,
    'axes.titleweight': 'bold',
    'axes.titlelocation': 'left',
    'axes.titlepad': 14,
    'axes.titlecolor': theme.ink,
  }
  ticks = {
    'xtick.color': theme.quiet,
    'ytick.color': theme.quiet,
    'ytick.major.size': 0,
    'xtick.major.size': 4,
    'xtick.minor.size': 0,
  }
  lines = {
    'lines.linewidth': 2,
    'lines.markersize': 6,
    'lines.solid_capstyle': 'round',
  }
  return {**SVG, **text, **background, **axes, **title, **ticks, **lines}


def styled(draw):
  """Makes a function draw under the `style` of the theme that it is asked for.

  matplotlib's own settings are the same afterwards.
  """

  @functools.wraps(draw)
  def drawn(*arguments, theme: str = 'light', **named):
    # Inside: matplotlib takes long to import, and few who import tl_jax draw.
    import matplotlib

    with matplotlib.rc_context(style(THEMES[theme])):
      return draw(*arguments, theme=theme, **named)

  return drawn


@styled
def label_plot(
  curves: Mapping,
  *,
  reference=None,
  ylabel: str = '',
  factor: float = 1.0,
  theme: str = 'light',
):
  """Value against labels on a logarithmic axis: means, with the 95 % interval as bars.

  curves: name -> LabelCurve.
  reference: the name that is drawn in grey.
  factor: multiplies the values shown.
  """
  lines = {}
  for name, curve in curves.items():
    points = [_scaled(point.labels, point.interval, factor) for point in curve.points]
    lines[name] = points
  colours = _colours(curves, reference, theme)
  figure, axes = _axes(f'{ylabel} by number of labels', LABELS, ylabel)
  _interval_lines(axes, lines, list(curves), colours, THEMES[theme])
  return figure


@styled
def gain_plot(
  gains: Mapping,
  *,
  reference: str,
  names: Sequence = (),
  ylabel: str = '',
  theme: str = 'light',
):
  """Gain over the reference against labels, with its paired interval as bars.

  Zero is where the reference lies.

  gains: name -> labels -> Interval.
  names: all names in the order of the other plots, so that colours agree.
  """
  names = list(names) or list(gains)
  lines = {}
  for name, points in gains.items():
    ordered = sorted(points.items())
    lines[name] = [_scaled(labels, gain, 1.0) for labels, gain in ordered]
  colours = _colours(names, reference, theme)
  title = f'Gain in {ylabel} over {reference}'
  figure, axes = _axes(title, LABELS, f'gain in {ylabel}')
  axes.axhline(0, color=THEMES[theme].grey, linewidth=1.2)
  _interval_lines(axes, lines, names, colours, THEMES[theme])
  return figure


class Point(NamedTuple):
  """A mean at a number of labels, with both ends of its interval.

  An end that is not known is NaN, which matplotlib leaves out.
  """

  labels: float
  mean: float
  low: float
  high: float


def _scaled(labels: float, interval, factor: float) -> Point | None:
  """What is drawn of an interval; None where there is no mean."""
  if interval.mean is None:
    return None
  nan = float('nan')
  low = nan if interval.low is None else factor * interval.low
  high = nan if interval.high is None else factor * interval.high
  return Point(labels, factor * interval.mean, low, high)


def _interval_lines(
  axes, lines: Mapping, names: list, colours: dict, theme: Theme
) -> None:
  """Lines of means with their intervals as bars.

  At a number of labels the bars of the rows stand side by side. Bands of five rows over
  each other would hide which is whose.
  """
  found = {}
  for name, points in lines.items():
    known = list(filter(None, points))
    if known:
      found[name] = known
  counts = {point.labels for points in found.values() for point in points}
  _label_axis(axes, counts)
  ends = []
  for name, points in found.items():
    # By the order of all names: a row without a point keeps its place beside the others.
    rank = names.index(name)
    shift = _shift(rank, len(names), counts)
    places = [point.labels * shift for point in points]
    _interval_line(axes, places, points, colours[name], MARKERS[rank % len(MARKERS)])
    ends.append((places[-1], points[-1].mean, str(name), colours[name]))
  name_lines(axes, ends, theme.quiet)


def _interval_line(
  axes, places: list[float], points: list[Point], colour: str, marker: str
) -> None:
  """One line of means with its bars, at these places of the axis."""
  means = [point.mean for point in points]
  # matplotlib wants the lengths of the bars, not their ends.
  below = [point.mean - point.low for point in points]
  above = [point.high - point.mean for point in points]
  axes.errorbar(
    places,
    means,
    yerr=(below, above),
    fmt='none',
    ecolor=colour,
    elinewidth=1.3,
    capsize=2.5,
    alpha=0.75,
    clip_on=False,
  )
  axes.plot(places, means, color=colour, marker=marker, zorder=3, clip_on=False)


def _shift(rank: int, rows: int, counts) -> float:
  """The factor by which the bars of a row stand beside a number of labels.

  The axis is logarithmic, so a factor is a distance. All rows together take a third of
  the narrowest space between two numbers.
  """
  ordered = sorted(counts)
  pairs = itertools.pairwise(ordered)
  spaces = [math.log(after / before) for before, after in pairs]
  step = min(spaces, default=math.log(2)) / (3 * rows)
  # The middle row stands at the number itself.
  return math.exp(step * (rank - (rows - 1) / 2))


@styled
def loss_plot(
  runs: Mapping,
  *,
  metric: str = 'loss',
  reference=None,
  title: str = 'Training loss',
  ylabel: str = 'loss (nats)',
  theme: str = 'light',
):
  """A logged metric against steps.

  Every seed is a thin line, the mean over the seeds a thick one.

  runs: name -> list (one per seed) of the lines of a `metrics.jsonl`. Lines without the
  metric are passed over.
  """
  colours = _colours(runs, reference, theme)
  figure, axes = _axes(title, 'optimizer steps', ylabel)
  ends = []
  for name, seeds in runs.items():
    curves = [_series(lines, metric) for lines in seeds]
    curves = [curve for curve in curves if curve]
    # A row that logged nothing has no line, but its colour stays its own.
    if not curves:
      continue
    # A single seed is its own mean.
    if len(curves) > 1:
      for curve in curves:
        places, values = _thinned(list(curve.items()))
        axes.plot(places, values, color=colours[name], linewidth=THIN, alpha=0.35)
    middle = _mean_curve(curves)
    axes.plot(*_thinned(middle), color=colours[name])
    ends.append((*middle[-1], str(name), colours[name]))
  name_lines(axes, ends, THEMES[theme].quiet)
  return figure


def _mean_curve(curves: list[dict[float, float]]) -> list[tuple[float, float]]:
  """(step, mean over the curves) at the steps that all of them have.

  The first curve where there is no such step.
  """
  # A mean over other seeds at every step would jump where one of them ends.
  shared = set.intersection(*map(set, curves))
  if not shared:
    return list(curves[0].items())
  points = []
  for step in sorted(shared):
    total = math.fsum(curve[step] for curve in curves)
    points.append((step, total / len(curves)))
  return points


@styled
def target_plot(
  runs: Mapping,
  *,
  metric: str,
  target: float,
  target_name: str,
  reference=None,
  ylabel: str = '',
  factor: float = 1.0,
  theme: str = 'light',
):
  """A logged metric against steps with the target as a dashed line.

  A dot marks where each mean first reaches it. The arguments are those of `loss_plot`.
  The target is in the unit shown, which is that of the logged values times `factor`.
  """
  scaled = {}
  for name, seeds in runs.items():
    scaled[name] = [_with_factor(lines, metric, factor) for lines in seeds]
  title = f'{ylabel}; dashed: {target_name}'
  figure = loss_plot(
    scaled, metric=metric, reference=reference, title=title, ylabel=ylabel, theme=theme
  )
  (axes,) = figure.axes
  # Before the target is drawn, all thick lines are means.
  means = {line.get_color(): line for line in axes.lines if line.get_linewidth() > THIN}
  axes.axhline(target, color=THEMES[theme].ink, linewidth=1, linestyle=(0, (4, 3)))
  for colour in _colours(runs, reference, theme).values():
    if colour in means:
      _mark_target(axes, means[colour], target, THEMES[theme].ink)
  return figure


def _with_factor(lines: Sequence[Mapping], metric: str, factor: float) -> list[dict]:
  """The lines that have the metric, with it multiplied."""
  found = []
  for line in lines:
    if _number(line.get(metric)):
      found.append({**line, metric: factor * line[metric]})
  return found


def _mark_target(axes, line, target: float, edge: str) -> None:
  """A dot where a line first reaches the target, from below or from above."""
  steps, values = line.get_data()
  # A line that starts below the target is of a metric that should rise.
  rising = len(values) > 1 and values[0] <= target
  for step, value in zip(steps, values, strict=True):
    if value >= target if rising else value <= target:
      axes.plot(
        step,
        value,
        marker='o',
        markersize=8,
        color=line.get_color(),
        markeredgecolor=edge,
        zorder=5,
      )
      return


@styled
def budget_plot(curve: Sequence, *, ylabel: str = '', theme: str = 'light'):
  """The expected best value of a search against its trials, with its interval.

  curve: points with `trials`, `expected`, `low` and `high`, as
  `tl_jax.evals.budgets.budgets` gives them.
  """
  colour = THEMES[theme].series[0]
  figure, axes = _axes('What a search can be expected to find', 'trials', ylabel)
  trials = [point.trials for point in curve]
  low = [point.low for point in curve]
  high = [point.high for point in curve]
  axes.fill_between(trials, low, high, color=colour, alpha=0.18, linewidth=0)
  axes.plot(trials, [point.expected for point in curve], color=colour)
  axes.set_xlim(left=1)
  return figure


def as_svg(figure) -> str:
  """The figure as an SVG element.

  The same figure is the same text. The text refers to nothing outside.
  """
  import matplotlib

  # The date of drawing and the name of the program would make each text another.
  metadata = {'Date': None, 'Creator': None, 'Format': None, 'Type': None}
  with io.StringIO() as text, matplotlib.rc_context(SVG):
    figure.savefig(text, format='svg', metadata=metadata)
    svg = text.getvalue()
  # The XML declaration that stands before belongs in a file, not in a page.
  return svg[svg.index('<svg') :]


def as_png(figure, path, *, background: str = 'white', dpi: int = 150) -> None:
  """Writes the figure to a PNG file."""
  figure.savefig(path, format='png', dpi=dpi, facecolor=background)


def _axes(title: str, xlabel: str, ylabel: str):
  """A figure with a title and one pair of axes: (figure, axes)."""
  # Not by pyplot, which would keep every figure of the process alive.
  from matplotlib.figure import Figure

  figure = Figure(figsize=(7.6, 3.9), layout='constrained')
  figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)
  axes = figure.subplots()
  # Not `capitalize`, which would make small letters of all others.
  axes.set_title(title[:1].upper() + title[1:])
  axes.set_xlabel(xlabel)
  axes.set_ylabel(ylabel)
  return figure, axes


def _colours(names, reference, theme: str) -> dict:
  """name -> colour: grey for the reference, the series in order for all others."""
  series = THEMES[theme].series
  others = [name for name in names if name != reference]
  colours = dict(zip(others, itertools.cycle(series), strict=False))
  colours[reference] = THEMES[theme].grey
  return colours


def _label_axis(axes, labels) -> None:
  """A logarithmic axis with ticks only at numbers of labels that were measured."""
  labels = sorted(labels)
  axes.set_xscale('log')
  # Neighbours closer than a twelfth of the axis would write over each other. A single
  # number of labels has no span, and any will do.
  span = math.log(labels[-1] / labels[0]) or 1.0
  ticks = []
  for label in labels:
    if not ticks or math.log(label / ticks[-1]) > span / 12:
      ticks.append(label)
  axes.set_xticks(ticks, [f'{label:,.0f}' for label in ticks])
  axes.minorticks_off()


def _number(value) -> bool:
  """Can it be drawn? A diverged run logs infinite losses."""
  return isinstance(value, (int, float)) and math.isfinite(value)


def _series(lines: Sequence[Mapping], metric: str) -> dict[float, float]:
  """step -> value of the lines that have both, in rising order of steps."""
  found = {}
  for line in lines:
    step, value = line.get('step'), line.get(metric)
    # A step that was logged twice, before and after a restart, has its last value.
    if _number(step) and _number(value):
      found[step] = value
  return dict(sorted(found.items()))


def _thinned(points: list[tuple], most: int = 200) -> tuple[list, list]:
  """(steps, values) of about `most` points at most, evenly chosen.

  The last point is always among them: it is what the curve came to.
  """
  stride = max(1, math.ceil(len(points) / most))
  chosen = points[:-1:stride] + points[-1:]
  return [x for x, _ in chosen], [y for _, y in chosen]
