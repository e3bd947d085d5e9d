"""Runs the members of a sweep: as cohorts, in worker processes, whatever becomes of one.

>>> done, failed = Standing(ledger.DONE), Standing(ledger.FAILED, 'why')
>>> Outcome((done, done)).code, Outcome((done, failed)).code
(0, 1)

A member that fails leaves its reason, and so does one whose process dies; the others go
on. Run again with the same workdir, a sweep repeats nothing that is finished, and goes
on with what was begun.
"""

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from tl_jax.checkpoint.lock import Lock
from tl_jax.config import ConfigError
from tl_jax.scale import ledger
from tl_jax.scale.ledger import Standing, standing
from tl_jax.scale.members import Listing, Member
from tl_jax.scale.processes import folder_of
from tl_jax.scale.scheduling import ANY_TIME, OVER_LIMIT, Limits, Scheduler


class Outcome(NamedTuple):
  """Where every member stands, in the order of the members."""

  standings: tuple[Standing, ...]

  def count(self, state: str) -> int:
    return sum(found.state == state for found in self.standings)

  @property
  def code(self) -> int:
    """The exit code: 0 for results alone, 75 while something is left to do, else 1."""
    is_clean = True
    for found in self.standings:
      if found.state == ledger.DONE:
        continue
      is_over = found.state == ledger.FAILED or found.reason.startswith(OVER_LIMIT)
      if not is_over:
        return 75
      is_clean = False
    return 0 if is_clean else 1


def survey(workdir: pathlib.Path, members: Sequence[Member]) -> Outcome:
  """Where the members stand now."""
  latest = ledger.Ledger(workdir).latest()
  found = []
  for member in members:
    found.append(standing(folder_of(workdir, member), latest.get(member.id)))
  return Outcome(tuple(found))


@contextlib.contextmanager
def only_start(workdir: pathlib.Path) -> Iterator[None]:
  """Holds the workdir of a sweep, so that one process at a time hands out its members.

  Raises WorkdirBusy where another one does.
  """
  workdir.mkdir(parents=True, exist_ok=True)
  lock = Lock(workdir)
  try:
    yield
  finally:
    lock.release()


def run(
  listing: Listing,
  workdir: pathlib.Path,
  members: Sequence[Member] | None = None,
  workers: int = 1,
  limits: Limits = ANY_TIME,
  say: Callable[[str], None] = lambda text: None,
  progress: Callable[..., None] = lambda title, done, total, **figures: None,
) -> Outcome:
  """Runs what is not finished of a sweep, or of some members; returns where each stands.

  Members that are given are a launcher's, which may have started several processes for
  them, as on the hosts of a pod.

  A member that failed for a cause which may be gone is made again. Raises RuntimeError
  where no worker can run.
  """
  if workers < 1:
    raise ConfigError(f'--workers: needs at least one, got {workers}')
  chosen = listing.members if members is None else members
  joins = members is not None
  scheduler = Scheduler(listing, workdir, chosen, limits, joins, say, progress)
  scheduler.run(workers)
  return survey(workdir, chosen)
