"""How long a run waits for its first batch, and a resumed one for its next, by the
number of documents.

  tl-jax table experiments/benchmarks/first_batch.py --scale=mini --workdir=W

Lengths are drawn as those of web pages are (lognormal, at most 512 tokens) and lie in a
mapped file, 16 bits each; a batch has 256 rows of 512 tokens. The rows are whether an
epoch is planned whole or in windows, how many documents there are, and the step. Of a
process of its own for each: seconds from the opened file to the batch, and the most
memory in MB, without pages of the file. What is claimed is the median over rounds.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tl_jax import config
from tl_jax.evals.statistics import Interval
from tl_jax.report import Claim, Scale, Table

LENGTH, BATCH = 512, 256
MILLION = 10**6
# (planned whole?, documents, step)
ROWS = {
  'whole, 1 million': (True, MILLION, 0),
  'whole, 10 million': (True, 10 * MILLION, 0),
  'windows, 1 million': (False, MILLION, 0),
  'windows, 10 million': (False, 10 * MILLION, 0),
  'windows, 365 million': (False, 365 * MILLION, 0),
  'windows, 365 million, step 1,000,000': (False, 365 * MILLION, MILLION),
}
COLUMN = 'seconds'


class Ones:
  """A token cache of ones: its lengths are mapped, and nothing else is there."""

  def __init__(self, path: str):
    self.lengths = np.asarray(np.memmap(path, np.uint16, 'r'))
    # The number 0 so many times, which takes no memory.
    self.index = np.broadcast_to(np.int32(0), len(self.lengths))

  def __len__(self) -> int:
    return len(self.lengths)

  def __getitem__(self, i: int) -> np.ndarray:
    return np.ones(self.lengths[i], np.int32)


def write_lengths(path: str, count: int) -> None:
  """Writes the lengths of so many documents, a part at a time."""
  draw = np.random.default_rng(0)
  with open(path, 'wb') as file:
    for start in range(0, count, 2**24):
      part = draw.lognormal(5.6, 1.1, min(2**24, count - start))
      np.clip(part, 1, LENGTH).astype(np.uint16).tofile(file)


def own_memory() -> float:
  """The most that this process has had, in MB, without pages of mapped files."""
  found = {}
  for line in Path('/proc/self/status').read_text().splitlines():
    name, _, value = line.partition(':')
    found[name] = value.split()
  kilobytes = int(found['VmHWM'][0]) - int(found['RssFile'][0])
  return kilobytes / 1024


def measure(path: str, whole: bool, step: int) -> dict[str, float]:
  """What the batch of a step takes, with nothing planned before."""
  from tl_jax.data import pipeline, windows

  if whole:
    windows.SIZE = sys.maxsize
  began = time.perf_counter()
  examples = pipeline.Examples(Ones(path))
  stream = pipeline.stream(examples, seed=0, length=LENGTH, batch=BATCH)
  stream.batch_at(step)
  return dict(seconds=time.perf_counter() - began, megabytes=own_memory())


def execute(members: list) -> None:
  """One process after the other."""
  performance = config.execute(Path(__file__).with_name('performance.py'))
  for settings, directory in members:
    whole, count, step = ROWS[settings['row']]
    with tempfile.TemporaryDirectory() as folder:
      path = os.path.join(folder, 'lengths')
      write_lengths(path, count)
      answer = subprocess.run(
        [sys.executable, __file__, path, str(int(whole)), str(step)],
        stdout=subprocess.PIPE,
        check=True,
      )
    metrics = json.loads(answer.stdout)
    performance.write(directory, 'result.json', dict(metrics=metrics))


def run(row: str, column: str, seed: int, scale: Scale) -> dict:
  """One round; the seed is its number."""
  return dict(row=row, round=seed)


def median(row: str):
  """Of the seconds over rounds."""

  def value(cells):
    seconds = cells[row, COLUMN].values
    return statistics.median(seconds.values()) if seconds else Interval(None)

  return value


TABLE = Table(
  title='Before the first batch',
  source='our own',
  rows=tuple(ROWS),
  columns=(COLUMN,),
  seeds=(1, 2, 3),
  run=run,
  execute=execute,
  headline='seconds',
  digits=2,
  extra=('megabytes',),
  higher_is_better=False,
  scales={
    'smoke': Scale(rows=('windows, 1 million',), seeds=(1,)),
    'mini': Scale(),
  },
  claims=tuple(
    Claim(f'{row}: at most 10 s', median(row), at_most=10.0)
    for row in ROWS
    if '365' in row
  ),
)


if __name__ == '__main__':
  _, path, whole, step = sys.argv
  json.dump(measure(path, bool(int(whole)), int(step)), sys.stdout)
