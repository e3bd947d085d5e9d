"""A plan made with the compiler of the CPU, on a topology of one device."""

import dataclasses
import json

import jax
import pytest

from tl_jax import config, parallel
from tl_jax.scale import compiling, flops, planning, search, telling, topology
from tl_jax.train import listing, programs, running, workdir
from tl_jax.train.checks import check
from tl_jax.train.outline import outline

ONE = topology.parse('v5e-1')


def run_of(spec, *overrides):
  return outline(config.load(spec, overrides))


@pytest.fixture(scope='module')
def tiny():
  return run_of('configs/pretrain.py:tiny-gpt')


@pytest.fixture(scope='module')
def plan(tiny):
  return planning.make_plan(tiny, ONE, planning.Wish(), jax.devices()[:1])


def test_the_keys_of_a_plan_do_not_depend_on_what_was_found(tiny, plan):
  bare = planning.make_plan(tiny, ONE, planning.Wish(compile=False))
  assert list(bare.to_json()) == list(plan.to_json())
  assert json.loads(json.dumps(plan.to_json())) == plan.to_json()
  # What needs no compiler is the same without one.
  for name in ('parameters', 'parts', 'flops', 'tokens', 'mesh'):
    assert getattr(bare, name) == getattr(plan, name)


def test_arguments_add_up_to_what_the_compiler_says(plan):
  told = sum(plan.parts.values())
  assert told == pytest.approx(plan.memory['arguments'], rel=0.01)
  assert plan.memory['fits']


def test_the_optimizer_holds_two_moments_of_what_is_trained(plan):
  assert plan.parts['optimizer'] == pytest.approx(2 * plan.parts['trainable'], rel=0.01)
  assert plan.parameters['trained'] * 4 == plan.parts['trainable']


def test_a_larger_batch_needs_more_memory_and_work(plan):
  run = run_of('configs/pretrain.py:tiny-gpt', ('data.batch', '64'))
  larger = planning.make_plan(run, ONE, planning.Wish(), jax.devices()[:1])
  assert larger.memory['temporaries'] > 1.5 * plan.memory['temporaries']
  assert larger.flops['total'] == pytest.approx(4 * plan.flops['total'], rel=0.01)
  assert larger.traffic['hbm'] > plan.traffic['hbm']


def test_the_largest_arrays_are_named_by_our_code(plan):
  sizes = [buffer['size'] for buffer in plan.buffers]
  assert sizes == sorted(sizes, reverse=True)
  assert any(buffer['line'].startswith('tl_jax/') for buffer in plan.buffers)


def test_lora_trains_less_than_it_holds():
  run = run_of('configs/transfer.py:task=sentiment,method=lora,init=bert-small')
  found = planning.make_plan(run, ONE, planning.Wish(compile=False))
  assert found.parameters['trained'] < 0.1 * found.parameters['frozen']
  assert found.parts['optimizer'] < 0.2 * found.parts['frozen']


def test_members_of_a_cohort_hold_their_base_once():
  run = run_of('configs/transfer.py:task=sentiment,method=lora,init=bert-small')
  wish = planning.Wish(program='cohort', members=8, compile=False)
  one = planning.make_plan(run, ONE, dataclasses.replace(wish, members=1))
  eight = planning.make_plan(run, ONE, wish)
  assert eight.parts['frozen'] == one.parts['frozen']
  assert eight.parts['trainable'] == 8 * one.parts['trainable']
  assert eight.tokens == 8 * one.tokens


def test_a_batch_that_the_devices_do_not_divide_is_refused(tiny):
  with pytest.raises(ValueError, match='not divisible by data 32 .*nearest: 64'):
    planning.make_plan(tiny, topology.parse('v5e-32'), planning.Wish(compile=False))


def test_a_plan_refuses_the_phases_that_its_run_refuses():
  phased = ('data.phases', "((3, {'batch': 4}),)")
  run = run_of('configs/pretrain.py:tiny', phased, ('data.accumulate', '1'))
  wish = planning.Wish(compile=False)
  with pytest.raises(ValueError, match=r'phases\[0\].batch: 4 rows .* v5e:2x4'):
    planning.make_plan(run, topology.parse('v5e:2x4'), wish)
  # Four devices divide the batches of both phases.
  found = search.promising(run, topology.parse('v5e:2x2'), wish)
  assert all(
    4 % (one.way.data * one.way.fsdp * one.way.accumulate) == 0 for one in found
  )


def test_a_plan_refuses_the_tensor_axis_that_its_run_refuses():
  """An axis that takes what is left is known only when the devices are."""
  axes = ('mesh.data', '1'), ('mesh.tensor', '-1')
  run = run_of('configs/pretrain.py:tiny', *axes)
  with pytest.raises(ValueError, match=r'mesh.tensor: 8 does not divide .* v5e:2x4'):
    planning.make_plan(run, topology.parse('v5e:2x4'), planning.Wish(compile=False))


def test_money_comes_from_the_table(tiny):
  table = dict(prices={'v5e': 2.0}, currency='EUR', date='today')
  wish = planning.Wish(compile=False, prices=table)
  run = run_of('configs/pretrain.py:tiny-gpt', ('data.batch', '32'))
  speed = planning.make_plan(run, topology.parse('v5e-16'), wish).speed
  assert speed['price_per_hour'] == 32.0
  assert speed['cost'] == pytest.approx(32.0 * speed['hours'])
  missing = planning.make_plan(run, topology.parse('v4-8'), wish).speed
  assert missing['cost'] is None


def test_a_program_that_does_not_fit_says_by_how_much(tiny, monkeypatch):
  said = 'RESOURCE_EXHAUSTED: HLO temporaries (25.00G) exceeds available HBM (15.75G)'

  def refuse(*_):
    raise compiling.TooLarge(said)

  monkeypatch.setattr(compiling, 'build', refuse)
  monkeypatch.setattr(planning, 'roomier', lambda topology: None)
  found = planning.make_plan(tiny, ONE, planning.Wish(), jax.devices()[:1])
  assert not found.memory['fits']
  assert found.memory['temporaries'] == 25 * 2**30
  assert any('DOES NOT FIT' in line for line in telling.lines(found))


def test_every_program_is_planned():
  run = run_of('configs/transfer.py:task=summary')
  for program in ('evaluation', 'decoding'):
    wish = planning.Wish(program=program, compile=False)
    found = planning.make_plan(run, ONE, wish)
    assert found.flops['total'] > 0
    assert found.speed['hours'] is None


def test_what_is_planned_is_what_a_run_compiles(tmp_path):
  """The step of a real run, traced, has as many operations."""
  spec = config.load('configs/transfer.py:task=sentiment,method=lora,labels=8')
  mesh = parallel.make_mesh(parallel.MeshShape(), jax.devices()[:1])
  planned = listing.program_of('step', outline(spec), mesh)
  with workdir.open_run(spec, tmp_path) as run:
    trainer = running.make_trainer(check(spec), run)
  stream, _ = trainer.ready.corpus.stream(trainer.ready.settings)
  with jax.set_mesh(trainer.mesh):
    state = programs.abstract_state(trainer.ready.parts, trainer.shardings)
    step = programs.step(trainer.ready.parts, trainer.shardings, trainer.sharding)
    traced = step.trace(state, stream.batch_at(0))
  expected = compiling.trace(planned, mesh)
  assert flops.count(traced.jaxpr) == flops.count(expected.jaxpr)
