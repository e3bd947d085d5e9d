"""Overrides of a config for runs that take no time, and data for them."""

import json

from tl_jax import config

# The least that trains: one layer of width 16.
SMALL = [
  ('model', "{'family': 'tiny', 'layers': 1, 'width': 16, 'heads': 2, 'mlp': 16}"),
  ('tokenizer.size', '300'),
  ('data.length', '16'),
  ('data.batch', '4'),
  ('schedule.steps', '2'),
  ('schedule.warmup', '1'),
  ('log.tensorboard', 'false'),
]
# What members of a cohort have alike: four steps, looked at on the way.
MEMBER = [
  ('schedule.steps', '4'),
  ('schedule.warmup', '1'),
  ('data.length', '32'),
  ('data.batch', '4'),
  ('task.test', '40'),
  ('log.every', '2'),
  ('log.tensorboard', 'false'),
  ('eval.every', '2'),
  ('optim.clip', 'None'),
]


def write_task(path):
  """Writes a task of two classes: 12 train examples and 4 of test. Returns the path."""
  rows = []
  for place in range(16):
    split = 'test' if place < 4 else 'train'
    rows.append(dict(text=f'w{place}', label=str(place % 2), split=split))
  path.write_text('\n'.join(map(json.dumps, rows)))
  return path


def write_finished(folder, result, overrides=()):
  """Writes what a finished pre-training says of itself. Returns the folder."""
  made = config.load('configs/pretrain.py:tiny', [*SMALL, *overrides])
  folder.mkdir()
  written = dict(config=config.to_json(made))
  (folder / 'config.json').write_text(json.dumps(written))
  (folder / 'result.json').write_text(json.dumps(result))
  return folder
