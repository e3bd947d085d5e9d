"""Stopping in good order: the first signal asks the loop to save and leave, the second
leaves at once.

>>> with Stopping() as stopping:
...   stopping.asked
False
"""

import os
import signal

import numpy as np


class Stopped(Exception):
  """The run was asked to stop, and has saved what it had; run it again to go on."""


# A scheduler that ends a job warns it first: Kubernetes and clouds by TERM, Slurm by
# what `--signal` says, for which submitit's users take USR2.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)


class Stopping:
  """Listens for SIGTERM, SIGINT and SIGUSR2 while it is entered.

  Only the main thread can.
  """

  def __init__(self):
    self._signal = 0
    self._before = {}

  def __enter__(self):
    for number in SIGNALS:
      try:
        # Kept, because a notebook goes on after the run and wants its handlers back.
        self._before[number] = signal.signal(number, self._receive)
      except ValueError:  # not the main thread: the caller's own handlers stay
        break
    return self

  def __exit__(self, *_):
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def _receive(self, number, _):
    if self._signal:
      # An exception could be caught by whatever it interrupts; this cannot.
      os._exit(128 + number)
    self._signal = number

  @property
  def asked(self) -> bool:
    """Has this process been asked to stop?"""
    return bool(self._signal)

  def agreed(self) -> bool:
    """Has any process of the run been asked? Every process must call this at the same
    step.
    """
    import jax

    if jax.process_count() == 1:
      return self.asked
    from jax.experimental import multihost_utils

    # One process that left alone would leave the others waiting in their next step.
    return bool(np.any(multihost_utils.process_allgather(np.array([self.asked]))))
