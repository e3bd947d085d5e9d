"""A table as data: which runs it needs, what it claims, and at which scales it can be
made.

>>> table = Table('Two methods', 'nowhere', rows=('lora', 'full'), columns=('imdb',), seeds=(0, 1),
...               run=lambda row, column, seed, scale: {'method': row, 'seed': seed}, headline='accuracy',
...               scales={'smoke': Scale(seeds=(0,), settings={'steps': 10})})
>>> table.at('smoke').seeds, table.at('smoke').settings['steps']
((0,), 10)
"""

import dataclasses
import math
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from tl_jax.config import nearest
from tl_jax.evals.statistics import Interval
from tl_jax.report.cells import AbsentCell, Cells


@dataclasses.dataclass(frozen=True)
class Scale:
  """How large a table is made: subsets of rows, columns and seeds (None: all of the
  table's), and free settings.

  `name` is filled in from the table's `scales`. Seeds may be others than the table's
  own; rows and columns may not.
  """

  rows: tuple | None = None
  columns: tuple | None = None
  seeds: tuple[int, ...] | None = None
  settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  name: str = ''


@dataclasses.dataclass(frozen=True)
class Judgement:
  """A claim against the measured cells: `verdict` is held, missed or undecided,
  `reason` says why where undecided.
  """

  text: str
  verdict: str
  interval: Interval
  bound: str
  reason: str = ''


@dataclasses.dataclass(frozen=True)
class Claim:
  """A sentence, the value it is about, and exactly one bound: `at_least`, `above`,
  `at_most` or `below`.

  value(cells) gives an Interval (such as `cells['lora', 'imdb'] - cells['full',
  'imdb']`), a number, or a LabelsSaved, whose multiplier counts. With an interval the
  claim is held when all of it satisfies the bound, else missed; it is undecided only
  where there was nothing to judge. Without ends: a number, or equal values of two or
  more seeds, are compared as they are; a single seed or no value at all is undecided.
  """

  text: str
  value: Callable[[Cells], Any]
  _: dataclasses.KW_ONLY
  at_least: float | None = None
  above: float | None = None
  at_most: float | None = None
  below: float | None = None

  def __post_init__(self):
    if len(self._bounds()) != 1:
      raise ValueError(
        f'the claim {self.text!r} needs exactly one of at_least, above, at_most and below'
      )

  def judge(self, cells: Cells) -> Judgement:
    """The verdict; a row or column that is left out at this scale makes it undecided."""
    ((name, bound),) = self._bounds().items()
    words = f'{name.replace("_", " ")} {bound:g}'
    try:
      found = self.value(cells)
    except AbsentCell as absent:
      return Judgement(self.text, 'undecided', Interval(None), words, str(absent))
    found = getattr(found, 'multiplier', found)
    if not isinstance(found, Interval):
      verdict = 'held' if self._holds(name, bound, float(found)) else 'missed'
      return Judgement(self.text, verdict, Interval(float(found)), words)
    if found.mean is None:
      return Judgement(self.text, 'undecided', found, words, 'no value was measured')
    if found.low is None:
      if found.n < 2:
        return Judgement(
          self.text, 'undecided', found, words, 'a single seed has no interval'
        )
      ends = [found.mean]
    else:
      ends = [found.low, found.high]
    held = [self._holds(name, bound, end) for end in ends]
    reason = (
      'the interval lies on both sides of the bound' if len(set(held)) == 2 else ''
    )
    return Judgement(self.text, 'held' if all(held) else 'missed', found, words, reason)

  def _bounds(self) -> dict[str, float]:
    bounds = {
      'at_least': self.at_least,
      'above': self.above,
      'at_most': self.at_most,
      'below': self.below,
    }
    return {name: bound for name, bound in bounds.items() if bound is not None}

  @staticmethod
  def _holds(name: str, bound: float, value: float) -> bool:
    return {
      'at_least': value >= bound,
      'above': value > bound,
      'at_most': value <= bound,
      'below': value < bound,
    }[name]


