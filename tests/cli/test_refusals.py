"""Whatever is wrong with a command is said in one line, with exit code 2, before anything is compiled."""

import pytest

PRETRAIN = ('pretrain', '--config=configs/pretrain.py:tiny')
TRANSFER = ('transfer', '--config=configs/transfer.py:task=sentiment')


REFUSALS = [
    ((*PRETRAIN, '--config.sed=1'), "'seed'"),
    ((*PRETRAIN, '--config.optim.lrr=1'), "'optim.lr'"),
    ((*PRETRAIN, '--config.data.mixture.austin=1'), 'austen'),
    ((*PRETRAIN, '--config.optim.lr=nan'), 'config.optim.lr'),
    ((*PRETRAIN, '--config.optim.lr=-1'), 'config.optim.lr'),
    ((*PRETRAIN, '--config.schedule.steps=ten'), 'config.schedule.steps'),
    ((*PRETRAIN, '--config.schedule.steps=1.5'), 'config.schedule.steps'),
    ((*PRETRAIN, '--config.schedule.warmup=99999'), 'warmup'),
    ((*PRETRAIN, '--config.compute.dropout=1'), 'config.compute.dropout'),
    ((*PRETRAIN, '--config.data.batch=15'), 'config.data.batch'),
    ((*PRETRAIN, '--config.mesh.data=5'), 'config.data.batch'),
    ((*PRETRAIN, '--config.mesh.tensor=3', '--config.mesh.data=1'), 'config.mesh.tensor'),
    ((*PRETRAIN, '--config.data.length=4096'), 'config.data.length'),
    ((*PRETRAIN, '--config.objective.rate=2'), 'config.objective.rate'),
    ((*PRETRAIN, '--config.objective.name=masket'), "'masked'"),
    ((*PRETRAIN, '--config.optim.name=adamv'), "'adamw'"),
    (('pretrain', '--config=configs/pretrain.py:tinny'), "'tiny'"),
    (('pretrain', '--config=configs/no_such.py'), 'no_such.py'),
    ((*TRANSFER[:1], '--config=configs/transfer.py:task=sentimant'), "'sentiment'"),
    ((*TRANSFER[:1], '--config=configs/transfer.py:method=lore'), "'lora'"),
    ((*TRANSFER[:1], '--config=configs/transfer.py:task=missing.csv'), 'missing.csv'),
    ((*TRANSFER[:1], '--config=configs/transfer.py:init=/no/such/workdir'), '/no/such/workdir'),
    ((*TRANSFER, '--config.task.labels=-5'), 'config.task.labels'),
    ((*TRANSFER, '--config.method.rank=4'), 'config.method.rank'),
    (('pretrain', TRANSFER[1]), 'config.task'),
    (('transfer', PRETRAIN[1]), 'config.task'),
    ((*PRETRAIN, '--confg=1'), "'--config'"),
    (('pretrane',), "'pretrain'"),
]
# Of rules that another of these refusals goes through as well, one is quick.
ALIKE = ('--config.optim.lrr=1', '--config.optim.lr=-1', '--config.schedule.steps=1.5', '--config.compute.dropout=1',
         '--config.objective.rate=2', '--config.optim.name=adamv', '--config=configs/transfer.py:method=lore',
         '--config.task.labels=-5', PRETRAIN[1])


@pytest.mark.parametrize('arguments, named', [
    pytest.param(*refusal, marks=pytest.mark.slow if refusal[0][-1] in ALIKE else []) for refusal in REFUSALS])
def test_exit_code_2_and_one_line(arguments, named, run_cli, tmp_path):
  workdir = () if arguments == ('pretrane',) else (f'--workdir={tmp_path / "w"}',)
  done = run_cli(*arguments, *workdir, env={'JAX_PLATFORMS': 'no-such-device'})
  assert (done.returncode, done.stderr.count('\n')) == (2, 1), done.stderr
  assert named in done.stderr and 'Traceback' not in done.stderr
  assert not (tmp_path / 'w').exists()


def test_a_mesh_that_this_machine_has_not(run_cli, tmp_path):
  done = run_cli(*PRETRAIN, '--config.mesh.data=2', f'--workdir={tmp_path / "w"}')
  assert (done.returncode, done.stderr.count('\n')) == (2, 1), done.stderr
  assert 'data 2 does not fit 1 devices' in done.stderr


def test_a_busy_workdir_says_try_again(run_cli, tmp_path):
  from tl_jax.checkpoint import Workdir
  with Workdir(tmp_path):
    done = run_cli(*PRETRAIN, f'--workdir={tmp_path}')
  assert done.returncode == 75 and str(tmp_path) in done.stderr
