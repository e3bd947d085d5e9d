"""Whole runs whose layers are held together: their losses, checkpoints and results are
those of runs with leaves of their own for every layer, and each goes on from the other.
"""

import json
import os
import shutil

import jax
import numpy as np
import pytest
import tiny_runs

from tl_jax import checkpoint, config, train

SMALL = (
  ('tokenizer.size', '300'),
  ('data.length', '16'),
  ('data.batch', '4'),
  ('schedule.warmup', '1'),
  ('schedule.steps', '4'),
  ('checkpoint.every', '2'),
  ('checkpoint.keep', '3'),
  ('log.every', '1'),
  ('log.tensorboard', 'false'),
)
ENCODER = "{'family': 'tiny', 'layers': 2, 'width': 16, 'heads': 2, 'mlp': 16}"
BOTH = "{'family': 'tiny-t5', 'layers': 2, 'width': 16, 'heads': 2, 'mlp': 16}"


def transfer(path, workdir, how, *more):
  """Four steps of LoRA on labelled texts; `how` layers run."""
  spec = f'configs/transfer.py:task={path}'
  settings = (('model', ENCODER), ('method', "{'name': 'lora', 'rank': 2}"))
  given = (*SMALL, *settings, ('compute.layers', how), *more)
  train.run(config.load(spec, given), workdir)
  return workdir


def pretrain(workdir, how, *more):
  """Four steps of an encoder-decoder on embedded text."""
  given = (*SMALL, ('model', BOTH), ('compute.layers', how), ('eval.batches', '1'))
  train.run(config.load('configs/pretrain.py:tiny-t5', (*given, *more)), workdir)
  return workdir


def lines(workdir):
  """The losses and gradient norms of all steps."""
  text = (workdir / 'metrics.jsonl').read_text()
  rows = [json.loads(line) for line in text.splitlines()]
  return np.array([[row['loss'], row['gradient_norm']] for row in rows])


def saved(workdir, step=4):
  """Names, shapes and dtypes of a checkpoint."""
  return checkpoint.Store(workdir / 'checkpoints').leaves(step)


def continued(workdir, copy, how, run):
  """A copy of a run at its second step, continued with its layers running otherwise."""
  shutil.copytree(workdir, copy)
  assert (copy / 'checkpoints' / '2').is_dir()
  shutil.rmtree(copy / 'checkpoints' / '4')
  (copy / 'result.json').unlink()
  run(copy, how)
  return copy


@pytest.fixture(scope='module')
def path(tmp_path_factory):
  return tiny_runs.write_task(tmp_path_factory.mktemp('own') / 'own.jsonl')


@pytest.fixture(scope='module')
def runs(path, tmp_path_factory):
  """The same transfer with layers in a loop, and one by one."""
  folder = tmp_path_factory.mktemp('runs')
  return {how: transfer(path, folder / how, how) for how in ('scan', 'unroll')}


def test_a_run_is_the_same_whether_its_layers_are_held_together_or_not(runs):
  np.testing.assert_allclose(lines(runs['scan']), lines(runs['unroll']), rtol=1e-5)
  assert saved(runs['scan']) == saved(runs['unroll'])
  assert 'frozen/layers/1/attention/query/kernel/base' in saved(runs['scan'])
  results = [json.loads((run / 'result.json').read_text()) for run in runs.values()]
  for name in ('trained', 'trained_parameters', 'total_parameters', 'n'):
    assert results[0][name] == results[1][name]


@pytest.mark.parametrize('how', ['scan', 'unroll'])
def test_each_goes_on_from_the_other(runs, path, tmp_path, how):
  other = runs['unroll' if how == 'scan' else 'scan']
  run = lambda copy, how: transfer(path, copy, how)
  resumed = continued(other, tmp_path / 'run', how, run)
  np.testing.assert_allclose(lines(resumed), lines(runs['unroll']), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['adamw', 'adafactor'])
def test_layers_that_are_held_learn_as_slowly_as_layers_apart(path, tmp_path, name):
  rates = [('optim.name', name), ('optim.lr', '0.05'), ('method', "{'name': 'full'}")]
  slower = [*rates, ('optim.layer_decay', '0.3')]
  found = {}
  for how in ('scan', 'unroll'):
    found[how] = lines(transfer(path, tmp_path / how, how, *slower))
  np.testing.assert_allclose(found['scan'], found['unroll'], rtol=1e-5)
  same = lines(transfer(path, tmp_path / 'same', 'scan', *rates))
  assert abs(found['scan'] - same)[-1].max() > 1e-4


@pytest.mark.slow
def test_eight_devices_hold_what_one_saved_by_name(runs, path, tmp_path, run_cli):
  """Over eight devices, from a step that one device has saved, and back."""
  copy = tmp_path / 'run'
  shutil.copytree(runs['unroll'], copy)
  shutil.rmtree(copy / 'checkpoints' / '4')
  (copy / 'result.json').unlink()
  settings = (*SMALL, ('model', ENCODER), ('method', "{'name': 'lora', 'rank': 2}"))
  flags = [f'--config.{key}={value}' for key, value in settings]
  done = run_cli(
    'transfer',
    f'--config=configs/transfer.py:task={path}',
    f'--workdir={copy}',
    *flags,
    '--config.compute.layers=scan',
    '--config.mesh.data=2',
    '--config.mesh.fsdp=2',
    '--config.mesh.tensor=2',
    env={
      'XLA_FLAGS': f'{os.environ["XLA_FLAGS"]} --xla_force_host_platform_device_count=8'
    },
    timeout=300,
  )
  assert done.returncode == 0, done.stderr
  np.testing.assert_allclose(lines(copy), lines(runs['unroll']), rtol=1e-5)
  assert saved(copy) == saved(runs['unroll'])
  # What nothing trained is what it was, bit for bit.
  first, second = (values(folder, 'frozen/') for folder in (copy, runs['unroll']))
  jax.tree.map(np.testing.assert_array_equal, first, second)


def values(workdir, prefix, step=4):
  """The arrays of a checkpoint whose names begin so, by name."""
  store = checkpoint.Store(workdir / 'checkpoints')
  like = {}
  for name, (shape, dtype) in saved(workdir, step).items():
    if name.startswith(prefix):
      like[name] = np.zeros(shape, np.dtype(dtype))
  return store.restore(step, like)


@pytest.mark.slow
def test_an_encoder_decoder_has_two_stacks_that_are_held(tmp_path):
  held = pretrain(tmp_path / 'held', 'scan')
  named = pretrain(tmp_path / 'named', 'unroll')
  np.testing.assert_allclose(lines(held), lines(named), rtol=1e-5)
  assert saved(held) == saved(named)
