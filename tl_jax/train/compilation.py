"""A program compiled ahead of its first call: how long that took, and whether it was
kept from an earlier command.

>>> program = compile_ahead(jax.jit(lambda x: 2 * x), 1.0)
>>> float(program.call(1.0)), program.seconds > 0
(2.0, True)
"""

import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import jax

from tl_jax import parallel

HIT = '/jax/compilation_cache/cache_hits'


class Compiled(NamedTuple):
  """call: the function, for arguments of these shapes alone (others are a TypeError);
  seconds: of tracing, lowering and compiling; kept: was it in jax's cache of compiled
  programs?
  """

  call: Callable
  seconds: float
  kept: bool

  def __str__(self) -> str:
    how = 'kept from before, ready' if self.kept else 'compiled'
    return f'program {how} in {self.seconds:.1f} s'


def compile_ahead(function, *arguments) -> Compiled:
  """The program of a jitted function for arguments like these.

  All processes have compiled it when this returns: one may have found it in its cache
  where another compiles for minutes, and a collective does not wait for minutes.
  """
  # jax does not say of a program whether it was compiled: only its events tell.
  hits, began = _hits(), time.monotonic()
  before = len(hits)
  call = function.lower(*arguments).compile()
  program = Compiled(call, time.monotonic() - began, len(hits) > before)
  parallel.meet('a compiled program')
  return program


def together(function) -> Callable:
  """A jitted function that every process has compiled before any of them runs it.

  It is compiled for each kind of arguments that come. A process that is alone calls the
  function itself.
  """
  programs = {}

  def call(*arguments):
    # Alone there is nobody to wait for, and jit keeps its programs itself.
    if jax.process_count() == 1:
      return function(*arguments)
    leaves, structure = jax.tree.flatten(arguments)
    # As jit tells programs apart: arrays of one shape may lie elsewhere.
    kind = (structure, *map(_kind, leaves))
    if kind not in programs:
      programs[kind] = compile_ahead(function, *arguments).call
    return programs[kind](*arguments)

  return call


def _kind(leaf) -> tuple:
  """What a program is compiled for: shape, dtype and place of an argument."""
  return jax.typeof(leaf), getattr(leaf, 'sharding', None)


@functools.cache
def _hits() -> list:
  """What jax has found in its cache since this was first asked."""
  found = []
  # Once for the process: every listener is called at every event.
  jax.monitoring.register_event_listener(
    lambda event, **_: found.append(event) if event == HIT else None
  )
  return found
