"""Members of a cohort are runs like any other, on disk and in their numbers; one that
cannot be stops nobody.
"""

import json
import os
import signal
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
import tiny_runs

import tl_jax
from tl_jax import config, train, tree
from tl_jax.checkpoint import Store
from tl_jax.train import preparing, running, starting
from tl_jax.train import stack as stacking
from tl_jax.train import wave as joined
from tl_jax.train.assembly import HEAD_PATTERNS
from tl_jax.train.checks import check
from tl_jax.train.cohort import execute

# name -> what its config has of its own; all of one signature.
MEMBERS = {
  'few': [('seed', '1'), ('task.labels', '8')],
  'many': [('seed', '2'), ('task.labels', '24'), ('optim.lr', '5e-3')],
  'too-many': [('task.labels', '100000')],
  'diverging': [('optim.lr', '1e30')],
}
GOOD = ('few', 'many')


def make_config(pretrained, own, more=(), method='lora', task='sentiment'):
  spec = f'configs/transfer.py:task={task},method={method},init={pretrained}'
  return config.load(spec, [*tiny_runs.MEMBER, *own, *more])


def run_all(pretrained, folder, together, more=(), names=MEMBERS):
  runs = [
    (make_config(pretrained, MEMBERS[name], more), folder / name) for name in names
  ]
  execute(runs, together=together)
  return folder


@pytest.fixture(scope='module', params=['in turn', 'together'])
def cohort(request, pretrained, tmp_path_factory):
  """The folder of four members, two of which cannot be."""
  return run_all(
    pretrained, tmp_path_factory.mktemp('cohort'), request.param == 'together'
  )


def read_json(path):
  return json.loads(path.read_text())


def lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_member_that_cannot_be_says_why_and_the_others_go_on(cohort):
  assert all((cohort / name / 'result.json').is_file() for name in GOOD)
  refused, diverged = (
    read_json(cohort / name / 'failed.json') for name in ('too-many', 'diverging')
  )
  assert 'config.task.labels: 100000' in refused['reason'] and refused['retry']
  assert (
    'step ' in diverged['reason']
    and 'loss nan' in diverged['reason']
    and not diverged['retry']
  )
  for name in ('too-many', 'diverging'):
    assert not (cohort / name / 'result.json').exists()
    assert Store(cohort / name / 'checkpoints').steps() == []


@pytest.mark.parametrize('name', GOOD)
def test_a_member_leaves_what_a_run_leaves(cohort, pretrained, name):
  folder = cohort / name
  assert {path.name for path in folder.iterdir()} >= {
    'config.json',
    'metrics.jsonl',
    'evaluations.jsonl',
    'result.json',
    'account.json',
    'predictions.jsonl',
    'tokenizer.json',
    'checkpoints',
  }
  assert not (folder / 'lock').exists() and not (folder / 'failed.json').exists()
  assert Store(folder / 'checkpoints').steps() == [4]
  rows = lines(folder / 'metrics.jsonl')
  assert [row['step'] for row in rows] == [2, 4]
  for row in rows:
    assert row['tokens_per_second'] > 0 and 0 < row['waiting_share'] < 1
  assert [row['step'] for row in lines(folder / 'evaluations.jsonl')] == [2, 4]
  account = read_json(folder / 'account.json')
  assert account['init'] == str(pretrained) and account['counts']['copied'] > 15
  result = read_json(folder / 'result.json')
  right = [
    row['target'] == row['prediction'] for row in lines(folder / 'predictions.jsonl')
  ]
  assert np.mean(right) == pytest.approx(result['metrics']['accuracy'])
  assert result['labels'] == int(dict(MEMBERS[name])['task.labels'])
  assert result['seconds'] > result['training_seconds'] > 0


def test_the_base_that_members_hold_is_on_the_disk_once(cohort):
  one, other = (cohort / name / 'checkpoints' / '4' / 'arrays' for name in GOOD)
  table = 'frozen.embedding.tokens/0.0'
  assert (one / table).samefile(other / table)
  assert all(Store(cohort / name / 'checkpoints').verify(4) == [] for name in GOOD)


