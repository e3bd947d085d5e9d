"""Plots: what is drawn is what was given, labels do not touch, nothing global changes."""

import itertools

import pytest

from tl_jax.evals.curves import label_curve, transfer_gain
from tl_jax.report import plots


def curve_of(name, base, spread=0.01):
  return label_curve(
    [
      {
        'method': name,
        'labels': labels,
        'seed': seed,
        'value': base + rank / 10 + spread * seed,
      }
      for rank, labels in enumerate((16, 64, 256))
      for seed in range(3)
    ],
    name,
  )


BASES = {'scratch': 0.5, 'lora': 0.6, 'full': 0.601, 'ia3': 0.602}
CURVES = {name: curve_of(name, base) for name, base in BASES.items()}
RUNS = {
  name: [
    [
      {'step': step, 'loss': 3 / step + seed / 10, 'eval': step / 10 + rank}
      for step in range(1, 6)
    ]
    for seed in range(2)
  ]
  for rank, name in enumerate(('scratch', 'lora'))
}


def named(figure):
  (axes,) = figure.axes
  return [text for text in axes.texts if text.get_fontweight() == 'bold']


@pytest.mark.parametrize('theme', ['light', 'dark'])
def test_curves_show_the_means_times_the_factor_under_a_logarithmic_axis(theme):
  figure = plots.label_plot(
    CURVES, reference='scratch', ylabel='accuracy (%)', factor=100, theme=theme
  )
  (axes,) = figure.axes
  assert axes.get_xscale() == 'log'
  assert axes.get_ylabel() == 'accuracy (%)'
  lines = lines_of(axes)
  for line, curve in zip(lines, CURVES.values(), strict=True):
    assert list(line.get_xdata()) == pytest.approx(curve.labels, rel=0.2)
    expected = [100 * value for value in curve.means]
    assert list(line.get_ydata()) == pytest.approx(expected)
  assert lines[0].get_color() == plots.THEMES[theme].grey
  assert len({line.get_color() for line in lines}) == 4
  assert len({line.get_marker() for line in lines}) == 4


def lines_of(axes):
  """The lines through the means; caps of intervals are lines of matplotlib's, too."""
  return [line for line in axes.lines if line.get_linestyle() != 'None']


def test_intervals_stand_side_by_side_and_are_those_of_the_curves():
  figure = plots.label_plot(CURVES, reference='scratch')
  (axes,) = figure.axes
  figure.draw_without_rendering()
  assert len(axes.collections) == len(CURVES)
  drawn = {}
  for bars, (name, curve) in zip(axes.collections, CURVES.items(), strict=True):
    segments = bars.get_segments()
    for segment, point in zip(segments, curve.points, strict=True):
      (x, low), (_, high) = segment
      assert (low, high) == pytest.approx((point.interval.low, point.interval.high))
      drawn[name, point.labels] = axes.transData.transform((x, low))[0]
  for labels in (16, 64, 256):
    places = sorted(drawn[name, labels] for name in CURVES)
    # Further apart than a cap is wide, in pixels, and nearer than the next number of
    # labels.
    gaps = [after - before for before, after in itertools.pairwise(places)]
    assert min(gaps) > 5
    assert places[-1] - places[0] < (drawn['lora', 64] - drawn['lora', 16]) / 2


def test_names_at_the_lines_do_not_touch():
  figure = plots.label_plot(CURVES, reference='scratch')
  figure.draw_without_rendering()
  boxes = sorted(
    (text.get_window_extent() for text in named(figure)), key=lambda box: box.y0
  )
  assert len(boxes) == 4
  assert all(low.y1 <= high.y0 + 1 for low, high in itertools.pairwise(boxes))
  assert all(box.x1 <= figure.bbox.x1 for box in boxes)


def test_a_name_keeps_its_colour_from_plot_to_plot():
  gains = {
    name: transfer_gain(curve, CURVES['scratch'])
    for name, curve in CURVES.items()
    if name != 'scratch'
  }
  labels = {
    text.get_text(): text.get_color()
    for text in named(plots.label_plot(CURVES, reference='scratch'))
  }
  found = {
    text.get_text(): text.get_color()
    for text in named(plots.gain_plot(gains, reference='scratch', names=list(CURVES)))
  }
  assert found == {name: colour for name, colour in labels.items() if name != 'scratch'}


def test_points_without_an_interval_are_drawn_without_a_band():
  single = {
    'a': label_curve([{'method': 'a', 'labels': 8, 'seed': 0, 'value': 0.5}], 'a')
  }
  assert plots.as_svg(plots.label_plot(single)).startswith('<svg')


def test_the_thick_line_is_the_mean_of_the_seeds():
  (axes,) = plots.loss_plot(RUNS, reference='scratch').axes
  thick = [line for line in axes.lines if line.get_linewidth() > 1.5]
  assert len(axes.lines) == 6
  assert list(thick[0].get_ydata()) == pytest.approx(
    [3 / step + 0.05 for step in range(1, 6)]
  )


def test_the_target_is_marked_where_the_mean_first_reaches_it():
  (axes,) = plots.target_plot(
    RUNS, metric='eval', target=30.0, target_name='t', factor=100, reference='scratch'
  ).axes
  dots = [
    (line.get_xdata()[0], line.get_ydata()[0])
    for line in axes.lines
    if line.get_marker() == 'o'
  ]
  assert dots == [(3, pytest.approx(30.0))]


@pytest.mark.parametrize('runs', [{}, {'a': []}, {'a': [[]]}, {'a': [[{'step': 1}]]}])
def test_nothing_logged_is_said_and_no_error(runs):
  (axes,) = plots.loss_plot(runs).axes
  assert [text.get_text() for text in axes.texts] == ['nothing was logged']


def test_a_long_curve_is_thinned_but_keeps_its_end():
  (axes,) = plots.loss_plot(
    {'a': [[{'step': step, 'loss': step} for step in range(10_000)]]}
  ).axes
  steps = axes.lines[0].get_xdata()
  assert len(steps) <= 202
  assert (steps[0], steps[-1]) == (0, 9_999)


def test_the_same_plot_is_the_same_text_and_settings_stay_as_they_were(tmp_path):
  import matplotlib

  before = dict(matplotlib.rcParams)
  first, second = (
    plots.as_svg(plots.label_plot(CURVES, reference='scratch')) for _ in range(2)
  )
  assert first == second
  plots.as_png(plots.label_plot(CURVES), tmp_path / 'plot.png')
  assert (tmp_path / 'plot.png').read_bytes().startswith(b'\x89PNG')
  assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
  ('theme', 'background'), [('light', '#ffffff'), ('dark', '#15181c')]
)
def test_every_colour_that_names_a_line_can_be_read_on_its_page(theme, background):
  from matplotlib.colors import to_rgb

  def luminance(colour):
    linear = [
      part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
      for part in to_rgb(colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

  shades = plots.THEMES[theme]
  for colour in (shades.ink, shades.quiet, shades.grey, *shades.series):
    low, high = sorted((luminance(colour), luminance(background)))
    assert (high + 0.05) / (low + 0.05) >= 4.5, colour
