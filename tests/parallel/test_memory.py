"""What a program has freed is kept for its next call."""

import os
import platform
import subprocess
import sys

import pytest

from tl_jax.parallel.memory import CHOSEN

pytestmark = pytest.mark.skipif(
  platform.libc_ver()[0] != 'glibc', reason='malloc is not that of glibc'
)

COUNT = """
import resource, sys
import jax, jax.numpy as jnp
from tl_jax import parallel
if {kept}:
  parallel.keep_freed_memory()
x, w = jnp.ones((1024, 8)), jnp.ones((8, 16384))
program = jax.jit(lambda x, w: jnp.tanh(x @ w) @ w.T).lower(x, w).compile()
assert program.memory_analysis().temp_size_in_bytes >= 2 ** 26
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
asked = 0
for _ in range(40):
  before = faults()
  program(x, w).block_until_ready()
  asked += faults() - before > 2 ** 13
sys.stdout.write(str(asked))
"""


def calls_that_ask(kept: bool, **variables: str) -> int:
  """How many of 40 calls of a program with 64 MB of temporaries make the system clear
  half of their pages or more.
  """
  done = subprocess.run(
    [sys.executable, '-c', COUNT.format(kept=kept)],
    capture_output=True,
    text=True,
    env=os.environ | variables,
  )
  assert not done.returncode, done.stderr
  return int(done.stdout)


def test_a_program_gets_the_pages_it_had_before():
  if calls_that_ask(kept=False) < 40:
    pytest.skip('this system gives pages that are too large to count, or none back')
  # A few: what was freed is cut by what else is allocated, until there are enough
  # pieces of that size.
  assert calls_that_ask(kept=True) < 20
  for variable in sorted(CHOSEN):  # what the user has settled stands
    assert calls_that_ask(kept=True, **{variable: '131072'}) == 40


ARENAS = """
import ctypes, os, threading
from tl_jax import parallel
parallel.keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
threads = 2 * os.cpu_count() + 4
met = threading.Barrier(threads)
def allocate():
  libc.malloc(2 ** 16)
  met.wait()   # all at once: a thread that has ended leaves its arena to the next
started = [threading.Thread(target=allocate) for _ in range(threads)]
[thread.start() for thread in started]
[thread.join() for thread in started]
libc.malloc_stats()
"""


def test_threads_share_two_arenas_for_each_core():
  def arenas(**variables) -> int:
    done = subprocess.run(
      [sys.executable, '-c', ARENAS],
      capture_output=True,
      text=True,
      env=os.environ | variables,
    )
    assert not done.returncode, done.stderr
    return done.stderr.count('Arena')

  assert arenas() == 2 * os.cpu_count()
  assert arenas(MALLOC_ARENA_MAX='1') == 1  # what the user has settled stands
  assert arenas(MALLOC_MMAP_MAX_='65536') > 2 * os.cpu_count()
