"""A table as data: which runs it needs, what it claims, and at which scales it can be
made.

>>> table = Table(
...   title='Two methods',
...   source='nowhere',
...   rows=('lora', 'full'),
...   columns=('imdb',),
...   seeds=(0, 1),
...   run=lambda row, column, seed, scale: {'method': row, 'seed': seed},
...   headline='accuracy',
...   scales={'smoke': Scale(seeds=(0,), settings={'steps': 10})},
... )
>>> table.at('smoke').seeds, table.at('smoke').settings['steps']
((0,), 10)
"""

import dataclasses
import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

from tl_jax.config import nearest
from tl_jax.evals.statistics import Interval
from tl_jax.report.cells import AbsentCell, Cells, metric_of


@dataclasses.dataclass(frozen=True)
class Scale:
  """How large a table is made.

  rows, columns: some of the table's; None for all.
  seeds: None for those of the table; they may be others.
  settings: what the table's `run` and the steps of its `before` read.
  name: filled in from the table's `scales`.
  """

  rows: tuple | None = None
  columns: tuple | None = None
  seeds: tuple[int, ...] | None = None
  settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  name: str = ''


@dataclasses.dataclass(frozen=True)
class Judgement:
  """What became of a claim on the measured cells.

  verdict: 'held', 'missed' or 'undecided'. interval: the measured value. bound: what was
  claimed of it, in words. reason: why the claim is undecided, or missed by one end of
  the interval only.
  """

  text: str
  verdict: str
  interval: Interval
  bound: str
  reason: str = ''


@dataclasses.dataclass(frozen=True)
class Claim:
  """A sentence, the value it is about, and exactly one bound.

  The bound is `at_least`, `above`, `at_most` or `below`. value(cells) gives an Interval,
  such as `cells['lora', 'imdb'] - cells['full', 'imdb']`; or a number; or a LabelsSaved,
  whose multiplier counts.

  A claim about an interval is held when all of it satisfies the bound, else missed. A
  number is compared as it is. So is the mean of an Interval without ends where two or
  more seeds had equal values. With a single seed, or no value at all, there is nothing
  to judge: the claim is undecided.
  """

  text: str
  value: Callable[[Cells], Any]
  # By name only, or a number would not tell which bound it is.
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
    """The verdict; undecided where a row or column is left out at this scale."""
    ((name, bound),) = self._bounds().items()
    words = f'{name.replace("_", " ")} {bound:g}'
    try:
      found = self.value(cells)
    except AbsentCell as absent:
      return Judgement(self.text, 'undecided', Interval(None), words, str(absent))
    # Labels saved are judged by how many times as many they are.
    found = getattr(found, 'multiplier', found)
    if isinstance(found, Interval):
      verdict, reason = self._verdict(found)
      return Judgement(self.text, verdict, found, words, reason)
    value = float(found)
    verdict = 'held' if self._holds(value) else 'missed'
    return Judgement(self.text, verdict, Interval(value), words)

  def _verdict(self, found: Interval) -> tuple[str, str]:
    """(verdict, reason) of a claim about an interval."""
    if found.mean is None:
      return 'undecided', 'no value was measured'
    if found.low is None and found.n < 2:
      return 'undecided', 'a single seed has no interval'
    if found.low is None:
      # Equal values have no interval; they still say where they lie.
      verdict = 'held' if self._holds(found.mean) else 'missed'
      return verdict, ''
    # A bound has no hole, so where both ends hold, all between them holds.
    held = [self._holds(found.low), self._holds(found.high)]
    if all(held):
      return 'held', ''
    if any(held):
      return 'missed', 'the interval lies on both sides of the bound'
    return 'missed', ''

  def _bounds(self) -> dict[str, float]:
    """The bounds that are given, by name."""
    bounds = {
      'at_least': self.at_least,
      'above': self.above,
      'at_most': self.at_most,
      'below': self.below,
    }
    return {name: bound for name, bound in bounds.items() if bound is not None}

  def _holds(self, value: float) -> bool:
    """Does a value satisfy the bound?"""
    if self.at_least is not None:
      return value >= self.at_least
    if self.above is not None:
      return value > self.above
    if self.at_most is not None:
      return value <= self.at_most
    return value < self.below


