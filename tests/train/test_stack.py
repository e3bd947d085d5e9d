"""Members in one stack: each takes the steps of a run by itself, and what they share is
computed and held once.
"""

import jax
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from jax.interpreters.partial_eval import dce_jaxpr

from tl_jax import config, optim, tree
from tl_jax.train import preparing, programs, running, stack, starting
from tl_jax.train.checks import check
from tl_jax.train.stack import Layout

SMALL = [
  ('model', "{'family': 'tiny', 'layers': 3}"),
  ('init', 'scratch'),
  ('schedule.steps', '6'),
  ('schedule.warmup', '2'),
  ('data.length', '16'),
  ('data.batch', '2'),
  ('task.labels', '16'),
  ('task.test', '8'),
  ('log.tensorboard', 'false'),
]


@pytest.fixture(scope='module')
def make_trainer(pretrained, tmp_path_factory):
  """make_trainer(*overrides) -> the trainer of a small transfer by LoRA."""

  def make(*more):
    tokenizer = ('tokenizer.path', f'{pretrained}/tokenizer.json')
    spec = 'configs/transfer.py:task=sentiment,method=lora'
    checked = check(config.load(spec, [*SMALL, tokenizer, *more]))
    mesh = running.make_mesh(checked.settings.mesh, checked.settings.data)
    ready = preparing.prepare(checked, tmp_path_factory.mktemp('trainer'))
    return running.Trainer(ready, mesh)

  return make


def own_of(seed, rate=1e-2):
  return starting.Own(np.uint32(seed), np.float32(rate), np.float32(0))


@pytest.mark.parametrize(
  'courses, ways, expected',
  [
    ('abc', 1, ((0, 1, 2), 1)),
    ('abab', 1, ((0, 2, 1, 3), 2)),
    ('aaa', 1, ((0, 1, 2), 3)),
    # One group over the axis of members, and groups of one size over it.
    ('aaa', 2, ((0, 1, 2, 2), 4)),
    ('abab', 2, ((0, 2, 1, 3), 2)),
    ('abc', 2, ((0, 1, 2, 2), 1)),
    # A copy or two fill up; where most would be copies, nothing is shared.
    ('aab', 1, ((0, 1, 2, 2), 2)),
    ('aaaabcde', 1, ((0, 1, 2, 3, 4, 5, 6, 7), 1)),
  ],
)
def test_members_who_share_their_rows_stand_side_by_side(courses, ways, expected):
  assert Layout.of(courses, ways) == expected


# Two groups of two have both axes.
@pytest.mark.parametrize(
  'seeds',
  [
    pytest.param((1, 2), marks=pytest.mark.slow),
    pytest.param((1, 1), marks=pytest.mark.slow),
    (1, 2, 1, 2),
  ],
  ids=str,
)
def test_a_stack_takes_the_steps_of_its_members(make_trainer, seeds):
  """Apart, as one group and as two groups: with dropout, other rates and schedules."""
  trainer = make_trainer()
  ready = trainer.ready
  stacks = stack.Stacks(trainer)
  owns = [own_of(seed, 1e-2 * place) for place, seed in enumerate(seeds, 1)]
  made = stacks.stack(owns, seeds)
  settings = ready.settings
  streams = [
    ready.corpus.stream(settings.__class__(**{**vars(settings), 'seed': seed}))[0]
    for seed in seeds
  ]
  schedules = [
    optim.make_schedule(optim.ScheduleConfig(steps=6, name=name, warmup=warmup))
    for name, warmup in (('linear', 0), ('constant', 2), ('cosine', 1), ('linear', 3))
  ]
  with jax.set_mesh(trainer.mesh):
    state = made.start()
    alone = [trainer._first_state(trainer.given, own) for own in owns]
    for number in range(3):
      batches = [stream.batch_at(number) for stream in streams]
      firsts = {group: batches[group] for group in made.layout.groups}
      factors = [float(schedules[place](number)) for place in range(len(seeds))]
      placed = made.place(firsts), made.place_factors(factors)
      state, metrics = made.compile(state, *placed).call(state, *placed)
      for place in range(len(seeds)):
        at = jax.jit(ready.parts.step_at)
        alone[place], found = at(alone[place], batches[place], factors[place])
        loss = metrics['loss'][made.layout.place_of(place)]
        assert float(loss) == pytest.approx(float(found['loss']), abs=1e-5)
    for place, own in enumerate(alone):
      picked = made.pick(state, place)
      assert int(picked.step) == 3
      rates = [optim.learning_rate(each.opt_state) for each in (picked, own)]
      assert float(rates[0]) == pytest.approx(float(rates[1]))
      assert (jax.random.key_data(picked.key) == jax.random.key_data(own.key)).all()
      leaves = tree.flatten(own.trainable)
      for name, leaf in tree.flatten(picked.trainable).items():
        np.testing.assert_allclose(leaf, leaves[name], atol=2e-4, err_msg=name)


