"""How a learning curve goes on: the error at more labels than there are, with how sure
that is.

>>> sizes, errors = [10, 20, 40, 80], [0.45, 0.40, 0.36, 0.33]
>>> curve = fit(sizes, errors, covariance=0.02**2 + 0.01**2 * np.eye(4))
>>> found = curve.error_at(320)
>>> 0.2 < found.low < found.mean < found.high < 0.33
True

The error of a learner falls with the number n of labels as a power law towards a floor,

  error(n) = floor + (error(N) - floor) (n / N) ** -b,

in most of what has been measured (Hestness et al. 2017; Viering and Loog 2021). From a
few points measured on few labels its three parameters cannot be told apart. So none is
chosen: many shapes are drawn, each weighs as much as it explains the points, and what
all of them say together is the forecast. Its interval holds what few labels leave open:
the shape, the error of the points, and the examples that they were measured on.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from tl_jax.evals.statistics import Interval

# Shapes that are drawn, and what is kept of them once they are weighed.
SHAPES = 20_000
KEPT = 4_000
# From how flat to how steep a curve may fall: the exponents of the prior.
EXPONENTS = (0.1, 1.0)
# The share of the last error that no number of labels takes away, likewise.
FLOORS = (0.0, 0.6)
# By how much a true curve differs from any power law, as a standard deviation.
MISFIT = 0.015
LEVEL = 0.8
# Up to how many times the labels at hand it is looked for a target, and at how many
# numbers, evenly apart as logarithms: each is 5 % above the one before.
FARTHEST = 1e4
PLACES = 300


@dataclasses.dataclass(frozen=True)
class Curve:
  """A distribution of learning curves.

  labels: the number N of labels that the curves are anchored at. error, floor,
  exponent: of each curve (curves,); the floor is a share of the error at N.
  training_variance: of the error at N from one set of N labels to another; it falls as
  1 / n.
  """

  labels: float
  error: np.ndarray
  floor: np.ndarray
  exponent: np.ndarray
  training_variance: float

  def errors(self, labels: float) -> np.ndarray:
    """The mean error (curves,) of training with so many labels, under each curve."""
    falling = (labels / self.labels) ** -self.exponent
    error = self.error * (self.floor + (1 - self.floor) * falling)
    return np.clip(error, 0.0, 1.0)

  def drawn(self, labels: float, *, tested: int = 0, seed: int = 0) -> np.ndarray:
    """The error (curves,) of one training with so many labels, drawn anew.

    tested: how many examples it is then measured on; 0 for the error itself, as on all
    the texts there are.
    """
    errors = self.errors(labels)
    variance = self.training_variance * self.labels / labels
    # As the points do, what comes may lie beside any power law.
    variance = variance + MISFIT**2
    if tested:
      variance = variance + errors * (1 - errors) / tested
    generator = np.random.default_rng(seed)
    noise = generator.normal(scale=np.sqrt(variance), size=len(errors))
    return np.clip(errors + noise, 0.0, 1.0)

  def error_at(
    self, labels: float, *, level: float = LEVEL, tested: int = 0, seed: int = 0
  ) -> Interval:
    """The mean error with so many labels, with the interval of one training."""
    mean = float(self.errors(labels).mean())
    drawn = self.drawn(labels, tested=tested, seed=seed)
    low, high = np.quantile(drawn, _ends(level)).tolist()
    return Interval(mean, low, high, len(drawn), level=level)

  def labels_for(
    self, error: float, *, level: float = LEVEL, seed: int = 0
  ) -> Interval:
    """How many labels bring the error of one training down to `error`.

    With the mean it is as likely as not, with the ends as likely as the level says: of
    80 %, once in ten at the lower one and nine times in ten at the upper one. So the
    answer is what `error_at` says, read the other way. An end is infinite where more
    labels than `FARTHEST` times those at hand are too few.
    """
    places = np.geomspace(1, FARTHEST * self.labels, PLACES)
    shares = [0.5, *_ends(level)]
    # (places, shares): errors that are undercut with these chances.
    reached = []
    for place in places:
      drawn = self.drawn(place, seed=seed)
      reached.append(np.quantile(drawn, shares))
    found = []
    for column in np.transpose(reached):
      # By luck a handful may be enough; what is asked is from where on they are.
      missed = np.flatnonzero(column > error)
      first = 0
      if len(missed):
        first = int(missed[-1]) + 1
      enough = math.inf
      if first < PLACES:
        enough = float(places[first])
      found.append(enough)
    return Interval(*found, n=len(self.error), level=level)


def _ends(level: float) -> list[float]:
  """The shares of a distribution that are below the ends of an interval."""
  return [(1 - level) / 2, (1 + level) / 2]


def fit(
  labels: Sequence[int],
  errors: Sequence[float],
  *,
  covariance: np.ndarray,
  training: float = 0.0,
  seed: int = 0,
) -> Curve:
  """The curves that explain errors measured at several numbers of labels.

  covariance: (points, points) of the errors. They go together, as they were measured on
  the same few examples and learned from parts of the same labels: what all of them share
  no number of points lowers. training: by how much the error at the most labels differs
  from one set of labels to another. Raises ValueError for fewer than two points, and for
  what is no error rate.
  """
  sizes = np.asarray(labels, np.float64)
  measured = np.asarray(errors, np.float64)
  if len(sizes) < 2 or not (sizes > 0).all():
    raise ValueError('forecast: needs errors at two or more numbers of labels')
  if not ((measured >= 0) & (measured <= 1)).all():
    raise ValueError('forecast: an error rate is a number from 0 to 1')
  anchor = float(sizes.max())
  generator = np.random.default_rng(seed)
  exponent = generator.uniform(*EXPONENTS, SHAPES)
  floor = generator.uniform(*FLOORS, SHAPES)
  # (shapes, points): the error at each size, where that at the anchor is 1.
  falling = (sizes / anchor) ** -exponent[:, None]
  shapes = floor[:, None] + (1 - floor[:, None]) * falling
  noise = covariance + MISFIT**2 * np.eye(len(sizes))
  error, deviation, evidence = _explain(shapes, measured, noise)
  weights = np.exp(evidence - evidence.max())
  kept = generator.choice(SHAPES, KEPT, p=weights / weights.sum())
  drawn = generator.normal(error[kept], deviation[kept])
  # An error is above 0, however few mistakes were seen.
  drawn = np.clip(drawn, 1e-4, 1.0)
  return Curve(anchor, drawn, floor[kept], exponent[kept], training**2)


def _explain(
  shapes: np.ndarray, measured: np.ndarray, covariance: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """(the error at the anchor, its deviation, the log evidence) of each shape.

  The error is linear in that at the anchor, whose prior is flat: so all three have a
  closed form (Bishop 2006, section 3.3).
  """
  precision = np.linalg.inv(covariance)
  projected = shapes @ precision
  information = np.einsum('sp,sp->s', projected, shapes)
  error = projected @ measured / information
  residual = measured - error[:, None] * shapes
  distance = np.einsum('sp,pq,sq->s', residual, precision, residual)
  evidence = -0.5 * distance - 0.5 * np.log(information)
  return error, 1 / np.sqrt(information), evidence


def rounded(labels: float, most: float = math.inf) -> str:
  """A number of labels with two digits, as no forecast knows more; > most beyond it.

  >>> rounded(1234.0), rounded(87.0), rounded(1e9, 2000), rounded(math.inf)
  ('1,200', '87', '> 2,000', 'more than any number')
  """
  if labels > most:
    return f'> {rounded(most)}'
  if math.isinf(labels):
    return 'more than any number'
  if labels < 100:
    return f'{labels:.0f}'
  step = 10 ** (math.floor(math.log10(labels)) - 1)
  return f'{round(labels / step) * step:,.0f}'
