"""Frozen kernels in bfloat16: the same losses, half the bytes, whole checkpoints."""

import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import checkpoint, config, train
from tl_jax.train import frozen

SMALL = (
  ('model', "{'family': 'tiny', 'layers': 2, 'width': 16, 'heads': 2, 'mlp': 16}"),
  ('method', "{'name': 'lora', 'rank': 2}"),
  ('tokenizer.size', '300'),
  ('data.length', '16'),
  ('data.batch', '4'),
  ('schedule.warmup', '1'),
  ('schedule.steps', '3'),
  ('log.every', '1'),
  ('log.tensorboard', 'false'),
  ('compute.dtype', 'bfloat16'),
)
KERNEL = 'frozen/layers/1/attention/query/kernel/base'


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  """The same run with its base in float32, and in bfloat16 under layers in a loop."""
  folder = tmp_path_factory.mktemp('runs')
  rows = []
  for place in range(16):
    split = 'test' if place < 4 else 'train'
    rows.append(dict(text=f'w{place}', label=str(place % 2), split=split))
  (folder / 'own.jsonl').write_text('\n'.join(map(json.dumps, rows)))
  spec = f'configs/transfer.py:task={folder / "own.jsonl"}'
  more = dict(
    wide=(),
    narrow=(('compute.frozen', 'bfloat16'),),
    looped=(('compute.frozen', 'bfloat16'), ('compute.layers', 'scan')),
  )
  found = {}
  for name, own in more.items():
    train.run(config.load(spec, (*SMALL, *own)), folder / name)
    found[name] = folder / name
  return found


def losses(workdir: pathlib.Path):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line)['loss'] for line in lines]


def dtype_of(workdir, name):
  _, dtype = checkpoint.Store(workdir / 'checkpoints').leaves(3)[name]
  return dtype


def test_the_losses_are_those_of_a_base_in_float32_bit_for_bit(runs):
  assert losses(runs['narrow']) == losses(runs['wide'])
  np.testing.assert_allclose(losses(runs['looped']), losses(runs['wide']), rtol=1e-2)


def test_kernels_are_narrow_and_what_is_read_in_float32_is_not(runs):
  for name in ('narrow', 'looped'):
    assert dtype_of(runs[name], KERNEL) == 'bfloat16'
    norm = 'frozen/layers/1/attention_norm/scale'
    assert dtype_of(runs[name], norm) == 'float32'
    assert dtype_of(runs[name], 'frozen/embedding/tokens') == 'float32'
  assert dtype_of(runs['wide'], KERNEL) == 'float32'


def test_whoever_opens_the_run_gets_float32_with_what_was_trained_in_full(runs):
  narrow, wide = (train.restore(runs[name]) for name in ('narrow', 'wide'))
  kernel = lambda params: params['layers']['1']['attention']['query']['kernel']
  assert kernel(narrow).dtype == jnp.float32
  # The base is rounded, the change is not: the sum is no number of bfloat16.
  rounded = np.asarray(kernel(narrow)).astype(jnp.bfloat16).astype(np.float32)
  assert (rounded != np.asarray(kernel(narrow))).any()
  np.testing.assert_allclose(kernel(narrow), kernel(wide), atol=1e-2)


def test_where_weights_started_is_not_rounded():
  kernel = jnp.ones((2, 2))
  held = dict(frozen={'layers': {'0': {'q': {'kernel': kernel}}}}, start=None)
  held['start'] = held['frozen']
  kept = frozen.kept_in(held, 'bfloat16')
  assert kept['frozen']['layers']['0']['q']['kernel'].dtype == jnp.bfloat16
  assert kept['start']['layers']['0']['q']['kernel'].dtype == jnp.float32
