"""What a run of texts to write is watched by: a loss, or the texts that it writes."""

import json

import pytest

from tl_jax import config, train
from tl_jax.config import ConfigError
from tl_jax.train.checks import read

TINY = str(dict(family='tiny-gpt', layers=1, width=16, heads=2, mlp=16))
WATCHED = [
  ('model', TINY),
  ('tokenizer.size', '300'),
  ('data.length', '32'),
  ('data.batch', '2'),
  ('data.target_length', '8'),
  ('schedule.steps', '4'),
  ('schedule.warmup', '1'),
  ('eval.every', '2'),
  ('eval.keep', 'best'),
  ('log.tensorboard', 'false'),
]


@pytest.fixture
def file(tmp_path):
  rows = ['text\tanswer\n']
  for number in range(40):
    rows.append(f'the cow number {number} runs\tcow {number % 3}\n')
  path = tmp_path / 'cows.tsv'
  path.write_text(''.join(rows))
  return path


def config_of(file, *more):
  spec = f'configs/transfer.py:task={file},target=answer'
  return config.load(spec, [*WATCHED, *more])


def test_texts_of_validation_are_written_on_the_way_where_asked(file, tmp_path):
  written = config_of(file, ('eval.write', 'True'))
  result = train.transfer(written, tmp_path / 'w')
  found = (tmp_path / 'w' / 'evaluations.jsonl').read_text().splitlines()
  points = [json.loads(line) for line in found]
  assert [point['step'] for point in points] == [2, 4]
  for point in points:
    assert {'validation/loss', 'validation/rougeL', 'validation/chrf'} <= point.keys()
  # The best by what a table shows of the task; of equals the first.
  best = max(points, key=lambda point: point['validation/rougeL'])
  assert result['step'] == best['step']


def test_to_write_on_the_way_is_refused_where_nothing_is_written(file):
  sentiment = config.load(
    'configs/transfer.py:task=sentiment',
    [('eval.every', '2'), ('eval.write', 'True')],
  )
  with pytest.raises(ConfigError, match="config.eval.write: sentiment is of kind 's"):
    read(sentiment)
  never = config_of(
    file, ('eval.write', 'True'), ('eval.every', '0'), ('eval.keep', 'last')
  )
  with pytest.raises(ConfigError, match='write: True needs evaluations'):
    read(never)
