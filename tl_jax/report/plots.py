"""Plots of a made table: label-efficiency, gain, training loss and the way to a target,
in one style.

>>> svg = as_svg(loss_plot({'pretrain': [[{'step': 1, 'loss': 3.0}, {'step': 2, 'loss': 2.0}]]}))
>>> svg.startswith('<svg')
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

LABELS = 'labelled examples (logarithmic)'
MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X', 'h')


@dataclasses.dataclass(frozen=True)
class Theme:
  """Colours of a page: ink for text, quiet for axes, faint for grid lines, grey for the
  reference, series for the rest.

  The series are the hues of Okabe and Ito (2008), which people with colour-blindness
  tell apart, darkened or lightened until they can be read as text on the background.
  """

  ink: str
  quiet: str
  faint: str
  grey: str
  series: tuple[str, ...]


THEMES = {
  'light': Theme(
    '#1f2328',
    '#59636e',
    '#e3e6ea',
    '#6b7280',
    ('#0072b2', '#c44e00', '#00805c', '#a6478b', '#8f6400', '#3b3b98'),
  ),
  'dark': Theme(
    '#e6e8eb',
    '#a0a8b2',
    '#32383f',
    '#a3abb8',
    ('#56b4e9', '#f0894a', '#3cc9a0', '#e59cc7', '#e6b84c', '#a9a9f5'),
  ),
}


def style(theme: Theme) -> dict:
  """The matplotlib settings of every plot here."""
  return {
    'font.family': 'sans-serif',
    'font.sans-serif': ['DejaVu Sans'],
    'font.size': 10,
    'svg.fonttype': 'path',
    'svg.hashsalt': 'tl_jax',
    'text.color': theme.ink,
    'figure.facecolor': 'none',
    'savefig.facecolor': 'none',
    'axes.facecolor': 'none',
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
    'axes.titlesize': 11,
    'axes.titleweight': 'bold',
    'axes.titlelocation': 'left',
    'axes.titlepad': 14,
    'axes.titlecolor': theme.ink,
    'xtick.color': theme.quiet,
    'ytick.color': theme.quiet,
    'ytick.major.size': 0,
    'xtick.major.size': 4,
    'xtick.minor.size': 0,
    'lines.linewidth': 2,
    'lines.markersize': 6,
    'lines.solid_capstyle': 'round',
  }


def styled(draw):
  """Draws under `style` of the theme that the plot is asked for, and leaves
  matplotlib's own settings alone.
  """

  @functools.wraps(draw)
  def drawn(*arguments, theme: str = 'light', **named):
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

  curves: name -> LabelCurve. reference: the name drawn in grey. factor: multiplies the
  values shown.
  """
  lines = {
    name: [_scaled(point.labels, point.interval, factor) for point in curve.points]
    for name, curve in curves.items()
  }
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
  """Gain over the reference against labels, with its paired interval; zero is where the
  reference lies.

  gains: name -> labels -> Interval. names: all names in the order of the other plots,
  so that colours agree.
  """
  names = list(names) or list(gains)
  lines = {
    name: [_scaled(labels, gain, 1.0) for labels, gain in sorted(points.items())]
    for name, points in gains.items()
  }
  colours = _colours(names, reference, theme)
  title = f'Gain in {ylabel} over {reference}'
  figure, axes = _axes(title, LABELS, f'gain in {ylabel}')
  axes.axhline(0, color=THEMES[theme].grey, linewidth=1.2)
  _interval_lines(axes, lines, names, colours, THEMES[theme])
  return figure


