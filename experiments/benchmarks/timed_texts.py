"""The sides of `text_tasks.py`, one to a process: ours and that of transformers.

  # then a line on stdin for every call
  python experiments/benchmarks/timed_texts.py tl_jax WORK

WORK is a `Work` as JSON. A call is some steps of training, or the answers to all texts.
Answers as `timed_steps.py` does, with how many examples or texts a call had (`count`)
and, of training, how many `tokens`.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tl_jax import config

# The most tokens of a description, and of a row of them; the most of a synopsis, and of
# those that share a row: they are enough for the descriptions that fill one.
SOURCE, TARGET = 256, 48
# Examples of a training step, and texts that are written or answered at once.
EXAMPLES, TEXTS = 16, 32
NEW = 24
RATE, DECAY, SEED = 1e-4, 0.01, 0

timed_steps = config.execute(Path(__file__).with_name('timed_steps.py'))


class Size(NamedTuple):
  """How much a call does, and how large the encoder-decoder is.

  steps: of training. summaries, labels: texts that are answered. shape: fields of a
  T5Config beside those of t5-small.
  """

  rounds: int
  steps: int
  summaries: int
  labels: int
  shape: dict


SIZES = {
  'full': Size(5, 6, 200, 2000, {}),
  'quick': Size(
    2, 2, 32, 128, dict(d_model=64, d_kv=16, num_heads=4, d_ff=128, num_layers=2)
  ),
}


class Work(NamedTuple):
  """What a process is told: what to do, where the models are, and how much."""

  what: str
  dtype: str
  folder: str
  directory: str
  size: str
  cores: int

  @property
  def amount(self) -> Size:
    return SIZES[self.size]

  @property
  def texts(self) -> list[str]:
    """The texts that are answered."""
    return json.loads(Path(self.path(f'{self.what}.json')).read_text())

  def path(self, name: str) -> str:
    return str(Path(self.folder) / name)


def summaries(directory: str):
  """(the task of summaries, its training texts, their synopses)."""
  from tl_jax import tasks

  name = 'summary_full' if directory else 'summary'
  task = tasks.find(name, directory or None)
  texts, targets = tasks.labelled(task, 'train', directory or None)
  return task, texts, [references[0] for references in targets]


# Our side.


def train_ours(work: Work, turns) -> None:
  """Steps of `tl-jax transfer`."""
  import jax
  import numpy as np

  from tl_jax import train

  built = train.build(our_config(work))
  state = built.state()
  step = jax.jit(built.parts.step, donate_argnums=0)
  number = 0
  while True:
    examples = tokens = 0
    for _ in range(work.amount.steps):
      batch = built.batch_at(number)
      state, metrics = step(state, batch)
      # The examples of a row are numbered from 1.
      examples += int(batch['segments'].max(-1).sum())
      for name in ('segments', 'decoder_segments'):
        tokens += int(np.count_nonzero(batch[name]))
      number += 1
    turns.end(count=examples, tokens=tokens, loss=float(metrics['loss']))


def our_config(work: Work):
  """The config of the run, with so many rows that a step has the examples that theirs
  has.
  """
  task, texts, targets = summaries(work.directory)
  found = config.load(
    str(Path(__file__).parents[2] / 'configs' / 'transfer.py')
    + f':task={task.name},init={work.path("t5")}'
  )
  found.seed = SEED
  found.compute.dtype = work.dtype
  found.data.directory = work.directory
  found.data.length, found.data.target_length = SOURCE, TARGET
  found.data.batch = rows_of_step(work, texts, targets)
  found.optim.lr, found.optim.decay = RATE, DECAY
  found.schedule.warmup, found.schedule.steps = 0, 10**6
  return found


def rows_of_step(work: Work, texts: list[str], targets: list[str]) -> int:
  """How many packed rows hold the examples of a step on average."""
  from tl_jax import train
  from tl_jax.data import packing

  tokenizer = train.load(work.path('t5')).tokenizer

  def lengths(texts, most):
    return [min(len(ids), most) for ids in tokenizer.encode_batch(texts)]

  packed = packing.plan(
    lengths(texts, SOURCE),
    SOURCE,
    second=lengths(targets, TARGET),
    second_length=TARGET,
  )
  return round(EXAMPLES * packed.rows / len(texts))


def answer_ours(work: Work, turns) -> None:
  """Answers of `tl-jax predict`: labels, or texts."""
  import jax

  from tl_jax import parallel
  from tl_jax.train import answering, asking

  model, decoding = 'minilm', {}
  if work.what == 'generate':
    model = 't5'
    decoding = dict(max_new_tokens=NEW, min_new_tokens=NEW)
  subject = answering.open_subject(Path(work.path(model)), None, None, work.dtype, None)
  mesh = parallel.make_mesh(parallel.MeshShape())
  with jax.set_mesh(mesh):
    asked = answering.make_answering(
      subject,
      mesh,
      embeddings=False,
      normalize=False,
      # Of labels as many rows as predict has by default.
      batch=TEXTS if decoding else 0,
      decoding=decoding,
      manner=asking.Manner(),
      tell=print,
    )
    while True:
      count = 0
      for window in asked.windows(work.texts, 0, lambda answered, cut: None):
        count += len(window)
      turns.end(count=count)


# Their side.


def train_theirs(work: Work, turns) -> None:
  """Steps of a Seq2SeqTrainer."""
  import transformers

  tokenizer = transformers.AutoTokenizer.from_pretrained(work.path('t5'))
  model = transformers.T5ForConditionalGeneration.from_pretrained(
    work.path('t5'), dtype='float32'
  )
  collate = transformers.DataCollatorForSeq2Seq(tokenizer, model=model)
  seen = dict(count=0, tokens=0)

  def collate_and_count(rows):
    batch = collate(rows)
    seen['count'] += len(rows)
    seen['tokens'] += int(batch['attention_mask'].sum())
    seen['tokens'] += int((batch['labels'] >= 0).sum())
    return batch

  class Pause(transformers.TrainerCallback):
    """Ends a call after so many steps."""

    def on_step_end(self, args, state, control, **more):
      if state.global_step % work.amount.steps == 0:
        turns.end(**seen)
        seen.update(count=0, tokens=0)

  with tempfile.TemporaryDirectory() as scratch:
    options = transformers.Seq2SeqTrainingArguments(
      scratch,
      max_steps=10**6,
      per_device_train_batch_size=EXAMPLES,
      learning_rate=RATE,
      weight_decay=DECAY,
      bf16=work.dtype == 'bfloat16',
      use_cpu=True,
      seed=SEED,
      save_strategy='no',
      logging_strategy='no',
      report_to=[],
      disable_tqdm=True,
    )
    trainer = transformers.Seq2SeqTrainer(
      model,
      options,
      train_dataset=their_examples(work, tokenizer),
      data_collator=collate_and_count,
      callbacks=[Pause()],
    )
    trainer.train()


def their_examples(work: Work, tokenizer) -> list[dict]:
  """The training examples as the collator takes them."""
  _, texts, targets = summaries(work.directory)
  sources = tokenizer(texts, truncation=True, max_length=SOURCE)['input_ids']
  labels = tokenizer(targets, truncation=True, max_length=TARGET)['input_ids']
  return [
    dict(input_ids=source, labels=label)
    for source, label in zip(sources, labels, strict=True)
  ]


def generate_theirs(work: Work, turns) -> None:
  """`generate` of transformers, in batches of like length."""
  import torch
  import transformers

  tokenizer = transformers.AutoTokenizer.from_pretrained(work.path('t5'))
  model = transformers.T5ForConditionalGeneration.from_pretrained(
    work.path('t5'), dtype=work.dtype
  ).eval()
  while True:
    texts = in_order_of_length(work.texts, tokenizer)
    written = []
    for first in range(0, len(texts), TEXTS):
      batch = tokenizer(texts[first : first + TEXTS], padding=True, return_tensors='pt')
      with torch.inference_mode():
        ids = model.generate(
          **batch, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False
        )
      written += tokenizer.batch_decode(ids, skip_special_tokens=True)
    turns.end(count=len(written))


def predict_theirs(work: Work, turns) -> None:
  """A pipeline of transformers, in batches of like length."""
  import transformers

  classify = transformers.pipeline(
    'text-classification', work.path('minilm'), dtype=work.dtype, device='cpu'
  )
  while True:
    texts = in_order_of_length(work.texts, classify.tokenizer)
    found = classify(texts, batch_size=TEXTS, top_k=None)
    turns.end(count=len(found))


def in_order_of_length(texts: list[str], tokenizer) -> list[str]:
  """The texts, the longest in tokens first."""
  lengths = [len(ids) for ids in tokenizer(texts)['input_ids']]
  order = sorted(range(len(texts)), key=lambda index: -lengths[index])
  return [texts[index] for index in order]


SIDES = {
  ('tl_jax', 'train'): train_ours,
  ('tl_jax', 'generate'): answer_ours,
  ('tl_jax', 'predict'): answer_ours,
  ('transformers', 'train'): train_theirs,
  ('transformers', 'generate'): generate_theirs,
  ('transformers', 'predict'): predict_theirs,
}


def serve(library: str, asked: str) -> None:
  """One side in a process of its own: a call for every line of stdin."""
  work = Work(**json.loads(asked))
  turns = timed_steps.Turns()
  # Before either library counts them to start as many threads.
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: work.cores])
  if library == 'tl_jax':
    from tl_jax import parallel

    parallel.keep_freed_memory()
  else:
    import torch
    import transformers

    torch.set_num_threads(work.cores)
    transformers.logging.set_verbosity_error()
  SIDES[library, work.what](work, turns)


if __name__ == '__main__':
  serve(*sys.argv[1:])
