"""What a step on the host's own processor has freed is there for the next one.

>>> keep_freed_memory()
"""

import ctypes
import os
import sys

import jax

# M_MMAP_MAX, M_TRIM_THRESHOLD and M_ARENA_MAX of glibc's malloc.h
MOST_MAPPED, TRIM_ABOVE, MOST_ARENAS = -4, -1, -8
CHOSEN = {'MALLOC_MMAP_MAX_', 'MALLOC_TRIM_THRESHOLD_'}


def keep_freed_memory() -> None:
  """Has the C library keep what the main thread frees, for the rest of this process, if
  its devices are CPUs.

  XLA allocates the temporaries of a program anew at every call, at once, and what is
  that large goes back to the system afterwards, which clears every page for the next
  call: up to a quarter of a training step. A program for one CPU device runs on the
  thread that calls it from now on, so that it allocates there.

  What is kept is seldom one piece: the peak of memory may grow by the size of the
  temporaries, in the first steps even several times. Threads share two arenas for each
  core instead of eight, whatever the devices are, so that more of what compiling has
  freed serves the first step. To be called before anything runs on a device; later it
  only costs memory. Without effect where malloc is not glibc's, or where one of the
  variables `CHOSEN` says that the user has settled this; the arenas alone are settled
  by MALLOC_ARENA_MAX.
  """
  set_option = (
    getattr(ctypes.CDLL(None), 'mallopt', None) if sys.platform == 'linux' else None
  )
  if set_option is None or not CHOSEN.isdisjoint(os.environ):
    return
  if 'MALLOC_ARENA_MAX' not in os.environ:
    # before there are devices: their threads settle it
    set_option(MOST_ARENAS, 2 * os.cpu_count())
  jax.config.update('jax_cpu_enable_async_dispatch', False)
  if jax.default_backend() == 'cpu':
    set_option(MOST_MAPPED, 0)
    set_option(TRIM_ABOVE, -1)
