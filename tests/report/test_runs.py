"""The runner: makes what is missing and nothing else, survives kills and damage, shows
holes, writes strict files.
"""

import dataclasses
import json
import shutil

import pytest

from tl_jax.config import ConfigError
from tl_jax.report import Claim, Scale, Table, run_table

VALUES = {'scratch': 0.5, 'lora': 0.7}


def run(row, column, seed, scale, pretrained):
  config = {
    'method': row,
    'labels': column,
    'seed': seed,
    'steps': scale.settings.get('steps', 1),
  }
  return config if row == 'scratch' else {**config, 'init': pretrained}


def pretrain(seed, scale):
  return {'objective': 'masked', 'steps': scale.settings.get('steps', 1)}


TABLE = Table(
  'Few labels',
  'A paper',
  ('scratch', 'lora'),
  (16, 64),
  (0, 1, 2),
  run,
  'accuracy',
  reference='scratch',
  before={'pretrained': pretrain},
  claims=(
    Claim('better', lambda cells: cells['lora', 16] - cells['scratch', 16], above=0.1),
    Claim('worse', lambda cells: cells['lora', 64] - cells['scratch', 64], below=0),
  ),
  scales={'smoke': Scale(seeds=(0,), columns=(16,)), 'mini': Scale()},
)


@pytest.fixture(autouse=True)
def without_figures(monkeypatch):
  """Drawing is tested elsewhere and would take most of the time here."""
  monkeypatch.setattr('tl_jax.report.html.figures', lambda outcome, findings: [])


class Trainer:
  """Stands for training: counts its calls, may fail members, may be killed after a
  number of them.
  """

  def __init__(self, fail=(), stop=None):
    self.calls, self.made, self.fail, self.stop = [], 0, fail, stop

  def __call__(self, members):
    self.calls.append([directory.name for _, directory in members])
    for config, directory in members:
      if self.made == self.stop:
        raise KeyboardInterrupt
      self.made += 1
      directory.mkdir(parents=True, exist_ok=True)
      if any(word in directory.name for word in self.fail):
        (directory / 'failed.json').write_text(json.dumps({'reason': 'out of memory'}))
        continue
      value = (
        VALUES.get(config.get('method'), 0)
        + config.get('labels', 0) / 1000
        + config.get('seed', 0) ** 2 / 100
      )
      (directory / 'result.json').write_text(
        json.dumps(
          {'metrics': {'accuracy': value}, 'seconds': 1.0, 'trained_parameters': 10}
        )
      )


def make(folder, trainer=None, scale='mini', table=TABLE, **arguments):
  said = []
  return run_table(
    table, scale, folder, trainer or Trainer(), said.append, **arguments
  ), '\n'.join(said)


def test_members_of_a_row_are_made_together_after_what_comes_first(tmp_path):
  trainer = Trainer()
  outcome, said = make(tmp_path, trainer)
  assert [len(call) for call in trainer.calls] == [1, 6, 6]
  assert trainer.calls[0][0].startswith('pretrained-')
  assert all(name.startswith('scratch-') for name in trainer.calls[1])
  assert trainer.calls[2][0].startswith('lora-16-0-')
  assert outcome.cells['lora', 16].n == 3
  assert [found.verdict for found in outcome.judgements] == ['held', 'missed']
  assert outcome.unfinished == []
  assert 'Few labels' in said


def test_a_finished_table_is_not_made_again_even_from_another_place(tmp_path):
  make(tmp_path / 'here')
  shutil.move(tmp_path / 'here', tmp_path / 'there')
  trainer = Trainer()
  outcome, _ = make(tmp_path / 'there', trainer)
  assert trainer.calls == []
  assert outcome.cells['lora', 64].n == 3


@pytest.mark.parametrize('stop', [0, 1, 4, 8, 12])
def test_a_killed_table_resumes_where_it_was(tmp_path, stop):
  with pytest.raises(KeyboardInterrupt):
    make(tmp_path, Trainer(stop=stop))
  trainer = Trainer()
  outcome, _ = make(tmp_path, trainer)
  assert trainer.made == 13 - stop
  whole, _ = make(tmp_path / 'whole')
  assert [cell.interval for cell in outcome.cells] == [
    cell.interval for cell in whole.cells
  ]


def test_a_changed_config_is_another_run_and_scales_share_what_is_equal(tmp_path):
  make(tmp_path, scale='smoke')
  trainer = Trainer()
  make(tmp_path, trainer)
  assert [len(call) for call in trainer.calls] == [5, 5]
  changed = Trainer()
  make(tmp_path, changed, scale=Scale(settings={'steps': 9}))
  assert changed.made == 13


