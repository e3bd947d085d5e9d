"""What a program has freed is kept for its next call."""

import os
import subprocess
import sys

import pytest

COUNT = """
import ctypes, resource, sys
import jax, jax.numpy as jnp
from tl_jax import parallel
if not hasattr(ctypes.CDLL(None), 'mallopt'):
  sys.exit('skip')
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
  """How many of 40 calls of a program with 64 MB of temporaries make the system clear half of their pages or more."""
  done = subprocess.run([sys.executable, '-c', COUNT.format(kept=kept)], capture_output=True, text=True,
                        env=os.environ | variables)
  if done.stderr.strip() == 'skip':
    pytest.skip('malloc is not that of glibc')
  assert not done.returncode, done.stderr
  return int(done.stdout)


def test_a_program_gets_the_pages_it_had_before():
  if calls_that_ask(kept=False) < 40:
    pytest.skip('this system gives pages that are too large to count, or none back')
  # A few: what was freed is cut by what else is allocated, until there are enough pieces of that size.
  assert calls_that_ask(kept=True) < 20


def test_what_the_user_has_settled_stands():
  assert calls_that_ask(kept=True, MALLOC_MMAP_MAX_='65536') == calls_that_ask(kept=False)
