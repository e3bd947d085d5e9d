"""A folder is loaded onto eight devices a tensor at a time, and the model decodes there
what it does on one.
"""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import interop, models, tree

ROOT = pathlib.Path(__file__).resolve().parents[2]
WIDTH, VOCABULARY = 256, 8192
ON_EIGHT = """
import sys, tracemalloc
import jax, numpy as np
from tl_jax import decode, interop, models, parallel, tree
assert len(jax.devices()) == 8
mesh = parallel.make_mesh(parallel.MeshShape(data=2, fsdp=2, tensor=2))
interop.load(sys.argv[1], mesh=mesh)                  # imports and small caches are not what is measured
tracemalloc.start()
loaded = interop.load(sys.argv[1], mesh=mesh)
jax.block_until_ready(loaded.params)
kept, peak = tracemalloc.get_traced_memory()
tracemalloc.stop()
held = tree.flatten(loaded.params)
largest = max(leaf.nbytes for leaf in held.values())
assert sum(leaf.nbytes for leaf in held.values()) > 4 * largest
assert any(len({str(shard.index) for shard in leaf.addressable_shards}) > 1 for leaf in held.values())
print(peak, kept, largest)
with jax.set_mesh(mesh):
  settings = decode.Decoding(max_new_tokens=8, eos=1)
  rows = {name: np.load(sys.argv[2])[name] for name in ('tokens', 'segments')}
  batch = parallel.place_batch(rows, parallel.batch_sharding(mesh), len(rows['tokens']))
  made = decode.generate(models.decoder(loaded.arch), loaded.params, batch, settings)
np.savez(sys.argv[3], tokens=made.tokens, scores=made.scores, **parallel.to_host(held))
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A model of the shape of Llama, whose largest tensor is a fifth of it or less."""
  arch = models.arch(
    'llama3.2-1b',
    vocabulary=VOCABULARY,
    head='causal',
    layers=8,
    width=WIDTH,
    heads=4,
    kv_heads=2,
    head_dim=64,
    mlp=1024,
  )
  model = models.build(arch)
  params = jax.tree.map(lambda leaf: 3 * leaf, model.init(jax.random.key(0)))
  return interop.save(
    tmp_path_factory.mktemp('llama'), interop.Loaded(model, params, None, arch)
  )


@pytest.mark.slow
def test_eight_devices_hold_and_write_what_one_does(folder, tmp_path):
  from tl_jax import decode

  loaded = interop.load(folder)
  draw = np.random.default_rng(0)
  rows = dict(
    tokens=draw.integers(2, VOCABULARY, (4, 6)).astype(np.int32),
    segments=np.ones((4, 6), np.int32),
  )
  rows['segments'][1, :3] = 0
  np.savez(tmp_path / 'batch.npz', **rows)
  environment = {
    **os.environ,
    'PYTHONPATH': str(ROOT),
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': '--xla_force_host_platform_device_count=8',
  }
  done = subprocess.run(
    [
      sys.executable,
      '-c',
      ON_EIGHT,
      folder,
      tmp_path / 'batch.npz',
      tmp_path / 'found.npz',
    ],
    env=environment,
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-2000:]
  peak, kept, largest = map(int, done.stdout.split())
  # Two groups of devices have a copy each; a tensor on a CPU may be the array that it
  # was placed from.
  assert peak - kept < 2.5 * largest, (
    'more than a tensor was in memory besides those that are placed'
  )
  with np.load(tmp_path / 'found.npz') as found:
    for name, leaf in tree.flatten(loaded.params).items():
      np.testing.assert_array_equal(found[name], leaf, err_msg=name)
    made = decode.generate(
      models.decoder(loaded.arch),
      loaded.params,
      jax.tree.map(jnp.array, rows),
      decode.Decoding(max_new_tokens=8, eos=1),
    )
    np.testing.assert_array_equal(found['tokens'], made.tokens)
    np.testing.assert_allclose(found['scores'], made.scores, atol=1e-3)
