"""The same program in two processes that know of each other."""

import os
import socket
import subprocess
import sys


def start_two(program, *arguments, **variables) -> list[subprocess.Popen]:
  """Starts Python with these arguments as two processes of one run."""
  return start_several(2, program, *arguments, **variables)


def start_several(count, program, *arguments, **variables) -> list[subprocess.Popen]:
  """Starts Python with these arguments as so many processes of one run."""
  with socket.socket() as probe:
    probe.bind(('localhost', 0))
    address = f'localhost:{probe.getsockname()[1]}'
  shared = (
    os.environ
    | variables
    | {
      'PYTHONPATH': os.getcwd(),
      'JAX_COORDINATOR_ADDRESS': address,
      'JAX_NUM_PROCESSES': str(count),
    }
  )
  return [
    subprocess.Popen(
      [sys.executable, *program, *arguments],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      env=shared | {'JAX_PROCESS_ID': str(index)},
    )
    for index in range(count)
  ]


def hear(processes, timeout=300) -> list[tuple[str, str]]:
  """(output, complaints) of each process when all have ended; none is left behind."""
  try:
    return [process.communicate(timeout=timeout) for process in processes]
  finally:
    for process in processes:
      process.kill()


def run_two(program, *arguments, **variables) -> list[str]:
  """What each of the two processes says, which must end well."""
  processes = start_two(program, *arguments, **variables)
  heard = hear(processes)
  for process, (_, complaint) in zip(processes, heard, strict=True):
    assert process.returncode == 0, complaint
  return [told for told, _ in heard]
