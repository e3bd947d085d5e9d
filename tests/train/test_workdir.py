"""A run goes on only from what it saved itself, and says what it started from."""

import json
import os
import shutil

import pytest
from ml_collections import ConfigDict

from tl_jax import config, files, models, parallel, train
from tl_jax.train.workdir import open_run


def copied(workdir, folder):
  """A copy of a finished run that may be damaged."""
  shutil.copytree(workdir, folder)
  return folder


def config_of(workdir):
  return ConfigDict(json.loads((workdir / 'config.json').read_text())['config'])


def damage(step_folder):
  """Cuts the largest file of a step short."""
  found = [path for path in step_folder.rglob('*') if path.is_file()]
  largest = max(found, key=lambda path: path.stat().st_size)
  os.truncate(largest, 5)


@pytest.mark.parametrize(
  'theirs, differ',
  [
    (dict(workdir='run0', config=dict(seed=1)), 'config.seed: 0 -> 1'),
    (dict(workdir='run1', config=dict(seed=0)), 'workdir: "run0" -> "run1"'),
  ],
)
def test_processes_that_make_runs_of_their_own_are_not_one_run(
  theirs, differ, monkeypatch, tmp_path
):
  """As `srun -n 2` starts them where each takes its seed or folder from its rank."""
  words = {1: files.encode(theirs)}
  monkeypatch.setattr(parallel, 'meet', lambda name, word='': {0: word} | words)
  told = f'^process 1 does not .* process 0: {differ}. '
  with pytest.raises(ValueError, match=told), open_run({'seed': 0}, tmp_path / 'run0'):
    pass
  assert not (tmp_path / 'run0').exists()


def test_checkpoints_without_their_config_refuse_another(pretrained, tmp_path):
  workdir = copied(pretrained, tmp_path / 'copy')
  (workdir / 'config.json').unlink()
  other = config_of(pretrained)
  other.seed, other.optim.name = 5, 'lion'
  with pytest.raises(ValueError, match='seed: 0 -> 5') as caught:
    train.pretrain(other, workdir)
  assert 'optim.name: "adamw" -> "lion"' in str(caught.value)
  assert not (workdir / 'config.json').exists()
  own = config_of(pretrained)
  own.log.every = 3
  with open_run(own, workdir) as run:
    assert run.store.latest() == 6


def test_a_step_of_another_architecture_is_refused(pretrained, tmp_path, monkeypatch):
  """One head and two have the same shapes, so only the record can tell them apart."""
  heads = models.arch('tiny').heads
  changed = models.FAMILIES['tiny'] | dict(heads=1)
  workdir = copied(pretrained, tmp_path / 'copy')
  (workdir / 'result.json').unlink()
  monkeypatch.setitem(models.FAMILIES, 'tiny', changed)
  with pytest.raises(ValueError, match=f'architecture: heads: {heads} -> 1'):
    train.pretrain(config_of(pretrained), workdir)


def test_a_transfer_says_which_step_it_started_from(pretrained, tmp_path, caplog):
  source = copied(pretrained, tmp_path / 'copy')
  damage(source / 'checkpoints' / '6')
  workdir = tmp_path / 'transfer'
  small = [
    ('schedule.steps', '1'),
    ('schedule.warmup', '0'),
    ('data.length', '32'),
    ('data.batch', '4'),
    ('task.test', '8'),
    ('log.tensorboard', 'false'),
  ]
  spec = f'configs/transfer.py:task=sentiment,init={source},labels=8'
  train.transfer(config.load(spec, small), workdir)
  assert 'step 6 is damaged' in caplog.text
  account = json.loads((workdir / 'account.json').read_text())
  assert (account['init'], account['init_step']) == (str(source), 3)
