"""Runs of baselines: what they answer to the test examples of a task, and on which tasks."""

import json

import pytest

from tl_jax import config, train
from tl_jax.config import ConfigError
from tl_jax.train.checks import read

HEADER = 'en\tde\n'
ROWS = [f'Cell {n}. It is empty.\tZelle {n}. Sie ist leer.\n' for n in range(40)]


def run_baseline(tmp_path, method: str) -> tuple[dict, list[dict]]:
  """(the result, the lines of the predictions) of a baseline on a file of pairs."""
  path = tmp_path / 'pairs.tsv'
  path.write_text(HEADER + ''.join(ROWS))
  loaded = config.load(
    f'configs/transfer.py:task={path},text=en,target=de,method={method}',
    [('task.metrics', "('exact_match',)")],
  )
  result = train.run(loaded, tmp_path / method)
  lines = (tmp_path / method / 'predictions.jsonl').read_text().splitlines()
  return result, [json.loads(line) for line in lines]


def test_copy_answers_with_the_text_and_lead_with_its_first_sentence(tmp_path):
  copied, lines = run_baseline(tmp_path, 'copy')
  assert len(lines) == copied['n'] > 0
  assert all(line['prediction'] == line['source'] for line in lines)
  assert all(line['reference'].startswith('Zelle') for line in lines)
  led, lines = run_baseline(tmp_path, 'lead')
  for line in lines:
    assert line['prediction'] == line['source'].removesuffix(' It is empty.')
  assert led['examples'] == copied['examples']
  assert led['metrics'] == {'exact_match': 0.0}
  # Nothing is learned of the examples.
  assert led['labels'] == 0


def test_what_is_copied_is_compared_with_the_training_text(tmp_path):
  loaded = config.load(
    'configs/transfer.py:task=continue,method=copy',
    [('task.test', '20'), ('task.metrics', "('copying',)")],
  )
  metrics = train.run(loaded, tmp_path)['metrics']
  # Passages of scenes that are held out.
  assert metrics['copying_8'] < 0.05 and metrics['copying_4'] > 0


@pytest.mark.parametrize(
  ('task', 'method', 'needs'),
  [
    ('sentiment', 'lead', 'needs a task with texts to write; sentiment'),
    ('intensity', 'copy', 'needs a task with texts to write; intensity'),
    ('summary', 'tf-idf', 'needs a task with one label per example; summary'),
  ],
)
def test_a_baseline_is_refused_on_a_task_whose_answers_it_cannot_give(
  task, method, needs
):
  with pytest.raises(ConfigError, match=f'method.name: {method} {needs}'):
    read(config.load(f'configs/transfer.py:task={task},method={method}'))