@dataclasses.dataclass(frozen=True)
class Table:
  """A paper's table, or one of our own.

  rows, columns: names, or numbers of labels; seeds: the runs of every cell.
  run(row, column, seed, scale, **paths) -> ConfigDict: the config of one run; paths has
  the directory of every run that `before` names. before(scale) -> dict of such runs'
  configs, made first (a pre-training run).
  execute(members): makes the runs of a row from (config, directory) each, where they
  are no runs to train.
  headline: a name in the results' metrics, shown times `factor` with `unit` and
  `digits` decimals.
  extra: further numbers of the results whose means are shown. published: (row, column)
  -> Published, in the unit shown.
  claims: judged on the cells. scales: name -> Scale. reference: the row that stands for
  no transfer; where the columns are numbers of labels, gains and labels saved are
  reported against it.
  """

  title: str
  source: str
  rows: tuple
  columns: tuple
  seeds: tuple[int, ...]
  run: Callable[..., Any]
  headline: str
  extra: tuple[str, ...] = ('trained_parameters', 'seconds')
  published: Mapping = dataclasses.field(default_factory=dict)
  claims: tuple[Claim, ...] = ()
  scales: Mapping[str, Scale] = dataclasses.field(default_factory=dict)
  before: Callable[[Scale], Mapping[str, Any]] | None = None
  execute: Callable[[list], None] | None = None
  reference: Hashable | None = None
  higher_is_better: bool = True
  factor: float = 1.0
  unit: str = ''
  digits: int = 3

  def __post_init__(self):
    for name in ('rows', 'columns', 'seeds', 'extra', 'claims'):
      object.__setattr__(self, name, tuple(getattr(self, name)))
      values = getattr(self, name)
      if name != 'claims' and len(set(values)) != len(values):
        raise ValueError(f'table {self.title!r}: {name} has a name twice: {values}')
    if not (self.rows and self.columns and self.seeds):
      raise ValueError(
        f'table {self.title!r}: rows, columns and seeds must each have at least one member'
      )
    if not (math.isfinite(self.factor) and self.factor > 0):
      raise ValueError(
        f'table {self.title!r}: factor must be above 0, not {self.factor}'
      )
    if self.reference is not None:
      _require(self.reference, self.rows, f'table {self.title!r}: reference')
    for scale_name, scale in self.scales.items():
      for name in ('rows', 'columns'):
        for value in getattr(scale, name) or ():
          _require(
            value,
            getattr(self, name),
            f'table {self.title!r}: scales[{scale_name!r}].{name}',
          )

  def at(self, scale: 'str | Scale') -> Scale:
    """The scale with its rows, columns and seeds filled in; ValueError with the nearest
    name for an unknown one.
    """
    if not isinstance(scale, Scale):
      _require(scale, self.scales, f'table {self.title!r}: scale')
      scale = dataclasses.replace(self.scales[scale], name=scale)
    chosen = {}
    for name in ('rows', 'columns', 'seeds'):
      values = getattr(scale, name)
      chosen[name] = tuple(getattr(self, name) if values is None else values)
      if not chosen[name] or len(set(chosen[name])) != len(chosen[name]):
        raise ValueError(
          f'table {self.title!r}: scale {scale.name!r} has no {name}, or one of them twice'
        )
    # The table's order, whatever the order in the scale.
    for name in ('rows', 'columns'):
      chosen[name] = tuple(
        value for value in getattr(self, name) if value in chosen[name]
      )
      for value in getattr(scale, name) or ():
        _require(value, getattr(self, name), f'table {self.title!r}: {name}')
    return dataclasses.replace(scale, **chosen)


def _require(name, known, what: str) -> None:
  if name not in known:
    raise ValueError(
      f'{what} {name!r} is unknown; nearest: {nearest(str(name), map(str, known))}'
    )
