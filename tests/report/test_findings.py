"""What is found in a made table: steps paired by seed, and sentences that say censored
numbers as such.
"""

import json

import pytest

from tl_jax.report import Scale, Table, run_table
from tl_jax.report.entries import as_json
from tl_jax.report.findings import find, median_reached
from tl_jax.report.text import plain


@pytest.fixture(autouse=True)
def without_figures(monkeypatch):
  """Drawing is tested elsewhere and would take most of the time here."""
  monkeypatch.setattr('tl_jax.report.html.figures', lambda outcome, findings: [])


def outcome_of(
  folder,
  final,
  columns=(16, 64),
  reference='scratch',
  log='evaluations.jsonl',
  better=True,
  seeds=(0, 1),
):
  """A made table whose runs end at final(row, column, seed) and rise linearly over four
  steps, the last not logged.
  """

  def execute(members):
    for config, directory in members:
      value = final(config['row'], config['column'], config['seed'])
      directory.mkdir(parents=True)
      lines = [
        {'step': step, 'test/accuracy': value * step / 4} for step in range(1, 4)
      ]
      (directory / log).write_text(''.join(json.dumps(line) + '\n' for line in lines))
      (directory / 'result.json').write_text(
        json.dumps({'metrics': {'accuracy': value}, 'steps': 4, 'seconds': 2.5})
      )

  table = Table(
    'T',
    'S',
    ('scratch', 'lora'),
    columns,
    seeds,
    lambda row, column, seed, scale: {'row': row, 'column': column, 'seed': seed},
    'accuracy',
    reference=reference,
    higher_is_better=better,
    extra=('seconds', 'peak_bytes'),
  )
  return run_table(table, Scale(), folder, execute, lambda text: None)


@pytest.mark.parametrize('log', ['metrics.jsonl', 'evaluations.jsonl'])
def test_steps_to_the_value_of_the_reference_are_paired_by_seed(tmp_path, log):
  found = find(
    outcome_of(
      tmp_path,
      lambda row, column, seed: (0.8 if row == 'lora' else 0.4) + seed / 10,
      log=log,
    )
  )
  assert found.metric == 'test/accuracy'
  assert found.targets[16] == pytest.approx(0.45)
  assert {seed: reached.at for seed, reached in found.steps['scratch', 16].items()} == {
    0: 4,
    1: 4,
  }
  assert {seed: reached.at for seed, reached in found.steps['lora', 16].items()} == {
    0: 2,
    1: 3,
  }
  assert median_reached(found.steps['lora', 16]) == '3'


def test_a_row_that_never_gets_there_takes_longer_than_all_steps(tmp_path):
  found = find(
    outcome_of(tmp_path, lambda row, column, seed: 0.3 if row == 'lora' else 0.4)
  )
  assert median_reached(found.steps['lora', 16]) == '> 4'


@pytest.mark.parametrize(
  ('lora', 'words'),
  [
    (0.5, 'scratch needs no more than 16 labels.'),
    (0.95, 'scratch needs more than 64 labels.'),
    (0.7, 'scratch needs 32 labels (2.0 times as many).'),
  ],
)
def test_the_sentence_says_when_the_number_of_labels_is_only_a_bound(
  tmp_path, lora, words
):
  values = {('scratch', 16): 0.6, ('scratch', 64): 0.8}
  found = find(
    outcome_of(tmp_path, lambda row, column, seed: values.get((row, column), lora))
  )
  assert words in found.sentences[1]


def test_a_table_of_tasks_has_no_curves_but_a_best_row(tmp_path):
  outcome = outcome_of(
    tmp_path, lambda row, column, seed: (row == 'lora') + seed / 10, columns=('a', 'b')
  )
  found = find(outcome)
  assert (found.curves, found.gains, found.saved) == ({}, {}, {})
  assert found.sentences[1].startswith('lora has the best mean over all columns: 1.050')
  assert (
    find(
      outcome_of(
        tmp_path / 'errors',
        lambda row, column, seed: (row == 'lora') + seed / 10,
        columns=('a', 'b'),
        better=False,
      )
    )
    .sentences[1]
    .startswith('scratch has the best')
  )


def test_without_a_reference_there_are_curves_but_no_gains(tmp_path):
  found = find(
    outcome_of(tmp_path, lambda row, column, seed: 0.5 + seed / 10, reference=None)
  )
  assert set(found.curves) == {'scratch', 'lora'}
  assert (found.gains, found.steps) == ({}, {})


def test_text_and_json_show_means_costs_and_what_was_not_measured(tmp_path):
  outcome = outcome_of(
    tmp_path, lambda row, column, seed: 0.5 + seed / 10, seeds=(0, 1, 2)
  )
  text = plain(outcome, find(outcome))
  assert 'n=3 in every cell' in text
  assert '0.600 ± 0.248' in text
  cost = next(
    line for line in text.splitlines() if line.startswith('lora') and '2.5' in line
  )
  assert cost.split() == ['lora', '6', '2.5', '–']
  assert 'Training took 30 s on' in text
  assert as_json(outcome, find(outcome))['cells'][0]['extra'] == {
    'seconds': 2.5,
    'peak_bytes': None,
  }
