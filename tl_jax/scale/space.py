"""Search spaces as plain values: which configs a sweep is made of.

>>> rates = random(2, {'optim.lr': log_uniform(1e-5, 1e-3)})
>>> space = base('configs/transfer.py:task=topic') * product(seed=range(3)) * rates
>>> len(space), space.points[0].base, sorted(space.points[0].fields)
(6, 'configs/transfer.py:task=topic', ['optim.lr', 'seed'])

A space is a list of points. A point is a base config and the fields that it sets, under
their dotted names as in `--config.optim.lr=1e-3`. Two operations make larger spaces of
small ones: `a * b` has every point of `a` joined to every point of `b`, and `a + b` has
the points of `a` and then those of `b`. Dotted names are no keywords of Python, so every
function takes a dict beside its keywords.
"""

import builtins
import dataclasses
import itertools
import math
import random as generators
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from tl_jax.config import ConfigError


class Point(NamedTuple):
  """One config: the spec of its base, '' for none yet, and what differs from it."""

  base: str
  fields: dict[str, Any]

  def joined(self, other: 'Point') -> 'Point':
    """Both points as one. Raises ConfigError for what both of them set."""
    if self.base and other.base:
      raise ConfigError(
        f'a point has one base config, not {self.base!r} and {other.base!r}; '
        'several stand in one call: base(A, B)'
      )
    twice = sorted(self.fields.keys() & other.fields.keys())
    if twice:
      raise ConfigError(f'{twice[0]!r} is set by both sides of a product')
    return Point(self.base or other.base, {**self.fields, **other.fields})


@dataclasses.dataclass(frozen=True)
class Space:
  """The points of a search, in their order."""

  points: tuple[Point, ...]

  def __len__(self) -> int:
    return len(self.points)

  def __iter__(self) -> Iterator[Point]:
    return iter(self.points)

  def __mul__(self, other: 'Space') -> 'Space':
    pairs = itertools.product(self.points, other.points)
    return Space(tuple(one.joined(two) for one, two in pairs))

  def __add__(self, other: 'Space') -> 'Space':
    return chain(self, other)


@dataclasses.dataclass(frozen=True)
class Uniform:
  """A number between two others, each as likely; see `uniform` and `log_uniform`."""

  low: float
  high: float
  in_logarithm: bool = False

  def draw(self, generator: generators.Random) -> float:
    share = generator.random()
    if not self.in_logarithm:
      return self.low + share * (self.high - self.low)
    span = math.log(self.high / self.low)
    # Rounding may lead beyond an end by the last bit.
    return min(max(self.low * math.exp(share * span), self.low), self.high)


@dataclasses.dataclass(frozen=True)
class Choices:
  """One of some values, each as likely; see `choices`."""

  values: tuple

  def draw(self, generator: generators.Random) -> Any:
    return self.values[int(generator.random() * len(self.values))]


DISTRIBUTIONS = (Uniform, Choices)


def uniform(low: float, high: float) -> Uniform:
  """A number in [low, high]. Raises ConfigError for ends that are none."""
  _require_ends(low, high, -math.inf)
  return Uniform(float(low), float(high))


def log_uniform(low: float, high: float) -> Uniform:
  """A number in [low, high] whose logarithm is uniform: for rates and strengths.

  Raises ConfigError where an end is not positive.
  """
  _require_ends(low, high, 0.0)
  return Uniform(float(low), float(high), in_logarithm=True)


def choices(values: Iterable[Any]) -> Choices:
  """One of the values. Raises ConfigError where there is none."""
  return Choices(_listed('choices', values))


def base(*specs: str) -> Space:
  """A point for each config: FILE.py, FILE.py:argument, FILE.json or FILE.toml."""
  if not specs:
    raise ConfigError('base: needs a config, as base("configs/transfer.py:task=topic")')
  return Space(tuple(Point(str(spec), {}) for spec in specs))


def fixed(table: Mapping[str, Any] | None = None, /, **fields: Any) -> Space:
  """One point, which sets every field to its value."""
  return Space((Point('', _joined(table, fields)),))


