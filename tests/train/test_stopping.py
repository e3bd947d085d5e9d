"""Signals: the first one asks to stop, whichever scheduler sends it."""

import os
import signal

import pytest

from tl_jax.train.stopping import Stopping


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_a_signal_asks_to_stop_and_the_handlers_come_back(number):
  before = signal.getsignal(number)
  with Stopping() as stopping:
    assert not stopping.asked
    os.kill(os.getpid(), number)
    assert stopping.asked
  assert signal.getsignal(number) == before
