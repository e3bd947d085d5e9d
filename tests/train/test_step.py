"""Laws of the step: accumulation averages exactly, frozen leaves stay, members of a
cohort are single runs.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import objectives, optim, transfer, tree
from tl_jax.models import Compute, arch, build
from tl_jax.train.step import init_state, make_step

CONSTANT = optim.ScheduleConfig(name='constant', steps=10)


def pieces(method=None, head='classifier', dropout=0.0, accumulate=1, lr=1e-2):
  model = build(
    arch('tiny', vocabulary=64, head=head, labels=3, layers=1), Compute(dropout=dropout)
  )
  objective = (
    objectives.classify(labels=3)
    if head == 'classifier'
    else objectives.masked(vocabulary=64, mask_id=4, special_ids=(0, 1, 2, 3, 4))
  )
  method = method or transfer.full()
  tx = optim.make_optimizer(optim.OptimConfig(lr=lr), CONSTANT)
  params = model.init(jax.random.key(0))
  return (
    params,
    init_state(params, method, tx, 7),
    jax.jit(make_step(model, objective, method, tx, accumulate)),
  )


def labelled(seed=0, rows=8, length=16):
  """Packed rows with one to three examples each, so that micro-batches weigh
  differently.
  """
  generator = np.random.default_rng(seed)
  cuts = np.sort(generator.integers(1, length, (rows, 2)), 1)
  place = np.arange(length)
  segments = 1 + (place >= cuts[:, :1]) + (place >= cuts[:, 1:])
  segments = np.where(
    generator.random((rows, 1)) < 0.5, np.minimum(segments, 1), segments
  )
  slots = np.stack([np.where((segments == k).any(1), k, 0) for k in (1, 2, 3)], 1)
  return {
    'tokens': generator.integers(5, 64, (rows, length)).astype(np.int32),
    'segments': segments.astype(np.int32),
    'examples': slots.astype(np.int32),
    'labels': generator.integers(0, 3, (rows, 3)).astype(np.int32),
  }


@pytest.mark.parametrize(
  'head', ['classifier', pytest.param('masked', marks=pytest.mark.slow)]
)
def test_accumulation_changes_nothing(head):
  batch = labelled()
  results = []
  for accumulate in (1, 4):
    _, state, step = pieces(head=head, accumulate=accumulate)
    for _ in range(3):
      state, metrics = step(state, batch)
    results.append(
      (float(metrics['loss']), float(metrics['gradient_norm']), state.trainable)
    )
  for loss, norm, params in results[1:]:
    assert loss == pytest.approx(results[0][0], abs=2e-6)
    assert norm == pytest.approx(results[0][1], rel=1e-4)
    for name, leaf in tree.flatten(params).items():
      np.testing.assert_allclose(
        leaf, tree.flatten(results[0][2])[name], atol=2e-3, err_msg=name
      )


# The laws of transferring hold the same for more methods.
@pytest.mark.slow
@pytest.mark.parametrize(
  'method, trained',
  [
    (transfer.probe(), r'(head|pooler)/.*'),
    (transfer.lora(rank=2), r'head/.*|pooler/.*|.*/(a|b)'),
  ],
)
def test_frozen_leaves_keep_every_bit(method, trained):
  params, state, step = pieces(method)
  frozen = tree.flatten(state.frozen)
  for number in range(5):
    state, metrics = step(state, labelled(number))
  after = tree.flatten(state.frozen)
  assert frozen and all(
    (np.asarray(frozen[name]) == np.asarray(after[name])).all() for name in frozen
  )
  assert all(tree.matcher(trained)(name) for name in tree.flatten(state.trainable))
  assert float(metrics['gradient_norm']) > 0


def test_an_empty_batch_is_no_step_into_nowhere():
  _, state, step = pieces()
  empty = {name: np.zeros_like(array) for name, array in labelled().items()}
  state, metrics = step(state, empty)
  assert float(metrics['loss']) == 0.0
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.trainable))


# That a run is repeated bit for bit, the tests of interrupted runs show too.
@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_and_another_does_not():
  def run(seed):
    params, state, step = pieces(dropout=0.3)
    state = state._replace(key=jax.random.key(seed))
    for number in range(3):
      state, metrics = step(state, labelled(number))
    return np.asarray(state.trainable['head']['kernel'])

  assert (run(1) == run(1)).all()
  assert (run(1) != run(2)).any()


def test_a_cohort_of_rates_is_its_single_runs():
  _, state, step = pieces()
  rates = jnp.array([1e-3, 1e-2])
  members = jax.vmap(
    lambda rate: state._replace(opt_state=optim.set_rate(state.opt_state, rate))
  )(rates)
  batches = [labelled(number) for number in range(3)]
  for batch in batches:
    members, _ = jax.jit(jax.vmap(step, in_axes=(0, None)))(members, batch)
  for index, rate in enumerate(rates):
    alone = state._replace(opt_state=optim.set_rate(state.opt_state, rate))
    for batch in batches:
      alone, _ = step(alone, batch)
    np.testing.assert_allclose(
      members.trainable['head']['kernel'][index],
      alone.trainable['head']['kernel'],
      atol=2e-5,
    )
