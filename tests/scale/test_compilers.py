"""Plans with the compiler for TPUs: what it says, against counts by hand.

Needs the compiler: pip install '.[test,tpu]' (or the libtpu that this jax was built
with).
"""

import chips
import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from tl_jax import config, parallel
from tl_jax.scale import collectives, compiling, hlo, planning, topology
from tl_jax.train.outline import outline
from tl_jax.train.programs import Program

pytestmark = pytest.mark.slow
FOUR = topology.parse('v5e:2x2')


@pytest.fixture(scope='module')
def devices():
  return chips.devices()


def planned(spec, *overrides, where=FOUR, **wish):
  run = outline(config.load(spec, overrides))
  return planning.make_plan(run, where, planning.Wish(**wish))


SMALL = (
  ('data.batch', '16'),
  ('data.length', '128'),
  ('compute.remat', 'none'),
  ('compute.dropout', '0.0'),
  ('tokenizer.size', '4096'),
  (
    'model',
    "{'family': 'gpt2', 'layers': 2, 'width': 256, 'heads': 4, 'mlp': 1024, "
    "'tied': False}",
  ),
)


def sent(plan, *kinds):
  rows = [row for row in plan.collectives if row['kind'] in kinds]
  return sum(row['sent'] for row in rows)


def test_copies_of_a_model_sum_their_gradients_once(devices):
  """Of two layers: each gradient, of four bytes, goes twice around a ring of four."""
  plan = planned('configs/pretrain.py:gpt2', *SMALL)
  gradients = 4 * plan.parameters['trained']
  assert sent(plan, 'all-reduce') == pytest.approx(2 * 3 / 4 * gradients, rel=0.01)
  assert sent(plan, 'all-gather', 'collective-permute') < 0.01 * gradients


def test_weights_that_are_cut_are_gathered_and_summed(devices):
  """Two products by hand: weights are gathered forward and backward, gradients summed."""
  mesh = parallel.make_mesh(parallel.MeshShape(data=1, fsdp=4), devices)
  cut = NamedSharding(mesh, PartitionSpec('fsdp', None))
  size = 1024
  weights = [jax.ShapeDtypeStruct((size, size), jnp.bfloat16, sharding=cut)] * 2
  rows = jax.ShapeDtypeStruct((4096, size), jnp.bfloat16, sharding=cut)

  def loss(weights, x):
    for w in weights:
      x = jnp.sin(x @ w)
    return x.astype(jnp.float32).sum()

  step = jax.jit(jax.grad(loss), out_shardings=[cut] * 2)
  program = Program('step', step, (weights, rows), ('parameters', 'batch'), 4096)
  built = compiling.build(compiling.trace(program, mesh), mesh)
  talks = collectives.found_in(hlo.parse(built.text), collectives.Wiring.of(mesh))
  moved = [one for one in talks if one.payload > 1000]
  # Gathered forward are both; backward the second one is there still. The gradients of
  # both are summed and cut. Whatever the form, a chip sends three of four parts.
  one = 2 * size * size * 3 / 4
  assert sum(talk.sent for talk in moved) == pytest.approx(4 * one, rel=0.001)
  assert {talk.axes for talk in moved} == {'fsdp'}


def test_what_does_not_fit_is_told_by_how_much(devices):
  found = planned(
    'configs/pretrain.py:gpt2',
    ('model', "{'family': 'gpt3-6.7b', 'layers': 4, 'vocabulary': 50257}"),
    ('data.batch', '64'),
    ('data.length', '2048'),
    ('compute.remat', 'none'),
  )
  assert not found.memory['fits']
  assert found.memory['needed'] > found.memory['hbm']
  assert any('v5p' in note for note in found.notes)


def test_several_slices_send_over_the_network(devices):
  found = planned(
    'configs/pretrain.py:gpt2',
    *SMALL,
    ('mesh.dcn', '2'),
    where=topology.parse('2xv5e:2x2'),
  )
  assert found.traffic['dcn'] > 0
  assert any(row['network'] == 'dcn' for row in found.collectives)


def test_the_base_of_a_cohort_is_there_once(devices):
  spec = 'configs/transfer.py:task=sentiment,method=lora,init=bert-small'
  found = planned(
    spec,
    ('mesh.data', '1'),
    ('mesh.cohort', '-1'),
    ('data.length', '64'),
    program='cohort',
    members=8,
  )
  alone = planned(spec, ('mesh.data', '1'), ('mesh.fsdp', '4'), compile=False)
  base = 4 * alone.parameters['frozen']
  assert found.parts['frozen'] == pytest.approx(base, rel=0.01)
  assert found.memory['arguments'] < 1.3 * base