@pytest.mark.parametrize('cohort', ['in turn'], indirect=True)
def test_a_member_is_opened_evaluated_and_started_from(cohort, tmp_path):
  folder = cohort / 'many'
  assert train.evaluate(folder)['metrics'] == pytest.approx(
    read_json(folder / 'result.json')['metrics']
  )
  loaded = tl_jax.load(folder)
  assert loaded.arch.labels == 2 and loaded.tokenizer.encode('a film')
  tl_jax.save(tmp_path / 'exported', loaded)
  again = make_config(
    folder, MEMBERS['few'], [('schedule.steps', '1'), ('schedule.warmup', '0')]
  )
  train.transfer(again, tmp_path / 'next')
  assert read_json(tmp_path / 'next' / 'account.json')['init_step'] == 4


def test_a_cohort_called_again_makes_what_is_missing_alone(
  cohort, pretrained, monkeypatch
):
  before = {name: (cohort / name / 'result.json').read_bytes() for name in GOOD}
  made = []
  monkeypatch.setattr(
    running.Trainer,
    'run',
    lambda self, settings, run, reporter=None: made.append(run),
  )
  monkeypatch.setattr(
    joined.Wave, 'advance', lambda wave, until=0: made.append(wave.left)
  )
  run_all(pretrained, cohort, False, names=('few', 'many', 'too-many'))
  run_all(pretrained, cohort, True, names=('few', 'many', 'too-many'))
  assert {name: (cohort / name / 'result.json').read_bytes() for name in GOOD} == before
  # together, it is refused before it is trained
  assert [run.path.name for run in made] == ['too-many']


def test_a_member_whose_cause_is_gone_is_made(pretrained, tmp_path):
  path = tmp_path / 'mails.csv'

  def write(count):
    rows = [
      f'mail number {index} about things,{"ab"[index % 2]}' for index in range(count)
    ]
    path.write_text('text,label\n' + '\n'.join(rows))

  write(30)
  loaded = make_config(
    pretrained, [('task.labels', '40'), ('eval.every', '0')], task=path, method='probe'
  )
  execute([(loaded, tmp_path / 'member')])
  assert (
    'labelled examples asked for'
    in read_json(tmp_path / 'member' / 'failed.json')['reason']
  )
  write(120)
  execute([(loaded, tmp_path / 'member')])
  assert read_json(tmp_path / 'member' / 'result.json')['labels'] == 40
  assert not (tmp_path / 'member' / 'failed.json').exists()


@pytest.mark.parametrize('together', [False, True], ids=['in turn', 'together'])
def test_members_end_by_their_own_validation(pretrained, tmp_path, together):
  # Nothing is learned, so that the second evaluation is no better than the first.
  more = [('eval.every', '1'), ('eval.patience', '1'), ('optim.lr', '0')]
  names = ('few', 'many')
  runs = [
    (make_config(pretrained, [*MEMBERS[name], *more]), tmp_path / name)
    for name in names
  ]
  execute(runs, together=together)
  for name in names:
    result = read_json(tmp_path / name / 'result.json')
    assert result['steps'] == 2 and 'not better than at step 1' in result['stopped']


@pytest.mark.slow
@pytest.mark.parametrize('cohort', ['in turn'], indirect=True)
def test_members_that_are_stopped_together_go_on_by_themselves(
  cohort, pretrained, tmp_path, monkeypatch
):
  read_batches = joined.Wave._read

  def read_and_ask(wave):
    if wave.number == 1:
      signal.raise_signal(signal.SIGTERM)
    return read_batches(wave)

  monkeypatch.setattr(joined.Wave, '_read', read_and_ask)
  with pytest.raises(train.Stopped, match='step 2 of 4'):
    run_all(pretrained, tmp_path, True, names=GOOD)
  for name in GOOD:
    assert Store(tmp_path / name / 'checkpoints').steps() == [2]
  run_all(pretrained, tmp_path, True, names=GOOD)
  for name in GOOD:
    rows, expected = (
      lines(folder / name / 'metrics.jsonl') for folder in (tmp_path, cohort)
    )
    assert [row['step'] for row in rows] == [2, 4]
    for row, other in zip(rows, expected, strict=True):
      assert row['loss'] == pytest.approx(other['loss'], abs=1e-5)


