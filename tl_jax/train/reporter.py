"""What a run tells while it runs: lines of text and the progress of long work. The
default tells nobody.

>>> NULL_REPORTER.info('nothing is printed')
>>> NULL_REPORTER.progress('pretrain', 3, 10, loss=2.5)
>>> with NULL_REPORTER.busy('compiling'):
...   pass
"""

import contextlib
import resource
import time
from collections.abc import Callable
from typing import NamedTuple

import jax


class Reporter(NamedTuple):
  """Where news of a run goes.

  info(text): a line worth reading.
  progress(title, done, total, **figures): how far countable work has come. Among the
  figures `share` is the part of the work that is done, where not all of it is alike.
  busy(text): a context manager around work that cannot say how far it has come.
  """

  info: Callable[[str], None]
  progress: Callable[..., None]
  busy: Callable[[str], contextlib.AbstractContextManager] = contextlib.nullcontext


NULL_REPORTER = Reporter(lambda text: None, lambda title, done, total, **figures: None)


class Meter:
  """How fast a run goes between two readings.

  Compilation is left out by starting after the first step.
  """

  def __init__(self):
    self._then = time.monotonic()
    self._tokens = 0
    self._waited = 0.0
    self._read = dict(tokens_per_second=0.0, waiting_share=0.0)

  def add(self, tokens: int) -> None:
    """Counts the tokens of a step."""
    self._tokens += tokens

  def wait(self, seconds: float) -> None:
    """Counts time in which the run waited for the rows of a step."""
    self._waited += seconds

  def read(self) -> dict[str, float]:
    """The tokens per second since the last reading, and the share of waiting.

    The share is that of the time in which the loop waited for rows. They are those of
    before where no token came since.
    """
    now = time.monotonic()
    if self._tokens:
      passed = max(now - self._then, 1e-9)
      self._read = dict(
        tokens_per_second=round(self._tokens / passed, 1),
        waiting_share=round(self._waited / passed, 4),
      )
      self._then = now
      self._tokens = 0
      self._waited = 0.0
    return self._read


def peak_bytes() -> int:
  """The most memory used so far: of the fullest local device, or of this process where
  devices do not tell (CPU).
  """
  # None on a CPU, where Linux counts the process in kibibytes.
  stats = [device.memory_stats() or {} for device in jax.local_devices()]
  used = [stat.get('peak_bytes_in_use', 0) for stat in stats]
  return max(used) or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
