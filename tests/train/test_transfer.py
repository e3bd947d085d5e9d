"""Transfer end to end on a seconds-sized encoder: files, chains, resumption, cohorts,
baselines.
"""

import json

import jax
import numpy as np
import pytest

from tl_jax import config, train, tree
from tl_jax.checkpoint import CheckpointError, Store
from tl_jax.train.checks import check
from tl_jax.train.cohort import run_cohort
from tl_jax.train.preparing import prepare

QUICK = [
  ('schedule.steps', '6'),
  ('schedule.warmup', '2'),
  ('data.length', '32'),
  ('data.batch', '4'),
  ('task.test', '60'),
  ('log.every', '2'),
  ('log.tensorboard', 'false'),
]


def transfer_config(pretrained, method='full', labels=24, task='sentiment', more=()):
  argument = f'task={task},method={method},init={pretrained},labels={labels}'
  return config.load(f'configs/transfer.py:{argument}', [*QUICK, *more])


def lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


# Other quick tests run full and probe too; that a cohort is its runs, the step shows.
@pytest.mark.parametrize(
  'method',
  [
    pytest.param(name, marks=[] if name == 'lora' else pytest.mark.slow)
    for name in ('full', 'lora', 'probe', 'bitfit', 'norms', 'last')
  ],
)
def test_every_method_leaves_a_whole_workdir(pretrained, tmp_path, method):
  result = train.transfer(transfer_config(pretrained, method), tmp_path)
  assert json.loads((tmp_path / 'result.json').read_text()) == result
  assert (result['task'], result['method'], result['labels'], result['n']) == (
    'sentiment',
    method,
    24,
    60,
  )
  assert 0 < result['trained_parameters'] <= result['total_parameters']
  assert [row['step'] for row in lines(tmp_path / 'metrics.jsonl')] == [2, 4, 6]
  predictions = lines(tmp_path / 'predictions.jsonl')
  right = [row['target'] == row['prediction'] for row in predictions]
  assert len(predictions) == 60 and np.mean(right) == pytest.approx(
    result['metrics']['accuracy']
  )
  account = json.loads((tmp_path / 'account.json').read_text())
  assert account['counts']['copied'] > 15 and account['counts']['fresh'] == 4
  before, after = (
    tree.flatten(train.restore(folder)) for folder in (pretrained, tmp_path)
  )
  moved = {
    name
    for name in after
    if name in before
    and not name.startswith('head')
    and (np.asarray(before[name]) != np.asarray(after[name])).any()
  }
  expected = {'full': 15, 'probe': 0, 'bitfit': 5, 'norms': 4, 'last': 8, 'lora': 2}[
    method
  ]
  assert len(moved) >= expected and (
    method not in ('probe', 'lora') or len(moved) == expected
  )


@pytest.mark.slow
def test_a_transfer_is_a_source_too_and_its_head_is_left_behind(pretrained, tmp_path):
  train.transfer(transfer_config(pretrained, 'lora'), tmp_path / 'one')
  result = train.transfer(
    transfer_config(tmp_path / 'one', 'full', task='register', labels=40),
    tmp_path / 'two',
  )
  account = json.loads((tmp_path / 'two' / 'account.json').read_text())
  assert result['task'] == 'register' and account['counts']['dropped'] == 2


def test_real_values_are_learned_and_scored(pretrained, tmp_path):
  result = train.transfer(
    transfer_config(pretrained, 'full', task='intensity', labels=40), tmp_path
  )
  assert set(result['metrics']) >= {'pearson', 'spearman', 'mean_squared_error'}


def test_a_file_is_transferred_to_without_code(pretrained, tmp_path):
  path = tmp_path / 'mails.csv'
  path.write_text(
    'text,label\n'
    + '\n'.join(f'mail number {i} about things,{"ab"[i % 2]}' for i in range(80))
  )
  result = train.transfer(
    transfer_config(pretrained, 'probe', task=path, labels=20), tmp_path / 'w'
  )
  assert result['n'] >= 5


def test_entity_marks_are_pieces_where_the_config_says_so(pretrained, tmp_path):
  path = tmp_path / 'pairs.csv'
  path.write_text(
    'text,label\n'
    + '\n'.join(f'good {i} [SEP] film [MASK],{"ab"[i % 2]}' for i in range(60))
  )
  told = [('tokenizer.parse_special', 'true')]
  checked = check(transfer_config(pretrained, 'probe', task=path, labels=8, more=told))
  ready = prepare(checked, tmp_path / 'cache')
  tokenizer = ready.tokenizer
  assert {tokenizer.sep, tokenizer.mask} <= set(
    ready.corpus.train.examples.tokens[0][1:-1].tolist()
  )
  plain = prepare(
    check(transfer_config(pretrained, 'probe', task=path, labels=8)), tmp_path / 'cache'
  )
  assert tokenizer.mask not in plain.corpus.train.examples.tokens[0].tolist()


