"""What a run was worth on the validation split so far, and what follows from it.

>>> course = Course('accuracy', patience=2)
>>> for step, value in ((10, 0.5), (20, 0.7), (30, 0.6), (40, 0.7)):
...   course.add(step, dict(accuracy=value))
>>> course.best, course.reason
(20, 'accuracy on validation was not better than at step 20 in 2 evaluations')
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tl_jax.train.settings import Settings, Transfer

# The others are better the higher they are.
LOWER_IS_BETTER = (
  'loss',
  'perplexity',
  'mean_squared_error',
  'brier',
  'calibration_error_15',
  'uniformity',
)


class Watch(NamedTuple):
  """What is looked at in the midst of a run.

  split: what of. metric: the name of the value that says whether a state is better.
  measure(state) -> metrics.
  """

  split: str
  metric: str
  measure: Callable[[Any], dict[str, float]]


class Course:
  """The values of one metric on the validation split, from the first step on.

  Every checkpoint has those up to its step, so that a run which goes on from it knows
  what one without a pause knows.

  Args:
    metric: the name of the metric, '' where nothing is watched.
    patience: after so many values in a row that are not better than the best before
      them the run is over; 0: it never is.
    keeps_best: is the model that of the best step?
  """

  def __init__(self, metric: str = '', patience: int = 0, keeps_best: bool = False):
    self.metric = metric
    self.keeps_best = keeps_best
    self._patience = patience
    self._points: list[tuple[int, float]] = []
    self._ended = ''

  @classmethod
  def of(cls, settings: Settings, metric: str) -> 'Course':
    """The course of a run at its start; of one that is not watched, an empty one."""
    if not isinstance(settings, Transfer) or not settings.eval.every:
      return cls()
    return cls(metric, settings.eval.patience, settings.eval.keep == 'best')

  def add(self, step: int, metrics: Mapping[str, float]) -> None:
    """Takes the metrics of a step into account."""
    if self.metric:
      self._points.append((int(step), float(metrics[self.metric])))

  def end(self, reason: str) -> None:
    """Says that the run is over, whatever its own values are."""
    self._ended = reason

  def go_on(self, saved: Mapping | None) -> None:
    """Takes over what a checkpoint says of the steps up to its own."""
    # A run that is not watched any more has nothing to end it.
    if self.metric and saved:
      self._points = [(int(step), float(value)) for step, value in saved['points']]
      self._ended = str(saved.get('ended', ''))

  def to_json(self) -> dict:
    """What a checkpoint says: the course so far, and whose state is kept as the best."""
    if not self.metric:
      return {}
    points = [list(point) for point in self._points]
    course = dict(metric=self.metric, points=points)
    if self._ended:
      course['ended'] = self._ended
    said = dict(course=course)
    return said | (dict(best=self.best) if self.keeps_best else {})

  def value_at(self, step: int) -> float | None:
    """The value of a step; None where it was not looked at."""
    return dict(self._points).get(step)

  @property
  def best(self) -> int | None:
    """The first step with the best value; None before there is any."""
    if not self._points:
      return None
    sign = -1 if self.metric in LOWER_IS_BETTER else 1
    # The first of equals: what came later was no improvement.
    return max(self._points, key=lambda point: sign * point[1])[0]

  @property
  def pinned(self) -> tuple[int, ...]:
    """The steps whose checkpoints stay, however many are kept."""
    return (self.best,) if self.keeps_best and self._points else ()

  @property
  def has_new_best(self) -> bool:
    """Was the last value the best?"""
    return bool(self._points) and self.best == self._points[-1][0]

  @property
  def reason(self) -> str:
    """Why the run is over before its last step; '' where it is not."""
    if self._ended:
      return self._ended
    best = self.best
    # Counted from the points, not kept: a checkpoint has nothing else to agree with.
    since = sum(step > best for step, _ in self._points) if self._points else 0
    if not self._patience or since < self._patience:
      return ''
    many = f'{since} evaluation{"s" * (since != 1)}'
    return f'{self.metric} on validation was not better than at step {best} in {many}'