def product(table: Mapping[str, Iterable] | None = None, /, **fields: Any) -> Space:
  """A point for every combination of the fields' values; the last field moves fastest.

  A field with a distribution in the place of values is drawn anew for every
  combination of the others.
  """
  every = _joined(table, fields)
  drawn = {}
  listed = {}
  for name, values in every.items():
    if isinstance(values, DISTRIBUTIONS):
      drawn[name] = values
    else:
      listed[name] = _listed(name, values)
  # No field at all is one point: what is joined to it stays as it is.
  rows = itertools.product(*listed.values())
  points = [dict(builtins.zip(listed, row, strict=True)) for row in rows]
  for name, distribution in drawn.items():
    _draw_into(points, name, distribution, seed=0)
  return Space(tuple(Point('', point) for point in points))


def zip(table: Mapping[str, Iterable] | None = None, /, **fields: Any) -> Space:
  """A point for the first values of all fields, one for the second, and so on.

  Raises ConfigError where the fields have unequal numbers of values.
  """
  listed = {}
  for name, values in _joined(table, fields).items():
    listed[name] = _listed(name, values)
  counts = {name: len(values) for name, values in listed.items()}
  if len(set(counts.values())) > 1:
    said = ', '.join(f'{name} {count}' for name, count in counts.items())
    raise ConfigError(f'zip: the fields need equally many values: {said}')
  rows = builtins.zip(*listed.values(), strict=True)
  points = [dict(builtins.zip(listed, row, strict=True)) for row in rows]
  return Space(tuple(Point('', point) for point in points))


def random(
  count: int,
  table: Mapping[str, Any] | None = None,
  /,
  *,
  seed: int = 0,
  **fields: Any,
) -> Space:
  """So many points, each field drawn from its distribution or from its values.

  Every field has a random stream of its own, a function of the seed and of its name:
  more points begin with the same ones, and so does another set of fields.
  The field `seed` of a config is given in the dict: `random(8, {'seed': range(99)})`.
  """
  if not isinstance(count, int) or isinstance(count, bool) or count < 1:
    raise ConfigError(f'random: needs a number of points >= 1, got {count!r}')
  points: list[dict] = [{} for _ in range(count)]
  for name, values in _joined(table, fields).items():
    is_distribution = isinstance(values, DISTRIBUTIONS)
    distribution = values if is_distribution else Choices(_listed(name, values))
    _draw_into(points, name, distribution, seed)
  return Space(tuple(Point('', point) for point in points))


def chain(*spaces: Space) -> Space:
  """The points of all spaces, one space after the other."""
  return Space(tuple(itertools.chain.from_iterable(spaces)))


def _draw_into(points: list[dict], name: str, distribution, seed: int) -> None:
  """Sets a field of every point to a value of its own."""
  # Of a text, Python seeds by SHA-512, which is the same on every machine.
  generator = generators.Random(f'{seed} {name}')
  for point in points:
    point[name] = distribution.draw(generator)


def _joined(table: Mapping[str, Any] | None, fields: dict) -> dict[str, Any]:
  """The fields of a dict and of keywords. Raises ConfigError for one in both."""
  given = dict(table or {})
  for name in given:
    if not isinstance(name, str):
      raise ConfigError(f'the name of a field is text, as "optim.lr"; got {name!r}')
  twice = sorted(given.keys() & fields.keys())
  if twice:
    raise ConfigError(f'{twice[0]!r} is given twice')
  return {**given, **fields}


def _listed(name: str, values: Any) -> tuple:
  """The values of a field. Raises ConfigError for none, and for what is no list."""
  # A text is a list of letters, which nobody means.
  if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
    raise ConfigError(
      f'{name}: needs a list of values, got {values!r}; one value is '
      f'fixed({{{name!r}: {values!r}}})'
    )
  found = tuple(values)
  # An empty list would make the whole sweep empty and say nothing.
  if not found:
    raise ConfigError(f'{name}: has no values')
  return found


def _require_ends(low: Any, high: Any, least: float) -> None:
  """Raises ConfigError where two numbers are no ends of a range above `least`."""
  for end in (low, high):
    if isinstance(end, bool) or not isinstance(end, int | float):
      raise ConfigError(f'the end of a range is a number, got {end!r}')
  if not (least < low < high < math.inf):
    needed = 'positive and rising' if least == 0 else 'finite and rising'
    raise ConfigError(f'the ends of a range must be {needed}, got {low!r}, {high!r}')
