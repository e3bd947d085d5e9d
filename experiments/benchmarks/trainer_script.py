"""What one writes with transformers to fine-tune a model on a CSV; `first_step.py` times
it to its first step.

  python experiments/benchmarks/trainer_script.py FILE.csv TEXT LABEL MODEL

TEXT and LABEL are the names of the columns. Nothing of tl_jax is imported, which would
count as time of transformers.
"""

import csv
import sys
import tempfile

import transformers


class Tell(transformers.TrainerCallback):
  """Says that a step is there."""

  def on_step_end(self, *_, **__):
    sys.stdout.write('the first step is there\n')
    sys.stdout.flush()


def train(file: str, text: str, label: str, folder: str) -> None:
  """16 examples to a step, padded to the longest of them."""
  with open(file, newline='') as opened:
    rows = list(csv.DictReader(opened))
  names = sorted({row[label] for row in rows})
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  encoded = tokenizer([row[text] for row in rows], truncation=True, max_length=128)
  ids, masks = encoded['input_ids'], encoded['attention_mask']
  examples = [
    dict(input_ids=ids[i], attention_mask=masks[i], labels=names.index(row[label]))
    for i, row in enumerate(rows)
  ]
  model = transformers.AutoModelForSequenceClassification.from_pretrained(
    folder, num_labels=len(names)
  )
  with tempfile.TemporaryDirectory() as output:
    options = transformers.TrainingArguments(
      output,
      per_device_train_batch_size=16,
      max_steps=100,
      use_cpu=True,
      save_strategy='no',
      report_to=[],
      disable_tqdm=True,
    )
    trainer = transformers.Trainer(
      model,
      options,
      train_dataset=examples,
      processing_class=tokenizer,
      callbacks=[Tell()],
    )
    trainer.train()


if __name__ == '__main__':
  train(*sys.argv[1:])
