"""What layers know, as lines and as one HTML page that needs nothing else.

>>> share(0.8123)
'81.2'
"""

import importlib.util
from html import escape

from tl_jax.evals.frozen import METHODS
from tl_jax.report.figures import figure
from tl_jax.report.html import HEAD, STYLE, grid, section
from tl_jax.report.plots import THEMES, as_svg, styled
from tl_jax.train.probing import Probed, names_of


def share(value: float) -> str:
  """A share in percent, with one digit."""
  return f'{100 * value:.1f}'


def table(found: Probed) -> list[list[str]]:
  """A line for each layer: the test accuracy of every method, with its interval."""
  lines = [['', *METHODS]]
  for layer, name in enumerate(names_of(found.layers - 1)):
    cells = []
    for method in METHODS:
      interval = found.cell(layer, method).accuracy
      ends = f'{share(interval.low)}, {share(interval.high)}'
      # What the train examples chose, without a look at the test split.
      mark = '*' if found.cell(layer, method) is found.best else ''
      cells.append(f'{share(interval.mean)}{mark} [{ends}]')
    lines.append([name, *cells])
  return lines


def sentences(found: Probed) -> list[str]:
  """What a person wants to know first."""
  best = found.best
  name = names_of(found.layers - 1)[best.layer]
  interval = best.accuracy
  pass_over = 'vectors were there already'
  if found.seconds_of_encoding:
    pass_over = f'one pass over all texts took {found.seconds_of_encoding:.1f} s'
  return [
    f'* chosen on {found.train:,} train examples, each left out: {best.method} on '
    f'{name}, test accuracy {share(interval.mean)} % (95 % interval '
    f'{share(interval.low)} to {share(interval.high)}, {interval.n:,} examples)',
    f'{pass_over}; all of it took {found.seconds:.1f} s',
  ]


def page(found: Probed) -> str:
  """The page, from the title down to the paths of penalties."""
  # Names of tasks and models are other people's text: they are escaped.
  title = escape(f'Layers of {found.init} on {found.task.name}')
  style = STYLE.read_text('utf-8')
  words = ''.join(f'<p>{escape(line)}</p>' for line in sentences(found))
  parts = [
    f'<h1>{title}</h1>',
    f'<section class="summary">{words}</section>',
    section('Test accuracy, %', grid(table(found))),
    _curves(found),
    section('Penalties of the linear probe', grid(_paths(found))),
  ]
  body = '\n'.join(filter(None, parts))
  return (
    f'{HEAD}<title>{title}</title>\n<style>\n{style}</style>\n</head>\n'
    f'<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n'
  )


def _paths(found: Probed) -> list[list[str]]:
  """The accuracy of every penalty on the train examples, each left out."""
  first = found.cell(0, 'linear').probe.path
  lines = [['', *(f'{penalty:g}' for penalty in first)]]
  for layer, name in enumerate(names_of(found.layers - 1)):
    path = found.cell(layer, 'linear').probe.path
    lines.append([name, *(share(value) for value in path.values())])
  return lines


def _curves(found: Probed) -> str:
  """The plot by layer; nothing where matplotlib is missing."""
  if importlib.util.find_spec('matplotlib') is None:
    return ''

  def draw(theme):
    return as_svg(layer_plot(found, theme=theme))

  caption = 'Test accuracy by layer; the band is the 95 % interval of the linear probe.'
  return section('By layer', figure(caption, draw))


@styled
def layer_plot(found: Probed, *, theme: str = 'light'):
  """Test accuracy of every method against the layer."""
  from matplotlib.figure import Figure

  drawing = Figure(figsize=(7.6, 3.9), layout='constrained')
  axes = drawing.subplots()
  axes.set_title('What each layer knows')
  axes.set_xlabel('layer; 0 is the embedding')
  axes.set_ylabel('accuracy, %')
  layers = list(range(found.layers))
  for method, colour in zip(METHODS, THEMES[theme].series, strict=False):
    intervals = [found.cell(layer, method).accuracy for layer in layers]
    means = [100 * interval.mean for interval in intervals]
    axes.plot(layers, means, 'o-', color=colour, label=method)
    # One band: three over each other would hide what they show.
    if method == 'linear':
      low = [100 * interval.low for interval in intervals]
      high = [100 * interval.high for interval in intervals]
      axes.fill_between(layers, low, high, color=colour, alpha=0.18, linewidth=0)
  axes.set_xticks(layers)
  axes.legend(frameon=False)
  return drawing
