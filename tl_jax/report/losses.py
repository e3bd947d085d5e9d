"""The loss of a larger run, forecast from small ones: what runs say, lines and a page.

>>> from tl_jax.evals.scaling import Point
>>> points = [Point('a', 1e6, 1e7, 1e7, 3.0), Point('a', 1e6, 2e7, 1e7, 2.8)]
>>> passes(points), count(1.5e9)
(2.0, '1.5B')
"""

import importlib.util
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from tl_jax import files
from tl_jax.config import ConfigError
from tl_jax.evals.scaling import Forecast, Law, Point, doubts, forecast
from tl_jax.evals.statistics import Interval
from tl_jax.report import comparable
from tl_jax.report.figures import figure
from tl_jax.report.html import HEAD, STYLE, grid, section
from tl_jax.report.literature import published
from tl_jax.report.plots import THEMES, as_svg, styled

FORMS = ('Chinchilla', 'data-constrained')
# What a run says of its held-out loss on its way.
_LOSS = 'test/loss'


class Asked(NamedTuple):
  """What is forecast: a run of so many tokens, `unique` of them different, and so many
  parameters.
  """

  tokens: float
  parameters: float
  unique: float


class Found(NamedTuple):
  """A forecast by each of the `FORMS`, and the runs that it is made from.

  remarks: what is to be said of these runs.
  """

  asked: Asked
  points: tuple[Point, ...]
  forms: Mapping[str, Forecast]
  remarks: tuple[str, ...] = ()

  def at(self, name: str) -> Interval:
    """The loss that a form expects of what was asked."""
    asked = self.asked
    return self.forms[name].at(asked.parameters, asked.tokens, asked.unique)

  def as_dict(self) -> dict:
    """All numbers, for a file."""
    forms = {}
    for name, form in self.forms.items():
      interval = self.at(name)
      forms[name] = dict(
        loss=interval.mean,
        interval=[interval.low, interval.high],
        law=vars(form.law),
        error=form.error,
        held_back=form.held_back,
      )
    points = [point._asdict() for point in self.points]
    return dict(asked=self.asked._asdict(), forms=forms, points=points)


def points_of(folder: pathlib.Path, on_the_way: bool) -> list[Point]:
  """The held-out losses of a run: its last one, and with `on_the_way` those before it.

  Raises ConfigError for a folder that is not of a finished pre-training.
  """
  result = files.find_json(folder / 'result.json')
  if result is None:
    raise ConfigError(f'{folder}: no finished run; it has no result.json')
  if result.get('task') != 'pretrain' or not result.get('tokens'):
    raise ConfigError(
      f'{folder}: result.json does not say how many tokens it was trained on; a loss is '
      'forecast from runs of pre-training, of this version'
    )
  # The last one is of more text than those on the way.
  last = result['metrics']['loss']
  losses = {result['steps']: last}
  if on_the_way:
    losses = _losses(folder / 'evaluations.jsonl') | losses
  found = []
  for step, loss in sorted(losses.items()):
    tokens = result['tokens'] * step / result['steps']
    unique = min(tokens, result['unique_tokens'])
    parameters = result['total_parameters']
    found.append(Point(str(folder), parameters, tokens, unique, loss))
  return found


def _losses(path: pathlib.Path) -> dict[int, float]:
  """The held-out loss of every step that has one."""
  found = {}
  for line in path.read_text().splitlines():
    said = json.loads(line)
    if said.get(_LOSS) is not None:
      found[said['step']] = said[_LOSS]
  return found


def forecast_loss(
  folders: Sequence[str], asked: Asked, on_the_way: bool, seed: int = 0
) -> Found:
  """Fits both forms to the runs. `asked.parameters` 0 are those of the largest run, and
  `asked.unique` 0 means that no token is repeated.

  Raises ConfigError where the runs do not suffice, or are not of one law.
  """
  points = []
  paths = list(map(pathlib.Path, folders))
  for path in paths:
    points += points_of(path, on_the_way)
  remarks = comparable.require(paths)
  _require_enough(points, asked)
  largest = max(point.parameters for point in points)
  # 0 of either is the plainest case.
  parameters = asked.parameters or largest
  unique = asked.unique or asked.tokens
  asked = Asked(asked.tokens, parameters, unique)
  forms = {}
  for name in FORMS:
    constrained = name == FORMS[1]
    forms[name] = forecast(points, constrained=constrained, seed=seed)
  return Found(asked, tuple(points), forms, tuple(remarks))


