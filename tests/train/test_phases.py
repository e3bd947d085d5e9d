"""Runs in phases: short rows before long ones, small batches before large ones."""

import json
import shutil

import jax
import numpy as np
import pytest
from tiny_runs import SMALL

from tl_jax import config, train, tree
from tl_jax.train import phases
from tl_jax.train.checks import check

STEPS = [('schedule.steps', '6'), ('schedule.warmup', '1'), ('checkpoint.every', '2')]
MORE = [('data.accumulate', '1'), ('log.every', '1'), ('eval.batches', '1')]
# Until the third step rows of 8 tokens, until the fourth two of 16.
MODEL = (
  "{'family': 'tiny', 'layers': 1, 'width': 16, 'heads': 2, 'mlp': 16, "
  "'max_positions': 16}"
)
PHASES = "((3, {'length': 8}), (4, {'batch': 2}))"


def settings_of(*more, family='tiny'):
  chosen = [*SMALL, *STEPS, *MORE, ('data.phases', PHASES), *more]
  if family != 'tiny':
    chosen = [pair for pair in chosen if pair[0] != 'model']
  return config.load(f'configs/pretrain.py:{family}', chosen)


def losses(workdir):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line)['loss'] for line in lines]


def saved(workdir):
  return tree.flatten(jax.tree.map(np.asarray, train.restore(workdir)))


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """(workdir of a whole run, what it told)."""
  workdir = tmp_path_factory.mktemp('phases') / 'run'
  told = []
  train.pretrain(settings_of(), workdir, train.NULL_REPORTER._replace(info=told.append))
  return workdir, told


def test_each_phase_has_a_program_of_its_own(run):
  _, told = run
  assert sum('first step after' in line for line in told) == 3
  assert sum('held-out texts are read in rows of 16' in line for line in told) == 1


def test_a_phase_is_trained_as_a_run_of_its_rows_alone(run, tmp_path):
  workdir, _ = run
  # With as many positions as the longer run has.
  shape = [('data.length', '8'), ('data.phases', '()'), ('model', MODEL)]
  train.pretrain(settings_of(*shape), tmp_path / 'short')
  short = losses(tmp_path / 'short')
  found = losses(workdir)
  assert found[:3] == pytest.approx(short[:3], abs=1e-6)
  assert abs(found[3] - short[3]) > 1e-4


def test_it_resumes_bit_for_bit_before_and_behind_the_border(run, tmp_path):
  workdir, _ = run
  for step in (2, 4):
    again = tmp_path / str(step)
    shutil.copytree(workdir, again)
    (again / 'result.json').unlink()
    for later in range(step + 1, 7):
      shutil.rmtree(again / 'checkpoints' / str(later), ignore_errors=True)
    train.pretrain(settings_of(), again)
    first, second = saved(workdir), saved(again)
    for name, leaf in first.items():
      np.testing.assert_array_equal(leaf, second[name], err_msg=name)


@pytest.mark.slow
def test_an_objective_makes_texts_as_long_as_the_rows_of_the_phase(tmp_path):
  """Of span corruption the encoder's rows are as many tokens as the config says."""
  model = "{'family': 'tiny-t5', 'layers': 1, 'width': 16, 'heads': 2, 'mlp': 16}"
  given = [
    ('model', model),
    ('data.length', '32'),
    ('data.phases', "((3, {'length': 16}),)"),
  ]
  told = []
  reporter = train.NULL_REPORTER._replace(info=told.append)
  result = train.pretrain(settings_of(*given, family='tiny-t5'), tmp_path, reporter)
  assert np.isfinite(result['metrics']['loss'])
  assert sum('first step after' in line for line in told) == 2


def test_sizes_are_of_one_length():
  settings = check(settings_of()).settings
  assert phases.lengths(settings.data) == [8, 16]
  assert phases.sizes(settings.data, 8) == ((0, 3, 4), (4, 0, 0))
  assert phases.sizes(settings.data, 16) == ((0, 3, 4), (0, 2, 4))
  ends = [(phase.shape, last) for phase, last in phases.ends(settings)]
  assert ends == [((4, 8), 3), ((2, 16), 4), ((4, 16), 6)]


def test_tokens_of_phases_are_counted_by_their_rows():
  settings = check(settings_of()).settings
  # Four rows of 8, then two of 16, then four of 16.
  found = [phases.room_before(settings, step) for step in range(7)]
  assert found == [0, 32, 64, 96, 128, 192, 256]


NEVER = [
  (('data.phases', PHASES), ['held-out texts are read in rows of 16 tokens']),
  (('data.phases', "((4, {'batch': 2}),)"), []),
  (
    ('data.phases', "((6, {'length': 8}),)"),
    [
      'config.data.phases: batches of 4 rows of 16 tokens begin at step 6, but the run '
      'ends at step 6 (config.schedule.steps)',
      'held-out texts are read in rows of 16 tokens (config.data.length) throughout, in '
      'which it never trains',
    ],
  ),
  (
    ('data.phases', "((9, {'batch': 1}), (12, {'batch': 2}))"),
    ['batches of 2 rows of 16 tokens begin at step 9', 'begin at step 12'],
  ),
]


@pytest.mark.parametrize(('given', 'lines'), NEVER)
def test_what_a_run_ends_too_early_for_is_said(given, lines):
  found = phases.told(check(settings_of(given)).settings)
  assert len(found) == len(lines)
  for line, wanted in zip(found, lines, strict=True):
    assert wanted in line


def test_a_stage_behind_the_end_is_said():
  stages = "((5, {'austen': 1.0}), (6, {'vader_movie': 1.0}))"
  given = [('data.phases', '()'), ('data.stages', stages)]
  (line,) = phases.told(check(settings_of(*given)).settings)
  assert line.startswith('config.data.stages[1] begins at step 6, but the run ends at')


WRONG = [
  ('((3, {}),)', r'\[0\]: has batches of 4 rows of 16 tokens, as what follows it has'),
  ("((3, {'batch': 2}), (5, {'batch': 2}))", r'\[0\]: has batches of 2 rows'),
  ("((3, {'length': 8}), (3, {'batch': 2}))", r'\[1\]: step 3 does not come after 3'),
  ("((3, {'lenght': 8}),)", r"\[0\].*'lenght'.*'length'"),
  ("((3, {'length': 32}),)", r'\[0\].length: 32, but the rows of the last phase'),
  ("((3, {'batch': 8}),)", r'\[0\].batch: 128 tokens .* have 64; nearest: 4'),
  ("((3, {'batch': 0}),)", r'batch'),
]


@pytest.mark.parametrize(('given', 'message'), WRONG)
def test_what_is_no_phase_is_refused_by_its_number(given, message):
  with pytest.raises(config.ConfigError, match=f'config.data.phases.*{message}'):
    check(settings_of(('data.phases', given)))


def test_the_mesh_divides_every_phase():
  given = [('data.phases', "((3, {'batch': 3}),)"), ('mesh.data', '2')]
  with pytest.raises(config.ConfigError, match=r'phases\[0\].batch: 3 rows are not'):
    check(settings_of(*given))


def test_what_is_counted_in_rows_of_one_length_is_refused():
  with pytest.raises(config.ConfigError, match='data.unique: counts what is read'):
    check(settings_of(('data.unique', "{'austen': 500}")))
  epochs = [('schedule.steps', 'None'), ('schedule.epochs', '1.0')]
  with pytest.raises(config.ConfigError, match='schedule.epochs: a run in phases'):
    check(settings_of(*epochs))
