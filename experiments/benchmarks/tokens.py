"""How fast texts become rows of tokens, beside a plain loop of datasets and tokenizers, in
one run.

  pip install datasets
  python experiments/benchmarks/tokens.py --text=austen --text=debian --rounds=3

Both tokenize the same texts by the same tokenizer and lay them into rows of 128 tokens.
The plain loop is that of the scripts of transformers: `map` with batches encodes, a second
`map` joins the tokens of a thousand texts and cuts them into rows, and rows are read in
batches of 32. It reads the texts from Arrow files that lie there before the clock starts,
with no other column. Ours reads a prepared set, writes its cache of tokens, plans an epoch
and packs whole texts into rows, so that no row mixes texts without knowing it. Both are
asked in turn, neither finds a cache; given are medians of CPU seconds, those of processes
that they start included, and of the wall clock.

Each round also measures the parts of ours by themselves, and the tokenizer alone, given
texts that are in memory, as the plain loop asks it and as a run here does. A side that
did nothing but ask the tokenizer as the plain loop does would be faster than that by the
ceiling that is printed.
"""

import argparse
import itertools
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence

from tl_jax import data
from tl_jax.data import pipeline, wordwise

LENGTH = 128
BATCH = 32


def ours(sources: Sequence[data.Source], tokenizer) -> int:
  """The rows of an epoch."""
  # Nothing is known from an earlier round.
  wordwise.encoder_of.cache_clear()
  rows = 0
  with tempfile.TemporaryDirectory() as folder:
    for source in sources:
      tokens = data.tokenize(source, tokenizer, folder, max_length=LENGTH, split=True)
      examples = pipeline.Examples(tokens)
      for batch in data.evaluation(examples, length=LENGTH, batch=BATCH):
        rows += len(batch['tokens'])
  return rows


def theirs(folders: Sequence[str], tokenizer) -> int:
  """The rows of an epoch of the plain loop."""
  import datasets

  datasets.disable_caching()
  datasets.disable_progress_bars()
  backend = tokenizer.backend

  def encode(batch):
    return {'input_ids': [found.ids for found in backend.encode_batch(batch['text'])]}

  def joined(batch):
    ids = list(itertools.chain.from_iterable(batch['input_ids']))
    whole = len(ids) // LENGTH * LENGTH
    rows = [ids[place : place + LENGTH] for place in range(0, whole, LENGTH)]
    return {'input_ids': rows}

  count = 0
  for folder in folders:
    made = datasets.load_from_disk(folder)
    made = made.map(encode, batched=True, remove_columns=['text'])
    made = made.map(joined, batched=True)
    for batch in made.with_format('numpy').iter(BATCH):
      count += len(batch['input_ids'])
  return count


def save(sources: Sequence[data.Source], folder: pathlib.Path) -> list[str]:
  """The folders of Arrow files with the texts of each source."""
  import datasets

  folders = []
  for number, source in enumerate(sources):
    folders.append(str(folder / str(number)))
    made = datasets.Dataset.from_dict({'text': source.column('text')})
    made.save_to_disk(folders[-1])
  return folders


def read(sources: Sequence[data.Source]) -> None:
  """Reads the texts, as ours does."""
  for source in sources:
    for _ in source.values('text'):
      pass


def ask_plainly(texts: Sequence[str], tokenizer) -> None:
  """Asks the tokenizer as the plain loop does."""
  for start in range(0, len(texts), 1000):
    tokenizer.backend.encode_batch(texts[start : start + 1000])


def ask(texts: Sequence[str], tokenizer) -> None:
  """Asks the tokenizer as ours does."""
  encoder = wordwise.Encoder(tokenizer)
  for start in range(0, len(texts), 1000):
    encoder.encode(texts[start : start + 1000])


def cpu_seconds() -> float:
  """Those of this process, and of processes that it started and that have ended."""
  found = os.times()
  return found.user + found.system + found.children_user + found.children_system


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--text', required=True, action='append', help='a set or a file')
  parser.add_argument('--rounds', type=int, default=3)
  options = parser.parse_args()
  sources = [data.load(name) for name in options.text]
  texts = [text for source in sources for text in source.values('text')]
  size = sum(len(text.encode()) for text in texts) / 1e6
  tokenizer = data.tokenizers.train(texts, size=8000)
  with tempfile.TemporaryDirectory() as folder:
    folders = save(sources, pathlib.Path(folder))
    sides = {
      'tl_jax': lambda: ours(sources, tokenizer),
      'datasets': lambda: theirs(folders, tokenizer),
      'reading, here': lambda: read(sources),
      'the tokenizer, here': lambda: ask(texts, tokenizer),
      'the tokenizer, there': lambda: ask_plainly(texts, tokenizer),
    }
    cpu, wall = measure(sides, options.rounds)
  for name in sides:
    seconds = statistics.median(cpu[name])
    clock = statistics.median(wall[name])
    sys.stdout.write(
      f'{name}: {seconds:.2f} CPU s, {size / seconds:.2f} MB/s of a core, '
      f'{size / clock:.2f} MB/s by the clock ({size:.1f} MB)\n'
    )
  for what, seconds in (('CPU seconds', cpu), ('the clock', wall)):
    found = ratio(seconds['datasets'], seconds['tl_jax'])
    sys.stdout.write(f'ratio by {what}: {found:.2f} (asked: 2)\n')
  ceiling = ratio(cpu['datasets'], cpu['the tokenizer, there'])
  sys.stdout.write(f'ceiling with the tokenizer asked as there: {ceiling:.2f}\n')


def measure(
  sides: Mapping[str, Callable], rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
  """(CPU seconds, seconds by the clock) of every side in every round."""
  cpu: dict[str, list[float]] = {name: [] for name in sides}
  wall: dict[str, list[float]] = {name: [] for name in sides}
  for _ in range(rounds):
    for name, run in sides.items():
      began = cpu_seconds(), time.monotonic()
      rows = run()
      cpu[name].append(cpu_seconds() - began[0])
      wall[name].append(time.monotonic() - began[1])
      said = f': {rows} rows' if rows else ''
      sys.stderr.write(f'{name}{said} in {cpu[name][-1]:.2f} CPU s\n')
  return cpu, wall


def ratio(ones: Sequence[float], others: Sequence[float]) -> float:
  """The median of the ratios of the rounds."""
  pairs = zip(ones, others, strict=True)
  return statistics.median([one / other for one, other in pairs])


if __name__ == '__main__':
  main()
