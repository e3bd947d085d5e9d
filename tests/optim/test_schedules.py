"""Schedules at the points that their papers and codes give."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax.config import ConfigError, struct
from tl_jax.optim import SCHEDULES, ScheduleConfig, make_schedule

CONFIGS = {
  'linear': ScheduleConfig(name='linear', steps=100, warmup=10, final=0.2),
  'bert': ScheduleConfig(name='bert', steps=100, warmup=10),
  'cosine': ScheduleConfig(name='cosine', steps=100, warmup=10, final=0.1),
  'inverse_sqrt': ScheduleConfig(name='inverse_sqrt', steps=100, warmup=10),
  'constant': ScheduleConfig(name='constant', steps=100, warmup=10),
  'slanted_triangular': ScheduleConfig(name='slanted_triangular', steps=100),
}


def at(config, *steps):
  return [round(float(make_schedule(config)(step)), 6) for step in steps]


def test_every_schedule_is_covered():
  assert CONFIGS.keys() == SCHEDULES.keys()


@pytest.mark.parametrize('name', CONFIGS)
def test_factors_stay_in_the_unit_interval_and_reach_the_peak(name):
  steps = jnp.arange(0, 300)
  factors = np.asarray(jax.jit(make_schedule(CONFIGS[name]))(steps))
  assert factors.dtype == np.float32 and factors.min() >= 0 and factors.max() <= 1
  rising = factors[:11]
  assert (np.diff(rising[:10]) > 0).all() and (np.diff(factors[10:]) <= 1e-7).all()
  assert factors[10] == (np.float32(0.9) if name == 'bert' else 1.0)


def test_linear():
  assert at(CONFIGS['linear'], 0, 5, 10, 55, 100, 1000) == [0, 0.5, 1, 0.6, 0.2, 0.2]
  assert at(ScheduleConfig(steps=10), 0, 5, 10) == [1, 0.5, 0]
  assert at(ScheduleConfig(steps=10, warmup=10), 0, 5, 9, 11) == [0, 0.5, 0.9, 0]


def test_bert_measures_the_decay_from_step_zero():
  def code(step):  # optimization.py of google-research/bert, with a peak of 1
    decayed = (1 - 0) * (1 - min(step, 100) / 100) ** 1.0 + 0
    return step / 10 if step < 10 else decayed

  for step in (0, 1, 9, 10, 11, 50, 99, 100, 101):
    assert at(CONFIGS['bert'], step) == [round(code(step), 6)]


def test_cosine():
  middle = 0.1 + 0.9 * 0.5
  assert at(CONFIGS['cosine'], 5, 10, 55, 100, 200) == [0.5, 1, middle, 0.1, 0.1]
  quarter = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 3))
  assert at(CONFIGS['cosine'], 40) == [round(quarter, 6)]


def test_inverse_sqrt_of_the_transformer_and_of_t5():
  assert at(CONFIGS['inverse_sqrt'], 5, 10, 40, 1000) == [0.5, 1, 0.5, 0.1]
  t5 = ScheduleConfig(name='inverse_sqrt', steps=2**19, hold=10_000)
  assert [0.01 * x for x in at(t5, 0, 10_000, 40_000)] == pytest.approx(
    [0.01, 0.01, 0.005]
  )


def test_slanted_triangular_is_equation_3_of_ulmfit():
  total, fraction, ratio = 200, 0.1, 32

  def equation(t):
    cut = math.floor(total * fraction)
    p = t / cut if t < cut else 1 - (t - cut) / (cut * (1 / fraction - 1))
    return (1 + p * (ratio - 1)) / ratio

  config = ScheduleConfig(
    name='slanted_triangular', steps=total, cut=fraction, ratio=ratio
  )
  for step in range(total + 1):
    assert at(config, step)[0] == pytest.approx(equation(step), abs=1e-6)
  assert at(config, 0, 20, 200, 500) == [1 / 32, 1, 1 / 32, 1 / 32]


@pytest.mark.parametrize('steps', [1, 2, 3, 7])
def test_a_run_of_a_few_updates_still_has_finite_factors(steps):
  for name in SCHEDULES:
    factors = np.asarray(
      make_schedule(ScheduleConfig(name=name, steps=steps))(jnp.arange(steps + 2))
    )
    assert np.isfinite(factors).all() and factors.max() <= 1


@pytest.mark.parametrize(
  'group, message',
  [
    (
      dict(steps=10, warmup=11),
      'schedule.warmup: 11 updates of warm-up do not fit into schedule.steps=10; '
      'give schedule.warmup=1, or more steps',
    ),
    (
      dict(steps=10, name='cosin'),
      "schedule.name: unknown name 'cosin'; nearest: 'cosine'",
    ),
    (
      dict(steps=10, name='constant', final=0.1),
      "schedule.final: schedule.name='constant' does not read it",
    ),
    (
      dict(steps=10, name='slanted_triangular', warmup=2),
      'schedule.warmup: .* does not read it',
    ),
    (
      dict(steps=10, name='slanted_triangular', ratio=0.5),
      'ratio: the peak over the lowest rate is at least 1',
    ),
    (dict(steps=0), 'config.schedule.steps'),
    (
      dict(steps=10, warmpu=1),
      "config.schedule.warmpu: unknown key; nearest: 'warmup'",
    ),
  ],
)
def test_refusals_name_the_field(group, message):
  with pytest.raises(ConfigError, match=message):
    struct(ScheduleConfig, group, path='config.schedule')


def test_a_cosine_may_settle_before_its_end():
  """GPT-3 reads 260 of its 300 billion tokens before the rate stays at a tenth."""
  settled = make_schedule(
    ScheduleConfig(name='cosine', steps=300, warmup=10, final=0.1, settled=40)
  )
  shorter = make_schedule(
    ScheduleConfig(name='cosine', steps=260, warmup=10, final=0.1)
  )
  for step in (0, 5, 10, 135, 259):
    assert float(settled(step)) == float(shorter(step))
  for step in (260, 280, 300):
    assert float(settled(step)) == pytest.approx(0.1)
  with pytest.raises(ValueError, match='settled: 95 updates and 10 of warm-up'):
    ScheduleConfig(name='cosine', steps=100, warmup=10, settled=95)


def test_the_line_of_bert_may_end_before_its_bottom():
  """900,000 steps down to a tenth are those of a million down to 0."""
  part = make_schedule(ScheduleConfig(name='bert', steps=900, warmup=10, final=0.1))
  whole = make_schedule(ScheduleConfig(name='bert', steps=1000, warmup=10))
  for step in (0, 9, 10, 500, 899):
    assert float(part(step)) == pytest.approx(float(whole(step)), rel=1e-6)