def _require_enough(points: Sequence[Point], asked: Asked) -> None:
  """Raises ConfigError where the runs say nothing about what is asked."""
  if len(points) < 3:
    raise ConfigError(
      f'{len(points)} losses are too few for a law; give 3 runs or more, or --all for the '
      'held-out losses on the way, too'
    )
  sizes = sorted({point.parameters for point in points})
  if len({point.tokens for point in points}) < 2:
    raise ConfigError('all runs have as many tokens; give runs of several lengths')
  if asked.parameters and len(sizes) == 1 and asked.parameters != sizes[0]:
    raise ConfigError(
      f'--parameters={asked.parameters:.0f}: all runs have {sizes[0]:.0f}, which says '
      'nothing about other sizes; give runs of several sizes'
    )


def passes(points: Sequence[Point]) -> float:
  """How often the run that repeats most reads its tokens."""
  return max(point.tokens / point.unique for point in points)


def count(number: float) -> str:
  """A number of tokens or parameters with three digits at most.

  >>> count(999), count(12_345_678)
  ('999', '12.3M')
  """
  for size, letter in ((1e12, 'T'), (1e9, 'B'), (1e6, 'M'), (1e3, 'k')):
    if number >= size:
      return f'{number / size:.3g}{letter}'
  return f'{number:.3g}'


def table(found: Found) -> list[list[str]]:
  """A line for each form, below the heads."""
  lines = [['', 'loss', '80 % interval', 'perplexity', 'error on held back']]
  for name, form in found.forms.items():
    interval = found.at(name)
    ends = f'{interval.low:.3f} to {interval.high:.3f}'
    # A loss is told as what it means for a token, too.
    perplexity = f'{math.exp(min(interval.mean, 700.0)):.2f}'
    error = f'{100 * form.error:.1f} %' if form.held_back else '–'
    lines.append([name, f'{interval.mean:.3f}', ends, perplexity, error])
  return lines


def sentences(found: Found) -> list[str]:
  """What a person wants to know first."""
  asked, points = found.asked, found.points
  runs = len({point.run for point in points})
  again = asked.tokens / min(asked.unique, asked.tokens)
  # What is asked for, as it was understood.
  what = f'{count(asked.parameters)} parameters after {count(asked.tokens)} tokens'
  known = f'{len(points)} losses of {runs} runs'
  lines = [f'{what}, {again:.3g} passes, from {known}.']
  lines += [*found.remarks, *_below(found)]
  most = max(point.tokens for point in points)
  largest = max(point.parameters for point in points)
  further = max(asked.tokens / most, asked.parameters / largest)
  # Beyond ten times what was seen the form of a law counts for more than the runs.
  if further > 10:
    lines.append(
      f'That is {further:.3g} times the largest run at hand: no interval covers a law '
      'that bends.'
    )
  lines += _unknown(found, further)
  for doubt in doubts(points):
    lines.append(f'{doubt.run}: {doubt.reason}, which no law of these says.')
  if again > 1.5 * passes(points):
    lines.append(
      f'No run at hand repeats its tokens more than {passes(points):.3g} times: what '
      'repeats are worth is as published.'
    )
  return lines


def _below(found: Found) -> list[str]:
  """What is asked for that lies before everything that was measured, or cannot be."""
  asked, points = found.asked, found.points
  lines = []
  if asked.unique > asked.tokens:
    lines.append(
      f'{count(asked.unique)} unique tokens are more than the {count(asked.tokens)} that '
      'are read: none is repeated.'
    )
  fewest = min(point.tokens for point in points)
  if asked.tokens < fewest:
    lines.append(
      f'No run at hand has so few tokens, the shortest {count(fewest)}: laws do not hold '
      'at the beginning of a training.'
    )
  smallest = min(point.parameters for point in points)
  if asked.parameters < smallest:
    lines.append(
      f'No run at hand has so few parameters, the smallest {count(smallest)}: no interval '
      'covers how far a law is carried down.'
    )
  return lines


def _unknown(found: Found, further: float) -> list[str]:
  """What the intervals leave out, because the runs at hand do not tell it."""
  lines = []
  forms = found.forms.values()
  if not all(form.held_back for form in forms):
    lines.append(
      'No run could be held back: the intervals are only of how far the points lie from '
      'the laws, which is too narrow. More runs tell more.'
    )
  if further > 1 and not all(form.bends for form in forms):
    lines.append(
      'No law could be carried on from the shorter runs to the longer ones: the intervals '
      'leave out how far the laws are carried. Give runs of three lengths of every size, '
      'each twice the one before.'
    )
  return lines


def laws(found: Found) -> list[list[str]]:
  """The constants of the fitted laws, and the published ones beside them."""
  lines = [['', 'E', 'A', 'alpha', 'B', 'beta', 'R_D*']]
  for name, form in found.forms.items():
    lines.append([name, *_constants(form.law)])
  for name, law in published_laws().items():
    lines.append([name, *_constants(law)])
  return lines


