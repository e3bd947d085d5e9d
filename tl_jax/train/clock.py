"""Seconds of a run, those of its earlier starts included, on disk while the run goes.

>>> clock = Clock()
>>> with clock.phase('training'):
...   with clock.phase('compile'):
...     pass
>>> sorted(clock.totals())
['compile_seconds', 'seconds', 'training_seconds']
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping

# What is counted besides the whole: result.json has `<phase>_seconds` for each.
PHASES = ('training', 'compile')
NAMES = ('seconds', *(f'{phase}_seconds' for phase in PHASES))
PAUSE = 1.0  # seconds between two writings, at least


class Clock:
  """Counts the seconds of a run: all of them, and those of each phase.

  A phase inside of another one takes its time from it, so that no second is counted
  twice. A run that is killed loses what came after the last `keep`, a second at most
  where `keep` is called often.

  Args:
    before: what earlier starts of the run took, as `totals` gives it.
    write: is given the totals to keep.
  """

  def __init__(
    self, before: Mapping | None = None, write: Callable[[dict], None] | None = None
  ):
    self._totals = dict.fromkeys(NAMES, 0.0)
    for name in NAMES:
      found = (before or {}).get(name)
      # The file may hold anything: seconds that are lost stop no run.
      if isinstance(found, int | float) and math.isfinite(found):
        self._totals[name] = float(found)
    self._write = write
    self._phase = ''
    # Not the time of day, which may be set back while a run goes.
    self._then = self._kept = time.monotonic()

  @contextlib.contextmanager
  def phase(self, name: str) -> Iterator[None]:
    """What happens inside counts as this phase; a name that is none of PHASES counts as
    no phase.
    """
    outer = self._switch(name)
    try:
      yield
    finally:
      self._switch(outer)

  def _switch(self, name: str) -> str:
    self._count()
    outer, self._phase = self._phase, name
    return outer

  def _count(self) -> None:
    now = time.monotonic()
    passed, self._then = now - self._then, now
    self._totals['seconds'] += passed
    if self._phase in PHASES:
      self._totals[f'{self._phase}_seconds'] += passed

  def totals(self) -> dict[str, float]:
    """The seconds up to now by name, rounded to milliseconds."""
    self._count()
    return {name: round(value, 3) for name, value in self._totals.items()}

  def stop(self) -> None:
    """Writes nothing from now on: what a finished run took is in its result."""
    # A member of a cohort is finished before the cohort is, whose time goes on.
    self._write = None

  def set(self, totals: Mapping[str, float]) -> None:
    """Takes these totals for its own: a member of a cohort gets its share of a common
    time.
    """
    self._count()
    self._totals.update(totals)

  def keep(self, now: bool = False) -> None:
    """Writes the totals, unless that was done within the last second and `now` is not
    set.
    """
    if self._write is None or not (now or time.monotonic() - self._kept >= PAUSE):
      return
    self._kept = time.monotonic()
    self._write(self.totals())