@pytest.mark.parametrize(
  'damage', ['', '{"metrics": {"accu', '[1]', '{"metrics": {"accuracy": NaN}}']
)
def test_a_damaged_result_counts_as_unfinished(tmp_path, damage):
  outcome, _ = make(tmp_path)
  outcome.runs[0].directory.joinpath('result.json').write_text(damage)
  trainer = Trainer()
  make(tmp_path, trainer)
  assert trainer.calls == [[outcome.runs[0].directory.name]]


def test_failed_members_are_holes_until_a_retry_is_asked_for(tmp_path):
  outcome, said = make(tmp_path, Trainer(fail=('lora-16-1', 'lora-64')))
  assert dict(outcome.cells['lora', 16].holes) == {1: 'out of memory'}
  assert (outcome.cells['lora', 16].n, outcome.cells['lora', 64].mean) == (2, None)
  assert len(outcome.unfinished) == 4
  assert 'n=2 of 3' in said
  assert 'lora, 64, seed 2: out of memory' in said
  assert [found.verdict for found in outcome.judgements] == ['held', 'undecided']
  page = (tmp_path / 'report.html').read_text()
  assert 'n=2 of 3' in page
  assert 'out of memory' in page
  again = Trainer()
  _, said = make(tmp_path, again)
  assert again.calls == []
  assert 'lora: 4 of 6 runs failed before' in said
  outcome, _ = make(tmp_path, again, retry=True)
  assert (again.made, outcome.unfinished) == (4, [])


def test_a_refusal_is_tried_again_for_its_cause_may_be_gone(tmp_path):
  outcome, _ = make(tmp_path, Trainer(fail=('lora-16-1', 'lora-64-2')))
  refused, diverged = (run.directory for run in outcome.unfinished)
  (refused / 'failed.json').write_text(
    json.dumps({'reason': 'too few labels', 'retry': True})
  )
  again = Trainer()
  outcome, _ = make(tmp_path, again)
  assert again.calls == [[refused.name]]
  assert [run.directory for run in outcome.unfinished] == [diverged]
  assert not (refused / 'failed.json').exists()


def test_a_row_without_a_config_is_a_hole_and_the_others_are_made(tmp_path):
  def sometimes(row, column, seed, scale, **paths):
    if row == 'lora' and column == 64:
      raise ConfigError('config.method: no such encoder')
    return run(row, column, seed, scale, **paths)

  outcome, said = make(tmp_path, table=dataclasses.replace(TABLE, run=sometimes))
  assert dict(outcome.cells['lora', 64].holes) == dict.fromkeys(
    (0, 1, 2), 'config.method: no such encoder'
  )
  assert outcome.cells['lora', 16].n == outcome.cells['scratch', 64].n == 3
  assert (
    'no such encoder' in (tmp_path / 'table.md').read_text()
    and 'no such encoder' in said
  )
  assert len(json.loads((tmp_path / 'table.json').read_text())['runs']) == 13


def test_a_table_without_any_config_is_an_error(tmp_path):
  def never(*_, **__):
    raise ConfigError('needs the encoder')

  with pytest.raises(ConfigError, match='needs the encoder'):
    make(tmp_path, table=dataclasses.replace(TABLE, run=never))


def rewrite(directory, **fields):
  path = directory / 'result.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
  'odd', [dict(n=4341, examples='a'), dict(n=400, examples='b'), {}]
)
def test_runs_of_a_column_that_were_judged_on_other_examples_are_an_error(
  tmp_path, odd
):
  outcome, _ = make(tmp_path)
  for run in outcome.runs:
    rewrite(run.directory, n=400, examples='a')
  assert make(tmp_path)[0].cells['lora', 64].n == 3
  other, run = (
    outcome.runs[0],
    next(run for run in outcome.runs if (run.row, run.column) == ('lora', 16)),
  )
  (run.directory / 'result.json').write_text(
    json.dumps({'metrics': {'accuracy': 1.0}} | odd)
  )
  with pytest.raises(ValueError, match='different examples') as caught:
    make(tmp_path)
  assert str(other.directory) in str(caught.value) and str(run.directory) in str(
    caught.value
  )


def test_columns_may_have_examples_of_their_own(tmp_path):
  outcome, _ = make(tmp_path)
  for run in outcome.runs:
    rewrite(run.directory, n=run.column, examples=str(run.column))
  assert make(tmp_path)[0].cells['lora', 64].n == 3


