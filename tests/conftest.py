"""What every test shares: the CPU, a compilation cache that outlives the run, and the
command line.
"""

import gc
import importlib.metadata
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


def _cache_folder():
  home = os.environ.get('XDG_CACHE_HOME') or os.path.join(
    os.path.expanduser('~'), '.cache'
  )
  folder = pathlib.Path(home) / 'tl_jax' / 'tests'
  try:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
      return str(folder)
  except OSError:
    return tempfile.mkdtemp(prefix='tl_jax_tests_')


# Set before anything imports jax.
os.environ['JAX_PLATFORMS'] = 'cpu'
# Most of the time of the tests is compilation; what is measured (speed) is measured
# elsewhere.
QUICK = ['--xla_backend_optimization_level=0']
if importlib.metadata.version('jaxlib').startswith('0.10.'):
  # half the time again; gone in later versions
  QUICK.append('--xla_cpu_use_fusion_emitters=false')
os.environ['XLA_FLAGS'] = ' '.join([*QUICK, os.environ.get('XLA_FLAGS', '')]).strip()
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', _cache_folder())
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES', '-1')

import hypothesis  # noqa: E402
import parts  # noqa: E402
import pytest  # noqa: E402

# The same examples on every machine, and no verdict that depends on how busy it is.
hypothesis.settings.register_profile(
  'tl_jax',
  derandomize=True,
  deadline=None,
  database=None,
  print_blob=False,
  suppress_health_check=[
    hypothesis.HealthCheck.too_slow,
    hypothesis.HealthCheck.data_too_large,
  ],
)
hypothesis.settings.load_profile('tl_jax')


@pytest.fixture(scope='session')
def run_cli():
  """Runs `python -m tl_jax ARGUMENTS` in a process of its own: (exit code, stdout,
  stderr) in a CompletedProcess.
  """

  def run(*arguments, env=None, timeout=120, cwd=None):
    variables = {**os.environ, 'PYTHONPATH': str(ROOT), **(env or {})}
    return subprocess.run(
      [sys.executable, '-m', 'tl_jax', *map(str, arguments)],
      env=variables,
      timeout=timeout,
      cwd=cwd,
      capture_output=True,
      text=True,
      check=False,
    )

  return run


# Tracing makes objects by the million that live as long as the process: most of what is
# collected is looked at in vain.
gc.set_threshold(50_000, 20, 100)


@pytest.fixture(scope='session')
def pretrained(tmp_path_factory):
  """The workdir of six steps of masked pre-training of a one-layer encoder, to start
  from; nobody writes into it.
  """
  from tl_jax import config, train

  workdir = tmp_path_factory.mktemp('pretrained')
  train.pretrain(
    config.load(
      'configs/pretrain.py:tiny',
      [
        ('model', "{'family': 'tiny', 'layers': 1}"),
        ('schedule.steps', '6'),
        ('schedule.warmup', '2'),
        ('data.length', '32'),
        ('tokenizer.size', '512'),
        ('data.mixture', "{'vader_amazon': 0.5, 'vader_nyt': 0.5}"),
        ('eval.batches', '1'),
        ('log.tensorboard', 'false'),
        ('checkpoint.every', '3'),
      ],
    ),
    workdir,
  )
  return workdir


# Files whose tests compile most: the first to start, so that no worker is left alone
# with one of them at the end.
LONG = (
  'train/test_transfer',
  'transfer/test_laws',
  'models/test_backbone',
  'train/',
  'models/',
  'objectives/',
  'decode/',
)


# What `--minutes` counts from.
STARTED = time.monotonic()


def pytest_addoption(parser):
  parser.addoption(
    '--part',
    default='0/1',
    metavar='K/N',
    help='runs only part K, from 0, of N parts of the chosen tests, which have whole '
    'files each and take about the same time',
  )
  parser.addoption(
    '--minutes',
    type=float,
    metavar='M',
    help='skips every test that has not started after M minutes; the summary counts '
    'them by file',
  )


# Last, when `-m` and `-k` have chosen: a part is one of what is left.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
  number, count = map(int, config.getoption('--part').split('/'))
  files = parts.deal(map(_file, items), count)[number]
  left_out = [item for item in items if _file(item) not in files]
  if left_out:
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if _file(item) in files]

  def turn(item):
    path = _file(item)
    return next((place for place, name in enumerate(LONG) if name in path), len(LONG))

  items.sort(key=turn)


# First, before a fixture takes its time.
@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
  minutes = item.config.getoption('--minutes')
  if minutes is not None and time.monotonic() - STARTED > 60 * minutes:
    pytest.skip(f'{_file(item)}: not started within {minutes:g} minutes')


# Of the 65,530 mapped regions that Linux gives a process, compiled programs take several
# each: without one more, jaxlib ends in a segmentation fault.
MOST_REGIONS = 30_000


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
  # To count them takes longer than many a test: once for each function of tests.
  if nextitem is None or item.originalname != nextitem.originalname:
    regions = pathlib.Path('/proc/self/maps')
    if regions.is_file() and regions.read_bytes().count(b'\n') > MOST_REGIONS:
      sys.modules['jax'].clear_caches()


def _file(item) -> str:
  """The file of a test, below this folder."""
  return pathlib.Path(item.fspath).relative_to(ROOT / 'tests').as_posix()
