"""Successive halving: at some steps only the best members of a cohort go on (Jamieson
and Talwalkar 2016, algorithm 1).

>>> Halving(steps=(10, 20), keep=0.5).count(5)
3
>>> standings(dict(a=0.5, b=0.9, c=0.7), lower_is_better=False)
['b', 'c', 'a']
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Hashable, Mapping

from tl_jax.config import ConfigError, Count, Fraction
from tl_jax.train.settings import Transfer


@dataclasses.dataclass(frozen=True)
class Halving:
  """After which steps members are compared, and the share of them that goes on.

  They are compared by the headline of their task on validation. Errors: ValueError for
  steps that do not ascend, and for a share of 0.
  """

  steps: tuple[Count, ...]
  keep: Fraction = 0.5

  def __post_init__(self):
    if list(self.steps) != sorted(set(self.steps)):
      raise ValueError(f'halving.steps: {self.steps} do not ascend')
    if not self.keep:
      raise ValueError('halving.keep: 0.0, but one member goes on at least')

  def count(self, members: int) -> int:
    """How many of so many members go on."""
    return max(1, math.ceil(self.keep * members))

  def require(self, settings: Transfer) -> None:
    """Raises ConfigError for a run that is not evaluated at these steps."""
    every = settings.eval.every
    if not every:
      raise ConfigError(
        'config.eval.every: 0, but halving compares members by their validation; give '
        f'{self.steps[0]}'
      )
    for step in self.steps:
      if step % every:
        nearest = max(1, round(step / every)) * every
        raise ConfigError(
          f'halving.steps: {step}, but members are evaluated every {every} steps '
          f'(config.eval.every); nearest: {nearest}'
        )


def standings(
  values: Mapping[Hashable, float], lower_is_better: bool
) -> list[Hashable]:
  """The members from the best to the worst; of equals, the first comes first."""
  sign = 1 if lower_is_better else -1
  # One whose value is no number is behind all others.
  ranks = {
    member: math.inf if math.isnan(value) else sign * value
    for member, value in values.items()
  }
  return sorted(values, key=ranks.__getitem__)


def value_on_disk(folder: pathlib.Path, name: str, step: int) -> float | None:
  """What a run's evaluations say of a step; None where it had none."""
  path = folder / 'evaluations.jsonl'
  if not path.is_file():
    return None
  for line in path.read_text().splitlines():
    row = json.loads(line)
    # The first of them: one that went on has no step twice.
    if row.get('step') == step:
      return row.get(name)
  return None


def words(step: int, place: int, count: int, kept: int, what: str, value: float) -> str:
  """Why a member ended at a step, the `place`-th of `count`."""
  went = 'went' if kept != 1 else 'goes'
  return (
    f'halving at step {step}: place {place} of {count} by {what} on validation '
    f'({value:.4f}); {kept} {went} on'
  )
