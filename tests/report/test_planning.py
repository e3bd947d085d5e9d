"""The order of a table's runs: steps that chain, seed by seed, and columns that share a
run.
"""

import dataclasses
import json
import shutil

import numpy as np
import pytest

import tl_jax
from tl_jax import config, train, tree
from tl_jax.config import ConfigError
from tl_jax.report import Scale, Table, run_table


@pytest.fixture(autouse=True)
def without_figures(monkeypatch):
  """Drawing is tested elsewhere and would take most of the time here."""
  monkeypatch.setattr('tl_jax.report.html.figures', lambda outcome, findings: [])


class Trainer:
  """Stands for training: remembers in which order the runs were made, from what.

  A run's accuracy is its seed in thousandths and, if `init` names a run, that run's
  accuracy and a tenth. Directories that hold a word of `fail` fail.
  """

  def __init__(self, fail=()):
    self.made, self.fail = [], fail

  def __call__(self, members):
    for config_, directory in members:
      self.made.append(directory.name.rsplit('-', 1)[0])
      directory.mkdir(parents=True, exist_ok=True)
      if any(word in directory.name for word in self.fail):
        (directory / 'failed.json').write_text(json.dumps({'reason': 'out of memory'}))
        continue
      value = config_.get('seed', 0) / 1000
      if config_.get('init'):
        # What a run starts from must be there already.
        with open(f'{config_["init"]}/result.json') as file:
          value += 0.1 + json.load(file)['metrics']['accuracy']
      metrics = {'accuracy': value, 'f1': value / 2}
      (directory / 'result.json').write_text(
        json.dumps({'metrics': metrics, 'seconds': 2.0})
      )


def pretrain(seed, scale):
  config_ = {'step': 'pretrain'}
  return config_ | {'seed': seed} if scale.settings.get('each') else config_


def adapt(seed, scale, pretrained):
  return {'step': 'adapt', 'init': pretrained}


def first_task(seed, scale, pretrained, adapted):
  return {'step': 'first', 'init': adapted, 'tokenizer': pretrained}


def run(row, column, seed, scale, pretrained, adapted, first):
  starts = {'scratch': '', 'pretrained': pretrained, 'chained': first}
  return {'init': starts[row], 'column': column, 'seed': seed}


STEPS = {'pretrained': pretrain, 'adapted': adapt, 'first': first_task}
TABLE = Table(
  'A chain',
  'A paper',
  ('scratch', 'pretrained', 'chained'),
  ('a', 'b'),
  (1, 2),
  run,
  'accuracy',
  before=STEPS,
)
EACH = Scale(settings={'each': True})


def make(folder, scale=None, trainer=None, table=TABLE, **arguments):
  trainer = trainer or Trainer()
  scale = scale or Scale()
  outcome = run_table(table, scale, folder, trainer, lambda text: None, **arguments)
  return outcome, trainer


def test_steps_are_made_in_their_order_before_the_rows_and_start_from_one_another(
  tmp_path,
):
  outcome, trainer = make(tmp_path)
  assert trainer.made[:4] == ['pretrained', 'adapted', 'first', 'scratch-a-1']
  # Three steps of a tenth each, as two runs stand between the first and the row.
  assert outcome.cells['chained', 'a'].values == pytest.approx({1: 0.301, 2: 0.302})
  assert outcome.cells['pretrained', 'a'].values == pytest.approx({1: 0.101, 2: 0.102})
  assert [run.row for run in outcome.before] == ['pretrained', 'adapted', 'first']


def test_a_step_that_uses_its_seed_is_a_run_for_every_seed_and_so_is_what_follows(
  tmp_path,
):
  outcome, trainer = make(tmp_path, EACH)
  assert trainer.made[:6] == [name for name in STEPS for _ in range(2)]
  found = outcome.cells['chained', 'a'].values
  # The seed counts twice: in the row, and in the pre-training that it ends in.
  assert found == pytest.approx({1: 0.302, 2: 0.304})
  assert [run.seed for run in outcome.before] == [1, 2] * 3
  text = (tmp_path / 'table.json').read_text()
  directories = {run['directory'] for run in json.loads(text)['runs']}
  assert len(directories) == 6 + 12