class Point(NamedTuple):
  """A mean at a number of labels, with both ends of its interval; NaN for an end that
  is not known.
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
  """Lines of means with their intervals as bars, which stand side by side at a number
  of labels.

  Bands of five rows over each other hide which is whose; bars beside each other do not.
  """
  found = {name: list(filter(None, points)) for name, points in lines.items()}
  found = {name: points for name, points in found.items() if points}
  counts = {point.labels for points in found.values() for point in points}
  _label_axis(axes, counts)
  ends = []
  for name, points in found.items():
    rank = names.index(name)
    shift = _shift(rank, len(names), counts)
    places = [point.labels * shift for point in points]
    means = [point.mean for point in points]
    below = [point.mean - point.low for point in points]
    above = [point.high - point.mean for point in points]
    axes.errorbar(
      places,
      means,
      yerr=(below, above),
      fmt='none',
      ecolor=colours[name],
      elinewidth=1.3,
      capsize=2.5,
      alpha=0.75,
      clip_on=False,
    )
    marker = MARKERS[rank % len(MARKERS)]
    axes.plot(
      places, means, color=colours[name], marker=marker, zorder=3, clip_on=False
    )
    ends.append((places[-1], means[-1], str(name), colours[name]))
  _name_lines(axes, ends, theme)


def _shift(rank: int, rows: int, counts) -> float:
  """The factor by which the bars of a row stand beside a number of labels, on a
  logarithmic axis.

  All rows together take a third of the narrowest space between two numbers.
  """
  ordered = sorted(counts)
  spaces = [math.log(after / before) for before, after in itertools.pairwise(ordered)]
  step = min(spaces, default=math.log(2)) / (3 * rows)
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
  """A logged metric against steps: every seed as a thin line, the mean over the seeds
  as a thick one.

  runs: name -> list (one per seed) of the lines of a `metrics.jsonl`; lines without the
  metric are passed over.
  """
  colours = _colours(runs, reference, theme)
  figure, axes = _axes(title, 'optimizer steps', ylabel)
  ends = []
  for name, seeds in runs.items():
    curves = [curve for curve in (_series(lines, metric) for lines in seeds) if curve]
    if not curves:
      continue
    if len(curves) > 1:
      for curve in curves:
        axes.plot(
          *_thinned(list(curve.items())), color=colours[name], linewidth=0.8, alpha=0.35
        )
    middle = [
      (step, math.fsum(curve[step] for curve in curves) / len(curves))
      for step in sorted(set.intersection(*map(set, curves)))
    ] or list(curves[0].items())
    axes.plot(*_thinned(middle), color=colours[name])
    ends.append((*middle[-1], str(name), colours[name]))
  _name_lines(axes, ends, THEMES[theme])
  return figure


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
  """A logged metric against steps with the target as a dashed line; a dot where each
  mean first reaches it.

  The arguments are those of `loss_plot`; target is in the unit shown, the logged values
  times factor.
  """
  scaled = {
    name: [
      [
        {**line, metric: factor * line[metric]}
        for line in lines
        if _number(line.get(metric))
      ]
      for lines in seeds
    ]
    for name, seeds in runs.items()
  }
  title = f'{ylabel}; dashed: {target_name}'
  figure = loss_plot(
    scaled, metric=metric, reference=reference, title=title, ylabel=ylabel, theme=theme
  )
  (axes,) = figure.axes
  axes.axhline(target, color=THEMES[theme].ink, linewidth=1, linestyle=(0, (4, 3)))
  colours = _colours(runs, reference, theme)
  first = {line.get_color(): line for line in axes.lines if line.get_linewidth() > 1.5}
  for colour in colours.values():
    line = first.get(colour)
    steps, values = ([], []) if line is None else line.get_data()
    rising = len(values) > 1 and values[0] <= target
    reached = [
      (step, value)
      for step, value in zip(steps, values, strict=True)
      if (value >= target if rising else value <= target)
    ]
    if reached:
      axes.plot(
        *reached[0],
        marker='o',
        markersize=8,
        color=colour,
        markeredgecolor=THEMES[theme].ink,
        zorder=5,
      )
  return figure


def as_svg(figure) -> str:
  """The figure as an SVG element, the same text for the same figure, without a
  reference to anything outside.
  """
  import matplotlib

  with (
    io.StringIO() as text,
    matplotlib.rc_context({'svg.hashsalt': 'tl_jax', 'svg.fonttype': 'path'}),
  ):
    figure.savefig(
      text,
      format='svg',
      metadata={'Date': None, 'Creator': None, 'Format': None, 'Type': None},
    )
    svg = text.getvalue()
  return svg[svg.index('<svg') :]


def as_png(figure, path, *, background: str = 'white', dpi: int = 150) -> None:
  """Writes the figure to a PNG file."""
  figure.savefig(path, format='png', dpi=dpi, facecolor=background)


def _axes(title: str, xlabel: str, ylabel: str):
  from matplotlib.figure import Figure

  figure = Figure(figsize=(7.6, 3.9), layout='constrained')
  figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)
  axes = figure.subplots()
  axes.set_title(title[:1].upper() + title[1:])
  axes.set_xlabel(xlabel)
  axes.set_ylabel(ylabel)
  return figure, axes


def _colours(names, reference, theme: str) -> dict:
  """A colour for every name: grey for the reference, the series in order for the
  others.
  """
  others = [name for name in names if name != reference]
  series = THEMES[theme].series
  return {
    **{name: series[rank % len(series)] for rank, name in enumerate(others)},
    reference: THEMES[theme].grey,
  }


def _label_axis(axes, labels) -> None:
  """A logarithmic axis with a tick at the numbers of labels that were measured, and
  nowhere else.
  """
  labels = sorted(labels)
  axes.set_xscale('log')
  # Neighbours closer than a twelfth of the axis would write over each other.
  span = math.log(labels[-1] / labels[0]) or 1.0
  ticks = []
  for label in labels:
    if not ticks or math.log(label / ticks[-1]) > span / 12:
      ticks.append(label)
  axes.set_xticks(ticks, [f'{label:,.0f}' for label in ticks])
  axes.minorticks_off()


def _name_lines(axes, ends, theme: Theme) -> None:
  """Names the lines at their right ends, pushed apart where they would touch."""
  if not ends:
    axes.text(
      0.5,
      0.5,
      'nothing was logged',
      transform=axes.transAxes,
      ha='center',
      color=theme.quiet,
    )
    return
  low, high = axes.get_ylim()
  gap, right = 0.062 * (high - low), max(end[0] for end in ends)
  ordered = sorted(ends, key=lambda end: end[1])
  heights = [end[1] for end in ordered]
  # Pool neighbours that are too close and spread each pool evenly about its mean
  # height.
  pools = []
  for height in heights:
    pools.append([height, 1])
    while (
      len(pools) > 1
      and pools[-1][0] - pools[-2][0] < gap * (pools[-1][1] + pools[-2][1]) / 2
    ):
      (upper, several), (lower, few) = pools.pop(), pools.pop()
      pools.append([(upper * several + lower * few) / (several + few), several + few])
  places = [
    centre + gap * (rank - (size - 1) / 2)
    for centre, size in pools
    for rank in range(size)
  ]
  for (_, _, name, colour), height in zip(ordered, places, strict=True):
    axes.annotate(
      name,
      (right, height),
      xytext=(10, 0),
      textcoords='offset points',
      va='center',
      color=colour,
      fontweight='bold',
      annotation_clip=False,
    )
  axes.set_ylim(min(low, places[0] - gap / 2), max(high, places[-1] + gap / 2))
  axes.set_xlim(right=right)


def _number(value) -> bool:
  return isinstance(value, (int, float)) and math.isfinite(value)


def _series(lines, metric: str) -> dict[float, float]:
  """step -> value of the lines that have both, in rising order of steps."""
  found = {
    line['step']: line[metric]
    for line in lines
    if _number(line.get('step')) and _number(line.get(metric))
  }
  return dict(sorted(found.items()))


def _thinned(points: list, most: int = 200) -> tuple[list, list]:
  """At most about `most` of the points, evenly chosen, the last one always among them."""
  stride = max(1, math.ceil(len(points) / most))
  chosen = points[:-1:stride] + points[-1:]
  return [x for x, _ in chosen], [y for _, y in chosen]
