"""Gathers the wheels that a machine without a network lacks to run `accelerator.py`.

  python experiments/benchmarks/gather_wheels.py wheels/ --python=3.12 --glibc=2.39

The machine is taken to have jax, flax, optax, orbax, torch, transformers and peft with
all that these need. What else tl_jax needs is downloaded with its own requirements, as
wheels for Linux, the Python and the machine that are named, by whatever pip here is
configured to ask. `offline.py` installs from the folder what it does not find there.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

# Of tl_jax's requirements in setup.py, those that such a machine lacks.
NEEDED = (
  'ml-collections>=1.1,<2',
  'tensorflow-datasets>=4.9.10,<4.10',
  'importlib_resources>=6.4',
  'grain>=0.2.18,<0.3',
  'array-record>=0.8.3',
  'tensorboardX>=2.6.2',
)
# Published as source alone. In pure Python, so that a wheel made here does there.
SOURCES = ('promise>=2.3,<3',)
# What jax, torch and transformers brought already: large, and theirs to choose.
PRESENT = ('numpy', 'pyarrow', 'protobuf', 'jax', 'jaxlib', 'scipy', 'tensorstore')
# The oldest glibc that wheels are built for.
OLDEST = 5


def platforms(machine: str, glibc: str) -> list[str]:
  """The tags of wheels that run there; pip does not know that older ones do."""
  newest = int(glibc.split('.')[1])
  tags = [f'manylinux_2_{minor}_{machine}' for minor in range(newest, OLDEST - 1, -1)]
  old = ('manylinux2014', 'manylinux2010', 'manylinux1')
  return [*tags, *(f'{name}_{machine}' for name in old)]


def normalized(name: str) -> str:
  """The name of a distribution as registries compare it."""
  return name.lower().replace('_', '-').replace('.', '-')


def name_of(wheel: pathlib.Path) -> str:
  """The distribution that a file NAME-VERSION-....whl is of."""
  return normalized(wheel.name.split('-')[0])


def pip(*words: str) -> None:
  """Runs pip. CalledProcessError where it fails, which has said why."""
  subprocess.run([sys.executable, '-m', 'pip', *words], check=True)


def gather(folder: pathlib.Path, python: str, tags: list[str]) -> list[pathlib.Path]:
  """Fills the folder; returns its wheels."""
  folder.mkdir(parents=True, exist_ok=True)
  pip('wheel', '--no-deps', '--wheel-dir', str(folder), *SOURCES)
  chosen = ['--only-binary=:all:', '--implementation=cp', f'--python-version={python}']
  for tag in tags:
    chosen += ['--platform', tag]
  with tempfile.TemporaryDirectory() as downloads:
    where = ['--dest', downloads, '--find-links', str(folder)]
    pip('download', *where, *chosen, *NEEDED)
    for wheel in pathlib.Path(downloads).glob('*.whl'):
      if name_of(wheel) not in PRESENT:
        wheel.replace(folder / wheel.name)
  return sorted(folder.glob('*.whl'))


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('folder', type=pathlib.Path)
  parser.add_argument('--python', default='3.12', help='version there (default: 3.12)')
  parser.add_argument('--machine', default='x86_64', help='as uname -m says there')
  parser.add_argument('--glibc', default='2.35', help='as ldd --version says there')
  options = parser.parse_args()
  tags = platforms(options.machine, options.glibc)
  wheels = gather(options.folder, options.python, tags)
  size = sum(wheel.stat().st_size for wheel in wheels)
  sys.stdout.write(f'{len(wheels)} wheels, {size / 1e6:.1f} MB in {options.folder}\n')


if __name__ == '__main__':
  main()
