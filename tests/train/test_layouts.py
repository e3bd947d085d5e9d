"""One run is one run on every layout: presets, axes, processes and orders of devices
change no loss beyond rounding, and the checkpoint of each opens on each other.
"""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from mesh_cells import STEPS
from two_processes import hear, start_several

pytestmark = pytest.mark.slow
PROGRAM = str(pathlib.Path(__file__).resolve().parent.parent / 'mesh_cells.py')
# `held` has the layers of a stack in one array each.
PRESETS = (
  'replicate',
  'fsdp',
  'tensor',
  'fsdp_tensor',
  'sequence',
  'cohort',
  'held',
)
# Of one kind only: what these add to a preset is the same for all.
SPECIAL = ('long', 'all', 'whole', 'override')
KINDS = [
  pytest.param(family, method, marks=pytest.mark.xdist_group(f'{family}-{method}'))
  for family in ('tiny', 'tiny-gpt', 'tiny-t5')
  for method in ('full', 'lora')
]
# Rows of a host are apart, and so are the halves of a kernel.
ORDERS = {4: '0,2,3,1', 8: '5,0,6,3,1,7,2,4'}


def with_devices(count):
  flags = os.environ['XLA_FLAGS']
  return dict(XLA_FLAGS=f'{flags} --xla_force_host_platform_device_count={count}')


def alone(*arguments, devices=1):
  """What the program says as a single process with so many devices."""
  done = subprocess.run(
    [sys.executable, PROGRAM, *map(str, arguments)],
    env=os.environ | dict(PYTHONPATH=os.getcwd()) | with_devices(devices),
    capture_output=True,
    text=True,
    timeout=1800,
  )
  assert done.returncode == 0, (done.stdout, done.stderr[-3000:])
  return done.stdout


def together(processes, *arguments, devices):
  """What each of several processes says, which make up one run."""
  started = start_several(
    processes, (PROGRAM,), *map(str, arguments), **with_devices(devices)
  )
  heard = hear(started, timeout=1800)
  for process, (told, complaint) in zip(started, heard, strict=True):
    assert process.returncode == 0, (told, complaint[-3000:])
  return heard[0][0]


def losses(folder):
  lines = (folder / 'metrics.jsonl').read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  assert [row['step'] for row in rows] == list(range(1, STEPS + 1))
  return np.array([row['loss'] for row in rows])


def require_one_run(folders, first):
  expected = losses(first)
  # Something is learned, so that a gradient which is not the sum of all would show.
  assert len(set(expected.round(4))) > STEPS / 2
  for folder in folders:
    np.testing.assert_allclose(losses(folder), expected, atol=1e-5, err_msg=str(folder))


def require_same_bits(told):
  """Whatever a checkpoint was opened on, its bits are the same."""
  found = {}
  # The library of the collectives speaks as well.
  for line in filter(lambda line: ' onto ' in line, told.splitlines()):
    name, digest = line.split(': ')
    source, target = name.split(' onto ')
    assert found.setdefault(source, digest) == digest, f'{source} on {target}'
  return found


@pytest.mark.parametrize('family, method', KINDS)
def test_every_layout_of_eight_devices_is_one_run(family, method, tmp_path):
  first = tmp_path / 'one' / 'alone'
  alone(family, method, '--runs', first)
  names = PRESETS + (SPECIAL if (family, method) == ('tiny-gpt', 'full') else ())
  runs = [tmp_path / 'eight' / name for name in names]
  alone(family, method, '--runs', *runs, devices=8)
  require_one_run(runs, first)
  told = alone(family, method, '--sources', first, *runs, '--onto', *runs, devices=8)
  assert told.count(' onto ') == len(runs) * (len(runs) + 1)
  on_eight = require_same_bits(told)
  back = alone(family, method, '--sources', *runs, '--onto', first)
  assert require_same_bits(back).items() <= on_eight.items()


@pytest.mark.parametrize('processes, devices', [(2, 2), (4, 1)])
@pytest.mark.parametrize('family, method', KINDS)
def test_processes_and_orders_of_devices_are_one_run(
  family, method, processes, devices, tmp_path
):
  first = tmp_path / 'one' / 'alone'
  alone(family, method, '--runs', first)
  names = ('fsdp', 'fsdp_tensor', 'sequence')
  runs = [tmp_path / 'several' / name for name in names]
  order = ORDERS[processes * devices]
  more = ('--order', order)
  together(processes, family, method, '--runs', *runs, *more, devices=devices)
  require_one_run(runs, first)
  told = together(
    processes,
    *(family, method, '--sources', first, *runs, '--onto', *runs, *more),
    devices=devices,
  )
  of_several = require_same_bits(told)
  back = alone(family, method, '--sources', *runs, '--onto', first)
  assert require_same_bits(back).items() <= of_several.items()


@pytest.mark.parametrize('family, method', [('tiny', 'full')])
def test_the_order_of_eight_devices_changes_no_loss(family, method, tmp_path):
  first = tmp_path / 'one' / 'alone'
  alone(family, method, '--runs', first)
  runs = [tmp_path / 'eight' / name for name in ('fsdp_tensor', 'sequence')]
  alone(family, method, '--runs', *runs, '--order', ORDERS[8], devices=8)
  require_one_run(runs, first)
