"""A forecast of labels as lines, and as one HTML page that needs nothing else.

>>> percent(0.8123), span(Interval(0.8, 0.75, 0.85))
('81.2', '80.0 [75.0, 85.0]')
"""

import importlib.util
from collections.abc import Sequence
from html import escape

from tl_jax.evals.forecasting import rounded
from tl_jax.evals.statistics import Interval
from tl_jax.report.figures import figure
from tl_jax.report.html import HEAD, STYLE, grid, section
from tl_jax.report.plots import THEMES, as_svg, styled
from tl_jax.train.forecasting import Candidate, Forecast, curve_points

# Candidates of which the page has a curve of its own.
MOST_CURVES = 4
# No number of labels beyond so many times those at hand is told.
FARTHEST = 100


def percent(share: float) -> str:
  """A share in percent, with one digit."""
  return f'{100 * share:.1f}'


def span(interval: Interval) -> str:
  """An accuracy in percent with its interval."""
  ends = f'{percent(interval.low)}, {percent(interval.high)}'
  return f'{percent(interval.mean)} [{ends}]'


def table(found: Forecast) -> list[list[str]]:
  """A line for each candidate, the best first, below the heads."""
  # Now is a forecast, too: what was measured left a part of the labels out.
  head = ['', f'now, {found.labels:,}']
  head += [f'{labels:,} labels' for labels in found.ahead]
  if found.target is not None:
    head.append(f'labels for {percent(found.target)}')
  head += ['LogME', 'H-score', 'ms a text']
  lines = [head]
  for one in found.candidates:
    counts = (found.labels, *found.ahead)
    cells = [span(one.accuracy_at(labels)) for labels in counts]
    if found.target is not None:
      cells.append(needed(found, one, found.target))
    cells += [
      _number(one.log_evidence, 3),
      _number(one.h_score, 3),
      _number(one.seconds_per_text and 1000 * one.seconds_per_text, 1),
    ]
    lines.append([one.name, *cells])
  return lines


def needed(found: Forecast, one: Candidate, target: float) -> str:
  """How many labels a candidate needs for a target, with its interval."""
  interval = one.labels_for(target)
  most = FARTHEST * found.labels
  low, high = rounded(interval.low, most), rounded(interval.high, most)
  return f'{rounded(interval.mean, most)} [{low}, {high}]'


def _number(value: float | None, digits: int) -> str:
  return '–' if value is None else f'{value:.{digits}f}'


def sentences(found: Forecast) -> list[str]:
  """What a person wants to know first."""
  best = found.best
  soon = found.ahead[0]
  now = best.accuracy_at(found.labels)
  then = best.accuracy_at(soon)
  lines = [
    f'{found.task}: {found.labels:,} labels of {len(found.classes)} classes; whoever '
    f'always says the most frequent one is right in {percent(found.share)} %.',
    f'Best with {soon:,} labels: {best.name}, {percent(then.mean)} % expected '
    f'(80 % interval {percent(then.low)} to {percent(then.high)}), now '
    f'{percent(now.mean)} %.',
  ]
  if found.target is not None:
    lines.append(_of_target(found, best, found.target))
  # TF-IDF is always among them, so that there is a second one.
  second = found.candidates[1]
  if second.accuracy_at(soon).high > then.low:
    lines.append(
      f'{second.name} may be as good: the intervals of both overlap. More labels at '
      'hand, or a comparison of trained runs, tell them apart.'
    )
  return lines


def _of_target(found: Forecast, best: Candidate, target: float) -> str:
  """What the target needs."""
  interval = best.labels_for(target)
  most = FARTHEST * found.labels
  # A number beyond it would only be a sign of a flat curve.
  if interval.mean > most:
    return (
      f'{percent(target)} % is beyond what most of the curves of {best.name} reach with '
      f'{rounded(most)} labels: another model or method is needed, or clearer labels.'
    )
  return (
    f'{percent(target)} % needs about {rounded(interval.mean)} labels with {best.name} '
    f'(80 % interval {rounded(interval.low)} to {rounded(interval.high, most)}).'
  )


