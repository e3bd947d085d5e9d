"""What a step on the host's own processor has freed is there for the next one.

>>> keep_freed_memory()
"""

import ctypes
import os
import sys

import jax

# The numbers of M_MMAP_MAX, M_TRIM_THRESHOLD and M_ARENA_MAX in glibc's malloc.h
MOST_MAPPED = -4
TRIM_ABOVE = -1
MOST_ARENAS = -8
# By these variables the user tells glibc the same.
CHOSEN = {'MALLOC_MMAP_MAX_', 'MALLOC_TRIM_THRESHOLD_'}


def keep_freed_memory() -> None:
  """Has the C library keep what the main thread frees, for the rest of this process.

  XLA allocates the temporaries of a program anew at every call. Pieces of that size go
  back to the system when they are freed, and the system clears every page for the next
  call. That is up to a quarter of a training step on CPU devices. So they are kept, if
  the devices are CPUs. A program for one CPU device runs on the thread that calls it
  from now on, so that it allocates there.

  What is kept is seldom one piece. The peak of memory may grow by the size of the
  temporaries; in the first steps, by several times that.

  Threads share two arenas for each core instead of eight, whatever the devices are. More
  of what compiling has freed then serves the first step.

  To be called before anything runs on a device; later it only costs memory. Without
  effect where malloc is not glibc's, or where one of the variables `CHOSEN` says that
  the user has settled this. MALLOC_ARENA_MAX settles the arenas alone.
  """
  set_option = _mallopt()
  if set_option is None or not CHOSEN.isdisjoint(os.environ):
    return
  # Before there are devices: their threads settle how many arenas there are.
  if 'MALLOC_ARENA_MAX' not in os.environ:
    set_option(MOST_ARENAS, 2 * os.cpu_count())
  # Asynchronous calls would run on another thread, which has an arena of its own.
  jax.config.update('jax_cpu_enable_async_dispatch', False)
  # This asks for the devices, so it comes after all that must precede them.
  if jax.default_backend() == 'cpu':
    set_option(MOST_MAPPED, 0)
    set_option(TRIM_ABOVE, -1)


def _mallopt():
  """glibc's function that sets an option of malloc; None where there is none."""
  if sys.platform != 'linux':
    return None
  # Other C libraries of Linux, as musl, have no such function.
  return getattr(ctypes.CDLL(None), 'mallopt', None)
