"""Attention in the compiled program of a TPU that is not there: the kernel is called,
and no array of all pairs of positions is left.

Needs the compiler: pip install '.[test,tpu]' (or the libtpu that this jax was built
with).
"""

import re

import chips
import jax
import jax.numpy as jnp
import pytest

from tl_jax import models, parallel

pytestmark = pytest.mark.slow
LENGTH = 1280
SMALL = dict(vocabulary=512, layers=2, width=256, heads=4, head_dim=64, mlp=512)


@pytest.fixture(scope='module')
def devices():
  """Four TPUs v5e, as far as their compiler is concerned."""
  return chips.devices()


def gradient_of(devices, family, head, sizes, fields, **compute):
  """The compiled gradient of a small model in bfloat16, as text."""
  arch = models.arch(family, head=head, max_positions=LENGTH, **SMALL | fields)
  settings = models.Compute(dtype='bfloat16', remat='full', **compute)
  model = models.build(arch, settings)
  mesh = parallel.make_mesh(parallel.MeshShape(data=1, **sizes), devices)
  abstract = jax.eval_shape(lambda: model.init(jax.random.key(0)))
  shardings = parallel.shardings(mesh, model.axes, abstract)
  place = lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
  params = jax.tree.map(place, abstract, shardings)
  rows = parallel.batch_sharding(mesh)
  tokens = jax.ShapeDtypeStruct((4, LENGTH), jnp.int32, sharding=rows)
  batch = dict(tokens=tokens, segments=tokens)

  def loss(params, batch):
    key = jax.random.key(0)
    logits = model.apply(params, batch, key=key, train=True).logits
    return jnp.square(logits.astype(jnp.float32)).mean()

  with jax.set_mesh(mesh):
    traced = jax.jit(jax.grad(loss)).trace(params, batch)
    lowered = traced.lower(lowering_platforms=('tpu',))
    return lowered.compile(compiler_options=chips.LOW_EFFORT).as_text()


def kernels(text: str) -> set[str]:
  """The names of the kernels that a program calls, forward and backward."""
  return set(re.findall(r'splash_mha_(\w+?)_segmented', text))


def pairs(text: str) -> set[str]:
  """The float32 arrays with an axis of queries and one of keys, of a row or a part."""
  return set(re.findall(rf'f32\[[\d,]*\b(?:{LENGTH}|{LENGTH // 4}),{LENGTH}\]', text))


CASES = {
  'decoder': ('llama3.2-1b', 'causal', dict(fsdp=4), dict(kv_heads=2)),
  'windows by layer': ('gemma2-2b', 'causal', dict(fsdp=4), dict(windows=(0, 128))),
  'heads cut': ('llama3.2-1b', 'causal', dict(tensor=4), dict(kv_heads=2)),
  'positions cut': ('llama3.2-1b', 'causal', dict(sequence=4), dict(kv_heads=2)),
  'encoder': ('bert-base', 'masked', dict(fsdp=2, sequence=2), {}),
}


@pytest.mark.parametrize('case', CASES)
def test_the_gradient_calls_the_kernel(case, devices):
  family, head, sizes, fields = CASES[case]
  text = gradient_of(devices, family, head, sizes, fields)
  assert kernels(text) == {'fwd', 'dq', 'dkv'}
  assert not pairs(text)


@pytest.mark.parametrize('case', ['decoder', 'encoder'])
def test_in_blocks_the_gradient_has_no_scores_of_all_pairs_either(
  case, devices, monkeypatch
):
  monkeypatch.setattr(models.blockwise, 'MOST', 2**20)
  jax.clear_caches()
  family, head, sizes, fields = CASES[case]
  dropout = 0.1 if case == 'encoder' else 0.0
  text = gradient_of(
    devices, family, head, sizes, fields, attention='xla', dropout=dropout
  )
  assert not kernels(text)
  assert not pairs(text)


def test_whole_products_have_them(devices, monkeypatch):
  monkeypatch.setattr(models.blockwise, 'MOST', 2**60)
  jax.clear_caches()
  family, head, sizes, fields = CASES['decoder']
  assert pairs(gradient_of(devices, family, head, sizes, fields, attention='xla'))