def test_a_chain_goes_on_where_it_was_and_another_seed_adds_its_own(tmp_path):
  make(tmp_path, EACH)
  _, trainer = make(tmp_path, EACH)
  assert trainer.made == []
  more = dataclasses.replace(EACH, seeds=(1, 2, 3))
  _, trainer = make(tmp_path, more)
  assert trainer.made[:3] == list(STEPS)
  assert all(name.endswith('-3') for name in trainer.made[3:])
  assert len(trainer.made) == 3 + 6


def test_a_key_that_has_another_name_since_leaves_a_run_in_its_place(tmp_path):
  def named(key):
    config_ = {'data': {key: 8}}
    return dataclasses.replace(
      GLUE, run=lambda *place: config_, columns=('cola',), headline='f1'
    )

  make(tmp_path, table=named('slots'))
  _, trainer = make(tmp_path, table=named('examples_per_row'))
  assert trainer.made == []


def test_without_a_step_only_what_starts_from_it_is_missing(tmp_path):
  outcome, trainer = make(tmp_path, trainer=Trainer(fail=('adapted',)))
  reason = 'adapted, from which it starts: out of memory'
  assert not any(name.startswith(('first', 'chained')) for name in trainer.made)
  assert {run.row: run.reason for run in outcome.unfinished if run.column != 'b'} == {
    'adapted': 'out of memory',
    'first': reason,
    'chained': f'first, from which it starts: {reason}',
  }
  assert outcome.cells['pretrained', 'a'].n == outcome.cells['scratch', 'b'].n == 2
  outcome, trainer = make(tmp_path, retry=True)
  assert outcome.unfinished == []
  assert trainer.made[:2] == ['adapted', 'first']


def test_a_step_that_fails_for_one_seed_costs_that_seed(tmp_path):
  def sometimes(seed, scale, pretrained):
    if seed == 2:
      raise ConfigError('config.data: no such text')
    return adapt(seed, scale, pretrained)

  table = dataclasses.replace(TABLE, before=STEPS | {'adapted': sometimes})
  outcome, _ = make(tmp_path, EACH, table=table)
  chained = outcome.cells['chained', 'a']
  assert list(chained.values) == [1]
  assert 'adapted, from which it starts: config.data: no such text' in chained.holes[2]
  assert outcome.cells['pretrained', 'a'].n == 2


@pytest.mark.parametrize(
  ('rows', 'steps'),
  [
    (('scratch',), []),
    (('pretrained',), ['pretrained']),
    (('chained',), ['pretrained', 'adapted', 'first']),
  ],
)
def test_a_scale_makes_only_the_steps_that_its_rows_need(tmp_path, rows, steps):
  outcome, trainer = make(tmp_path, Scale(rows=rows))
  assert trainer.made[: len(steps)] == steps
  assert len(trainer.made) == len(steps) + 4
  assert [run.row for run in outcome.before] == steps


def test_a_mistake_that_leaves_no_run_is_told_before_anything_is_made(tmp_path):
  def never(*_, **__):
    raise ConfigError('config.steps: 0')

  trainer = Trainer()
  chained = Scale(rows=('chained',))
  table = dataclasses.replace(TABLE, before=STEPS | {'adapted': never})
  with pytest.raises(ConfigError, match='steps: 0'):
    make(tmp_path, chained, trainer, table)
  with pytest.raises(ConfigError, match='steps: 0'):
    make(tmp_path, None, trainer, dataclasses.replace(TABLE, run=never))
  assert trainer.made == []


def shared(row, column, seed, scale):
  # Both columns of mrpc are numbers of one run.
  return {'row': row, 'task': column.split()[0], 'seed': seed}


GLUE = Table(
  'Two tasks',
  'A paper',
  ('full',),
  ('mrpc accuracy', 'mrpc f1', 'cola'),
  (1, 2, 3),
  shared,
  {'mrpc accuracy': 'accuracy', 'mrpc f1': 'f1', 'cola': 'accuracy'},
)


