"""How often a model is right, by how sure it is: the figure of `evaluate`.

>>> error([Bin(0.75, 0.5, 30), Bin(0.5, 0.5, 10)])
0.1875
"""

import pathlib
from collections.abc import Mapping, Sequence

from tl_jax.config import ConfigError
from tl_jax.metrics.calibration import Bin
from tl_jax.report.plots import MARKERS, THEMES, as_png, as_svg, styled

FORMATS = ('.svg', '.png')


def require(path: pathlib.Path) -> None:
  """Raises ConfigError for a file that cannot be drawn."""
  if path.suffix.lower() not in FORMATS:
    raise ConfigError(
      f'--reliability: {path}: needs a name that ends in {" or ".join(FORMATS)}'
    )
  if path.is_dir() or not path.parent.is_dir():
    raise ConfigError(f'--reliability: {path}: needs a file in a folder that is there')


def error(bins: Sequence[Bin]) -> float:
  """The expected calibration error of bins (Guo et al. 2017, eq. 3)."""
  total = sum(one.count for one in bins)
  gaps = [one.count * abs(one.accuracy - one.confidence) for one in bins]
  return sum(gaps) / total


def draw(path: pathlib.Path, title: str, curves: Mapping[str, Sequence[Bin]]) -> None:
  """Writes the figure of curves to a file, as its ending says."""
  figure = reliability_plot(title, curves)
  if path.suffix.lower() == '.png':
    as_png(figure, path)
  else:
    path.write_text(as_svg(figure), encoding='utf-8')


@styled
def reliability_plot(
  title: str, curves: Mapping[str, Sequence[Bin]], *, theme: str = 'light'
):
  """Accuracy against confidence, with the number of answers of each bin below.

  curves: name -> bins. A model that is as often right as it says lies on the diagonal.
  """
  # Not by pyplot, which would keep every figure of the process alive.
  from matplotlib.figure import Figure

  figure = Figure(figsize=(5.6, 5.6), layout='constrained')
  upper, lower = figure.subplots(2, sharex=True, height_ratios=(3, 1))
  errors = [f'{100 * error(bins):.1f} %' for bins in curves.values()]
  upper.set_title(f'{title}: calibration error {", ".join(errors)}')
  upper.set_ylabel('accuracy')
  lower.set_ylabel('answers')
  lower.set_xlabel('confidence')
  upper.set_xlim(0, 1)
  upper.set_ylim(0, 1)
  upper.plot((0, 1), (0, 1), '--', color=THEMES[theme].grey, linewidth=1.2)
  colours = THEMES[theme].series
  for place, (name, bins) in enumerate(curves.items()):
    marker = MARKERS[place % len(MARKERS)]
    style = dict(color=colours[place % len(colours)], marker=marker)
    sure = [one.confidence for one in bins]
    upper.plot(sure, [one.accuracy for one in bins], label=name, **style)
    lower.plot(sure, [one.count for one in bins], **style)
  lower.set_ylim(bottom=0)
  upper.legend(frameon=False)
  return figure