def test_a_result_that_does_not_say_its_examples_is_made_again(tmp_path):
  outcome, _ = make(tmp_path)
  rewrite(outcome.runs[4].directory, n=400)
  trainer = Trainer()
  make(tmp_path, trainer)
  assert trainer.calls == [[outcome.runs[4].directory.name]]


def test_without_what_comes_first_only_the_runs_that_need_it_are_holes(tmp_path):
  outcome, _ = make(tmp_path, Trainer(fail=('pretrained',)))
  assert outcome.cells['scratch', 16].n == 3
  assert (
    outcome.cells['lora', 16].holes[0]
    == 'pretrained, from which it starts: out of memory'
  )
  assert outcome.judgements[0].verdict == 'undecided'


def test_a_member_that_leaves_nothing_and_one_without_the_headline_are_holes(tmp_path):
  outcome, _ = make(tmp_path, lambda members: None)
  assert {run.reason for run in outcome.unfinished if run.row == 'scratch'} == {
    'ended without a result'
  }
  outcome, _ = make(
    tmp_path / 'other', table=dataclasses.replace(TABLE, headline='acuracy', claims=())
  )
  assert (
    outcome.cells['scratch', 16].holes[0]
    == "its result has no metric 'acuracy'; nearest: 'accuracy'"
  )


def test_claims_about_rows_left_out_are_undecided(tmp_path):
  outcome, _ = make(tmp_path, scale=Scale(rows=('scratch',)))
  assert {found.reason for found in outcome.judgements} == {
    "the row 'lora' is left out at this scale"
  }


def test_a_single_seed_has_no_interval_and_decides_nothing(tmp_path):
  outcome, said = make(tmp_path, scale='smoke')
  assert outcome.judgements[0].reason == 'a single seed has no interval'
  assert '±' not in said.split('Results')[1]


def refuse(constant):
  raise AssertionError(constant)


def test_the_files_are_strict_and_say_the_same(tmp_path):
  outcome, said = make(tmp_path, Trainer(fail=('lora-16-1',)))
  found = json.loads((tmp_path / 'table.json').read_text(), parse_constant=refuse)
  cell = next(
    cell for cell in found['cells'] if (cell['row'], cell['column']) == ('lora', 16)
  )
  assert (cell['n'], cell['holes'], cell['values'].keys()) == (
    2,
    {'1': 'out of memory'},
    {'0', '2'},
  )
  assert cell['mean'] == outcome.cells['lora', 16].mean
  assert [claim['verdict'] for claim in found['claims']] == [
    judged.verdict for judged in outcome.judgements
  ]
  assert any(
    saved['censored'] == 'above' and saved['multiplier']['mean'] is None
    for saved in found['labels_saved']
  )
  assert len(found['runs']) == 13
  markdown = (tmp_path / 'table.md').read_text()
  for text in found['summary']:
    assert text in markdown
    assert text in said
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    'before',
    'report.html',
    'runs',
    'table.json',
    'table.md',
  ]


@pytest.mark.parametrize('name', ['../../up', '/etc', 'a b;$(c)', '..', 'x' * 300, 'й'])
def test_no_name_leaves_the_workdir(tmp_path, name):
  table = Table(
    'T',
    'S',
    (name,),
    ('a',),
    (0,),
    lambda row, column, seed, scale: {'seed': seed},
    'accuracy',
  )
  outcome, _ = make(tmp_path, table=table, scale=Scale())
  assert outcome.runs[0].directory.parent == tmp_path.resolve() / 'runs'
  assert len(outcome.runs[0].directory.name) < 100


def test_names_that_look_alike_on_disk_stay_apart(tmp_path):
  table = Table(
    'T',
    'S',
    ('a/b', 'a:b'),
    ('a',),
    (0,),
    lambda row, column, seed, scale: {'row': row},
    'accuracy',
  )
  outcome, _ = make(tmp_path, table=table, scale=Scale())
  assert len({run.directory for run in outcome.runs}) == 2


def test_a_config_that_json_cannot_hold_is_an_error(tmp_path):
  table = Table(
    'T',
    'S',
    ('a',),
    ('b',),
    (0,),
    lambda row, column, seed, scale: {'lr': float('nan')},
    'accuracy',
  )
  with pytest.raises(ValueError, match='lr'):
    make(tmp_path, table=table, scale=Scale())
