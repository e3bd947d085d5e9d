"""Runs `accelerator.py` from a plain checkout where nothing can be downloaded.

  python experiments/benchmarks/offline.py --wheels=wheels/ --workdir=W --scale=gpu

It needs a Python with jax, flax, optax, orbax, torch, transformers, peft and pip. Of the
wheels, which `gather_wheels.py` has brought, it installs into the workdir those whose
distribution is not there. Nothing else on the machine changes, and nothing that the
machine has is replaced.

All ends within --minutes (15): the pieces are made in the order of their importance, and
what no time is left for stands in the table with that reason. Run again with the same
workdir, it makes what is missing.
"""

import argparse
import importlib.metadata
import os
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
# For the table to be written after its last piece, in seconds.
RESERVE = 20


def is_there(wheel: pathlib.Path) -> bool:
  """Does this Python have the distribution, in whatever version?"""
  try:
    importlib.metadata.version(wheel.name.split('-')[0])
  except importlib.metadata.PackageNotFoundError:
    return False
  return True


def install(wheels: pathlib.Path, target: pathlib.Path) -> list[str]:
  """Installs what is missing; returns the names of the files.

  CalledProcessError where pip fails, which has said why.
  """
  missing = [wheel for wheel in sorted(wheels.glob('*.whl')) if not is_there(wheel)]
  if missing:
    # All needs are among the wheels, or there already. A second start installs anew.
    how = ['--no-index', '--no-deps', '--upgrade', '--quiet', '--target', str(target)]
    command = [sys.executable, '-m', 'pip', 'install', *how, *map(str, missing)]
    subprocess.run(command, check=True)
  return [wheel.name for wheel in missing]


def make_table(workdir: pathlib.Path, scale: str, target: pathlib.Path, ends: float):
  """The exit status of `tl-jax table`, which is ended where it is late."""
  paths = [str(CHECKOUT), str(target), os.environ.get('PYTHONPATH', '')]
  environment = os.environ | dict(
    PYTHONPATH=os.pathsep.join(filter(None, paths)),
    TL_JAX_BENCHMARK_UNTIL=str(ends - RESERVE),
    HF_HUB_OFFLINE='1',
  )
  table = [str(HERE / 'accelerator.py'), f'--scale={scale}', f'--workdir={workdir}']
  command = [sys.executable, '-m', 'tl_jax', 'table', *table]
  try:
    left = ends - time.time()
    return subprocess.run(
      command, env=environment, cwd=CHECKOUT, timeout=left
    ).returncode
  except subprocess.TimeoutExpired:
    return 1


def main() -> int:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--wheels', type=pathlib.Path, required=True)
  parser.add_argument('--workdir', type=pathlib.Path, required=True)
  parser.add_argument('--scale', default='gpu', choices=('smoke', 'gpu'))
  parser.add_argument('--minutes', type=float, default=15.0)
  options = parser.parse_args()
  ends = time.time() + 60 * options.minutes
  workdir = options.workdir.resolve()
  target = workdir / 'packages'
  installed = install(options.wheels.resolve(), target)
  sys.stdout.write(f'installed {len(installed)} wheels into {target}\n')
  sys.stdout.flush()
  status = make_table(workdir, options.scale, target, ends)
  table = workdir / 'table.md'
  if table.exists():
    sys.stdout.write(table.read_text())
  return status


if __name__ == '__main__':
  sys.exit(main())