def test_a_smaller_stack_has_the_states_of_those_that_are_left(make_trainer):
  trainer = make_trainer()
  stacks = stack.Stacks(trainer)
  seeds = (1, 2, 1, 2)
  made = stacks.stack([own_of(seed, place) for place, seed in enumerate(seeds)], seeds)
  with jax.set_mesh(trainer.mesh):
    state = made.start()
    assert made.smaller([0, 1, 2]) is None
    fewer = made.smaller([1, 2])
    moved = made.moved(state, [1, 2], fewer)
    assert fewer.size == 2
    for place, before in enumerate((1, 2)):
      one, other = fewer.pick(moved, place), made.pick(state, before)
      # Random keys have no numbers of their own.
      pairs = (jax.tree.leaves(each._replace(key=None)) for each in (one, other))
      for leaf, expected in zip(*pairs, strict=True):
        np.testing.assert_array_equal(leaf, expected)
      assert (jax.random.key_data(one.key) == jax.random.key_data(other.key)).all()


def products(jaxpr) -> int:
  """Multiplications in the matrix products of a jaxpr, loops included."""
  total = 0
  for equation in jaxpr.eqns:
    if equation.primitive.name == 'dot_general':
      (contracted, _), _ = equation.params['dimension_numbers']
      shape = equation.invars[0].aval.shape
      depth = np.prod([shape[axis] for axis in contracted])
      total += int(depth * np.prod(equation.outvars[0].aval.shape))
    rounds = equation.params.get('length', 1)
    for inner in jaxprs_in_params(equation.params):
      total += rounds * products(inner)
  return total


@pytest.mark.parametrize('layers', ['unroll', 'scan'])
def test_layers_below_the_first_that_is_trained_are_computed_once(make_trainer, layers):
  """Four members of one seed, of which only the top layer is adapted."""
  top = ('method.pattern', r'layers/2/.*/(query|value)/kernel')
  trainer = make_trainer(top, ('compute.layers', layers))
  ready = trainer.ready
  batch = ready.corpus.stream(ready.settings)[0].batch_at(0)
  one = jax.eval_shape(trainer.first_of, trainer.given, own_of(1))
  # As with a base that is given, which nobody draws.
  axes = jax.tree.map(lambda leaf: 0, one)._replace(step=None)
  axes = axes._replace(frozen=jax.tree.map(lambda leaf: None, one.frozen))

  def several(leaf, count):
    return jax.ShapeDtypeStruct((count, *leaf.shape), leaf.dtype)

  def count(groups, members=4):
    state = programs.on_members(lambda leaf: several(leaf, members), one, axes)
    state = state._replace(key=several(one.key, groups))
    batches = {name: np.stack([leaf] * groups) for name, leaf in batch.items()}
    step = programs.grouped_step(ready.parts.step_at, axes)
    traced = jax.make_jaxpr(step)(state, batches, np.ones(members, np.float32))
    # What nobody reads of the last layer is traced, too.
    needed, _ = dce_jaxpr(traced.jaxpr, [True] * len(traced.jaxpr.outvars))
    return products(needed) / members

  with jax.set_mesh(trainer.mesh):
    shared, apart = count(groups=1), count(groups=4)
  # Two of three layers are below, and pass no gradient on.
  assert shared < 0.6 * apart, shared / apart
