"""A run that is killed at any moment and started again ends where an undisturbed one
does, to the last bit.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tl_jax import train, tree

FLAGS = (
  "--config.model={'family': 'tiny', 'layers': 1}",
  '--config.log.every=1',
  '--config.log.tensorboard=false',
  '--config.checkpoint.every=3',
  '--config.eval.batches=1',
  '--config.tokenizer.size=512',
  '--config.data.length=32',
  '--config.optim.ema=0.9',
  "--config.data.mixture={'vader_amazon': 0.5, 'vader_nyt': 0.5}",
)


def command(workdir, steps):
  return [
    sys.executable,
    '-m',
    'tl_jax',
    'pretrain',
    '--config=configs/pretrain.py:tiny',
    f'--workdir={workdir}',
    *FLAGS,
    f'--config.schedule.steps={steps}',
  ]


def launch(workdir, steps):
  return subprocess.Popen(
    command(workdir, steps),
    stdout=subprocess.DEVNULL,
    env=os.environ | {'PYTHONPATH': os.getcwd()},
  )


def figures(workdir):
  rows = [
    json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()
  ]
  timed = ('tokens_per_second', 'waiting_share')
  return [
    {name: value for name, value in row.items() if name not in timed} for row in rows
  ]


def require_same(one, other):
  assert figures(one) == figures(other)
  expected, found = (tree.flatten(train.restore(workdir)) for workdir in (one, other))
  assert expected.keys() == found.keys()
  for name, leaf in expected.items():
    assert np.asarray(leaf).tobytes() == np.asarray(found[name]).tobytes(), name
  assert (
    json.loads((one / 'result.json').read_text())['metrics']
    == json.loads((other / 'result.json').read_text())['metrics']
  )


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
  """(workdir, seconds) of a run that nobody disturbs."""
  workdir, began = tmp_path_factory.mktemp('undisturbed'), time.monotonic()
  process = launch(workdir, 30)
  assert process.wait(300) == 0
  return workdir, time.monotonic() - began


def kill_at_random(workdir, seconds, kills, seed):
  """Kills at random moments of a start, wherever that finds it: starting, compiling,
  stepping, saving.
  """
  draw, hits = random.Random(seed), 0
  while hits < kills:
    process = launch(workdir, 30)
    try:
      process.wait(draw.uniform(0.2, 0.7) * seconds)
      break  # it got through before its kill
    except subprocess.TimeoutExpired:
      process.send_signal(signal.SIGKILL)
      process.wait()
      hits += 1
  process = launch(workdir, 30)
  assert process.wait(300) == 0
  return hits


# What a kill leaves of a workdir, the tests of checkpoints show; that a run goes on bit
# for bit, the signal below.
@pytest.mark.slow
def test_killed_twice(undisturbed, tmp_path):
  workdir, seconds = undisturbed
  assert kill_at_random(tmp_path, seconds, kills=2, seed=1) >= 1
  require_same(workdir, tmp_path)


@pytest.mark.slow
def test_killed_twenty_times(undisturbed, tmp_path):
  """Twenty kills in all, over as many workdirs as it takes; they come earlier where
  runs get through before them.
  """
  workdir, seconds = undisturbed
  hits = 0
  for attempt in range(40):
    folder = tmp_path / str(attempt)
    found = kill_at_random(folder, seconds, kills=20 - hits, seed=attempt)
    require_same(workdir, folder)
    hits += found
    seconds *= 1.0 if found >= 2 else 0.8
    if hits == 20:
      break
  assert hits == 20


def test_a_signal_saves_and_says_try_again(undisturbed, tmp_path):
  process = launch(tmp_path, 30)
  deadline = time.monotonic() + 200
  while (
    not (tmp_path / 'metrics.jsonl').exists()
    and process.poll() is None
    and time.monotonic() < deadline
  ):
    time.sleep(0.02)
  process.send_signal(signal.SIGTERM)
  code = process.wait(100)
  assert code in (0, 75)
  if code == 75:
    assert train.open_workdir(tmp_path).step < 30
  assert launch(tmp_path, 30).wait(300) == 0
  require_same(undisturbed[0], tmp_path)