@pytest.mark.slow
def test_what_was_trained_with_marks_is_read_with_them(pretrained, tmp_path):
  told = [('tokenizer.parse_special', 'true')]
  train.transfer(transfer_config(pretrained, 'probe', more=told), tmp_path / 'one')
  assert train.load(tmp_path / 'one').tokenizer.parse_special
  with pytest.raises(
    config.ConfigError,
    match='config.tokenizer.parse_special: .*/one finds special pieces',
  ):
    train.transfer(transfer_config(tmp_path / 'one', 'probe'), tmp_path / 'two')


def test_evaluation_says_again_what_the_run_said(pretrained, tmp_path):
  result = train.transfer(transfer_config(pretrained, 'lora'), tmp_path)
  again = train.evaluate(tmp_path)
  assert again['metrics'] == pytest.approx(result['metrics']) and again['step'] == 6
  assert train.evaluate(tmp_path, overrides=[('task.test', '30')])['n'] == 30
  with pytest.raises(CheckpointError, match='committed steps: 6'):
    train.evaluate(tmp_path, step=5)


def test_evaluation_of_pre_training(pretrained):
  said = json.loads((pretrained / 'result.json').read_text())
  assert train.evaluate(pretrained)['metrics']['loss'] == pytest.approx(
    said['metrics']['loss']
  )


def test_a_finished_run_is_not_run_again_under_another_config(pretrained, tmp_path):
  train.transfer(transfer_config(pretrained, 'probe'), tmp_path)
  with pytest.raises(ValueError, match='optim.lr'):
    train.transfer(
      transfer_config(pretrained, 'probe', more=[('optim.lr', '0.5')]), tmp_path
    )


@pytest.mark.slow
@pytest.mark.parametrize(
  'method, init', [('lora', 'base'), ('full', 'scratch'), ('full', 'base')]
)
def test_members_of_a_cohort_are_their_single_runs(pretrained, tmp_path, method, init):
  """In turn and together, a member has the losses and the predictions of a run of its
  own.
  """
  more = [
    ('init', 'scratch'),
    ('model.family', 'tiny'),
    ('tokenizer.path', f'{pretrained}/tokenizer.json'),
  ] * (init == 'scratch')
  configs = [
    transfer_config(
      pretrained, method, labels, more=[*more, ('seed', str(seed)), ('optim.lr', rate)]
    )
    for labels, seed, rate in ((8, 1, '1e-3'), (24, 2, '5e-3'))
  ]
  for together in (False, True):
    folders = [tmp_path / f'{together}-{index}' for index in range(2)]
    run_cohort(list(zip(configs, folders, strict=True)), together=together)
    for index, (loaded, folder) in enumerate(zip(configs, folders, strict=True)):
      alone = tmp_path / f'alone-{index}'
      expected = train.transfer(loaded, alone)
      found = json.loads((folder / 'result.json').read_text())
      assert found['metrics'] == pytest.approx(expected['metrics'], abs=0.04)
      assert (
        found['labels'] == expected['labels']
        and found['trained_parameters'] == expected['trained_parameters']
      )
      for row, other in zip(
        lines(folder / 'metrics.jsonl'), lines(alone / 'metrics.jsonl'), strict=True
      ):
        assert row['loss'] == pytest.approx(other['loss'], abs=1e-4)
        assert row['learning_rate'] == pytest.approx(other['learning_rate'])


def test_a_member_that_diverges_leaves_the_others_whole(pretrained, tmp_path):
  configs = [
    transfer_config(
      pretrained, 'full', more=[('optim.lr', rate), ('optim.clip', 'None')]
    )
    for rate in ('1e-3', '1e30')
  ]
  run_cohort(list(zip(configs, (tmp_path / 'good', tmp_path / 'bad'), strict=True)))
  assert (tmp_path / 'good' / 'result.json').is_file() and not (
    tmp_path / 'bad' / 'result.json'
  ).exists()
  assert 'loss' in json.loads((tmp_path / 'bad' / 'failed.json').read_text())['reason']


def test_divergence_stops_a_run_and_saves_nothing(pretrained, tmp_path):
  loaded = transfer_config(
    pretrained, 'full', more=[('optim.lr', '1e30'), ('optim.clip', 'None')]
  )
  with pytest.raises(train.Diverged, match='step'):
    train.transfer(loaded, tmp_path)
  assert Store(tmp_path / 'checkpoints').steps() == []


def test_a_last_update_that_ruins_the_model_is_no_result(pretrained, tmp_path):
  """The loss of a step is that before its update: of a single step it says nothing."""
  loaded = transfer_config(
    pretrained,
    'full',
    more=[
      ('optim.lr', '1e30'),
      ('schedule.steps', '1'),
      ('schedule.warmup', '0'),
    ],
  )
  with pytest.raises(
    train.Diverged, match='step 1: .* no number for .*config.optim.lr'
  ):
    train.transfer(loaded, tmp_path)
  assert Store(tmp_path / 'checkpoints').steps() == []
  assert not (tmp_path / 'result.json').exists()
  assert not (tmp_path / 'predictions.jsonl').exists()


def test_restored_parameters_are_plain_arrays(pretrained):
  params = train.restore(pretrained)
  assert params['layers']['0']['attention']['query']['kernel'].shape == (64, 64)
  assert all(
    isinstance(leaf, jax.Array | np.ndarray) for leaf in jax.tree.leaves(params)
  )
