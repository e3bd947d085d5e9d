"""How long a run is: in steps or in epochs, and longer than it was to be."""

import json

import pytest
from hearing import Said

from tl_jax import config, train
from tl_jax.checkpoint import Store
from tl_jax.config import ConfigError
from tl_jax.train import preparing
from tl_jax.train.checks import check
from tl_jax.train.cohort import signature

SMALL = [
  ('model', "{'family': 'tiny', 'layers': 1, 'width': 16, 'heads': 2, 'mlp': 16}"),
  ('tokenizer.size', '300'),
  ('data.length', '16'),
  ('data.batch', '4'),
  ('data.pack', 'false'),
  ('schedule.warmup', '1'),
  ('log.every', '1'),
  ('log.tensorboard', 'false'),
]
CONSTANT = ('schedule.name', 'constant')


@pytest.fixture(scope='module')
def path(tmp_path_factory):
  """A file with 12 train examples."""
  rows = [
    dict(text=f'w{place}', label=str(place % 2), split='test' if place < 4 else 'train')
    for place in range(16)
  ]
  found = tmp_path_factory.mktemp('own') / 'own.jsonl'
  found.write_text('\n'.join(map(json.dumps, rows)))
  return found


def make_config(path, more=(), epochs=None):
  argument = '' if epochs is None else f',epochs={epochs}'
  return config.load(f'configs/transfer.py:task={path}{argument}', [*SMALL, *more])


def steps(count):
  return ('schedule.steps', str(count))


def lines(path):
  """metrics.jsonl without what a clock says."""
  rows = [
    json.loads(line) for line in (path / 'metrics.jsonl').read_text().splitlines()
  ]
  timed = ('tokens_per_second', 'waiting_share')
  return [{key: row[key] for key in row if key not in timed} for row in rows]


def test_epochs_are_the_steps_that_see_every_example_so_often(path, tmp_path):
  said = Said()
  made = make_config(path, epochs=2)
  result = train.transfer(made, tmp_path / 'epochs', said.reporter)
  assert result['steps'] == 6 and '2 epochs = 6 steps' in said
  same = train.transfer(make_config(path, [steps(6)]), tmp_path / 'steps')
  assert lines(tmp_path / 'epochs') == lines(tmp_path / 'steps')
  assert same['metrics'] == result['metrics']
  # Finished; and of more epochs it is not.
  again = Said()
  assert train.transfer(made, tmp_path / 'epochs', again.reporter) == result
  assert again == [
    'finished before, at step 6; more config.schedule.epochs lets it go on; its result: '
    f'{tmp_path / "epochs" / "result.json"}'
  ]
  more = train.transfer(make_config(path, epochs=3), tmp_path / 'epochs')
  assert more['steps'] == 9 == lines(tmp_path / 'epochs')[-1]['step']


@pytest.mark.parametrize(
  'epochs, labels, count', [(0.5, 0, 2), (1, 0, 3), (1, 6, 2), (2.5, 2, 2)]
)
def test_epochs_are_of_the_examples_that_are_trained_on(
  path, tmp_path, epochs, labels, count
):
  checked = check(make_config(path, [('task.labels', str(labels))], epochs))
  assert preparing.prepare(checked, tmp_path).settings.schedule.steps == count


def test_epochs_of_pre_training_are_those_of_its_rows(tmp_path):
  texts = tmp_path / 'texts.jsonl'
  rows = [dict(text=f'w{place} is here', split='train') for place in range(10)]
  texts.write_text('\n'.join(map(json.dumps, rows)))
  more = [
    *[pair for pair in SMALL if pair[0] != 'schedule.warmup'],
    ('data.mixture', f"{{'{texts}': 1.0}}"),
    ('data.accumulate', '1'),
    ('schedule.warmup', '0'),
    ('schedule.steps', 'None'),
    ('schedule.epochs', '2'),
  ]
  checked = check(config.load('configs/pretrain.py:tiny', more))
  assert preparing.prepare(checked, tmp_path).settings.schedule.steps == 5


@pytest.mark.parametrize('length', [('5', '2'), ('None', 'None')])
def test_a_run_has_one_length(path, length):
  pairs = zip(('schedule.steps', 'schedule.epochs'), length, strict=True)
  with pytest.raises(ConfigError, match='config.schedule.steps: .* has one of them'):
    check(make_config(path, pairs))


def test_a_warm_up_longer_than_the_epochs_is_named(path, tmp_path):
  checked = check(make_config(path, [('schedule.warmup', '4')], epochs=1))
  with pytest.raises(ConfigError, match='config.schedule.warmup: 4 .*epochs=1 here'):
    preparing.prepare(checked, tmp_path)


def test_a_finished_run_goes_on_as_if_it_had_been_longer(path, tmp_path):
  direct, went_on, said = tmp_path / 'direct', tmp_path / 'went_on', Said()
  train.transfer(make_config(path, [CONSTANT, steps(4)]), direct)
  first = train.transfer(make_config(path, [CONSTANT, steps(2)]), went_on)
  again = train.transfer(
    make_config(path, [CONSTANT, steps(4)]), went_on, said.reporter
  )
  assert first['steps'] == 2 and again['steps'] == 4
  assert lines(went_on) == lines(direct)
  assert Store(went_on / 'checkpoints').steps() == [4]
  # Such a schedule has no end that would have moved.
  assert [line for line in said if line.startswith('goes on')] == [
    'goes on to step 4, not 2'
  ]
  # It takes no step back.
  before = lines(went_on)
  with pytest.raises(ConfigError, match='config.schedule.steps: 3, but the run there'):
    train.transfer(make_config(path, [CONSTANT, steps(3)]), went_on)
  assert lines(went_on) == before


def test_what_becomes_of_a_schedule_is_told(path, tmp_path):
  said = Said()
  train.transfer(make_config(path, [steps(2)]), tmp_path)
  train.transfer(make_config(path, [steps(5)]), tmp_path, said.reporter)
  (line,) = [line for line in said if line.startswith('goes on')]
  assert 'schedule linear is now over 5 steps' in line and 'it was 0' in line
  # A quarter of the way down from the peak, which is the rate of the third step.
  assert lines(tmp_path)[2]['learning_rate'] == pytest.approx(5e-4 * 0.75)


def test_a_run_whose_checkpoints_are_gone_cannot_go_on(path, tmp_path):
  train.transfer(make_config(path, [steps(1)]), tmp_path)
  for step in (tmp_path / 'checkpoints').iterdir():
    if step.is_dir():
      step.rename(tmp_path / f'kept-{step.name}')
  assert train.transfer(make_config(path, [steps(1)]), tmp_path)['steps'] == 1
  with pytest.raises(ConfigError, match='its checkpoints are gone'):
    train.transfer(make_config(path, [steps(2)]), tmp_path)


def test_members_share_a_program_whatever_their_steps(path):
  def same(key, epochs=None):
    one, other = (make_config(path, [(key, value)], epochs) for value in '12')
    return signature(one) == signature(other)

  assert same('task.labels') and same('seed') and same('schedule.warmup')
  # The steps that epochs are belong to a member, as its examples do.
  assert same('task.labels', epochs=2) and same('seed', epochs=2)
  assert not same('data.accumulate')
