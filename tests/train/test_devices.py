"""One run is one run: the same losses on one device, on eight and on two processes, for every shape of model."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.slow
STEPS = 20
FLAGS = ('--config.log.every=1', f'--config.schedule.steps={STEPS}', '--config.log.tensorboard=false',
         '--config.checkpoint.every=1000', '--config.eval.batches=1', '--config.tokenizer.size=512',
         '--config.data.length=32', "--config.data.mixture={'vader_amazon': 1.0}")
# A family stays on one worker, which computes its losses on one device once.
FAMILIES = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in ('tiny', 'tiny-gpt', 'tiny-t5')]
EIGHT = ('--config.mesh.data=2', '--config.mesh.fsdp=2', '--config.mesh.tensor=2')


def small(family):
  """One layer of each stack: what matters here is how it is cut up, and a compilation takes seconds."""
  return f"--config.model={{'family': '{family}', 'layers': 1}}"


def losses(workdir):
  rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  assert [row['step'] for row in rows] == list(range(1, STEPS + 1))
  return np.array([row['loss'] for row in rows])


@pytest.fixture(scope='module')
def one_device(run_cli, tmp_path_factory):
  """The losses of each shape on one device, computed once."""
  found = {}
  def run(family):
    if family not in found:
      workdir = tmp_path_factory.mktemp(family)
      done = run_cli('pretrain', f'--config=configs/pretrain.py:{family}', f'--workdir={workdir}', *FLAGS,
                     small(family), timeout=300)
      assert done.returncode == 0, done.stderr
      found[family] = losses(workdir)
    return found[family]
  return run


@pytest.mark.parametrize('family', FAMILIES)
def test_eight_devices_give_the_losses_of_one(family, one_device, run_cli, tmp_path):
  done = run_cli('pretrain', f'--config=configs/pretrain.py:{family}', f'--workdir={tmp_path}', *FLAGS, *EIGHT,
                 small(family),
                 env={'XLA_FLAGS': f'{os.environ["XLA_FLAGS"]} --xla_force_host_platform_device_count=8'}, timeout=300)
  assert done.returncode == 0, done.stderr
  np.testing.assert_allclose(losses(tmp_path), one_device(family), atol=1e-5)


@pytest.mark.parametrize('family', FAMILIES)
def test_two_processes_give_the_losses_of_one(family, one_device, tmp_path):
  with socket.socket() as probe:
    probe.bind(('localhost', 0))
    address = f'localhost:{probe.getsockname()[1]}'
  command = [sys.executable, '-m', 'tl_jax', 'pretrain', f'--config=configs/pretrain.py:{family}',
             f'--workdir={tmp_path}', *FLAGS, small(family)]
  processes = [
      subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {
          'PYTHONPATH': os.getcwd(), 'JAX_COORDINATOR_ADDRESS': address, 'JAX_NUM_PROCESSES': '2',
          'JAX_PROCESS_ID': str(index)})
      for index in range(2)]
  for process in processes:
    _, complaint = process.communicate(timeout=300)
    assert process.returncode == 0, complaint
  np.testing.assert_allclose(losses(tmp_path), one_device(family), atol=1e-5)
