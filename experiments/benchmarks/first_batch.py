"""How long a run waits for its first batch, and a resumed one for its next, by the
number of documents.

  tl-jax table experiments/benchmarks/first_batch.py --scale=mini --workdir=W

Lengths are drawn as those of web pages are (lognormal, at most 512 tokens) and lie in a
mapped file, 16 bits each; a batch has 256 rows of 512 tokens. The rows are what an epoch
is, how many documents there are, and the step. An epoch is planned whole or in windows;
or it is that of a mixture of this source and two smaller ones; or it is one of pairs of
segments, cut of documents of some 20 sentences, each of which is used ten times. Of a
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
# (what an epoch is, documents, step)
ROWS = {
  'whole, 1 million': ('whole', MILLION, 0),
  'whole, 10 million': ('whole', 10 * MILLION, 0),
  'windows, 1 million': ('windows', MILLION, 0),
  'windows, 10 million': ('windows', 10 * MILLION, 0),
  'windows, 365 million': ('windows', 365 * MILLION, 0),
  'windows, 365 million, step 1,000,000': ('windows', 365 * MILLION, MILLION),
  'mixture, 365 million': ('mixture', 365 * MILLION, 0),
  'mixture, 365 million, step 1,000,000': ('mixture', 365 * MILLION, MILLION),
  'pairs, 365 million': ('pairs', 365 * MILLION, 0),
  'pairs, 365 million, step 1,000,000': ('pairs', 365 * MILLION, MILLION),
}
# Tokens of the sentences of the documents that pairs are cut of.
SENTENCE = 20
FRAME = ((1, 0), ('A', 0), (2, 0), ('B', 1), (2, 1))
COLUMN = 'seconds'


class Ones:
  """A token cache of ones: its lengths are mapped, and nothing else is there."""

  def __init__(self, path: str, most: int | None = None):
    self.lengths = np.asarray(np.memmap(path, np.uint16, 'r'))[:most]
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


class Alike:
  """A number for each of so many things that nobody counted: the same one."""

  def __getitem__(self, places: slice) -> np.ndarray:
    return np.full(places.stop - places.start, SENTENCE)


class Sentences:
  """The tokens of any number of sentences."""

  lengths = Alike()

  def __getitem__(self, i: int) -> np.ndarray:
    return np.ones(SENTENCE, np.int32)


def write_bounds(path: str, lengths: str) -> None:
  """Writes at which sentence each document begins, a part at a time, int64."""
  counted = np.memmap(lengths, np.uint16, 'r')
  last = np.zeros(1, np.int64)
  with open(path, 'wb') as file:
    last.tofile(file)
    for start in range(0, len(counted), 2**24):
      # Of the last sentence there may be some tokens only.
      sentences = -(-counted[start : start + 2**24].astype(np.int64) // SENTENCE)
      ends = last + np.cumsum(sentences)
      ends.tofile(file)
      last = ends[-1:]


def own_memory() -> float:
  """The most that this process has had, in MB, without pages of mapped files."""
  found = {}
  for line in Path('/proc/self/status').read_text().splitlines():
    name, _, value = line.partition(':')
    found[name] = value.split()
  kilobytes = int(found['VmHWM'][0]) - int(found['RssFile'][0])
  return kilobytes / 1024


def pairs_of(bounds: str):
  """Pairs of segments of the documents that begin at these sentences."""
  from tl_jax.data import cuts, pipeline, segment_pairs

  begins = np.asarray(np.memmap(bounds, np.int64, 'r'))
  longest = -(-LENGTH // SENTENCE)
  documents = segment_pairs.Documents(Sentences(), begins, longest)
  found = cuts.Cuts(documents, FRAME, segment_pairs.Rules(LENGTH), duplicates=10)
  return pipeline.Examples(found, types=found.types)


def stream_of(path: str, epoch: str):
  """The stream of an epoch of such a kind."""
  from tl_jax.data import pipeline, windows

  how = dict(seed=0, length=LENGTH, batch=BATCH)
  if epoch == 'pairs':
    return pipeline.stream(pairs_of(path), examples_per_row=16, **how)
  if epoch == 'mixture':
    sizes = dict(large=None, middle=10 * MILLION, small=MILLION)
    parts = {name: pipeline.Examples(Ones(path, most)) for name, most in sizes.items()}
    weights = dict(large=0.6, middle=0.3, small=0.1)
    return pipeline.stream(parts, weights=weights, **how)
  if epoch == 'whole':
    windows.SIZE = sys.maxsize
  return pipeline.stream(pipeline.Examples(Ones(path)), **how)


def measure(path: str, epoch: str, step: int) -> dict[str, float]:
  """What the batch of a step takes, with nothing planned before."""
  # What is imported is not what is waited for.
  from tl_jax.data import pipeline  # noqa: F401

  began = time.perf_counter()
  stream_of(path, epoch).batch_at(step)
  return dict(seconds=time.perf_counter() - began, megabytes=own_memory())


def execute(members: list) -> None:
  """One process after the other."""
  performance = config.execute(Path(__file__).with_name('performance.py'))
  for settings, directory in members:
    epoch, count, step = ROWS[settings['row']]
    with tempfile.TemporaryDirectory() as folder:
      path = os.path.join(folder, 'lengths')
      write_lengths(path, count)
      if epoch == 'pairs':
        lengths, path = path, os.path.join(folder, 'bounds')
        write_bounds(path, lengths)
      answer = subprocess.run(
        [sys.executable, __file__, path, epoch, str(step)],
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
  _, path, epoch, step = sys.argv
  json.dump(measure(path, epoch, int(step)), sys.stdout)
