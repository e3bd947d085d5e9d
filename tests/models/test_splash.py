"""The kernel for TPUs, interpreted, makes what whole products make, forward and
backward; on eight devices, too.
"""

import os
import subprocess
import sys
import textwrap

import attending
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import models
from tl_jax.models import splash
from tl_jax.models.operands import gather


def by_kernel(case, cap=0.0):
  def attend(query, keys, values):
    operands = gather(query, keys, values, case.sight)
    window = case.sight.window
    return splash.attend(operands, causal=case.sight.causal, window=window, cap=cap)

  return attend


@pytest.mark.parametrize(
  'length, groups, causal, window, cap',
  [
    (256, 2, True, 0, 0.0),
    # no multiple of 128
    pytest.param(200, 2, True, 50, 5.0, marks=pytest.mark.slow),
    pytest.param(256, 1, False, 64, 0.0, marks=pytest.mark.slow),
    pytest.param(200, 3, False, 0, 0.0, marks=pytest.mark.slow),
  ],
)
def test_the_kernel_is_whole_products(length, groups, causal, window, cap):
  case = attending.draw(2, length, 1, groups, 16, causal=causal, window=window)
  wanted = attending.results(attending.whole(case, cap), case)
  found = attending.results(by_kernel(case, cap), case)
  attending.require_equal(found, wanted)


EIGHT = textwrap.dedent("""
    import functools
    import jax
    import attending
    from tl_jax import parallel
    from tl_jax.models import blockwise, splash
    from tl_jax.models.operands import gather

    blockwise.block_length = lambda length, heads: 32
    SHAPES = [
      # (devices, key heads, groups, causal, window, cap)
      (dict(data=2, tensor=2, sequence=2), 2, 1, True, 0, 0.0),
      (dict(data=1, fsdp=2, sequence=4), 1, 2, False, 100, 0.0),
      # as many key heads as cannot be cut
      (dict(data=1, fsdp=2, tensor=4), 2, 2, True, 60, 5.0),
      # nothing is hidden by its column
      (dict(data=1, fsdp=2, sequence=4), 1, 1, False, 0, 0.0),
      # rows that do not divide stay whole
      (dict(data=8), 1, 1, True, 0, 0.0),
    ]

    def by_kernel(case, cap, query, keys, values):
      operands = gather(query, keys, values, case.sight)
      sight = case.sight
      return splash.attend(operands, causal=sight.causal, window=sight.window, cap=cap)

    def in_blocks(case, cap, query, keys, values):
      operands = gather(query, keys, values, case.sight)
      return blockwise.attend(operands, causal=case.sight.causal, cap=cap, rate=0.0)

    for sizes, heads, groups, causal, window, cap in SHAPES:
      case = attending.draw(4, 250, heads, groups, 8, causal=causal, window=window)
      wanted = attending.results(attending.whole(case, cap), case)
      mesh = parallel.make_mesh(parallel.MeshShape(**sizes))
      with jax.set_mesh(mesh):
        for form in (by_kernel, in_blocks):
          attend = functools.partial(form, case, cap)
          attending.require_equal(attending.results(attend, case), wanted)
          print(sizes, form.__name__)
    """)


def eight_devices(program: str) -> str:
  tests = os.path.dirname(attending.__file__)
  devices = '--xla_force_host_platform_device_count=8'
  env = os.environ | {
    'XLA_FLAGS': f'{os.environ["XLA_FLAGS"]} {devices}',
    'PYTHONPATH': os.pathsep.join([os.path.dirname(tests), tests]),
  }
  done = subprocess.run(
    [sys.executable, '-c', program],
    env=env,
    capture_output=True,
    text=True,
    timeout=600,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


@pytest.mark.slow
def test_eight_devices_make_what_one_makes():
  told = eight_devices(EIGHT)
  assert len(told.splitlines()) == 10


SMALL = dict(vocabulary=50, layers=2, width=16, heads=2, head_dim=8, mlp=16)


def model_run(arch, compute):
  """(the loss and its gradient, the logits where there are tokens) of packed rows."""
  params = models.build(arch).init(jax.random.key(0))
  params = jax.tree.map(lambda leaf: 2 * leaf, params)
  tokens = jnp.asarray(np.random.default_rng(0).integers(1, 50, (2, 130)))
  segments = jnp.ones_like(tokens).at[:, 70:].set(2).at[0, 100:].set(0)
  batch = dict(tokens=tokens, segments=segments)
  model = models.build(arch, compute)

  def run(params):
    logits = model.apply(params, batch).logits
    shown = jnp.where(segments[..., None] > 0, logits, 0)
    return jnp.square(shown).mean(), shown

  return jax.jit(jax.value_and_grad(run, has_aux=True))(params)


FAMILIES = {
  'decoder': ('tiny-gpt', 'causal', dict(kv_heads=1)),
  'windows by layer': ('tiny-gpt', 'causal', dict(windows=(0, 16), attention_cap=5.0)),
  'encoder': ('tiny', 'masked', dict(windows=(0, 32))),
}


@pytest.mark.slow
@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('layers', ['scan', 'unroll'])
def test_a_model_by_the_kernel_is_the_model(family, layers):
  name, head, more = FAMILIES[family]
  arch = models.arch(name, head=head, **SMALL | more | dict(max_positions=130))
  wanted = model_run(arch, models.Compute())
  compute = models.Compute(attention='splash', layers=layers, remat='dots')
  found = model_run(arch, compute)
  for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
    np.testing.assert_allclose(one, other, atol=2e-5, rtol=1e-4)


def test_tiles_divide_their_lengths():
  for length in range(128, 4097, 128):
    size = splash.tile(length)
    assert length % size == 0
    assert size <= splash.MOST
