"""One run is one run: the same losses on one device, on eight and on two processes, for
every objective of pre-training.
"""

import json
import os
import re

import numpy as np
import pytest
from two_processes import hear, run_two, start_several

pytestmark = pytest.mark.slow
STEPS = 20
FLAGS = (
  '--config.log.every=1',
  f'--config.schedule.steps={STEPS}',
  '--config.log.tensorboard=false',
  '--config.checkpoint.every=1000',
  '--config.eval.batches=1',
  '--config.tokenizer.size=512',
  '--config.data.length=32',
  "--config.data.mixture={'vader_amazon': 1.0}",
)
PREFIX = ('tiny-gpt', '--config.objective.prefix=True')
# Of texts with several sentences, whose order can be wrong.
PARAGRAPHS = "--config.data.mixture={'austen': 1.0}"
# A loss that counts 50 times has no 1e-5 in float32.
ELECTRA = ('tiny-electra', '--config.objective.weight=1.0')
# The objectives of pre-training: the argument of their config, and what is set beside it.
OBJECTIVES = {
  'masked': ('tiny',),
  'next_sentence': ('tiny,objective=next_sentence', PARAGRAPHS),
  'sentence_order': ('tiny,objective=sentence_order', PARAGRAPHS),
  'electra': ELECTRA,
  'causal': ('tiny-gpt',),
  'prefix': PREFIX,
  'span': ('tiny-t5',),
  'denoisers': ('tiny-ul2',),
  'joined_denoisers': ('tiny-gpt,objective=joined_denoisers',),
  'infilling': ('tiny-bart',),
}
# One stays on one worker, which computes its losses on one device once.
EACH = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in OBJECTIVES]
EIGHT = ('--config.mesh.data=2', '--config.mesh.fsdp=2', '--config.mesh.tensor=2')


def flags_of(objective):
  """A config of one layer in each stack: what matters here is how it is cut up, and a
  compilation takes seconds.
  """
  argument, *more = OBJECTIVES[objective]
  family = argument.split(',')[0]
  return (
    f'--config=configs/pretrain.py:{argument}',
    *FLAGS,
    *more,
    f"--config.model={{'family': '{family}', 'layers': 1}}",
  )


def losses(workdir):
  rows = [
    json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()
  ]
  assert [row['step'] for row in rows] == list(range(1, STEPS + 1))
  return np.array([row['loss'] for row in rows])


@pytest.fixture(scope='module')
def one_device(run_cli, tmp_path_factory):
  """The losses of each shape on one device, computed once."""
  found = {}

  def run(objective):
    if objective not in found:
      workdir = tmp_path_factory.mktemp(objective)
      done = run_cli(
        'pretrain',
        f'--workdir={workdir}',
        *flags_of(objective),
        timeout=300,
      )
      assert done.returncode == 0, done.stderr
      found[objective] = losses(workdir)
    return found[objective]

  return run


@pytest.mark.parametrize('objective', EACH)
def test_eight_devices_give_the_losses_of_one(objective, one_device, run_cli, tmp_path):
  done = run_cli(
    'pretrain',
    f'--workdir={tmp_path}',
    *flags_of(objective),
    *EIGHT,
    env={
      'XLA_FLAGS': f'{os.environ["XLA_FLAGS"]} --xla_force_host_platform_device_count=8'
    },
    timeout=300,
  )
  assert done.returncode == 0, done.stderr
  np.testing.assert_allclose(losses(tmp_path), one_device(objective), atol=1e-5)


@pytest.mark.parametrize('objective', EACH)
def test_two_processes_give_the_losses_of_one(objective, one_device, tmp_path):
  run_two(
    ('-m', 'tl_jax'),
    'pretrain',
    f'--workdir={tmp_path}',
    *flags_of(objective),
  )
  np.testing.assert_allclose(losses(tmp_path), one_device(objective), atol=1e-5)


