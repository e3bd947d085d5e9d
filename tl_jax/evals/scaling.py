"""Scaling laws: the loss of a run from its parameters and tokens, fitted to small runs.

>>> law = Law(1.69, 406.4, 410.7, 0.34, 0.28)
>>> round(law.loss(70e9, 1.4e12), 3)
1.937
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tl_jax.evals.statistics import Interval

# Chinchilla's exponents (Hoffmann et al. 2022, approach 3), and how often tokens may be
# repeated until more of it is worth little (Muennighoff et al. 2023). Fits begin there.
EXPONENTS = 0.34, 0.28
REPEATS = 15.387756
# A relative error that is as bad as a number e times too large: so weak a pull only
# decides where the runs say nothing.
_PULL = 0.002
DRAWS = 200
COVERAGE = 0.8
# In how many quantiles an error is spread.
SPREAD = 40
# A law is fitted to what was known at these shares of the longest run, and asked for
# the rest. Up to this factor two lengths are one.
CUTS = (0.5, 0.25)
NEARLY = 1.1
# By what share a loss rises above its best that is not noise; how many points tell an
# exponent, and by what factor it grows that is not noise.
RISE = 0.01
FEWEST = 3
STEEPER = 1.1


class Point(NamedTuple):
  """A loss after so many tokens, of which `unique` were different ones, of a run."""

  run: str
  parameters: float
  tokens: float
  unique: float
  loss: float


@dataclasses.dataclass(frozen=True)
class Law:
  """L = E + A / N^alpha + B / D^beta: Chinchilla's, or the data-constrained one.

  With `repeats`, D is what tokens that are partly repeats are worth. With `excess`, too,
  N is what parameters beyond those for the unique tokens are worth (Muennighoff et al.
  2023, equations 5 and 6). Without, repeats are worth as much as new tokens.
  """

  floor: float
  a: float
  b: float
  alpha: float
  beta: float
  repeats: float | None = None
  excess: float | None = None

  def loss(self, parameters: float, tokens: float, unique: float = math.inf) -> float:
    """The loss of a model of so many parameters after so many tokens."""
    size, data = parameters, tokens
    unique = min(unique, tokens)
    if self.repeats is not None:
      data = worth(tokens, unique, self.repeats)
    if self.excess is not None:
      size = worth(size, self._enough(size, unique), self.excess)
    return self.floor + self.a / size**self.alpha + self.b / data**self.beta

  def _enough(self, parameters: float, unique: float) -> float:
    """The parameters that are best for the unique tokens, at most those there are."""
    ratio = self.alpha * self.a / (self.beta * self.b)
    scale = ratio ** (1 / (self.alpha + self.beta))
    return min(parameters, (unique * scale) ** (self.beta / self.alpha) * scale)


def worth(count: float, unique: float, most: float) -> float:
  """What `count` is worth of which only `unique` are not repeats: `unique` times 1 +
  `most` at the most.

  >>> worth(8.0, 8.0, 15.0), round(worth(1e9, 8.0, 15.0))
  (8.0, 128)
  """
  again = count / unique - 1
  return unique + unique * most * -math.expm1(-again / most)


def fit(points: Sequence[Point], *, constrained: bool, start: Law | None = None) -> Law:
  """The law that is nearest to the points, in relative error.

  `constrained`: the data-constrained form, else Chinchilla's. It has parameters as they
  are: small runs say little of too many. At given exponents the
  law is linear, so E, A and B are the best ones >= 0; the exponents are searched for,
  from those of `start`. Where all points have one number of parameters, A is 0: then
  the law says nothing about others. Raises ValueError for fewer than three points.
  """
  if len(points) < 3:
    raise ValueError(f'{len(points)} losses; a law is fitted to 3 or more')
  # Inside, as scipy is slow to import.
  from scipy.optimize import minimize

  published = [*EXPONENTS, REPEATS][: 3 if constrained else 2]
  first = list(published)
  if start is not None:
    first = [start.alpha, start.beta, start.repeats][: len(published)]

  def distance(logarithms) -> float:
    _, error = _linear(points, np.exp(logarithms))
    # The more runs there are, the less it counts.
    pulled = np.mean(np.square(logarithms - np.log(published)))
    return 1e6 * (error + _PULL**2 * pulled / len(points))

  how = dict(method='Nelder-Mead', options=dict(maxiter=150, xatol=1e-3, fatol=1e-6))
  best = minimize(distance, np.log(first), **how)
  law, _ = _linear(points, np.exp(best.x))
  return law


def _linear(points: Sequence[Point], chosen: Sequence[float]) -> tuple[Law, float]:
  """(the best law of these exponents, its mean squared relative error).

  chosen: alpha, beta and, of the data-constrained form, the worth of repeats.
  """
  from scipy.optimize import nnls

  alpha, beta, *repeats = map(float, chosen)
  rows = []
  for point in points:
    data = point.tokens
    if repeats:
      data = worth(data, min(point.unique, data), repeats[0])
    rows.append([1.0, point.parameters**-alpha, data**-beta])
  terms = np.array(rows)
  # Of one size its term cannot be told from the floor.
  if _sizes(points) == 1:
    terms[:, 1] = 0.0
  # A column of tiny numbers would be lost beside ones.
  scales = np.maximum(terms.max(0), 1e-300)
  losses = np.array([point.loss for point in points])
  # Divided by the losses, so that all errors are relative.
  relative = terms / scales / losses[:, None]
  found, norm = nnls(relative, np.ones(len(points)))
  floor, a, b = map(float, found / scales)
  law = Law(floor, a, b, alpha, beta, *repeats)
  return law, norm**2 / len(points)


@dataclasses.dataclass(frozen=True)
class Forecast:
  """A law with what is known of its errors.

  `laws` are fitted to points drawn again. `errors` are the logarithms of measured over
  predicted last losses, of runs that were held back one by one, or of the points where
  there are too few runs. `bends` are those of losses that are beyond what a law was
  fitted to, each for a run e times as long. `most` has the most parameters, tokens and
  passes over them of any point.
  """

  law: Law
  laws: tuple[Law, ...]
  errors: tuple[float, ...]
  held_back: bool
  bends: tuple[float, ...] = ()
  most: tuple[float, ...] = (math.inf,) * 3

  @property
  def error(self) -> float:
    """The mean relative error of what was held back."""
    return float(np.mean(np.abs(np.expm1(self.errors))))

  def at(self, parameters: float, tokens: float, unique: float = math.inf) -> Interval:
    """The loss with its interval, of a run that is made once."""
    losses = [law.loss(parameters, tokens, unique) for law in self.laws]
    # A wrong exponent is worse the further it is carried, in the logarithm.
    asked = _extents(parameters, tokens, unique)
    further = np.divide(asked, self.most).max()
    distance = math.log(max(1.0, further))
    shares = (np.arange(SPREAD) + 0.5) / SPREAD
    relative = _spread_of(self.errors, shares)
    bent = distance * _spread_of(self.bends, shares)
    # Every law with every error of a run, and with every one of the distance.
    on_top = np.add.outer(relative, bent)
    factors = np.exp(on_top).ravel()
    spread = np.outer(losses, factors)
    tails = 50 * (1 - COVERAGE)
    low, high = np.percentile(spread, [tails, 100 - tails])
    mean = self.law.loss(parameters, tokens, unique)
    ends = float(min(low, mean)), float(max(high, mean))
    return Interval(mean, *ends, level=COVERAGE)


def _spread_of(errors: Sequence[float], shares: np.ndarray) -> np.ndarray:
  """The quantiles of an error that is yet to come, from those that were seen.

  They are of a normal distribution around 0. What a few errors leave open of how wide it
  is makes it Student's, with as many degrees of freedom.
  """
  from scipy.stats import t

  if not errors:
    return np.zeros(1)
  squares = np.square(errors)
  size = math.sqrt(squares.mean())
  return size * t.ppf(shares, len(errors))


def forecast(points: Sequence[Point], *, constrained: bool, seed: int = 0) -> Forecast:
  """A law fitted to the points of all runs, and its errors."""
  law = fit(points, constrained=constrained)
  draw = np.random.default_rng(seed)
  laws = []
  for _ in range(DRAWS):
    places = draw.integers(len(points), size=len(points))
    again = [points[place] for place in places]
    # Drawn points of one size alone would say nothing about others.
    if _sizes(again) >= min(2, _sizes(points)):
      laws.append(fit(again, constrained=constrained, start=law))

  def refit(others: Sequence[Point]) -> Law:
    return fit(others, constrained=constrained, start=law)

  errors = list(_errors(points, refit))
  held_back = len(errors) > 1
  if not held_back:
    errors = [math.log(point.loss / _of_point(law, point)) for point in points]
  bends = tuple(_bends(points, refit))
  extents = []
  for point in points:
    extents.append(_extents(point.parameters, point.tokens, point.unique))
  largest = np.max(extents, axis=0)
  most = tuple(largest.tolist())
  return Forecast(law, tuple(laws or [law]), tuple(errors), held_back, bends, most)


def _extents(
  parameters: float, tokens: float, unique: float
) -> tuple[float, float, float]:
  """The parameters, tokens and passes of a run, by which it is larger than others."""
  passes = tokens / min(unique, tokens)
  return parameters, tokens, passes


def _sizes(points: Sequence[Point]) -> int:
  """How many numbers of parameters the points are of."""
  return len({point.parameters for point in points})


def _of_point(law: Law, point: Point) -> float:
  """What a law says of a point."""
  return law.loss(point.parameters, point.tokens, point.unique)


def _errors(
  points: Sequence[Point], refit: Callable[[Sequence[Point]], Law]
) -> Iterator[float]:
  """The logarithm of measured over predicted last loss, of every run in its turn.

  A run without which too little is left to fit is not held back.
  """
  for run in dict.fromkeys(point.run for point in points):
    others = [point for point in points if point.run != run]
    own = [point for point in points if point.run == run]
    if len(others) < 3 or _sizes(others) < min(2, _sizes(points)):
      continue
    last = max(own, key=lambda point: point.tokens)
    # Of a run that the law has not seen, as whoever asks has not.
    predicted = _of_point(refit(others), last)
    yield math.log(last.loss / predicted)


def _bends(
  points: Sequence[Point], refit: Callable[[Sequence[Point]], Law]
) -> Iterator[float]:
  """The logarithm of measured over predicted loss, for a run e times as long as those
  that a law was fitted to: of the last loss of every run that is longer.

  The law is fitted to what was known at a half, and at a quarter, of the tokens of the
  longest run.
  """
  for share in CUTS:
    known = _known_at(share, points)
    if not known:
      continue
    law = refit(known)
    reached = max(point.tokens for point in known)
    for last in _last_points(points):
      further = last.tokens / reached
      if further > NEARLY:
        predicted = _of_point(law, last)
        yield math.log(last.loss / predicted) / math.log(further)


def _known_at(share: float, points: Sequence[Point]) -> list[Point]:
  """The points up to this share of the tokens of the longest run; [] where these are too
  few for a law of all the sizes.
  """
  most = max(point.tokens for point in points)
  # Lengths that were meant to be equal differ by a row or two.
  known = [point for point in points if point.tokens <= NEARLY * share * most]
  if len(known) < 3 or _sizes(known) < _sizes(points):
    return []
  lengths = [point.tokens for point in known]
  # Of one length no exponent is told.
  return known if max(lengths) > NEARLY * min(lengths) else []


def _last_points(points: Sequence[Point]) -> list[Point]:
  """The last point of every run."""
  found: dict[str, Point] = {}
  for point in sorted(points, key=lambda point: point.tokens):
    found[point.run] = point
  return list(found.values())


class Doubt(NamedTuple):
  """A run whose losses no law of these describes, and why."""

  run: str
  reason: str


def doubts(points: Sequence[Point]) -> list[Doubt]:
  """The runs that are no power law of their tokens, as far as their points tell.

  The exponent of a law, between two points of a run, never grows: where it does, the
  model is still on its way from one way to predict to another. And a loss that rises is
  of a model that knows its texts by heart.
  """
  found = []
  for run in dict.fromkeys(point.run for point in points):
    own = [point for point in points if point.run == run]
    own.sort(key=lambda point: point.tokens)
    best = min(point.loss for point in own)
    if own[-1].loss > (1 + RISE) * best:
      found.append(Doubt(run, f'its loss rose from {best:.3f} to {own[-1].loss:.3f}'))
    elif len(own) >= 2 * FEWEST and _grows(own):
      found.append(Doubt(run, 'its loss falls faster and faster'))
  return found


def _grows(own: Sequence[Point]) -> bool:
  """Whether the last part of a run falls faster, for its length, than one before."""
  # Of a long run three parts: what comes before a plateau would hide it.
  parts = min(3, len(own) // FEWEST)
  ends = [len(own) * part // parts for part in range(parts + 1)]
  exponents = []
  for start, end in itertools.pairwise(ends):
    exponents.append(_exponent(own[start:end]))
  return exponents[-1] > STEEPER * min(exponents[:-1])


def _exponent(part: Sequence[Point]) -> float:
  """That of the power of the tokens by which a loss falls."""
  tokens = np.log([point.tokens for point in part])
  losses = np.log([point.loss for point in part])
  return -float(np.polyfit(tokens, losses, 1)[0])
