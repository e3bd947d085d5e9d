"""A cohort compiled for TPUs that are not there: one base, whatever the members.

Needs the compiler: pip install '.[test,tpu]'.
"""

import math

import chips
import jax
import pytest

from tl_jax import config, parallel
from tl_jax.train import listing
from tl_jax.train.outline import outline

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def devices():
  return chips.devices()


def size(tree) -> int:
  return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in tree)


def test_a_cohort_on_four_chips_holds_one_base(devices):
  """Members over the chips: each has the base once, and a quarter of the adapters."""
  spec = 'configs/transfer.py:task=sentiment,method=lora,init=bert-small'
  run = outline(config.load(spec, [('compute.dtype', 'bfloat16')]))
  mesh = parallel.make_mesh(parallel.MeshShape(data=1, cohort=4), devices)
  held = {}
  for members in (8, 32):
    program = listing.program_of('cohort', run, mesh, members=members)
    with jax.set_mesh(mesh):
      lowered = program.function.lower(*program.arguments)
      compiled = lowered.compile(compiler_options=chips.LOW_EFFORT)
    state = program.arguments[0]
    base = size(jax.tree.leaves(state.frozen))
    own = size(jax.tree.leaves((state.trainable, state.opt_state))) / 4
    held[members] = compiled.memory_analysis()
    # Padding to tiles, and batches, are small beside the base.
    assert held[members].argument_size_in_bytes < 1.1 * (base + own) + (8 << 20)
  # More members take no more of the base: not as arguments, not as copies of it.
  more = held[32].argument_size_in_bytes - held[8].argument_size_in_bytes
  assert more < 0.5 * base
  assert held[32].temp_size_in_bytes < 8 * held[8].temp_size_in_bytes
