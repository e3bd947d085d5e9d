"""The figure of how often a model is right shows the bins that it was given."""

import pathlib

import pytest

from tl_jax.config import ConfigError
from tl_jax.metrics.calibration import Bin
from tl_jax.report import reliability

CURVES = {
  'as it is': [Bin(0.6, 0.5, 10), Bin(0.9, 0.7, 30)],
  'temperature 2.00': [Bin(0.55, 0.5, 20), Bin(0.8, 0.8, 20)],
}


@pytest.mark.parametrize('theme', ['light', 'dark'])
def test_bins_are_drawn_beside_the_diagonal(theme):
  figure = reliability.reliability_plot('mood', CURVES, theme=theme)
  upper, lower = figure.axes
  diagonal, *lines = upper.lines
  assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == [0, 1]
  for line, counts, bins in zip(lines, lower.lines, CURVES.values(), strict=True):
    assert list(line.get_xdata()) == [one.confidence for one in bins]
    assert list(line.get_ydata()) == [one.accuracy for one in bins]
    assert list(counts.get_ydata()) == [one.count for one in bins]
    assert counts.get_color() == line.get_color()
  assert len({line.get_marker() for line in lines}) == 2
  title = upper.get_title(loc='left')
  # (10 x .1 + 30 x .2) / 40, and 20 x .05 / 40.
  assert title == 'mood: calibration error 17.5 %, 2.5 %'


@pytest.mark.parametrize('name', ['a.svg', 'a.PNG'])
def test_a_file_is_written_by_its_ending(tmp_path, name):
  path = tmp_path / name
  reliability.require(path)
  reliability.draw(path, 'mood', CURVES)
  first = path.read_bytes()[:4]
  assert first == (b'<svg' if name == 'a.svg' else b'\x89PNG')


def test_what_cannot_be_drawn_is_refused(tmp_path):
  for path in (tmp_path / 'a.pdf', tmp_path / 'a'):
    with pytest.raises(ConfigError, match='needs a name that ends in .svg or .png'):
      reliability.require(path)
  with pytest.raises(ConfigError, match='needs a file in a folder that is there'):
    reliability.require(pathlib.Path('/no/such/a.svg'))
