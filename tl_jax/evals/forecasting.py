"""How a learning curve goes on: the error at more labels than there are, with how sure
that is.

>>> sizes, errors = [10, 20, 40, 80], [0.45, 0.40, 0.36, 0.33]
>>> curve = fit(sizes, errors, noise=[0.01] * 4, common=0.02)
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
FLOORS = (0.0, 0.9)
# By how much a true curve differs from any power law, as a standard deviation.
MISFIT = 0.004
LEVEL = 0.8


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

  def error_at(
    self, labels: float, *, level: float = LEVEL, tested: int = 0, seed: int = 0
  ) -> Interval:
    """The error of one training with so many labels, drawn anew.

    tested: how many examples it is then measured on; 0 for the error itself, as on all
    the texts there are.
    """
    errors = self.errors(labels)
    variance = self.training_variance * self.labels / labels
    if tested:
      variance = variance + errors * (1 - errors) / tested
    noise = np.random.default_rng(seed).normal(size=len(errors))
    drawn = np.clip(errors + noise * np.sqrt(variance), 0.0, 1.0)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(
      float(errors.mean()), float(low), float(high), len(errors), level=level
    )

  def labels_for(self, error: float, *, level: float = LEVEL) -> Interval:
    """How many labels bring the mean error down to `error`.

    The mean is the median of the curves. An end is infinite where enough curves never
    get there.
    """
    floor = self.floor * self.error
    reachable = error > floor
    # Where a curve is there with its first label, one is enough.
    height = np.where(reachable, error - floor, np.nan)
    ratio = (self.error - floor) / height
    with np.errstate(over='ignore'):
      needed = self.labels * ratio ** (1 / self.exponent)
    needed = np.where(reachable, np.maximum(needed, 1.0), np.inf)
    shares = [0.5, (1 - level) / 2, (1 + level) / 2]
    # No interpolation, which is no number between infinite ones.
    found = np.quantile(needed, shares, method='inverted_cdf').tolist()
    return Interval(*found, n=len(needed), level=level)


def fit(
  labels: Sequence[int],
  errors: Sequence[float],
  *,
  noise: Sequence[float],
  common: float,
  training: float = 0.0,
  seed: int = 0,
) -> Curve:
  """The curves that explain errors measured at several numbers of labels.

  noise: the standard deviation of each error for itself. common: that of the error that
  all points share, because they were measured on the same few examples. training: by
  how much the error at the most labels differs from one set of labels to another.
  Raises ValueError for fewer than two points, and for what is no error rate.
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
  # Few examples are wrong alike at every size: that error no number of points lowers.
  own = np.square(np.asarray(noise, np.float64)) + MISFIT**2
  covariance = np.diag(own) + common**2
  error, deviation, evidence = _explain(shapes, measured, covariance)
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
