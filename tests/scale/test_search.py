"""The search over meshes, rematerialisation and micro-batches, without a compiler."""

import pytest

from tl_jax import config
from tl_jax.scale import planning, search, topology
from tl_jax.train.outline import outline

TARGET = topology.parse('v5e:2x2')


@pytest.fixture(scope='module')
def run():
  return outline(config.load('configs/pretrain.py:tiny', [('data.batch', '32')]))


def test_every_way_fills_the_devices_and_divides_the_rows():
  found = list(search.ways(devices=8, rows=16, heads=6))
  assert len(set(found)) == len(found)
  for way in found:
    assert way.data * way.fsdp * way.tensor == 8
    assert 16 % (way.data * way.fsdp * way.accumulate) == 0
    # Six heads are not divided among four.
    assert way.tensor in (1, 2)


def test_a_way_is_what_its_flags_say(run):
  way = search.Way(2, 2, 1, 'full', 4)
  changed = way.of(run).settings
  loaded = config.load(
    'configs/pretrain.py:tiny',
    [('data.batch', '32')]
    + [tuple(flag[9:].split('=')) for flag in way.overrides.split()],
  )
  assert changed == outline(loaded).settings


def test_estimates_tell_more_from_less(run):
  account = search.account_of(
    run, planning.make_plan(run, topology.parse('v5e-1'), planning.Wish(compile=False))
  )

  def needed(*way):
    return search.estimate(search.Way(*way), account, TARGET.kind).needed

  assert needed(1, 4, 1, 'none', 1) < needed(4, 1, 1, 'none', 1)
  assert needed(1, 4, 1, 'full', 1) < needed(1, 4, 1, 'none', 1)
  assert needed(1, 4, 1, 'none', 4) < needed(1, 4, 1, 'none', 1)


def plan_of(run, target, wish):
  """A plan that fits where everything is computed again, and is slower there."""
  remat = run.settings.compute.remat
  needed = dict(none=30, dots=20, full=10)[remat]
  found = dict(needed=needed, available=15, fits=needed <= 15)
  seconds = dict(none=1.0, dots=1.1, full=1.3)[remat]
  return planning.Plan(
    'step',
    {},
    {},
    dict(remat=remat),
    {},
    {},
    {},
    1,
    memory=found,
    roofline=dict(seconds=seconds),
  )


def test_the_fastest_that_fits_comes_first(run, monkeypatch):
  def estimates(run, target, wish):
    order = [('none', 30.0), ('dots', 20.0), ('full', 10.0)]
    for seconds, (remat, needed) in enumerate(order):
      yield search.Estimate(search.Way(1, 4, 1, remat, 1), needed, float(seconds))

  monkeypatch.setattr(search, 'promising', lambda *words: list(estimates(*words)))
  monkeypatch.setattr(planning, 'make_plan', plan_of)
  best, *rest = search.search(run, TARGET, planning.Wish())
  assert best.settings['remat'] == 'full'
  assert '--config.compute.remat=full' in best.overrides
  assert rest and not any(plan.memory['fits'] for plan in rest)


def test_what_fits_is_not_tried_in_more_parts(run, monkeypatch):
  ways = [('full', 1), ('full', 2), ('full', 4), ('dots', 1)]
  found = [search.Estimate(search.Way(1, 4, 1, *way), 10.0, 1.0) for way in ways]
  monkeypatch.setattr(search, 'promising', lambda *words: list(found))
  monkeypatch.setattr(planning, 'make_plan', plan_of)
  tried = search.search(run, TARGET, planning.Wish())
  assert [plan.settings['remat'] for plan in tried] == ['full', 'dots']


def test_slices_grow_until_one_holds_the_run(run, monkeypatch):
  asked = []

  def make(run, target, wish):
    asked.append(target.devices)
    memory = dict(fits=target.devices >= 8, needed=1, available=1)
    return planning.Plan('step', {}, {}, {}, {}, {}, {}, 1, memory=memory)

  def held(run, target, wish):
    return 2**40 // target.devices**4

  monkeypatch.setattr(planning, 'bytes_held', held)
  monkeypatch.setattr(planning, 'make_plan', make)
  found = search.smallest(run, 'v5e', planning.Wish())
  # One device cannot hold the state, so that nothing is compiled for it.
  assert asked == [4, 8]
  assert [plan.memory['fits'] for plan in found] == [False, True]


def test_what_is_held_is_cut_by_the_devices(run):
  cut = planning.varied(run, mesh=dict(data=1, fsdp=-1))
  one = planning.bytes_held(cut, topology.parse('v5e-1'), planning.Wish())
  four = planning.bytes_held(cut, TARGET, planning.Wish())
  assert four < 0.5 * one
