"""How long one waits before anything happens: the command line, the import, the first
step of BERT-base.

  tl-jax table experiments/benchmarks/startup.py --scale=mini --workdir=W

Seconds of whole processes for the first two. For a step (8 x 128 tokens, forward,
backward, AdamW), from its first call to its first loss: tracing, compiling and running
it, in a process of its own; cold with an empty folder of compiled programs, kept with
that folder as the cold one left it. What is claimed is the median over rounds.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tl_jax import config
from tl_jax.evals.statistics import Interval
from tl_jax.report import Claim, Scale, Table

COMMANDS = {
  'tl-jax --help': ['-m', 'tl_jax', '--help'],
  'import tl_jax': ['-c', 'import tl_jax'],
}
STEPS = ('bert bfloat16', 'bert float32')
STATES = ('cold', 'kept')
ROWS = (*COMMANDS, *(f'{step}, {state}' for step in STEPS for state in STATES))
BOUNDS = {
  'tl-jax --help': 0.5,
  'import tl_jax': 1.0,
  'bert bfloat16, cold': 8.0,
  'bert bfloat16, kept': 3.0,
  'bert float32, cold': 8.0,
  'bert float32, kept': 3.0,
}
COLUMN = 'seconds'

performance = config.execute(Path(__file__).with_name('performance.py'))


def command_seconds(arguments: list[str]) -> float:
  """Of one process from its start to its end."""
  began = time.perf_counter()
  subprocess.run(
    [sys.executable, *arguments],
    stdout=subprocess.DEVNULL,
    check=True,
    env=os.environ | dict(JAX_PLATFORMS='cpu'),
  )
  return time.perf_counter() - began


def step_seconds(work: str, kept: bool) -> float:
  """Of the first step, with an empty folder of programs or one that a process before
  has filled.
  """
  with tempfile.TemporaryDirectory() as folder:
    variables = dict(JAX_COMPILATION_CACHE_DIR=folder, JAX_ENABLE_COMPILATION_CACHE='1')
    for _ in range(2 if kept else 1):
      timed = performance.Timed('tl_jax', work, **variables)
      timed.close()
    return timed.first['seconds']


def execute(members: list) -> None:
  """One process after the other."""
  for settings, directory in members:
    row = settings['row']
    if row in COMMANDS:
      seconds = command_seconds(COMMANDS[row])
    else:
      work, state = row.split(', ')
      seconds = step_seconds(work, state == 'kept')
    performance.write(directory, 'result.json', dict(metrics=dict(seconds=seconds)))


def run(row: str, column: str, seed: int, scale: Scale) -> dict:
  """One round; the seed is its number."""
  return dict(row=row, round=seed)


def median(row: str):
  """The median over rounds."""

  def value(cells):
    values = cells[row, COLUMN].values
    return statistics.median(values.values()) if values else Interval(None)

  return value


TABLE = Table(
  title='Before the first step',
  source='our own',
  rows=ROWS,
  columns=(COLUMN,),
  seeds=(1, 2, 3, 4, 5),
  run=run,
  execute=execute,
  headline='seconds',
  digits=2,
  extra=(),
  higher_is_better=False,
  scales={
    'smoke': Scale(rows=tuple(COMMANDS), seeds=(1,)),
    'mini': Scale(),
    'paper': Scale(seeds=tuple(range(1, 16))),
  },
  claims=tuple(
    Claim(f'{row}: at most {bound} s', median(row), at_most=bound)
    for row, bound in BOUNDS.items()
  ),
)
