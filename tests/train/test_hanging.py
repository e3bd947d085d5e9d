"""A step that one of two processes never comes to is noticed by both of them."""

import time

import pytest
from two_processes import start_two

pytestmark = pytest.mark.slow
# Process 1 reads no more rows after a while; process 0 waits for it in its next step.
PROGRAM = """
import logging, sys, threading
import jax
from tl_jax.cli.main import main
from tl_jax.parallel import watching
from tl_jax.train import running
watching.LOOK_SECONDS, watching.LEAST_SECONDS, watching.TIMES = 0.5, 4, 4
placed_batches = running.placed_batches
def placed(*arguments):
  for number, batch in enumerate(placed_batches(*arguments), 1):
    if number > 8 and jax.process_index() == 1:
      threading.Event().wait()
    yield batch
running.placed_batches = placed
raise SystemExit(main(sys.argv[1:]))
"""


def test_a_process_that_never_comes_is_noticed(tmp_path):
  processes = start_two(
    ('-c', PROGRAM),
    'pretrain',
    '--config=configs/pretrain.py:tiny',
    f'--workdir={tmp_path}',
    '--config.schedule.steps=30',
    '--config.log.every=100',
    '--config.log.tensorboard=false',
    '--config.tokenizer.size=300',
    "--config.data.mixture={'vader_amazon': 1.0}",
    "--config.model={'family': 'tiny', 'layers': 1}",
  )
  try:
    text = _wait_for(tmp_path, processes)
  finally:
    for process in processes:
      process.kill()
    told = [process.communicate() for process in processes]
  assert 'the rows of step 9 has taken' in text, text
  assert 'process 1 of 2' in text and 'waits for the threads that read' in text
  assert 'process 0 of 2' in text and 'waits for the devices' in text
  # Python's own stack of the step, and of who reads.
  assert 'in _report_late' in text and 'in placed' in text
  assert 'its stacks are in' in told[0][1] and 'its stacks are in' in told[1][1]


def _wait_for(folder, processes) -> str:
  """What both processes have written of their stacks, or what there is in the end."""
  text = ''
  until = time.monotonic() + 200
  while time.monotonic() < until:
    text = ''.join(path.read_text() for path in folder.glob('stacks-*.txt'))
    if 'process 0 of 2' in text and 'process 1 of 2' in text:
      break
    if any(process.poll() is not None for process in processes):
      break
    time.sleep(0.3)
  return text