def test_a_config_that_cannot_be_is_a_member_that_cannot_be(pretrained, tmp_path):
  """Of every kind: a transfer, a baseline and pre-training."""
  bad = [
    make_config(pretrained, [('data.length', '4096')]),
    make_config('scratch', [('task.labels', '100000')], method='tf-idf'),
    make_config('scratch', [], method='tf-idf', task='intensity'),
    config.load(
      'configs/pretrain.py:tiny', [('data.mixture', "{'no_such_text': 1.0}")]
    ),
    {'model': {}},
  ]
  execute([(loaded, tmp_path / str(place)) for place, loaded in enumerate(bad)])
  reasons = [
    read_json(tmp_path / str(place) / 'failed.json')['reason']
    for place in range(len(bad))
  ]
  for word, reason in zip(
    ('data.length', 'task.labels', 'intensity', 'no_such_text', 'optim'),
    reasons,
    strict=True,
  ):
    assert word in reason


def stack_of(pretrained, folder, count, method='lora', courses=None):
  checked = check(make_config(pretrained, [], method=method))
  mesh = running.make_mesh(checked.settings.mesh, checked.settings.data)
  trainer = running.Trainer(preparing.prepare(checked, folder), mesh)
  owns = [
    starting.Own(np.uint32(seed), np.float32(1e-3), np.float32(0))
    for seed in range(count)
  ]
  courses = range(count) if courses is None else courses
  return trainer, stacking.Stacks(trainer).stack(owns, courses)


def test_the_frozen_base_is_there_once_whatever_the_members(pretrained, tmp_path):
  trainer, stack = stack_of(pretrained, tmp_path, 5)

  def size(tree):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))

  alone = jax.eval_shape(
    trainer.ready.start.state, trainer.given, starting.Own(0, 1e-3, 0.0)
  )
  program = stack.programs.first_states.lower(trainer.given, stack.own).compile()
  state = program(trainer.given, stack.own)
  base = size(alone.frozen)
  assert size(state.frozen) == base and size(state.trainable) == 5 * size(
    alone.trainable
  )
  # Nor while it is made: what the program holds beside its result is less than a second
  # base.
  own = 5 * size((alone.trainable, alone.opt_state))
  made = program.memory_analysis()
  assert made.output_size_in_bytes < base + 2 * own
  assert made.temp_size_in_bytes < base + own


def test_what_a_seed_draws_each_member_has_for_itself(pretrained, tmp_path):
  """A pull starts from the head that was drawn, which no member trains."""
  trainer, stack = stack_of(pretrained, tmp_path, 3, method='l2sp')
  held = jax.eval_shape(
    trainer.ready.start.state, trainer.given, starting.Own(0, 1e-3, 0.0)
  ).frozen
  drawn = tree.matcher(f'.*{HEAD_PATTERNS}')
  assert (
    set(tree.flatten(stack.axes.frozen))
    == {name for name in tree.flatten(held) if drawn(name)}
    != set()
  )


SCRIPT = """
import sys, jax
from tl_jax import config
from tl_jax.train import cohort, stack
start = stack.Stack.start
def shown(self):
  state = start(self)
  print(self.size, sorted({str(leaf.sharding.spec) for leaf in jax.tree.leaves(state.trainable)}))
  return state
stack.Stack.start = shown
cohort.execute([(config.load(f'{folder}/config.json'), f'{folder}/run') for folder in sys.argv[1:]])
"""


