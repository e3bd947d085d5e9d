"""Names at the right ends of the lines of a plot, instead of a legend.

>>> spread_heights([0.0, 0.0, 9.0], gap=1.0)
[-0.5, 0.5, 9.0]
"""

from typing import NamedTuple


def name_lines(axes, ends: list[tuple], quiet: str) -> None:
  """Names the lines at their right ends, pushed apart where they would touch.

  ends: (x, y, name, colour) of each line. Without any, the plot says so in the colour
  `quiet`.
  """
  if not ends:
    _say_nothing_was_logged(axes, quiet)
    return
  low, high = axes.get_ylim()
  # The height of a line of text, as a share of the axis.
  gap = 0.062 * (high - low)
  right = max(end[0] for end in ends)
  ordered = sorted(ends, key=lambda end: end[1])
  places = spread_heights([end[1] for end in ordered], gap)
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
  # A name that was pushed beyond the values needs an axis that reaches there.
  lowest = places[0] - gap / 2
  highest = places[-1] + gap / 2
  axes.set_ylim(min(low, lowest), max(high, highest))
  axes.set_xlim(right=right)


def spread_heights(heights: list[float], gap: float) -> list[float]:
  """Rising heights, pushed apart until neighbours are `gap` apart.

  Those that are too close are pooled, and each pool is spread evenly about the mean of
  its heights. A pool that has grown may reach the one below, so that both become one.
  """
  pools: list[_Pool] = []
  for height in heights:
    pool = _Pool(height, 1)
    while pools and _touch(pools[-1], pool, gap):
      pool = _pooled(pools.pop(), pool)
    pools.append(pool)
  places = []
  for centre, size in pools:
    for rank in range(size):
      places.append(centre + gap * (rank - (size - 1) / 2))
  return places


class _Pool(NamedTuple):
  """Names that stand close together: their mean height and how many they are."""

  centre: float
  size: int


def _touch(below: _Pool, above: _Pool, gap: float) -> bool:
  """Do two pools need more room than there is between their centres?"""
  return above.centre - below.centre < gap * (above.size + below.size) / 2


def _pooled(below: _Pool, above: _Pool) -> _Pool:
  """Two pools as one, about the mean of all their heights."""
  size = above.size + below.size
  total = above.centre * above.size + below.centre * below.size
  return _Pool(total / size, size)


def _say_nothing_was_logged(axes, quiet: str) -> None:
  axes.text(
    0.5,
    0.5,
    'nothing was logged',
    transform=axes.transAxes,
    ha='center',
    color=quiet,
  )
