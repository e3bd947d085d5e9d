"""Members that advance together have courses of their own: schedules, lengths, ends,
checkpoints; killed, they go on; compared, the best go on.
"""

import json

import jax
import pytest
import tiny_runs

from tl_jax import config, train
from tl_jax.checkpoint import Store
from tl_jax.train import wave as joined
from tl_jax.train.cohort import execute, signature
from tl_jax.train.halving import Halving
from tl_jax.train.member import Member
from tl_jax.train.together import train_together


def make_config(pretrained, own):
  spec = f'configs/transfer.py:task=sentiment,method=probe,init={pretrained}'
  return config.load(spec, [*tiny_runs.MEMBER, *own])


def read_json(path):
  return json.loads(path.read_text())


def lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


# Each has a schedule, a length and an end of its own; two of them see the same rows.
COURSES = {
  'short': [('seed', '1'), ('schedule.steps', '4'), ('schedule.warmup', '0')],
  'long': [('seed', '1'), ('schedule.steps', '8'), ('schedule.name', 'cosine')],
  'stopped': [('seed', '2'), ('optim.lr', '0'), ('eval.patience', '1')],
  'best': [('seed', '2'), ('eval.keep', 'best'), ('schedule.steps', '6')],
}
OF_COURSES = [
  ('task.labels', '16'),
  ('schedule.steps', '8'),
  ('checkpoint.every', '3'),
  ('log.every', '1'),
]


def courses_of(pretrained, folder, names=COURSES):
  own = {name: [*OF_COURSES, *COURSES[name]] for name in names}
  return [(make_config(pretrained, own[name]), folder / name) for name in names]


def require_same_run(folder, alone):
  """Two runs say the same of every step, and keep the same steps."""
  for name in ('metrics.jsonl', 'evaluations.jsonl'):
    rows, expected = lines(folder / name), lines(alone / name)
    for row, other in zip(rows, expected, strict=True):
      for timed in ('tokens_per_second', 'waiting_share', 'seconds'):
        other.pop(timed, None)
      for key, value in other.items():
        assert row[key] == pytest.approx(value, abs=1e-5), (name, key)
  assert Store(folder / 'checkpoints').steps() == Store(alone / 'checkpoints').steps()
  found, expected = (read_json(each / 'result.json') for each in (folder, alone))
  for key in ('steps', 'step', 'stopped', 'labels', 'metrics', 'notes'):
    assert found[key] == pytest.approx(expected[key]), key


@pytest.fixture(scope='module')
def alone(pretrained, tmp_path_factory):
  """The members of COURSES, each by itself."""
  folder = tmp_path_factory.mktemp('alone')
  for loaded, path in courses_of(pretrained, folder):
    train.transfer(loaded, path)
  return folder


@pytest.mark.parametrize('together', [False, True], ids=['in turn', 'together'])
def test_members_have_courses_of_their_own(
  pretrained, tmp_path, alone, together, monkeypatch
):
  monkeypatch.setattr(joined, 'WORTH_A_PROGRAM', 1)
  runs = courses_of(pretrained, tmp_path)
  assert len({signature(loaded) for loaded, _ in runs}) == 1
  execute(runs, together=together)
  for name in COURSES:
    require_same_run(tmp_path / name, alone / name)


def test_members_that_were_killed_go_on_together(
  pretrained, tmp_path, alone, monkeypatch
):
  """Some from a step that they have in common, the others from their own."""
  step = joined.Wave._step

  def killed(wave):
    if wave.number == 5:
      raise KeyboardInterrupt
    step(wave)

  with monkeypatch.context() as patched:
    patched.setattr(joined.Wave, '_step', killed)
    with pytest.raises(KeyboardInterrupt):
      execute(courses_of(pretrained, tmp_path), together=True)
  assert Store(tmp_path / 'long' / 'checkpoints').latest() == 3
  before = (tmp_path / 'short' / 'result.json').read_bytes()
  started = []

  def counted(wave):
    started.append(wave.number)
    step(wave)

  monkeypatch.setattr(joined.Wave, '_step', counted)
  execute(courses_of(pretrained, tmp_path), together=True)
  assert min(started) == 3
  assert (tmp_path / 'short' / 'result.json').read_bytes() == before
  for name in COURSES:
    require_same_run(tmp_path / name, alone / name)


