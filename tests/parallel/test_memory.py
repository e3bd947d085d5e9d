"""What a program has freed is kept for its next call."""

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
counts = []
for _ in range(9):
  before = faults()
  program(x, w).block_until_ready()
  counts.append(faults() - before)
sys.stdout.write(str(sorted(counts)[4]))
"""


def faults(kept: bool) -> int:
  """The pages that a call, the median of nine, of a program with 64 MB of temporaries has the system clear."""
  done = subprocess.run([sys.executable, '-c', COUNT.format(kept=kept)], capture_output=True, text=True)
  if done.stderr.strip() == 'skip':
    pytest.skip('malloc is not that of glibc')
  assert not done.returncode, done.stderr
  return int(done.stdout)


def test_a_program_gets_the_pages_it_had_before():
  pages = 2 ** 26 // 4096
  if faults(kept=False) < pages / 2:
    pytest.skip('this system gives pages that are too large to count, or none back')
  assert faults(kept=True) < pages / 10