def configured(pretrained, folder, shape, method, seeds=(0, 1, 2)):
  """(folders with a config for each of three members, what these are on one device)."""
  # Of one seed or of three, they differ in their rates.
  own = [
    [
      ('seed', str(seed)),
      ('optim.lr', str(1e-3 * (1 + place))),
      ('task.labels', '16'),
    ]
    for place, seed in enumerate(seeds)
  ]
  axes = [(f'mesh.{axis}', str(size)) for axis, size in shape.items()]
  alone = [folder / f'alone-{place}' for place in range(len(own))]
  execute(
    [
      (make_config(pretrained, one, method=method), place)
      for one, place in zip(own, alone, strict=True)
    ]
  )
  folders = [folder / f'mesh-{place}' for place in range(len(own))]
  for one, place in zip(own, folders, strict=True):
    place.mkdir()
    plain = config.to_json(make_config(pretrained, one, axes, method))
    (place / 'config.json').write_text(json.dumps(plain))
  return folders, alone


def require_equal(folders, alone):
  for folder, other in zip(folders, alone, strict=True):
    for row, expected in zip(
      lines(folder / 'run/metrics.jsonl'), lines(other / 'metrics.jsonl'), strict=True
    ):
      assert row['loss'] == pytest.approx(expected['loss'], abs=1e-5)
    pairs = zip(
      lines(folder / 'run/predictions.jsonl'),
      lines(other / 'predictions.jsonl'),
      strict=True,
    )
    for row, expected in pairs:
      assert row['outputs'] == pytest.approx(expected['outputs'], abs=1e-4)
    assert Store(folder / 'run/checkpoints').verify(4) == []


def launch(folders, **variables):
  return subprocess.Popen(
    [sys.executable, '-c', SCRIPT, *folders],
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    env=os.environ | {'PYTHONPATH': os.getcwd(), **variables},
  )


@pytest.mark.slow
@pytest.mark.parametrize(
  'shape, together, method, seeds',
  [
    (dict(cohort=-1, data=2), True, 'lora', (0, 1, 2)),
    (dict(cohort=8, data=1), True, 'probe', (0, 1, 2)),
    (dict(cohort=2, data=1, fsdp=2, tensor=2), True, 'lora', (0, 1, 2)),
    (dict(cohort=2, data=2, sequence=2), True, 'full', (0, 1, 2)),
    (dict(cohort=1, data=2, fsdp=2, tensor=2), False, 'full', (0, 1, 2)),
    # Two groups on an axis of two, and one group that the axis divides.
    (dict(cohort=2, data=4), True, 'lora', (0, 1, 0)),
    (dict(cohort=2, data=2, fsdp=2), True, 'lora', (0, 0, 0)),
  ],
)
def test_eight_devices_give_the_members_of_one(
  pretrained, tmp_path, shape, together, method, seeds
):
  """Three members: over an axis of 2, 4 or 8 they are filled up; in turn, each is spread
  over the mesh.
  """
  folders, alone = configured(pretrained, tmp_path, shape, method, seeds)
  process = launch(
    folders,
    XLA_FLAGS=f'{os.environ["XLA_FLAGS"]} --xla_force_host_platform_device_count=8',
  )
  said, complaint = process.communicate(timeout=600)
  assert process.returncode == 0, complaint[-2000:]
  assert ("'cohort'" in said) is together
  require_equal(folders, alone)


@pytest.mark.slow
@pytest.mark.parametrize(
  'shape', [dict(cohort=2, data=1), dict(cohort=1, data=2)], ids=['together', 'in turn']
)
def test_two_processes_give_the_members_of_one(pretrained, tmp_path, shape):
  folders, alone = configured(pretrained, tmp_path, shape, 'lora')
  with socket.socket() as probe:
    probe.bind(('localhost', 0))
    address = f'localhost:{probe.getsockname()[1]}'
  processes = [
    launch(
      folders,
      JAX_COORDINATOR_ADDRESS=address,
      JAX_NUM_PROCESSES='2',
      JAX_PROCESS_ID=str(rank),
    )
    for rank in range(2)
  ]
  for process in processes:
    _, complaint = process.communicate(timeout=600)
    assert process.returncode == 0, complaint[-2000:]
  require_equal(folders, alone)
