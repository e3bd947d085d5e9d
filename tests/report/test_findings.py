"""What is found in a made table: steps paired by seed, and sentences that say censored
numbers as such.
"""

import json

import pytest

from tl_jax.report import Claim, Scale, Table, run_table
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
  name='test/accuracy',
  last=3,
):
  """A made table whose runs end at final(row, column, seed) and rise linearly over four
  steps, those up to the `last` logged by this name.
  """

  def execute(members):
    for config, directory in members:
      value = final(config['row'], config['column'], config['seed'])
      directory.mkdir(parents=True)
      lines = [{'step': step, name: value * step / 4} for step in range(1, last + 1)]
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


def test_a_curve_of_validation_ends_on_validation(tmp_path):
  name = 'validation/accuracy'
  outcome = outcome_of(
    tmp_path,
    lambda row, column, seed: 0.8 if row == 'lora' else 0.4,
    name=name,
    last=4,
  )
  # Judged on the test split, they are worth another value.
  for path in tmp_path.rglob('result.json'):
    path.write_text(path.read_text().replace('"accuracy": 0.', '"accuracy": 0.9'))
  found = find(outcome)
  assert found.logged[16] == name and found.targets[16] == pytest.approx(0.4)
  assert {seed: at.at for seed, at in found.steps['lora', 16].items()} == {0: 2, 1: 2}


@pytest.mark.parametrize('log', ['metrics.jsonl', 'evaluations.jsonl'])
def test_steps_to_the_value_of_the_reference_are_paired_by_seed(tmp_path, log):
  found = find(
    outcome_of(
      tmp_path,
      lambda row, column, seed: (0.8 if row == 'lora' else 0.4) + seed / 10,
      log=log,
    )
  )
  assert found.logged == {16: 'test/accuracy', 64: 'test/accuracy'}
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


def glue(folder, headline):
  """A made table whose runs log and end with an accuracy and a correlation."""

  def execute(members):
    for config, directory in members:
      better = 0.1 * (config['row'] == 'lora') + config['seed'] / 100
      final = {'accuracy': 0.5 + better, 'matthews': 0.2 + better}
      directory.mkdir(parents=True)
      lines = []
      for step in range(1, 4):
        logged = {f'test/{name}': value * step / 4 for name, value in final.items()}
        lines.append(json.dumps({'step': step, **logged}) + '\n')
      (directory / 'evaluations.jsonl').write_text(''.join(lines))
      result = {'metrics': final, 'steps': 4}
      (directory / 'result.json').write_text(json.dumps(result))

  def difference(column):
    return lambda cells: cells['lora', column] - cells['full', column]

  table = Table(
    'T',
    'S',
    ('full', 'lora'),
    ('sst2', 'cola'),
    (0, 1),
    lambda row, column, seed, scale: {'row': row, 'column': column, 'seed': seed},
    headline,
    reference='full',
    factor=100,
    unit=' %',
    digits=1,
    claims=(
      Claim('sst2', lambda cells: cells['full', 'sst2'].mean, at_least=50),
      Claim('cola', lambda cells: cells['full', 'cola'].mean, at_least=50),
      Claim('gain', difference('cola'), at_least=9.9),
      Claim('mean', lambda cells: cells['lora'].mean, at_least=45.4),
    ),
  )
  return run_table(table, Scale(), folder, execute, lambda text: None)


def test_every_column_is_reported_and_judged_by_its_own_metric(tmp_path):
  outcome = glue(tmp_path, {'sst2': 'accuracy', 'cola': 'matthews'})
  found = find(outcome)
  assert found.logged == {'sst2': 'test/accuracy', 'cola': 'test/matthews'}
  assert found.targets == pytest.approx({'sst2': 50.5, 'cola': 20.5})
  # Of a final 30, logged in quarters, the third is the first above the reference's 20.
  assert {seed: at.at for seed, at in found.steps['lora', 'cola'].items()} == {
    0: 3,
    1: 3,
  }
  verdicts = [judgement.verdict for judgement in outcome.judgements]
  assert verdicts == ['held', 'missed', 'held', 'held']
  lines = plain(outcome, found).splitlines()
  assert lines[1].startswith('Accuracy, matthews in % (higher is better)')
  words = [line.split() for line in lines]
  assert ['metric', 'accuracy', 'matthews'] in words
  assert (tmp_path / 'table.md').read_text().count('| metric | accuracy | matthews |')
  page = (tmp_path / 'report.html').read_text()
  assert '<th scope="col">cola<small>matthews</small></th>' in page
  entries = json.loads((tmp_path / 'table.json').read_text())
  assert entries['headline'] == {'sst2': 'accuracy', 'cola': 'matthews'}


def test_a_metric_that_all_columns_share_is_named_once(tmp_path):
  outcome = glue(tmp_path, {'sst2': 'matthews', 'cola': 'matthews'})
  text = plain(outcome, find(outcome))
  assert text.count('Matthews in %') == 1
  assert 'metric ' not in text
  assert '<small>matthews</small>' not in (tmp_path / 'report.html').read_text()
