"""Programs in a process of their own, whose CPU stands for several devices."""

import os
import pathlib
import subprocess
import sys

TESTS = pathlib.Path(__file__).resolve().parent


def run(program, *arguments, count=8, timeout=300):
  """(stdout, stderr) of a Python program on so many devices, which must succeed.

  It may import the package and what lies beside the tests.
  """
  devices = f'--xla_force_host_platform_device_count={count}'
  environment = os.environ | {
    'PYTHONPATH': os.pathsep.join([str(TESTS.parent), str(TESTS)]),
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': f'{os.environ["XLA_FLAGS"]} {devices}',
  }
  done = subprocess.run(
    [sys.executable, '-c', program, *map(str, arguments)],
    env=environment,
    cwd=TESTS.parent,
    capture_output=True,
    text=True,
    timeout=timeout,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return done.stdout, done.stderr