def _constants(law: Law) -> list[str]:
  """The constants of a law, as a page shows them."""
  numbers = [law.floor, law.a, law.alpha, law.b, law.beta]
  cells = [f'{number:.3g}' for number in numbers]
  return [*cells, '–' if law.repeats is None else f'{law.repeats:.3g}']


def published_laws() -> dict[str, Law]:
  """The laws as their papers have them, in nats per token of their own texts."""
  plain = ('E', 'A', 'B', 'alpha', 'beta')
  logarithms = ('log E (e)', 'log A (a)', 'log B (b)')
  of_repeats = ('alpha', 'beta', 'R_D*', 'R_N*')
  readme = 'README parametric fit'
  # Its constants of the terms are printed as logarithms.
  scales = [math.exp(number) for number in _printed(readme, logarithms)]
  found = {}
  found['Hoffmann et al. 2022'] = Law(*_printed('approach 3', plain))
  # The same runs, read from the figure and fitted again.
  found['Epoch AI 2024, refit of it'] = Law(*_printed('refit (std err)', plain))
  rest = _printed(readme, of_repeats)
  found['Muennighoff et al. 2023'] = Law(*scales, *rest)
  return found


def _printed(table: str, metrics: Sequence[str]) -> list[float]:
  """The constants of a table of the published ones."""
  found = []
  for metric in metrics:
    cells = published('scaling_constants', table=table, metric=metric)
    (number,) = cells.values()
    # A standard error stands behind some.
    found.append(float(number.text.split()[0]))
  return found


def page(found: Found) -> str:
  """The page, from the title down to what was measured."""
  title = f'Loss after {count(found.asked.tokens)} tokens'
  style = STYLE.read_text('utf-8')
  words = ''.join(f'<p>{escape(line)}</p>' for line in sentences(found))
  note = (
    '<p class="note">A law of Chinchilla takes every token as new; the data-constrained '
    'one takes repeats as worth less. Intervals are over points drawn again, the errors '
    'of runs that were held back, and those of laws that were carried on from the '
    'shorter ones.</p>'
  )
  measured = [['run', 'parameters', 'tokens', 'unique', 'held-out loss']]
  for point in found.points:
    sizes = [count(point.parameters), count(point.tokens), count(point.unique)]
    measured.append([point.run, *sizes, f'{point.loss:.4f}'])
  parts = [f'<h1>{title}</h1>', f'<section class="summary">{words}</section>']
  expected = grid(table(found))
  parts.append(section('What to expect', note + expected))
  parts.append(_curves(found))
  # One can see at a glance whether what was fitted is of the usual size.
  constants = grid(laws(found))
  parts.append(section('The laws', constants))
  parts.append(section('What was measured', grid(measured)))
  body = '\n'.join(filter(None, parts))
  # A page needs nothing beside it.
  head = f'{HEAD}<title>{title}</title>\n<style>\n{style}</style>\n</head>\n'
  return f'{head}<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n'


def _curves(found: Found) -> str:
  """The plot of the loss against tokens; nothing where matplotlib is missing."""
  if importlib.util.find_spec('matplotlib') is None:
    return ''

  def draw(theme):
    return as_svg(loss_plot(found, theme=theme))

  caption = (
    'Dots were measured on held-out text, lines are the laws at the size that was asked '
    'for, bars their 80 % intervals.'
  )
  return section('Loss by tokens', figure(caption, draw))


@styled
def loss_plot(found: Found, *, theme: str = 'light'):
  """Held-out loss against tokens: measured, and as both forms have it."""
  from matplotlib.figure import Figure

  drawing = Figure(figsize=(7.6, 3.9), layout='constrained')
  axes = drawing.subplots()
  axes.set_title('Held-out loss by tokens')
  axes.set_xlabel('tokens')
  axes.set_ylabel('loss, nats per token')
  axes.set_xscale('log')
  asked = found.asked
  first = min(point.tokens for point in found.points)
  tokens = np.geomspace(first, asked.tokens, 60)
  colours = THEMES[theme].series
  for name, colour in zip(FORMS, colours, strict=False):
    law = found.forms[name].law
    # On the way to the end as many tokens are new as there are at all.
    losses = [law.loss(asked.parameters, each, asked.unique) for each in tokens]
    axes.plot(tokens, losses, color=colour, label=name)
    end = found.at(name)
    axes.vlines(asked.tokens, end.low, end.high, color=colour, linewidth=3, alpha=0.5)
  sizes = sorted({point.parameters for point in found.points})
  for size, colour in zip(sizes, colours[len(FORMS) :] * len(sizes), strict=False):
    own = [point for point in found.points if point.parameters == size]
    places = [point.tokens for point in own]
    losses = [point.loss for point in own]
    axes.plot(places, losses, 'o', color=colour, label=f'{count(size)} parameters')
  axes.legend(frameon=False)
  return drawing
