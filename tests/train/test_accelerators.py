"""The forms that are fast on CPU do not make the program for a TPU worse: compiled for
one that is not there.

Needs the compiler: pip install '.[test,tpu]' (or the libtpu that this jax was built
with).
"""

import math
import re

import chips
import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from tl_jax import leaves, objectives, optim, parallel, transfer
from tl_jax.leaves import products
from tl_jax.models import Compute, arch, build, layers, scores
from tl_jax.objectives import tokens
from tl_jax.train.step import init_state, make_step

pytestmark = pytest.mark.slow
ROWS, LENGTH = 8, 256
# bytes of an element
BYTES = dict(pred=1, s8=1, u8=1, bf16=2, s16=2, u16=2, f32=4, s32=4, u32=4)
SIZES = dict(width=512, layers=4, heads=8, mlp=2048, vocabulary=30522)


@pytest.fixture(scope='module')
def chip():
  """One TPU v5e, as far as its compiler is concerned."""
  return parallel.make_mesh(parallel.MeshShape(), chips.devices()[:1])


def compiled_for(chip, family, head, method, dropout):
  """The compiled step of a small model in bfloat16, layers scanned."""
  model = build(
    arch(family, head=head, **SIZES),
    Compute(dtype='bfloat16', layers='scan', dropout=dropout),
  )
  objective = (
    objectives.causal()
    if head == 'causal'
    else objectives.masked(
      vocabulary=SIZES['vocabulary'], mask_id=4, special_ids=(0, 1, 2, 3, 4)
    )
  )
  tx = optim.make_optimizer(
    optim.OptimConfig(lr=1e-4), optim.ScheduleConfig(name='constant', steps=10)
  )
  where = NamedSharding(chip, PartitionSpec())
  place = lambda tree: jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), tree
  )
  state = place(
    jax.eval_shape(lambda: init_state(model.init(jax.random.key(0)), method, tx, 0))
  )
  batch = place(
    {
      name: jax.ShapeDtypeStruct((ROWS, LENGTH), jnp.int32)
      for name in ('tokens', 'segments')
    }
  )
  with jax.set_mesh(chip):
    return (
      jax.jit(make_step(model, objective, method, tx), donate_argnums=0)
      .lower(state, batch)
      .compile()
    )


def natural(monkeypatch):
  """Everything as one would write it: plain products, and gradients by jax."""

  def multiply(x, y, transposed=False, dtype=products.NARROW):
    return products._contract(x, y, transposed).astype(dtype)

  for module in (products, scores):
    monkeypatch.setattr(module, 'multiply', multiply)
  monkeypatch.setattr(products, 'add_bias', lambda y, bias: y + bias.astype(y.dtype))
  monkeypatch.setattr(layers, '_normalize_narrow', layers._normalize)
  monkeypatch.setattr(
    scores,
    '_softmax_narrow',
    lambda scores: jax.nn.softmax(scores, -1).astype(jnp.bfloat16),
  )
  monkeypatch.setattr(
    layers,
    'activate',
    lambda name, x: leaves.ACTIVATIONS[name](x.astype(jnp.float32)).astype(x.dtype),
  )


CASES = {
  'encoder': ('bert-base', 'masked', transfer.full(), 0.1),
  'decoder': ('gpt2', 'causal', transfer.full(), 0.0),
  'lora': (
    'bert-base',
    'masked',
    transfer.lora(pattern=r'.*/(query|value)/kernel', rank=8),
    0.0,
  ),
}


def figures_of(made):
  """FLOPs, bytes moved and bytes of temporaries. Of a loop, the compiler counts one
  round.

  Not among the bytes: what the compiler copies into nearer memory ahead of its use,
  which spares the farther one the readings that are counted anyway, and which it does
  where there happens to be room.
  """
  cost = made.cost_analysis()
  return dict(
    flops=cost['flops'],
    bytes=cost['bytes accessed'] - 2 * copied_ahead(made.as_text()),
    temporaries=made.memory_analysis().temp_size_in_bytes,
  )


def copied_ahead(program: str) -> int:
  """Bytes of all asynchronous copies of a compiled program; each is read once and
  written once.
  """
  copied = re.findall(r'= \((\w+)\[([\d,]*)\][^ ]*, .* copy-start\(', program)
  return sum(
    math.prod(map(int, filter(None, shape.split(',')))) * BYTES[kind]
    for kind, shape in copied
  )


def test_logits_by_parts_need_less_memory(chip, monkeypatch):
  needed = []
  for most in (tokens.MOST, 2**24):
    monkeypatch.setattr(tokens, 'MOST', most)
    jax.clear_caches()
    needed.append(figures_of(compiled_for(chip, *CASES['decoder']))['temporaries'])
  # All at once, the logits are there once, in bfloat16: 0.2 of what a step needs.
  assert needed[1] < 0.8 * needed[0]


@pytest.mark.parametrize('case', CASES)
def test_a_tpu_has_no_more_to_do_than_with_the_natural_forms(chip, case, monkeypatch):
  figures = []
  for form in ('ours', 'natural'):
    if form == 'natural':
      natural(monkeypatch)
    jax.clear_caches()
    figures.append(figures_of(compiled_for(chip, *CASES[case])))
  ours, plain = figures
  for name, most in dict(flops=1.01, bytes=1.0, temporaries=1.0).items():
    assert ours[name] <= most * plain[name], (
      f'{name}: {ours[name]:.4g} against {plain[name]:.4g}'
    )
