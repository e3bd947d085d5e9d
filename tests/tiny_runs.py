"""Overrides of a config for runs that take no time."""

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
