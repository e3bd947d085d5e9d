"""How fast texts become rows of tokens, beside a plain loop of datasets and tokenizers, in
one run.

  pip install datasets
  python experiments/benchmarks/tokens.py --text=austen --text=debian --rounds=3

Both tokenize the same texts by the same tokenizer and lay them into rows of 128 tokens.
The plain loop is that of the scripts of transformers: `map` with batches encodes, a second
`map` joins the tokens of a thousand texts and cuts them into rows, and rows are read in
batches of 32. Ours writes its cache of tokens, plans an epoch and packs whole texts into
rows, so that no row mixes texts without knowing it. Both are asked in turn, neither finds
a cache; given are medians of CPU seconds and of the wall clock.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence

from tl_jax import data
from tl_jax.data import pipeline

LENGTH = 128
BATCH = 32


def ours(sources: Sequence[data.Source], tokenizer) -> int:
  """The rows of an epoch."""
  rows = 0
  with tempfile.TemporaryDirectory() as folder:
    for source in sources:
      tokens = data.tokenize(source, tokenizer, folder, max_length=LENGTH, split=True)
      examples = pipeline.Examples(tokens)
      for batch in data.evaluation(examples, length=LENGTH, batch=BATCH):
        rows += len(batch['tokens'])
  return rows


def theirs(sources: Sequence[data.Source], tokenizer) -> int:
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
  for source in sources:
    texts = [example['text'] for example in source]
    made = datasets.Dataset.from_dict({'text': texts})
    made = made.map(encode, batched=True, remove_columns=['text'])
    made = made.map(joined, batched=True)
    for batch in made.with_format('numpy').iter(BATCH):
      count += len(batch['input_ids'])
  return count


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--text', required=True, action='append', help='a set or a file')
  parser.add_argument('--rounds', type=int, default=3)
  options = parser.parse_args()
  sources = [data.load(name) for name in options.text]
  texts = [example['text'] for source in sources for example in source]
  size = sum(len(text.encode()) for text in texts) / 1e6
  tokenizer = data.tokenizers.train(texts, size=8000)
  sides = dict(tl_jax=ours, datasets=theirs)
  cpu: dict[str, list[float]] = {name: [] for name in sides}
  wall: dict[str, list[float]] = {name: [] for name in sides}
  for _ in range(options.rounds):
    for name, run in sides.items():
      began = time.process_time(), time.monotonic()
      rows = run(sources, tokenizer)
      cpu[name].append(time.process_time() - began[0])
      wall[name].append(time.monotonic() - began[1])
      sys.stderr.write(f'{name}: {rows} rows in {cpu[name][-1]:.2f} CPU s\n')
  for name in sides:
    seconds = statistics.median(cpu[name])
    clock = statistics.median(wall[name])
    sys.stdout.write(
      f'{name}: {size / seconds:.2f} MB/s of a core, {size / clock:.2f} MB/s by the '
      f'clock ({size:.1f} MB)\n'
    )
  for what, seconds in (('CPU seconds', cpu), ('the clock', wall)):
    pairs = zip(seconds['datasets'], seconds['tl_jax'], strict=True)
    ratios = [one / other for one, other in pairs]
    sys.stdout.write(f'ratio by {what}: {statistics.median(ratios):.2f} (asked: 2)\n')


if __name__ == '__main__':
  main()