@dataclasses.dataclass(frozen=True)
class Table:
  """A paper's table, or one of our own.

  title, source: what it is called and which paper it is after.
  rows, columns: names, or numbers of labels.
  seeds: those of the runs of every cell.
  run: run(row, column, seed, scale, **paths) gives the config of one run. `paths` has
    the directory of every step of `before`, by name. Columns of a row that get equal
    configs are several numbers of one run, which is made once and has the name of the
    first of them.
  headline: a name in the results' metrics, for all columns or by column.
  extra: further numbers of the results, whose means are shown.
  published: (row, column) -> Published, in the unit shown.
  claims: what is judged on the cells.
  scales: name -> Scale.
  before: name -> step, in the order in which the steps are made before all rows, such as
    pre-training and then adaptation. step(seed, scale, **paths) gives the config of a
    run. `paths` has the directories of the steps before it. Seeds that get equal
    configs share one run; a config that uses its seed is a run of its own for every
    seed, and so is all that starts from it. A step whose directory no config names is
    not made.
  execute: execute(members) makes the runs of a row from pairs (config, directory),
    where they are no runs to train.
  reference: the row that stands for no transfer. Where the columns are numbers of
    labels, gains and labels saved are reported against it.
  factor, unit, digits: the headline is shown times `factor`, with so many decimals.
  """

  title: str
  source: str
  rows: tuple
  columns: tuple
  seeds: tuple[int, ...]
  run: Callable[..., Any]
  headline: str | Mapping[Hashable, str]
  extra: tuple[str, ...] = ('trained_parameters', 'seconds')
  published: Mapping = dataclasses.field(default_factory=dict)
  claims: tuple[Claim, ...] = ()
  scales: Mapping[str, Scale] = dataclasses.field(default_factory=dict)
  before: Mapping[str, Callable[..., Any]] = dataclasses.field(default_factory=dict)
  execute: Callable[[list], None] | None = None
  reference: Hashable | None = None
  higher_is_better: bool = True
  factor: float = 1.0
  unit: str = ''
  digits: int = 3

  def __post_init__(self):
    self._hold_tuples()
    if not (self.rows and self.columns and self.seeds):
      raise ValueError(
        f'{self._name}: rows, columns and seeds must each have at least one member'
      )
    # A factor below 0 would make lower values better.
    if not (math.isfinite(self.factor) and self.factor > 0):
      raise ValueError(f'{self._name}: factor must be above 0, not {self.factor}')
    if self.reference is not None:
      _require(self.reference, self.rows, f'{self._name}: reference')
    self._check_headline()
    self._check_before()
    for name, scale in self.scales.items():
      where = f'{self._name}: scales[{name!r}]'
      _require_all(scale.rows, self.rows, f'{where}.rows')
      _require_all(scale.columns, self.columns, f'{where}.columns')

  @property
  def _name(self) -> str:
    return f'table {self.title!r}'

  def _check_headline(self) -> None:
    """A headline by column names every column, and nothing else."""
    if isinstance(self.headline, str):
      return
    if not isinstance(self.headline, Mapping):
      raise ValueError(
        f'{self._name}: headline must be a metric or a dict from columns to metrics'
      )
    _require_all(self.headline, self.columns, f'{self._name}: headline')
    for column in self.columns:
      if column not in self.headline:
        raise ValueError(f'{self._name}: headline has no metric for {column!r}')

  def _check_before(self) -> None:
    """The steps are functions, whose names `run` can take beside its own arguments."""
    if not isinstance(self.before, Mapping):
      raise ValueError(
        f'{self._name}: before must be a dict from names to functions of (seed, scale)'
      )
    for name in ('row', 'column', 'seed', 'scale'):
      if name in self.before:
        raise ValueError(
          f'{self._name}: before has a step {name!r}, which is an argument of run; '
          'give it another name'
        )

  def metric(self, column: Hashable) -> str:
    """The name in the results' metrics that a column shows."""
    return metric_of(self.headline, column)

  def _hold_tuples(self) -> None:
    """Turns what was given as a list or a range into tuples, each with distinct members."""
    for name in ('rows', 'columns', 'seeds', 'extra', 'claims'):
      values = tuple(getattr(self, name))
      # A frozen dataclass allows no plain assignment, even while it is made.
      object.__setattr__(self, name, values)
      # Two claims may be equal, and a claim need not be hashable.
      if name != 'claims' and len(set(values)) != len(values):
        raise ValueError(f'{self._name}: {name} has a name twice: {values}')

  def at(self, scale: 'str | Scale') -> Scale:
    """The scale with its rows, columns and seeds filled in.

    Raises ValueError for an unknown name, with those that there are.
    """
    if not isinstance(scale, Scale):
      self._require_scale(scale)
      scale = dataclasses.replace(self.scales[scale], name=scale)
    rows = self._chosen(scale, 'rows')
    columns = self._chosen(scale, 'columns')
    seeds = self._chosen(scale, 'seeds')
    _require_all(rows, self.rows, f'{self._name}: rows')
    _require_all(columns, self.columns, f'{self._name}: columns')
    # The table's order, whatever the order in the scale.
    return dataclasses.replace(
      scale,
      rows=tuple(row for row in self.rows if row in rows),
      columns=tuple(column for column in self.columns if column in columns),
      seeds=seeds,
    )

  def _require_scale(self, name: str) -> None:
    """Raises ValueError for an unknown name. Scales are few: all of them are listed."""
    if name not in self.scales:
      known = ', '.join(map(repr, self.scales)) or 'none'
      raise ValueError(f'{self._name}: scale {name!r} is unknown; its scales: {known}')

  def _chosen(self, scale: Scale, name: str) -> tuple:
    """The scale's rows, columns or seeds, or else the table's."""
    values = getattr(scale, name)
    chosen = tuple(getattr(self, name) if values is None else values)
    if not chosen or len(set(chosen)) != len(chosen):
      raise ValueError(
        f'{self._name}: scale {scale.name!r} has no {name}, or one of them twice'
      )
    return chosen


def _require(name, known, what: str) -> None:
  if name not in known:
    raise ValueError(
      f'{what} {name!r} is unknown; nearest: {nearest(str(name), map(str, known))}'
    )


def _require_all(names: Iterable | None, known, what: str) -> None:
  for name in names or ():
    _require(name, known, what)