# Longer than a collective between CPUs waits for the others.
LATE = """
import sys, time
import jax
from jax.stages import Lowered
from tl_jax.cli.main import main
compile = Lowered.compile
def compile_late(lowered, *arguments, **options):
  made = compile(lowered, *arguments, **options)
  time.sleep(32 * jax.process_index())
  return made
Lowered.compile = compile_late
raise SystemExit(main(sys.argv[1:]))
"""


def test_a_process_may_take_long_to_compile(tmp_path):
  """As on a second start, when one finds the program in its cache and another does not."""
  run_two(
    ('-c', LATE),
    'pretrain',
    f'--workdir={tmp_path}',
    *flags_of('masked'),
  )
  assert losses(tmp_path).size == STEPS


def test_fewer_examples_than_processes_are_learned_as_by_one(
  pretrained, run_cli, tmp_path
):
  """Three processes share two labelled texts: some rows of a batch are the same text."""
  rows = [
    dict(text='a fine film', label='good', split='train'),
    dict(text='a dull film', label='bad', split='train'),
    dict(text='fine', label='good', split='test'),
  ]
  task = tmp_path / 'task.jsonl'
  task.write_text('\n'.join(map(json.dumps, rows)))
  flags = (
    f'--config=configs/transfer.py:task={task},init={pretrained}',
    '--config.data.batch=3',
    '--config.data.length=32',
    '--config.schedule.warmup=0',
    f'--config.schedule.steps={STEPS}',
    '--config.log.every=1',
    '--config.log.tensorboard=false',
  )
  alone = run_cli('transfer', f'--workdir={tmp_path / "one"}', *flags)
  assert alone.returncode == 0, alone.stderr
  several = start_several(
    3, ('-m', 'tl_jax'), 'transfer', f'--workdir={tmp_path / "three"}', *flags
  )
  heard = hear(several)
  assert [process.returncode for process in several] == [0, 0, 0], heard
  found = losses(tmp_path / 'three')
  assert found[-1] < found[0]
  np.testing.assert_allclose(found, losses(tmp_path / 'one'), atol=1e-5)


def test_two_processes_evaluate_as_one(pretrained):
  """Each says of a committed step what one process says of it."""
  from tl_jax import train

  alone = train.evaluate(pretrained)['metrics']
  for told in run_two(('-m', 'tl_jax'), 'evaluate', f'--workdir={pretrained}'):
    for name, value in alone.items():
      found = re.search(rf'\b{name} (\S+[0-9])', told)
      # Printed with four decimals, of which a small accuracy has few digits.
      np.testing.assert_allclose(float(found[1]), value, rtol=1e-3, atol=5e-5)


# As on a pod, whose mesh follows the wires: a host holds the first row and the last, or
# a part of every row. More devices of a CPU than this would wait for each other's
# threads.
INTERLEAVED = """
import sys
import jax
from tl_jax import parallel
make_mesh = parallel.make_mesh
def interleaved(shape):
  devices = jax.devices()
  assert len(devices) == 4 and jax.process_count() == 2
  return make_mesh(shape, [devices[index] for index in (0, 2, 3, 1)])
parallel.make_mesh = interleaved
from tl_jax.cli.main import main
raise SystemExit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize('shape', [dict(data=4), dict(data=2, tensor=2)])
@pytest.mark.xdist_group('masked')
def test_the_order_of_devices_changes_no_loss(shape, one_device, tmp_path):
  flags = os.environ['XLA_FLAGS']
  run_two(
    ('-c', INTERLEAVED),
    'pretrain',
    f'--workdir={tmp_path}',
    *flags_of('masked'),
    *(f'--config.mesh.{axis}={size}' for axis, size in shape.items()),
    XLA_FLAGS=f'{flags} --xla_force_host_platform_device_count=2',
  )
  np.testing.assert_allclose(losses(tmp_path), one_device('masked'), atol=1e-5)