def test_only_the_best_of_a_rung_go_on(pretrained, tmp_path):
  own = {
    name: [('optim.lr', rate), ('seed', '1'), ('task.labels', '24'), *OF_COURSES]
    for name, rate in (('none', '0'), ('some', '1e-4'), ('much', '3e-2'))
  }
  runs = [(make_config(pretrained, own[name]), tmp_path / name) for name in own]
  halving = Halving(steps=(2, 4), keep=0.5)
  execute(runs, together=True, halving=halving)
  results = {name: read_json(tmp_path / name / 'result.json') for name in own}
  ended = sorted(result['steps'] for result in results.values())
  assert ended == [2, 4, 8]
  values = {}
  for name, result in results.items():
    points = {row['step']: row for row in lines(tmp_path / name / 'evaluations.jsonl')}
    values[name] = points[2]['validation/accuracy']
    if result['steps'] == 2:
      assert 'halving at step 2: place 3 of 3 by accuracy' in result['stopped']
      assert Store(tmp_path / name / 'checkpoints').latest() == 2
    if result['steps'] == 8:
      assert result['stopped'] == ''
  worst = min(values.values())
  assert all(values[name] == worst for name in own if results[name]['steps'] == 2)
  # Whoever has ended stays ended.
  before = {name: (tmp_path / name / 'result.json').read_bytes() for name in own}
  execute(runs, together=True, halving=halving)
  for name, content in before.items():
    assert (tmp_path / name / 'result.json').read_bytes() == content


def test_a_halving_that_cannot_be_names_the_nearest(pretrained, tmp_path):
  loaded = make_config(pretrained, [('task.labels', '8')])
  execute([(loaded, tmp_path / 'few')], halving=Halving(steps=(3,)))
  reason = read_json(tmp_path / 'few' / 'failed.json')['reason']
  assert 'halving.steps: 3' in reason and 'nearest: 4' in reason


def test_a_wave_that_has_no_memory_goes_in_halves(pretrained, tmp_path, monkeypatch):
  """Of three, one fits: two of them go by themselves, and one leaves its reason."""
  step = joined.Wave._step
  sizes = []

  def limited(wave):
    if wave.number == 0:
      sizes.append(len(wave.left))
      folders = [member.run.path.name for member in wave.left.values()]
      if len(folders) > 1 or 'large' in folders:
        raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: out of memory')
    step(wave)

  monkeypatch.setattr(joined.Wave, '_step', limited)
  own = {name: [('seed', str(seed))] for seed, name in enumerate(('a', 'large', 'b'))}
  few = [('task.labels', '8'), ('schedule.steps', '2'), ('schedule.warmup', '0')]
  runs = [
    (make_config(pretrained, [*few, *own[name]]), tmp_path / name) for name in own
  ]
  execute(runs, together=True)
  assert sizes == [3, 1, 2, 1, 1]
  assert 'out of memory' in read_json(tmp_path / 'large' / 'failed.json')['reason']
  for name in ('a', 'b'):
    assert read_json(tmp_path / name / 'result.json')['steps'] == 2


def test_waves_that_go_on_from_one_step_have_a_base_each(
  pretrained, tmp_path, monkeypatch
):
  step = joined.Wave._step

  def killed(wave):
    if wave.number == 3:
      raise KeyboardInterrupt
    step(wave)

  own = [('checkpoint.every', '2'), ('task.labels', '8')]
  runs = [
    (make_config(pretrained, [*own, ('seed', seed)]), tmp_path / seed) for seed in '12'
  ]
  with monkeypatch.context() as patched:
    patched.setattr(joined.Wave, '_step', killed)
    with pytest.raises(KeyboardInterrupt):
      execute(runs, together=True)
  members = [Member(loaded, train.read(loaded), folder) for loaded, folder in runs]
  train_together(members, train.NULL_REPORTER, most=1)
  for _, folder in runs:
    assert read_json(folder / 'result.json')['steps'] == 4
    assert [row['step'] for row in lines(folder / 'metrics.jsonl')] == [2, 4]
