"""A program compiled ahead of its first call: how long that took, and whether it was kept from an earlier command.

>>> program = compile_ahead(jax.jit(lambda x: 2 * x), 1.0)
>>> float(program.call(1.0)), program.seconds > 0
(2.0, True)
"""

import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import jax

HIT = '/jax/compilation_cache/cache_hits'


class Program(NamedTuple):
  """call: the function, for arguments of these shapes alone (others are a TypeError); seconds: of tracing, lowering and
  compiling; kept: was it in jax's cache of compiled programs?"""
  call: Callable
  seconds: float
  kept: bool

  def __str__(self) -> str:
    return f'program {"kept from before, ready" if self.kept else "compiled"} in {self.seconds:.1f} s'


def compile_ahead(function, *arguments) -> Program:
  """The program of a jitted function for arguments like these."""
  hits, began = _hits(), time.monotonic()
  before = len(hits)
  call = function.lower(*arguments).compile()
  return Program(call, time.monotonic() - began, len(hits) > before)


@functools.cache
def _hits() -> list:
  """What jax has found in its cache since this was first asked."""
  found = []
  jax.monitoring.register_event_listener(lambda event, **_: found.append(event) if event == HIT else None)
  return found