def page(found: Forecast) -> str:
  """The page, from the title down to what was measured."""
  # Names of tasks, models and texts are other people's: they are escaped.
  title = escape(f'Forecast of {found.task}')
  style = STYLE.read_text('utf-8')
  words = ''.join(f'<p>{escape(line)}</p>' for line in sentences(found))
  note = (
    '<p class="note">Accuracy in percent, with 80 % intervals of one training on labels '
    'drawn anew. A probe is a logistic regression on vectors that the model gives and '
    'that stay as they are; training all of it often does better with more labels.</p>'
  )
  parts = [
    f'<h1>{title}</h1>',
    f'<section class="summary">{words}</section>',
    section('What to expect', note + grid(table(found))),
    _curves(found),
    section('What was measured', grid(_measured(found))),
    _suggested(found),
  ]
  body = '\n'.join(filter(None, parts))
  return (
    f'{HEAD}<title>{title}</title>\n<style>\n{style}</style>\n</head>\n'
    f'<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n'
  )


def _measured(found: Forecast) -> list[list[str]]:
  """The accuracies of the cross-validation, a line for each candidate."""
  sizes = found.best.measured.labels
  lines = [['', *(f'{size:,}' for size in sizes)]]
  for one in found.candidates:
    lines.append([one.name, *(percent(1 - error) for error in one.measured.errors)])
  return lines


def _curves(found: Forecast) -> str:
  """The plot of the curves; nothing where matplotlib is missing."""
  if importlib.util.find_spec('matplotlib') is None:
    return ''
  shown = found.candidates[:MOST_CURVES]

  def draw(theme):
    return as_svg(curve_plot(shown, found.ahead, found.target, theme=theme))

  caption = (
    'Dots were measured in cross-validation, lines are expected, the band is the 80 % '
    'interval of the best.'
  )
  return section('Learning curves', figure(caption, draw))


@styled
def curve_plot(
  candidates: Sequence[Candidate],
  ahead: Sequence[int],
  target: float | None = None,
  *,
  theme: str = 'light',
):
  """Accuracy against the number of labels: measured, and as it is expected to go on."""
  from matplotlib.figure import Figure

  drawing = Figure(figsize=(7.6, 3.9), layout='constrained')
  axes = drawing.subplots()
  axes.set_title('Accuracy by number of labels')
  axes.set_xlabel('labels')
  axes.set_ylabel('accuracy, %')
  axes.set_xscale('log')
  for one, colour in zip(candidates, THEMES[theme].series, strict=False):
    points = curve_points(one, ahead)
    labels = [point[0] for point in points]
    # Several bands over each other would hide what they show.
    if one is candidates[0]:
      low = [100 * point[2] for point in points]
      high = [100 * point[3] for point in points]
      axes.fill_between(labels, low, high, color=colour, alpha=0.18, linewidth=0)
    means = [100 * point[1] for point in points]
    axes.plot(labels, means, color=colour, label=one.name)
    measured = [100 * (1 - error) for error in one.measured.errors]
    axes.plot(one.measured.labels, measured, 'o', color=colour)
  if target is not None:
    axes.axhline(100 * target, color=THEMES[theme].quiet, linewidth=1, linestyle=':')
  # Every other size: they are closer together than what is ahead.
  ticks = [*candidates[0].measured.labels[::2], *ahead]
  axes.set_xticks(ticks, [f'{tick:,}' for tick in ticks])
  axes.minorticks_off()
  axes.legend(frameon=False)
  return drawing


def _suggested(found: Forecast) -> str:
  """The texts to label next."""
  if not found.suggested:
    return ''
  lines = [['', 'sure', 'text']]
  for number, (text, sure) in enumerate(found.suggested, 1):
    lines.append([str(number), percent(sure), text])
  return section('Texts to label next', grid(lines, 'words'))
