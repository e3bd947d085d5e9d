"""The kernel for TPUs, interpreted, makes what whole products make, forward and
backward; on eight devices, too.
"""

import textwrap

import attending
import fake_devices
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
# Heads and positions are cut, and so is the table of a bias by position.
BIASED = textwrap.dedent("""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import attending
    from tl_jax import parallel
    from tl_jax.models import blockwise
    from tl_jax.models.operands import gather
    from tl_jax.models.relative import PositionBias

    blockwise.block_length = lambda length, heads: 32
    case = attending.draw(4, 250, 2, 1, 8, causal=False)
    table = jnp.asarray(np.random.default_rng(3).normal(size=(8, 2)), jnp.float32)

    def bias_of(table):
      return PositionBias(table, *case.sight.positions, both_ways=True, farthest=16)

    def whole(query, keys, values, table):
      bias = bias_of(table).dense()[:, :, None]
      return attending.whole(case)(query, keys, values, bias)

    def in_blocks(query, keys, values, table):
      bias = bias_of(table)
      operands = gather(query, keys, values, case.sight, bias)
      return blockwise.attend(operands, causal=False, distance=bias)

    wanted = attending.results(whole, case, table)
    sizes = parallel.MeshShape(data=1, fsdp=2, tensor=2, sequence=2)
    with jax.set_mesh(parallel.make_mesh(sizes)):
      found = attending.results(in_blocks, case, table)
    attending.require_equal(found[:4], wanted[:4])
    attending.require_equal(found[4:], wanted[4:], 1e-4)
    print(found[4].shape)
    """)
# As a cohort runs: members side by side, cut along an axis of their own.
MEMBERS = textwrap.dedent("""
    import jax
    import jax.numpy as jnp
    import attending
    from tl_jax import parallel
    from tl_jax.models import blockwise, splash
    from tl_jax.models.operands import gather

    blockwise.block_length = lambda length, heads: 32
    case = attending.draw(4, 128, 1, 2, 8, causal=True)

    def by_kernel(query, keys, values):
      operands = gather(query, keys, values, case.sight)
      return splash.attend(operands, causal=True, window=0, cap=0.0)

    def in_blocks(query, keys, values):
      operands = gather(query, keys, values, case.sight)
      return blockwise.attend(operands, causal=True)

    arrays = case.query, case.keys, case.values
    both = [jnp.stack([x, 2 * x]) for x in arrays]
    sizes = parallel.MeshShape(cohort=2, data=2, tensor=1, sequence=2)
    for attend in (by_kernel, in_blocks):
      loss = lambda *arrays: (attend(*arrays) * case.pull).sum()
      member = jax.grad(loss, (0, 1, 2))
      wanted = [jax.jit(member)(*(x[i] for x in both)) for i in range(2)]
      together = jax.vmap(member, spmd_axis_name='cohort')
      with jax.set_mesh(parallel.make_mesh(sizes)):
        found = jax.jit(together)(*both)
      for i in range(2):
        attending.require_equal([x[i] for x in found], wanted[i])
      print(attend.__name__)
    """)


def eight_devices(program: str) -> str:
  told, _ = fake_devices.run(program, timeout=600)
  return told


@pytest.mark.slow
def test_eight_devices_make_what_one_makes():
  told = eight_devices(EIGHT)
  assert len(told.splitlines()) == 10


@pytest.mark.slow
def test_a_table_on_eight_devices_has_the_gradient_of_one():
  assert eight_devices(BIASED).strip() == '(8, 2)'


@pytest.mark.slow
def test_members_of_a_cohort_attend_as_each_alone():
  assert eight_devices(MEMBERS).split() == ['by_kernel', 'in_blocks']


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
