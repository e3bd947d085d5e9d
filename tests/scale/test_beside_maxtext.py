"""The memory of an 8B training step beside that of MaxText, both only compiled.

It needs MaxText in an environment of its own, whose Python the variable
TL_JAX_MAXTEXT_PYTHON names:

  python3.12 -m venv /tmp/maxtext && /tmp/maxtext/bin/pip install 'maxtext[tpu]==0.2.5'
  TL_JAX_MAXTEXT_PYTHON=/tmp/maxtext/bin/python pytest -m slow tests/scale/test_beside_maxtext.py

Both shard the weights over v5e:8x8, one row of 2,048 tokens a chip, and compute all but
the states between layers again.
"""

import os
import re
import subprocess

import chips
import pytest

from tl_jax import config
from tl_jax.scale import planning, topology
from tl_jax.train.outline import outline

pytestmark = pytest.mark.slow
PYTHON = os.environ.get('TL_JAX_MAXTEXT_PYTHON')
OURS = (
  ('model', "{'family': 'llama3.1-8b', 'vocabulary': 128256}"),
  ('mesh.data', '1'),
  ('mesh.fsdp', '-1'),
  ('data.batch', '64'),
  ('data.length', '2048'),
  ('data.accumulate', '1'),
  ('compute.remat', 'full'),
  ('compute.dtype', 'bfloat16'),
  ('compute.dropout', '0.0'),
)
THEIRS = (
  'model_name=llama3.1-8b',
  'compile_topology=v5e-64',
  'compile_topology_num_slices=1',
  'per_device_batch_size=1',
  'max_target_length=2048',
  'remat_policy=full',
  'ici_fsdp_parallelism=-1',
  'attention=flash',
  'run_name=compiled',
  'dataset_type=synthetic',
  'enable_checkpointing=false',
)


def their_temporaries(folder) -> int:
  """Bytes of temporaries of a chip, as MaxText's own compilation ahead of time says."""
  where = 'import maxtext, pathlib; print(pathlib.Path(maxtext.__file__).parent)'
  found = subprocess.run([PYTHON, '-c', where], capture_output=True, text=True)
  base = f'{found.stdout.split()[-1]}/configs/base.yml'
  module = ('-m', 'maxtext.trainers.pre_train.train_compile')
  words = [PYTHON, *module, base, *THEIRS, f'base_output_directory={folder}']
  # Nothing that is set here, as flags of another XLA or its library, is meant for it.
  ours = ('PYTHONPATH', 'XLA_FLAGS', 'JAX_', 'TPU_LIBRARY')
  others = {key: os.environ[key] for key in os.environ if not key.startswith(ours)}
  told = subprocess.run(
    words,
    capture_output=True,
    text=True,
    cwd=folder,
    env=others | dict(JAX_PLATFORMS='cpu'),
  )
  assert not told.returncode, told.stderr[-2000:]
  return int(re.search(r'temp_size_in_bytes=(\d+)', told.stdout)[1])


@pytest.mark.skipif(not PYTHON, reason='TL_JAX_MAXTEXT_PYTHON names no Python')
def test_a_step_of_8b_needs_no_more_than_theirs(tmp_path):
  chips.devices()
  run = outline(config.load('configs/pretrain.py:tiny-gpt', OURS))
  plan = planning.make_plan(run, topology.parse('v5e:8x8'), planning.Wish())
  assert plan.memory['temporaries'] <= their_temporaries(tmp_path)