def test_columns_with_equal_configs_are_numbers_of_one_run(tmp_path):
  outcome, trainer = make(tmp_path, table=GLUE)
  names = ['full-mrpc_accuracy', 'full-cola']
  assert trainer.made == [f'{name}-{seed}' for name in names for seed in (1, 2, 3)]
  cells = outcome.cells
  assert cells['full', 'mrpc accuracy'].mean == pytest.approx(0.002)
  assert cells['full', 'mrpc f1'].mean == pytest.approx(0.001)
  text = (tmp_path / 'table.md').read_text()
  # Six runs of two seconds each, though there are nine values.
  assert '6 of 6 runs finished. Training took 12 s' in text
  assert '| full | 6 |' in text
  _, trainer = make(tmp_path, table=GLUE)
  assert trainer.made == []


SMALL = [
  ('data.length', '32'),
  ('data.batch', '4'),
  ('schedule.steps', '2'),
  ('schedule.warmup', '1'),
  ('log.tensorboard', 'false'),
]
TINY = [
  ('model', "{'family': 'tiny', 'layers': 1}"),
  ('tokenizer.size', '512'),
  ('data.mixture', "{'vader_amazon': 1.0}"),
  ('data.accumulate', '1'),
  ('checkpoint.every', '2'),
  ('eval.batches', '1'),
]


def load(file, seed, *more):
  return config.load(f'configs/{file}', [*SMALL, ('seed', str(seed)), *more])


def real_pretrain(seed, scale):
  return load('pretrain.py:tiny', 0, *TINY)


def real_adapt(seed, scale, pretrained):
  return load(f'adapt.py:init={pretrained},text=vader_nyt', seed)


def real_first(seed, scale, pretrained, adapted):
  file = f'transfer.py:task=topic,method=full,init={adapted},labels=12'
  return load(file, 0, ('task.test', '12'))


def real_run(row, column, seed, scale, pretrained, adapted, first):
  start = {'adapted': adapted, 'chained': first}[row]
  file = f'transfer.py:task={column},method=bitfit,init={start},labels=8'
  return load(file, 0, ('task.test', '8'))


REAL = Table(
  'A chain of real runs',
  'nowhere',
  ('adapted', 'chained'),
  ('sentiment',),
  (1, 2),
  real_run,
  'accuracy',
  before={'pretrained': real_pretrain, 'adapted': real_adapt, 'first': real_first},
)


def kernel(run):
  """A weight of a finished run that bitfit leaves as it was where the run started."""
  return tree.flatten(tl_jax.restore(run.directory))['layers/0/mlp/in/kernel']


def distance(one, other):
  return float(np.abs(kernel(one) - kernel(other)).max())


@pytest.mark.slow
def test_real_runs_chain_resume_and_differ_by_seed(tmp_path):
  calls = []

  def execute(members):
    calls.append([directory for _, directory in members])
    train.execute(members)

  outcome, _ = make(tmp_path, trainer=execute, table=REAL)
  assert outcome.unfinished == []
  assert [len(call) for call in calls] == [1, 2, 2, 2, 2]
  pretrained, *others = outcome.before
  adapted, first = others[:2], others[2:]
  rows = [[run for run in outcome.runs if run.row == row] for row in REAL.rows]
  for seed in (0, 1):
    # Every run ends at another place, and a row has the weights of what it started from.
    assert distance(pretrained, adapted[seed]) > 0
    assert distance(adapted[seed], first[seed]) > 0
    assert distance(adapted[seed], rows[0][seed]) == 0
    assert distance(first[seed], rows[1][seed]) == 0
  # The rows themselves have one seed: what differs is the adaptation before them.
  assert distance(*rows[0]) > 0
  assert distance(*rows[1]) > 0
  before = {run.directory: run.result for run in (*outcome.before, *outcome.runs)}
  shutil.rmtree(rows[1][0].directory)
  calls.clear()
  outcome, _ = make(tmp_path, trainer=execute, table=REAL)
  assert calls == [[rows[1][0].directory]]
  for run in (*outcome.before, *outcome.runs):
    assert run.result['metrics'] == before[run.directory]['metrics']
